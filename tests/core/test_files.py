"""Files are whole or absent; digests are those of their content."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mltrain.core.files import (
    clear_leftovers,
    content_digest,
    file_sha256,
    fsync_path,
    read_json,
    read_record,
    write_json,
    write_text,
)


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_text_is_written_as_utf8_with_unix_line_ends() -> None:
    write_text(Path("a.txt"), "ä\nb\n")
    assert Path("a.txt").read_bytes() == "ä\nb\n".encode()
    write_text(Path("a.txt"), "")
    assert Path("a.txt").read_bytes() == b""
    assert names() == ["a.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_in_between_leaves_the_old_content(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = Path("a.txt")
    write_text(path, "old")

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
    with pytest.raises(OSError, match=r"No space.*'a\.txt'"):
        write_text(path, "new and longer")
    assert path.read_text() == "old"
    assert names() == ["a.txt"]


def test_text_that_cannot_be_encoded_leaves_the_old_content() -> None:
    write_text(Path("a.txt"), "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(Path("a.txt"), "new \udce9")
    assert Path("a.txt").read_text() == "old"
    assert names() == ["a.txt"]


def test_a_process_killed_before_the_rename_leaves_the_old_content() -> None:
    write_text(Path("a.txt"), "old")
    program = (
        "import os, signal\nfrom pathlib import Path\nfrom mltrain.core import files\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_text(Path('a.txt'), 'new')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program])
    assert ended.returncode == -signal.SIGKILL
    assert Path("a.txt").read_text() == "old"
    # What it left is cleared away, and nothing else: what this process may be writing, and what others call .tmp.
    kept = {f".b.txt.{os.getpid()}-1.tmp", ".mine.tmp", "a.txt"}
    for name in kept - {"a.txt"}:
        Path(name).touch()
    assert len(names()) == len(kept) + 1
    clear_leftovers(Path())
    assert set(names()) == kept


def test_a_reader_sees_the_old_or_the_new_never_a_part() -> None:
    path, sizes = Path("a.json"), [10, 50_000]
    write_json(path, ["x"] * sizes[0])
    seen: set[int] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(len(read_json(path)))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(40):
        write_json(path, ["x"] * sizes[number % 2])
    done.set()
    reader.join()
    assert seen <= set(sizes)


def test_several_threads_may_write_one_file() -> None:
    threads = [threading.Thread(target=write_text, args=(Path("a.txt"), str(n) * 1000)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(Path("a.txt").read_text())) == 1
    assert names() == ["a.txt"]


def test_json_goes_and_comes_back() -> None:
    value = {"ä": [1, 2.5, None, True, "🐝"], "name that is no UTF-8": "a\udce9"}
    write_json(Path("a.json"), value)
    assert read_json(Path("a.json")) == value
    write_json(Path("b.json"), {"ä": "🐝"})
    assert Path("b.json").read_text(encoding="utf-8") == '{\n  "ä": "🐝"\n}\n'


def test_json_has_no_nan() -> None:
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(Path("a.json"), {"x": number})
    assert names() == []


def test_digests() -> None:
    contents = [b"", b"a", b"x" * (1 << 20), b"y" * ((2 << 20) + 1)]
    paths = [Path(f"{number}.bin") for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    assert [file_sha256(path) for path in paths] == [hashlib.sha256(content).hexdigest() for content in contents]
    of_nothing = "3345524abf6bbe1809449224b5972c41790b6cf2"  # by b2sum --length=160
    assert content_digest(b"") == of_nothing
    assert len({content_digest(content) for content in contents}) == len(contents)


def test_files_and_folders_can_be_flushed() -> None:
    Path("a.txt").write_text("x")
    descriptor = os.open("a.txt", os.O_RDONLY)  # the lowest number that is free
    os.close(descriptor)
    fsync_path(Path("a.txt"))
    fsync_path(Path())
    with pytest.raises(FileNotFoundError):
        fsync_path(Path("gone"))
    again = os.open("a.txt", os.O_RDONLY)
    os.close(again)
    assert again == descriptor, "a descriptor was left open"


@pytest.mark.parametrize(("content", "record"), [('{"a": 1}', {"a": 1}), ('{"a"', {}), ("[1]", {}), (None, {})])
def test_a_record_that_cannot_be_read_says_nothing(tmp_path: Path, content: str | None, record: dict[str, int]) -> None:
    if content is not None:
        (tmp_path / "r.json").write_text(content)
    assert read_record(tmp_path / "r.json") == record
