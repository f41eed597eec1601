"""Images are decoded in full, once for each content and decoder; and in a run they stay what they were."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from images import noise
from PIL import Image

from mltrain.core.errors import DataError
from mltrain.core.files import content_digest
from mltrain.data import image_contents, image_decoding
from mltrain.data.image_contents import ImageContent, examine_images
from mltrain.data.recorded_files import RecordedFiles

LONG_AGO = 1_000_000_000


def put(path: Path, content: bytes) -> Path:
    """Write a file that is not of today."""
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def jpeg(seed: int) -> bytes:
    stream = io.BytesIO()
    noise(32, 24, seed=seed).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four images, of which two are copies; a cache of their own."""
    monkeypatch.setenv("MLTRAIN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    for number, name in enumerate("abc"):
        put(tmp_path / "data" / f"{name}.jpg", jpeg(number))
    put(tmp_path / "data" / "copy.jpg", jpeg(0))
    return tmp_path / "data"


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many contents have been read and decoded."""
    found = {"read": 0, "decoded": 0}

    def count(module: Any, name: str, what: str) -> None:
        original = getattr(module, name)

        def counting(*arguments: Any) -> Any:
            found[what] += 1
            return original(*arguments)

        monkeypatch.setattr(module, name, counting)

    count(image_contents, "content_digest", "read")
    count(image_decoding, "_decode", "decoded")
    return found


def examine(root: Path, *more: str) -> dict[str, ImageContent]:
    return examine_images(root, ["a.jpg", "b.jpg", "c.jpg", "copy.jpg", *more])


def test_only_a_full_decode_finds_a_truncated_jpeg(root: Path) -> None:
    put(root / "cut.jpg", jpeg(7)[:-40])
    with Image.open(root / "cut.jpg") as image:
        image.verify()
    found = examine(root, "cut.jpg")
    assert [path for path, content in found.items() if content.flaw] == ["cut.jpg"]
    assert "truncated" in str(found["cut.jpg"].flaw)
    assert found["a.jpg"].digest == content_digest((root / "a.jpg").read_bytes())


def test_nothing_is_read_or_decoded_twice(root: Path, counts: dict[str, int]) -> None:
    put(root / "html.jpg", b"<html>")
    first = examine(root, "html.jpg")
    assert counts["read"] == 5
    assert counts["decoded"] in (4, 5)  # copies that are read at once are decoded at once
    counts.update(read=0, decoded=0)
    assert examine(root, "html.jpg") == first
    assert counts == {"read": 0, "decoded": 0}


def test_files_that_were_moved_are_read_but_not_decoded(root: Path, counts: dict[str, int]) -> None:
    first = examine(root)
    moved = root.rename(root.parent / "moved")
    counts.update(read=0, decoded=0)
    found = examine(moved)
    assert counts == {"read": 4, "decoded": 0}
    assert {path: content.digest for path, content in found.items()} == {p: c.digest for p, c in first.items()}


@pytest.mark.parametrize(
    ("name", "value"), [("PIL.__version__", "99.0"), ("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)]
)
def test_another_decoder_judges_anew(
    root: Path, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    put(root / "copy.jpg", jpeg(7)[:-40])
    assert examine(root)["copy.jpg"].flaw is not None
    counts.update(read=0, decoded=0)
    with monkeypatch.context() as patch:
        patch.setattr(name, value)
        assert (examine(root)["copy.jpg"].flaw is None) == (value is True)
    assert counts == {"read": 4, "decoded": 4}
    assert examine(root)["copy.jpg"].flaw is not None
    assert counts == {"read": 4, "decoded": 4}


def test_a_change_of_equal_size_and_time_is_found(root: Path) -> None:
    before = examine(root)
    content = bytearray(jpeg(1))
    content[-20] ^= 1
    put(root / "b.jpg", bytes(content))
    after = examine(root)
    assert after["b.jpg"].stamp[:2] == before["b.jpg"].stamp[:2]
    assert [path for path in after if after[path].digest != before[path].digest] == ["b.jpg"]


def test_a_young_file_is_read_again_but_not_decoded(root: Path, counts: dict[str, int]) -> None:
    os.utime(root / "a.jpg")
    assert not examine(root)["a.jpg"].settled
    counts.update(read=0, decoded=0)
    examine(root)
    assert counts == {"read": 1, "decoded": 0}


def test_a_cache_that_cannot_be_used_changes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "file").touch()
    found = examine(root)
    monkeypatch.setenv("MLTRAIN_CACHE", str(root / "file" / "cache"))
    assert examine(root) == found
    monkeypatch.setenv("MLTRAIN_CACHE", "")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert examine(root) == found


def test_an_unreadable_file_is_no_corrupt_image(root: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: the image cannot be read \(No such file or directory\)"):
        examine(root, "gone.jpg")
    (root / "folder.jpg").mkdir()
    with pytest.raises(DataError, match=r"folder\.jpg: the image cannot be read \(Is a directory\)"):
        examine(root, "folder.jpg")


def test_what_an_interrupted_check_found_is_kept(
    root: Path, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(content: bytes) -> str | None:
        if content == jpeg(2):
            raise KeyboardInterrupt
        return None

    with monkeypatch.context() as patch:
        patch.setattr(image_contents, "find_flaw", interrupt)
        patch.setattr(image_contents, "_FILES_A_ROUND", 1)
        with pytest.raises(KeyboardInterrupt):
            examine(root)
    counts.update(read=0, decoded=0)
    examine(root)
    assert counts == {"read": 2, "decoded": 1}


def test_a_long_check_says_how_far_it_is(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mltrain.core.logging.log.propagate", True)
    caplog.set_level("INFO", "mltrain")
    examine(root)
    assert caplog.messages == []
    monkeypatch.setattr(image_contents, "_TELL_AFTER_S", 0)
    put(root / "d.jpg", jpeg(9))
    examine(root, "d.jpg")
    assert caplog.messages == ["Checking that images decode, once for all runs: 1 of 1, 0 s to go."]


_SLOW = """
import sys, time
from pathlib import Path
from mltrain.data import image_contents
original = image_contents.find_flaw
def slow(content):
    time.sleep(0.05)
    print("decoded")
    return original(content)
image_contents.find_flaw = slow
Path(sys.argv[2]).touch()
while len(list(Path(sys.argv[2]).parent.glob("ready*"))) < 2:
    time.sleep(0.001)
found = image_contents.examine_images(Path(sys.argv[1]), [f"{number}.jpg" for number in range(12)])
print(sorted(found) == sorted(f"{number}.jpg" for number in range(12)), {c.flaw for c in found.values()})
"""


def test_of_two_processes_at_once_one_decodes(root: Path) -> None:
    for number in range(12):
        put(root / f"{number}.jpg", jpeg(20 + number))
    command = [sys.executable, "-c", _SLOW, str(root)]
    processes = [
        subprocess.Popen([*command, str(root.parent / f"ready{number}")], stdout=subprocess.PIPE, text=True)
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(output.count("decoded") for output in outputs) == 12
    assert [output.count("True {None}") for output in outputs] == [1, 1]


# ---- in a run ------------------------------------------------------------------------------------------------------


def recorded(root: Path) -> RecordedFiles:
    return RecordedFiles(root, ["b.jpg", "a.jpg"], examine(root))


@pytest.mark.parametrize("settled", [True, False])
def test_files_are_read_as_they_are(root: Path, counts: dict[str, int], settled: bool) -> None:
    if not settled:
        os.utime(root / "a.jpg")
    files = recorded(root)
    time.sleep(0.01)
    assert files.read(0) == jpeg(1)
    assert files.read(1) == files.read(1) == jpeg(0)
    assert (files.paths, files.file(1)) == (["b.jpg", "a.jpg"], f"{root}/a.jpg")
    os.utime(root / "b.jpg")  # another time, the same content
    assert files.read(0) == files.read(0) == jpeg(1)


def test_a_file_that_is_gone_or_another_is_told(root: Path) -> None:
    files = recorded(root)
    content = bytearray(jpeg(0))
    content[-20] ^= 1
    put(root / "a.jpg", bytes(content))
    for _ in range(2):
        with pytest.raises(DataError) as changed:
            files.read(1)
        assert str(changed.value) == (
            f"{root}/a.jpg: the image has changed since the run began. "
            "Put the old file back and go on with --resume, or start a new run."
        )
    put(root / "a.jpg", jpeg(0))
    assert files.read(1) == jpeg(0)
    (root / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"b\.jpg: the image was there when the run began, now it is gone\. Put it"):
        files.read(0)


def _read_in_another_process(files: RecordedFiles, number: int, answers: Any) -> None:
    try:
        answers.put(files.read(number))
    except DataError as error:
        answers.put(str(error))


def test_a_spawned_process_knows_what_the_files_were(root: Path) -> None:
    files = recorded(root)
    put(root / "a.jpg", jpeg(5))
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    for number in range(2):
        process = context.Process(target=_read_in_another_process, args=(files, number, answers))
        process.start()
        process.join(60)
    assert answers.get() == jpeg(1)
    assert "a.jpg: the image has changed since the run began" in answers.get()


def test_little_is_sent_to_a_process(root: Path) -> None:
    many = [f"{number}.jpg" for number in range(1000)]
    contents = dict.fromkeys(many, examine(root)["a.jpg"])
    sent, paths = pickle.dumps(RecordedFiles(root, many, contents)), pickle.dumps(many)
    assert len(sent) < len(paths) + 30 * len(many)
