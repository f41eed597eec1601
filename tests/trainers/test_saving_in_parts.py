"""Two processes that write a checkpoint together, one of which looks before its own part is written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mltrain.checkpoints import parts
from mltrain.checkpoints.manifest import verify_manifest
from mltrain.checkpoints.snapshot import Snapshot
from mltrain.checkpoints.store import CheckpointStore
from mltrain.core.errors import CheckpointError
from mltrain.trainers.processes import Processes
from mltrain.trainers.saving import Saving


class Two(Processes):
    """One of two processes as a thread; `on_exchange` is called before it waits for the other."""

    def __init__(self, rank: int, barrier: threading.Barrier, words: list[Any]) -> None:
        self.rank, self.count, self.is_main = rank, 2, rank == 0
        self._barrier, self._words = barrier, words
        self.on_exchange: Callable[[], None] = lambda: None

    def gather(self, value: Any) -> list[Any]:
        self.on_exchange()
        self._words[self.rank] = value
        self._barrier.wait(30)
        found = list(self._words)
        self._barrier.wait(30)
        return found

    def from_main(self, value: Any) -> Any:
        return self.gather(value)[0]


class Part(Snapshot):
    """One file, written when it may be."""

    def __init__(self, rank: int, may: threading.Event, error: OSError | None = None) -> None:
        super().__init__({}, {f"part_{rank}.json": rank})
        self._may, self._error = may, error

    def write(self, folder: Path) -> list[Path]:
        assert self._may.wait(30)
        if self._error is not None:
            raise self._error
        return super().write(folder)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[list[Two], list[Saving], CheckpointStore]:
    barrier, words = threading.Barrier(2), [None, None]
    processes = [Two(rank, barrier, words) for rank in (0, 1)]
    store = CheckpointStore(tmp_path)
    return processes, [Saving(store, one, writers=2) for one in processes], store


def both(works: list[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(2) as pool:
        return [future.exception() or future.result() for future in [pool.submit(work) for work in works]]


def save(name: str, rank: int, saving: Saving, may: threading.Event, error: OSError | None = None) -> None:
    saving.start(name, lambda: (Part(rank, may, error), lambda: None))


def test_one_looks_before_its_part_is_written(pair: Any) -> None:
    """The checkpoint is committed between its look and the main one's; the next save finds it ready."""
    processes, savings, store = pair
    at_once, late = threading.Event(), threading.Event()
    at_once.set()

    def first() -> Any:
        save("step-00000001", 0, savings[0], at_once)
        name = savings[0].settle(wait=True)
        save("step-00000002", 0, savings[0], at_once)
        return name, savings[0].settle(wait=True)

    def second() -> Any:
        save("step-00000001", 1, savings[1], late)
        processes[1].on_exchange = late.set
        name = savings[1].settle(wait=False)
        save("step-00000002", 1, savings[1], at_once)
        return name, savings[1].settle(wait=True)

    assert both([first, second]) == [("step-00000001", "step-00000002")] * 2
    for folder in store.list():
        verify_manifest(folder)
        assert {path.name for path in folder.iterdir()} == {"MANIFEST.json", "part_0.json", "part_1.json"}


def test_a_part_that_cannot_be_written_ends_both(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_HURRY_S", 0.2)
    _, savings, store = pair
    at_once = threading.Event()
    at_once.set()

    def work(rank: int) -> Any:
        save("step-00000001", rank, savings[rank], at_once, OSError(28, "No space left on device") if rank else None)
        return savings[rank].settle(wait=True)

    for error in both([lambda: work(0), lambda: work(1)]):
        assert isinstance(error, CheckpointError)
        assert "cannot be saved here (No space left on device)" in str(error)
    assert store.list() == []
