"""A plugin: the vectors task, in which something happens at an exact place of a run, as the environment says.

ACT holds a JSON list of {"place": ..., "at": ..., "rank": 0, "do": [...]}. Places are the events of callbacks, with the
step as `at`; "data", when the data is read; "load", with the ID of a sample that is evaluated as `at`; and "fsync",
with the name of a file as `at`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import psutil
import torch
from vectors_task import Vectors, VectorTask

from mltrain.callbacks.base import Callback, Loop, register_callback
from mltrain.config.schema import Config
from mltrain.core.seeding import SampleGenerator
from mltrain.tasks.base import Losses, register_task

SPARE_MEMORY = 256 << 20

is_greedy = False


wishes: list[dict[str, Any]] = json.loads(os.environ.get("ACT", "[]"))


def act(place: str, at: Any = None) -> None:
    """Do, once, what is to be done at this place."""
    rank = int(os.environ.get("RANK", "0"))
    for wish in [wish for wish in wishes if (wish["place"], wish.get("at"), wish.get("rank", 0)) == (place, at, rank)]:
        wishes.remove(wish)
        for what in wish["do"]:
            if what in _DEEDS:
                _DEEDS[what]()
            else:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.Signals[what])


def _wait() -> None:
    Path("waiting").touch()
    threading.Event().wait()


def _kill_worker() -> None:
    worker = multiprocessing.active_children()[0]
    os.kill(int(worker.pid or 0), signal.SIGKILL)


def _limit_memory() -> None:
    global is_greedy
    is_greedy = True
    limit = psutil.Process().memory_info().vms + SPARE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _fill(folder: str) -> None:
    with Path(folder, "filler").open("wb", buffering=0) as stream:
        for size in (1 << 16, 1):
            try:
                while stream.write(b"x" * size):
                    pass
            except OSError:
                continue


def _wait_for_stop() -> None:
    assert Acting.loop is not None
    while Acting.loop.stop.status is None:
        time.sleep(0.01)


def _group_interrupt() -> None:
    os.killpg(0, signal.SIGINT)


_DEEDS = {
    "wait": _wait,
    "pause": lambda: time.sleep(0.6),  # so long that a signal is not taken for the one before
    "wait for the wish to stop": _wait_for_stop,
    "kill worker": _kill_worker,
    "limit memory": _limit_memory,
    "fill shared memory": lambda: _fill("/dev/shm"),
    "fill disk": lambda: _fill("runs"),
    "interrupt group": _group_interrupt,
}


@register_callback("acting")
class Acting(Callback):
    loop: ClassVar[Loop | None] = None

    def on_fit_start(self, loop: Loop) -> None:
        Acting.loop = loop
        act("on_fit_start", loop.position.step)

    def on_step_start(self, loop: Loop) -> None:
        act("on_step_start", loop.position.step)

    def on_step_end(self, loop: Loop) -> None:
        act("on_step_end", loop.position.step)

    def on_epoch_end(self, loop: Loop, epoch: int, values: Any) -> None:
        act("on_epoch_end", loop.position.step)

    def on_fit_end(self, loop: Loop) -> None:
        act("on_fit_end", loop.position.step)


class ActingVectors(Vectors):
    def load(self, index: int, generator: SampleGenerator | None) -> tuple[torch.Tensor, int]:
        if generator is None:
            act("load", self.sample_id(index))
        return super().load(index, generator)


@register_task("acting_vectors")
class ActingTask(VectorTask):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        act("data")

    def datasets(self) -> dict[str, Any]:
        found = super().datasets()
        return {split: ActingVectors(split, data.size, data.noise, data.bad) for split, data in found.items()}

    def losses(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> Losses:
        if is_greedy:
            torch.empty(len(batch["labels"]) << 30, dtype=torch.uint8)
        return super().losses(model, batch)


_fsync = os.fsync


def _acting_fsync(descriptor: int) -> None:
    act("fsync", Path(f"/proc/self/fd/{descriptor}").readlink().name)
    _fsync(descriptor)


if any(wish["place"] == "fsync" for wish in wishes):
    os.fsync = _acting_fsync
