"""What is kept of files and contents between runs, and that nothing depends on its being kept."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

import pytest

from mltrain.core.cache_folder import cache_folder
from mltrain.data.file_cache import FileCache, FileStamp

DIGESTS = [f"{number:040x}" for number in range(1200)]
NAME = "files-1.sqlite"


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr("mltrain.core.logging.log.propagate", True)
    caplog.set_level(logging.INFO, "mltrain")
    return caplog


def test_what_is_kept_is_known_to_the_next_process(tmp_path: Path) -> None:
    odd = os.fsdecode(b"/data/caf\xe9\n.jpg")
    files = {f"/data/{number}.jpg": (FileStamp(number, -5, 2**62), digest) for number, digest in enumerate(DIGESTS)}
    files[odd] = (FileStamp(1, 2, 3), DIGESTS[0])
    cache = FileCache(tmp_path / "new" / "folder")
    cache.keep(files, {DIGESTS[0]: "", DIGESTS[1]: "truncated"}, "one")
    cache.keep({odd: (FileStamp(4, 5, 6), DIGESTS[2])}, {DIGESTS[0]: "refused"}, "two")
    cache.close()
    cache = FileCache(tmp_path / "new" / "folder")
    assert cache.files([*files, "/data/unknown.jpg"]) == {**files, odd: (FileStamp(4, 5, 6), DIGESTS[2])}
    assert cache.verdicts(DIGESTS, "one") == {DIGESTS[0]: "", DIGESTS[1]: "truncated"}
    assert cache.verdicts(DIGESTS, "two") == {DIGESTS[0]: "refused"}
    assert cache.verdicts(DIGESTS, "three") == {}


@pytest.mark.parametrize("damage", ["not a database", "torn"])
def test_a_damaged_cache_is_begun_anew(tmp_path: Path, damage: str, told: pytest.LogCaptureFixture) -> None:
    files = {f"/data/{number}.jpg": (FileStamp(1, 2, 3), digest) for number, digest in enumerate(DIGESTS)}
    cache = FileCache(tmp_path)
    cache.keep(files, {}, "one")
    cache.close()
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(b"<html>" if damage == "not a database" else content[:4096] + bytes(len(content)))
    (tmp_path / f"{NAME}-journal").write_bytes(b"")
    cache = FileCache(tmp_path)
    assert cache.files(list(files)) == {}
    assert [record.getMessage() for record in told.records] == [
        f"{tmp_path / NAME} was damaged and is deleted: this time every image is checked."
    ]
    cache.keep(files, {}, "one")
    with cache.alone("waiting"):
        pass
    cache = FileCache(tmp_path)
    assert cache.files(list(files)) == {}
    cache.keep(files, {}, "one")
    assert cache.files(list(files)) == files


def test_a_cache_that_cannot_be_made_is_done_without_and_told_once(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    cache = FileCache(tmp_path / "file" / "cache")
    cache.keep({"/data/1.jpg": (FileStamp(1, 2, 3), DIGESTS[0])}, {}, "one")
    assert cache.files(["/data/1.jpg"]) == {}
    (message,) = [record.getMessage() for record in told.records]
    assert message.startswith(f"The cache {tmp_path}/file/cache/{NAME} cannot be used (")


def test_a_cache_that_cannot_be_written_is_read(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    cache = FileCache(tmp_path)
    cache.keep({"/data/1.jpg": (FileStamp(1, 2, 3), DIGESTS[0])}, {}, "one")
    cache.close()
    with sqlite3.connect(tmp_path / NAME) as connection:
        connection.execute("CREATE TRIGGER refused BEFORE INSERT ON files BEGIN SELECT RAISE(ABORT, 'read-only'); END")
    connection.close()
    cache = FileCache(tmp_path)
    assert cache.files(["/data/1.jpg"]) == {"/data/1.jpg": (FileStamp(1, 2, 3), DIGESTS[0])}
    cache.keep({"/data/2.jpg": (FileStamp(1, 2, 3), DIGESTS[0])}, {}, "one")
    cache.keep({"/data/2.jpg": (FileStamp(1, 2, 3), DIGESTS[0])}, {}, "one")
    assert len(told.records) == 1


def test_no_folder_is_a_cache_that_knows_nothing() -> None:
    cache = FileCache(None)
    cache.keep({"/data/1.jpg": (FileStamp(1, 2, 3), DIGESTS[0])}, {DIGESTS[0]: ""}, "one")
    assert cache.files(["/data/1.jpg"]) == {}
    assert cache.verdicts(DIGESTS, "one") == {}
    with cache.alone("waiting"):
        pass


def test_the_place_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTRAIN_CACHE", "here")
    assert cache_folder() == Path.cwd() / "here"
    monkeypatch.delenv("MLTRAIN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/tmp/caches")
    assert cache_folder() == Path("/tmp/caches/mltrain")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/mltrain")
