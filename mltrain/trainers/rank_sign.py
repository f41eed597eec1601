"""What a process of a run tells of itself: that it lives, how far it has come, and where it stands in the code."""

from __future__ import annotations

import json
import platform
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType

import psutil

__all__ = ["Sign", "Standing", "stands_in", "stood_in", "this_process"]

_OWN = "mltrain"  # with the modules of plugins, whose names begin so
_EXCHANGES = "torch.distributed"


@dataclass(frozen=True)
class Standing:
    """Where a thread stands.

    place: the innermost function of mltrain or of a plugin, with its file and line.
    waits: whether torch exchanges something with the other processes there.
    """

    place: str
    waits: bool


@dataclass(frozen=True)
class Sign:
    """A sign of life of a process.

    rank, host, machine, pid, born: which process it is; `machine` is equal where one can see the other's process.
    beat: the number of the sign.
    at: local time, for people.
    epoch, phase: as the log has them; the epoch from 0.
    step: how many are done; None: training has not begun.
    place, waits: see `Standing`.
    state: "works", "examines" who is lost, "knows" it, or has "left" the run.
    """

    rank: int
    host: str
    machine: str
    pid: int
    born: float
    beat: int = 0
    at: str = ""
    epoch: int | None = None
    step: int | None = None
    phase: str = ""
    place: str = ""
    waits: bool = False
    state: str = "works"

    @classmethod
    def read(cls, text: str | bytes) -> Sign:
        """Return the sign that `text` gave."""
        return cls(**json.loads(text))

    def text(self) -> str:
        """Return the sign as it stands in the store."""
        return json.dumps(asdict(self))

    def process(self) -> str:
        """Return what this machine knows of the process: "gone", "stopped", "there"; "unknown" of another machine's."""
        if self.machine != _machine():
            return "unknown"
        try:
            process = psutil.Process(self.pid)
            status = process.status()
            if process.create_time() != self.born or status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return "gone"
        except psutil.NoSuchProcess:
            return "gone"
        except psutil.Error:
            return "unknown"
        return "stopped" if status == psutil.STATUS_STOPPED else "there"

    def where(self) -> str:
        """Return how far the process had come, in people's numbers."""
        if self.step is None:
            return "before the first step"
        if self.phase == "train" and self.epoch is not None:
            return f"in epoch {self.epoch + 1}, step {self.step + 1}"
        epoch = "" if self.epoch is None else f"in epoch {self.epoch + 1}, "
        return f"{epoch}after step {self.step}" + (f" ({self.phase})" if self.phase else "")


def this_process(rank: int) -> Sign:
    """Return the first sign of this process."""
    process = psutil.Process()
    return Sign(rank, platform.node(), _machine(), process.pid, process.create_time(), at=time.strftime("%H:%M:%S"))


def stands_in(thread: int) -> Standing:
    """Return where a thread of this process stands.

    Args:
        thread: its identifier.
    """
    frame = sys._current_frames().get(thread)
    return _standing(() if frame is None else traceback.walk_stack(frame))


def stood_in(raised: TracebackType | None) -> Standing:
    """Return where an error was raised."""
    return _standing(reversed(list(traceback.walk_tb(raised))))


def _standing(frames: Iterable[tuple[FrameType, int]]) -> Standing:
    """Return the standing of frames with their lines, the innermost first."""
    waits = None
    for frame, line in frames:
        module = str(frame.f_globals.get("__name__", ""))
        waits = module.startswith(_EXCHANGES) if waits is None else waits
        if module.startswith(_OWN):
            return Standing(f"{frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}:{line})", waits)
    return Standing("", bool(waits))


def _machine() -> str:
    """Return a name that is equal in processes that can see each other: containers may share a host's name."""
    try:
        return f"{platform.node()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()
