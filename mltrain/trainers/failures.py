"""Errors of torch and of the disk that the user can mend, in words."""

from __future__ import annotations

import contextlib
import errno
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from mltrain.core.errors import HardwareError, LostProcessError, MltrainError, RunFolderError
from mltrain.trainers.memory import is_out_of_memory

__all__ = ["explained", "in_words"]


@dataclass(frozen=True)
class _Known:
    """An error by its text; `what` is a template of the text's groups."""

    kind: type[Exception]
    pattern: str
    what: str
    where: str | None
    fix: str


_CONTINUE = "Its own output says why, if anything does. Continue with --resume: the checkpoints are whole."

# What gloo, NCCL and the store say when the connection to another process is gone, or when it does not answer in time.
_CLOSED = re.compile(
    r"gloo(?s:.*)(Connection (closed|reset|refused|timed out)|Broken pipe|No route to host|(Host|Network) is \w+"
    r"|Read error|Write error|Socket closed)|remote process exited"
    r"|NCCL(?s:.*)(connection closed|Connection reset)|(recvValue|sendBytes) failed|failed to recv, got 0 bytes"
)
_TIMED_OUT = re.compile(
    r"gloo(?s:.*)(Timed out waiting|(Read|Write) timeout)|Application timeout caused pair closure"
    r"|collective operation timeout|wait timeout after"
)

_LOADER_KILLED = (
    "a loader process was killed, most likely for want of memory",
    "data.num_workers",
    "Lower it, or give the machine more; then continue with --resume.",
)

_KNOWN = (
    _Known(
        RuntimeError,
        r"^(?P<operation>\S+) (?s:.*)use_deterministic_algorithms",
        "{operation} has no deterministic form on this device",
        "reproducibility.deterministic",
        "Set it to false (a second run will then not give the same bits), or use another model.",
    ),
    _Known(
        RuntimeError,
        r"killed by signal: Bus error|unable to \w+ shared memory|unable to (mmap|write to file) ",
        "shared memory (/dev/shm) is full, which loader processes need for their batches",
        "data.num_workers",
        "Set it to 0, or free some (with containers: raise --shm-size).",
    ),
    _Known(
        RuntimeError,
        r"DataLoader worker .*exited unexpectedly with exit code (?P<code>\d+)",
        "a loader process ended by itself, with exit code {code}",
        "data.num_workers",
        "Something ends the process that loads: look for sys.exit and os._exit in the code of the data.",
    ),
    _Known(
        RuntimeError,
        r"DataLoader worker .*(killed by signal|exited unexpectedly)",
        *_LOADER_KILLED,
    ),
    _Known(
        RuntimeError,
        r"does not require grad",
        "the loss does not depend on any weight that is trained, so there is no gradient",
        "loss",
        "Compute it from the model's outputs without detach(), item() or whole numbers; freeze less.",
    ),
    _Known(
        RuntimeError,
        r"\A(?P<what>.*)\n(?s:.*)Explanation:(?s:.*)Developer debug context",
        "the model does not compile as one piece ({what})",
        "training.compile.fullgraph",
        "Set it to false, or change what the model computes there.",
    ),
    _Known(
        RuntimeError,
        r"\A(?P<what>.*)\n(?s:.*)Set TORCHDYNAMO_VERBOSE",
        "the model cannot be compiled ({what})",
        "training.compile.enabled",
        "Set it to false, or choose another training.compile.backend.",
    ),
    _Known(
        ValueError,
        r"Expected more than 1 value per channel",
        "batch norm cannot learn from one value: a microbatch has a single example whose map is one pixel",
        "training.batch_size",
        "Choose one that leaves more than one example to the last window, or larger images.",
    ),
    _Known(
        RuntimeError,
        r"failed to listen(?s:.*)port: (?P<port>\d+)(?s:.*)EADDRINUSE",
        "port {port}, at which the processes of the run were to meet, is taken",
        "MASTER_PORT",
        "Choose another, for a launcher with --main_process_port.",
    ),
    _Known(
        RuntimeError,
        r"(?P<joined>\d+)/(?P<count>\d+) clients joined",
        "only {joined} of the run's {count} processes came",
        "WORLD_SIZE",
        "See what the others say, and that all have the same MASTER_ADDR and MASTER_PORT.",
    ),
    _Known(
        RuntimeError,
        r"client socket has timed out(?s:.*)connect to \((?P<address>[^)]*)\)",
        "the first process of the run does not answer at {address}",
        "MASTER_ADDR",
        "See what that process says, and that all have the same MASTER_ADDR and MASTER_PORT.",
    ),
)

_DISK = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some of your quota",
    errno.EROFS: "Make it writable",
    errno.EIO: "See to the disk",
}


def explained(error: BaseException) -> MltrainError | None:
    """Return the error for people that an error of torch or of the disk stands for, or None."""
    if is_out_of_memory(error):
        return HardwareError(
            "out of memory",
            where="training.batch_size",
            fix="Halve it and double training.gradient_accumulation_steps: the gradient stays the same.",
        )
    if isinstance(error, OSError) and error.errno in _DISK:
        return RunFolderError(
            f"cannot be written ({error.strerror})",
            where=error.filename,
            fix=f"{_DISK[error.errno]}, then continue with --resume: what was saved is whole.",
        )
    if isinstance(error, OSError | EOFError) and _in_handing_over(error):
        what, where, fix = _LOADER_KILLED
        return HardwareError(what, where=where, fix=fix)
    text = str(error)
    for known in _KNOWN:
        found = re.search(known.pattern, text) if isinstance(error, known.kind) else None
        if found is not None:
            return HardwareError(known.what.format(**found.groupdict()), where=known.where, fix=known.fix)
    return _lost(text) if isinstance(error, RuntimeError) else None


def _in_handing_over(error: BaseException) -> bool:
    """Return whether an error was raised where torch takes a tensor over from a loader process, which has to live."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == "torch.multiprocessing.reductions" for frame, _ in frames)


def _lost(text: str) -> LostProcessError | None:
    """Return what an error in an exchange says of the other processes: a connection is gone, or time has run out."""
    if _TIMED_OUT.search(text):
        return LostProcessError(
            "another process of the run has not answered within this time (it hangs, or is slower)",
            where="training.collective_timeout_s",
            fix="Continue with --resume: the checkpoints are whole. Raise it if that process was at work.",
            timed_out=True,
        )
    return LostProcessError("another process of the run has died", fix=_CONTINUE) if _CLOSED.search(text) else None


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Raise what `explained` makes of an error in the block."""
    try:
        yield
    except Exception as error:
        plain = explained(error)
        if plain is None:
            raise
        raise plain from error
