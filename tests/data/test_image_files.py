"""What a scan of class folders takes, passes over and refuses."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from mltrain.core.errors import DataError
from mltrain.data import image_decoding
from mltrain.data.image_files import IMAGE_SUFFIXES, first_few, printable, scan_image_folder


def write(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of one image each."""
    folder = tmp_path / "raw"
    write(folder / "ants" / "1.jpg")
    write(folder / "bees" / "2.PNG", b"12345")
    return folder


def paths(root: Path) -> list[str]:
    return [path for images in scan_image_folder(root).classes.values() for path in images]


def test_classes_and_paths(root: Path) -> None:
    found = scan_image_folder(root)
    assert found.classes == {"ants": ["ants/1.jpg"], "bees": ["bees/2.PNG"]}
    assert found.skipped == {}


def test_folders_inside_a_class_belong_to_it(root: Path) -> None:
    write(root / "ants" / "2020" / "june" / "3.jpeg")
    assert paths(root) == ["ants/1.jpg", "ants/2020/june/3.jpeg", "bees/2.PNG"]


def test_hidden_and_left_behind_folders_are_passed_over(root: Path) -> None:
    for junk in (".ipynb_checkpoints/1.jpg", "__pycache__/1.jpg", "__MACOSX/ants/1.jpg", ".DS_Store", ".hidden/1.jpg"):
        write(root / junk)
        write(root / "ants" / junk)
    found = scan_image_folder(root)
    assert list(found.classes) == ["ants", "bees"]
    assert len(found.classes["ants"]) == 1
    assert found.skipped == {}


def test_other_files_are_counted(root: Path) -> None:
    for name in ("ants/a.txt", "bees/b.TXT", "README", "loose.jpg", "ants/photo.heic"):
        write(root / name)
    assert paths(root) == ["ants/1.jpg", "bees/2.PNG"]
    assert scan_image_folder(root).skipped == {
        "files of kind .heic": 1,
        "files of kind .txt": 2,
        "files without a suffix": 1,
        "images outside the class folders, directly in raw": 1,
    }


def test_every_suffix_is_one_that_the_decoder_opens() -> None:
    formats = Image.registered_extensions()
    assert {suffix for suffix in IMAGE_SUFFIXES if formats.get(suffix) not in image_decoding._FORMATS} == set()


def test_link_loops_end(root: Path) -> None:
    (root / "ants" / "self").symlink_to(root / "ants", target_is_directory=True)
    (root / "ants" / "up").symlink_to(root, target_is_directory=True)
    found = scan_image_folder(root)
    assert found.classes["ants"] == ["ants/1.jpg", "ants/up/bees/2.PNG"]
    assert found.skipped == {"links to folders that are listed already": 2}


def test_links_that_double_at_each_level_are_listed_once(root: Path) -> None:
    for level in range(40):
        write(root / "ants" / f"d{level}" / "x.jpg")
        for link in ("one", "two"):
            (root / "ants" / f"d{level}" / link).symlink_to(root / "ants" / f"d{level + 1}", target_is_directory=True)
    write(root / "ants" / "d40" / "x.jpg")
    assert len(scan_image_folder(root).classes["ants"]) == 42


def test_links_to_classes_and_images_are_followed(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "3.jpg", b"123")
    (root / "wasps").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "ants" / "4.jpg").symlink_to(tmp_path / "elsewhere" / "3.jpg")
    found = scan_image_folder(root)
    assert found.classes["wasps"] == ["wasps/3.jpg"]
    assert "ants/4.jpg" in found.classes["ants"]


@pytest.mark.parametrize("name", ["ants/5.jpg", "wasps"])
def test_a_broken_link_is_refused(root: Path, name: str) -> None:
    (root / name).symlink_to(root / "gone")
    with pytest.raises(DataError, match=f"broken links.*{name}"):
        scan_image_folder(root)


def test_a_link_to_itself_is_refused(root: Path) -> None:
    (root / "ants" / "5.jpg").symlink_to(root / "ants" / "5.jpg")
    with pytest.raises(DataError, match=r"broken links.*ants/5\.jpg"):
        scan_image_folder(root)


def test_special_files_are_skipped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(root / "ants" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(root)  # the path of a socket must be short
        server.bind("ants/socket.jpg")
        assert scan_image_folder(root).skipped == {"special files (pipes, sockets, devices)": 2}


def test_a_missing_folder_and_a_file_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        scan_image_folder(root / "nowhere")
    with pytest.raises(DataError, match="not a folder"):
        scan_image_folder(root / "ants" / "1.jpg")


def test_a_flat_folder_is_refused_with_the_layout(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "1.jpg")
    with pytest.raises(DataError, match=r"no class folders, but loose images.*one folder a class.*raw/cat/1\.jpg"):
        scan_image_folder(tmp_path / "raw")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match=r"no class folders\. "):
        scan_image_folder(tmp_path / "raw")


def test_a_class_without_images_is_refused_with_what_it_holds(root: Path) -> None:
    write(root / "wasps" / "a.heic")
    with pytest.raises(DataError, match=r"without images: wasps \(skipped: 1 files of kind \.heic\)"):
        scan_image_folder(root)


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "ants" / "1.jpg")
    with pytest.raises(DataError, match="a single class, ants"):
        scan_image_folder(tmp_path / "raw")


def test_folders_that_are_splits_are_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / "raw" / split / "ants" / "1.jpg")
    with pytest.raises(DataError, match="look like splits, not classes"):
        scan_image_folder(tmp_path / "raw")


def test_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write(tmp_path / "raw" / name / "1.jpg")
    assert list(scan_image_folder(tmp_path / "raw").classes) == ["test", "train"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a\nb.jpg", r"a\nb.jpg"),
        (b"a\r.jpg", r"a\r.jpg"),
        ("a\u2028b.jpg".encode(), r"a\u2028b.jpg"),
        (b"caf\xe9.jpg", r"caf\xe9.jpg"),
    ],
)
def test_names_that_are_no_line_of_utf8_are_refused_and_named_safely(root: Path, name: bytes, shown: str) -> None:
    write(Path(os.fsdecode(os.fsencode(root / "ants") + b"/" + name)))
    with pytest.raises(DataError) as raised:
        scan_image_folder(root)
    assert shown in str(raised.value)
    assert str(raised.value).isprintable()
    str(raised.value).encode()


def test_other_unicode_names_are_taken(root: Path) -> None:
    write(root / "ants" / "été 蟻 [red].jpg")
    assert "ants/été 蟻 [red].jpg" in paths(root)


def test_printable_keeps_letters_and_escapes_the_rest() -> None:
    assert printable("蟻 é.jpg") == "蟻 é.jpg"
    assert printable("\x1b[31m\udcff") == r"\x1b[31m\xff"


def test_first_few() -> None:
    assert first_few(["a", "b"]) == "a, b"
    assert first_few(["a", "b", "c", "d"]) == "a, b, c and 1 more"


def test_a_folder_without_permission_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "ants" / "locked").mkdir()

    def scandir(path: Path) -> Iterator[os.DirEntry[str]]:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return real_scandir(path)

    real_scandir = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"ants/locked: the folder cannot be listed \(Permission denied\)"):
        scan_image_folder(root)
