"""A checkpoint is whole or absent, whatever fails and whenever the process dies."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mltrain.checkpoints.manifest import MANIFEST, verify_manifest
from mltrain.checkpoints.store import CheckpointStore, Retention
from mltrain.core.errors import CheckpointError
from mltrain.core.logging import log

# Saves step after step, rotates as a run does, and acknowledges each committed step.
SAVER = """
import sys
from pathlib import Path
from mltrain.checkpoints.store import CheckpointStore, Retention

store, step = CheckpointStore(Path(sys.argv[1])), int(sys.argv[2])
while True:
    step += 1
    def write(folder):
        for number in range(3):
            (folder / f"{number}.json").write_bytes(bytes([step % 251]) * 50_000)
    store.save(store.next_name(step), write, Retention(newest=2))
    print(step, flush=True)
"""


def content(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_text(text)
        (folder / "state.json").write_text(f'"{text}"')

    return write


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    (tmp_path / "checkpoints").mkdir()
    return CheckpointStore(tmp_path / "checkpoints")


def save(store: CheckpointStore, step: int, write: Callable[[Path], None]) -> Path:
    name = store.next_name(step)
    store.save(name, write, Retention())
    return store.folder / name


def names(store: CheckpointStore) -> list[str]:
    return [path.name for path in store.list()]


def damage(path: Path) -> None:
    (path / "model.safetensors").write_text("changed")


def test_names_order_and_the_last_pointer(store: CheckpointStore) -> None:
    for step in (5, 100, 5, 20, 5):
        save(store, step, content(str(step)))
    assert names(store) == ["step-00000100", "step-00000020", "step-00000005.3", "step-00000005.2", "step-00000005"]
    assert store.pointed("last") == store.folder / "step-00000005.3"
    assert store.next_name(5) == "step-00000005.4"
    assert (store.folder / "last").read_text() == "step-00000005.3\n"
    save(store, 123_456_789, content("long"))
    assert names(store)[0] == "step-123456789"


def fail_in_write(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_text("half")
        raise OSError(28, "No space left on device")

    return write


def fail_in_manifest(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    def fail(folder: Path, _: object) -> None:
        (folder / MANIFEST).write_text("{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mltrain.checkpoints.store.write_manifest", fail)
    return content("new")


def fail_in_rename(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    def fail(path: Path, target: Path) -> None:
        assert not target.exists()
        verify_manifest(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    return content("new")


def interrupt_in_write(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        raise KeyboardInterrupt

    return write


@pytest.mark.parametrize("failure", [fail_in_write, fail_in_manifest, fail_in_rename, interrupt_in_write])
def test_a_failed_save_leaves_everything_as_it_was(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch, failure: Callable[..., Callable[[Path], None]]
) -> None:
    save(store, 1, content("one"))
    save(store, 2, content("two"))
    before = sorted(path.name for path in store.folder.iterdir())
    with monkeypatch.context() as patch, pytest.raises((OSError, KeyboardInterrupt)):
        save(store, 3, failure(store, patch))
    assert sorted(path.name for path in store.folder.iterdir()) == before
    assert names(store) == ["step-00000002", "step-00000001"]
    for path in store.list():
        verify_manifest(path)
    assert store.pointed("last") == store.newest_sound() == store.folder / "step-00000002"
    assert save(store, 3, content("three")).name == "step-00000003"


def test_while_it_is_written_a_checkpoint_is_not_listed(store: CheckpointStore) -> None:
    def look(folder: Path) -> None:
        content("new")(folder)
        assert store.list() == []
        assert store.newest_sound() is None
        assert folder.parent == store.folder

    path = save(store, 1, look)
    assert store.list() == [path]


def test_stray_names_are_passed_over(store: CheckpointStore, tmp_path: Path) -> None:
    path = save(store, 3, content("three"))
    for name in (".ipynb_checkpoints", ".tmp-9-abcd", ".trash-step-00000001-abcd", "step-", "step-4.old", "superseded"):
        (store.folder / name).mkdir()
    for name in ("notes.txt", ".DS_Store", "step-00000099", "step-5\n"):
        (store.folder / name).touch()
    assert store.list() == [path]
    assert store.newest_sound() == path
    store.apply(Retention(newest=0))
    left = {path.name for path in store.folder.iterdir()}
    assert ".tmp-9-abcd" not in left
    assert ".trash-step-00000001-abcd" not in left
    assert {".ipynb_checkpoints", "notes.txt", "step-00000003", "step-00000099", "step-4.old"} <= left
    assert store.next_name(99) == "step-00000099.2"
    assert CheckpointStore(tmp_path / "nowhere").list() == []
    assert CheckpointStore(tmp_path / "nowhere").newest_sound() is None


@pytest.mark.parametrize("text", [b"", b"\n", b"..", b"../elsewhere", b"step-00000007", b"notes", b"\xff\xfe"])
def test_a_pointer_that_names_no_checkpoint_is_none(store: CheckpointStore, text: bytes) -> None:
    save(store, 1, content("one"))
    (store.folder.parent / "elsewhere").mkdir()
    (store.folder / "best").write_bytes(text)
    assert store.pointed("best") is None
    assert store.pointed("other") is None
    store.point("best", store.folder / "step-00000001")
    assert store.pointed("best") == store.folder / "step-00000001"


def test_rotation_keeps_what_is_asked_for_and_what_is_pointed_at(store: CheckpointStore) -> None:
    for step in range(1, 8):
        save(store, step, content(str(step)))
    store.point("best", store.folder / "step-00000002")
    store.apply(Retention(newest=3, names=frozenset({"step-00000004", "step-00000099"})))
    assert [int(name[-1]) for name in names(store)] == [7, 6, 5, 4, 2]
    for path in store.list():
        verify_manifest(path)
    assert {path.name for path in store.folder.iterdir()} == {*names(store), "best", "last"}


def test_newest_sound_falls_back_and_names_each_damaged_one(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    paths = [save(store, step, content(str(step))) for step in (1, 2, 3)]
    damage(paths[2])
    assert store.newest_sound() == paths[1]
    assert str(paths[2]) in caplog.text
    (paths[1] / MANIFEST).unlink()
    assert store.newest_sound() == paths[0]
    damage(paths[0])
    assert store.newest_sound() is None


def test_newer_ones_are_set_aside_and_the_pointer_follows(store: CheckpointStore) -> None:
    paths = [save(store, step, content(str(step))) for step in (1, 2, 2, 3)]
    store.set_aside_after(paths[1])
    assert store.list() == [paths[1], paths[0]]
    assert store.pointed("last") == paths[1]
    aside = sorted(path.name.rsplit("-", 1)[0] for path in store.folder.glob("superseded-*"))
    assert aside == ["superseded-step-00000002.2", "superseded-step-00000003"]
    store.apply(Retention(newest=0))
    assert len(list(store.folder.glob("superseded-*"))) == 2
    assert save(store, 2, content("again")).name == "step-00000002.2"
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        store.set_aside_after(store.folder / "best")


def test_a_killed_process_loses_nothing_that_it_acknowledged(store: CheckpointStore) -> None:
    generator, acknowledged = random.Random(3), 0
    for _ in range(10):
        saver = subprocess.Popen(
            [sys.executable, "-c", SAVER, store.folder, str(acknowledged)], stdout=subprocess.PIPE, text=True
        )
        assert saver.stdout is not None
        acknowledged = int(saver.stdout.readline())
        time.sleep(generator.uniform(0.0, 0.06))
        saver.kill()
        rest = saver.communicate(timeout=30)[0].split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        newest = store.newest_sound()
        assert newest is not None
        assert int(newest.name[5:]) >= acknowledged
        assert newest == store.list()[0]
        for path in store.list():
            verify_manifest(path)
        acknowledged = int(newest.name[5:])
    store.apply(Retention(newest=2))
    assert not [path for path in store.folder.iterdir() if path.name.startswith((".tmp-", ".trash-"))]


def test_pointers_follow_what_is_kept(store: CheckpointStore) -> None:
    for step in (1, 2, 3):
        best = {"best": "step-00000001", "best-val_loss": f"step-{step:08d}"}
        store.save(store.next_name(step), content(str(step)), Retention(1, frozenset(), best))
    assert [int(name[-1]) for name in names(store)] == [3, 1]
    assert store.pointed("best") == store.folder / "step-00000001"
    assert store.pointed("best-val_loss") == store.pointed("last") == store.folder / "step-00000003"


def test_a_name_that_is_being_saved_is_taken(store: CheckpointStore) -> None:
    store.reserve("step-00000005")
    assert store.next_name(5) == "step-00000005.2"
    assert store.next_name(6) == "step-00000006"


@pytest.mark.parametrize("name", ["", "..", "../other/checkpoints/step-00000001", "/tmp", "best", "step-1/.."])
def test_a_name_that_leads_elsewhere_is_refused(store: CheckpointStore, name: str) -> None:
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        store.at(name)


def test_a_checkpoint_larger_than_the_free_space_is_refused(store: CheckpointStore) -> None:
    store.require_space(1000)
    with pytest.raises(OSError, match=r"it needs 1000000000\d{6}\.\d MB, and [\d.]+ MB are free"):
        store.require_space(10**21)


def test_a_link_to_another_place_is_not_loaded(store: CheckpointStore, tmp_path: Path) -> None:
    path = save(store, 1, content("one"))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="it is a link to another place"):
        verify_manifest(path)
    assert store.newest_sound() is None
