"""The log: coloured lines on a terminal, plain ones in `logs/train.log`, each with time, level, epoch and phase.

Of several processes the first one has these two; the others have `logs/rank_1.log` and so on.

Passwords in addresses are hidden in every line, those of errors and tracebacks too.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from mltrain.core.masking import masked

__all__ = [
    "LogContext",
    "close_log",
    "console_is_open",
    "console_log",
    "is_terminal",
    "kept_for_file",
    "log",
    "open_console_log",
    "open_file_log",
]

log = logging.getLogger("mltrain")

_COLOURS = {
    logging.DEBUG: "2",
    logging.INFO: "36",
    logging.WARNING: "33",
    logging.ERROR: "31",
    logging.CRITICAL: "1;31",
}


class LogContext:
    """Where the run stands, for the log's lines. Process-wide, as the log is."""

    epoch: int | None = None
    num_epochs: int | None = None
    phase: str = ""

    @classmethod
    def set(cls, *, epoch: int | None = None, num_epochs: int | None = None, phase: str = "") -> None:
        """Replace the whole context."""
        cls.epoch, cls.num_epochs, cls.phase = epoch, num_epochs, phase

    @classmethod
    @contextlib.contextmanager
    def of_a_run(cls) -> Iterator[None]:
        """Begin with an empty context, and leave none behind for what the process logs after the block."""
        cls.set()
        try:
            yield
        finally:
            cls.set()

    @classmethod
    def text(cls) -> str:
        """Return the context as it stands in a line: `3/50 train`."""
        epoch = "" if cls.epoch is None else f"{cls.epoch + 1}/{cls.num_epochs}"
        return f"{epoch:>7} {cls.phase:<8}"


class _Formatter(logging.Formatter):
    def __init__(self, *, colour: bool) -> None:
        super().__init__(datefmt="%H:%M:%S" if colour else "%Y-%m-%d %H:%M:%S")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        time = self.formatTime(record, self.datefmt)
        head = f"{time} {record.levelname:<7} {LogContext.text()} "
        if self._colour:
            level = f"\x1b[{_COLOURS.get(record.levelno, '0')}m{record.levelname:<7}\x1b[0m"
            head = f"\x1b[2m{time}\x1b[0m {level} \x1b[2m{LogContext.text()}\x1b[0m "
        lines = record.getMessage().splitlines() or [""]
        if record.exc_info:
            lines += self.formatException(record.exc_info).splitlines()
        return "\n".join(head + masked(line) for line in lines)


class _FileLog(logging.FileHandler):
    """Tells once that the disk takes no more, where logging would show a traceback for each line."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._told:
            self._told = True
            log.warning("%s: cannot be written (%s); the log goes on without it.", self.baseFilename, error.strerror)


def is_terminal(stream: TextIO | None = None) -> bool:
    """Return whether people watch this stream (default: standard error), so that colour and a progress bar help."""
    stream = stream or sys.stderr
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def open_console_log(level: int = logging.INFO) -> None:
    """Send the log to standard error. Called again it replaces the earlier console handler."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(colour=is_terminal()))
    handler.set_name("console")
    handler.setLevel(level)
    for old in [old for old in log.handlers if old.get_name() == "console"]:
        log.removeHandler(old)
    log.addHandler(handler)
    log.setLevel(min(level, log.level or logging.INFO))
    log.propagate = False


def console_is_open() -> bool:
    """Return whether the log is shown on standard error."""
    return any(handler.get_name() == "console" for handler in log.handlers)


@contextlib.contextmanager
def console_log() -> Iterator[None]:
    """Show the log on standard error while the block runs; one that is open, as the command line's, stays as it is.

    Of several processes the first one alone shows it.
    """
    if console_is_open():
        yield
        return
    level, propagate, silence = log.level, log.propagate, logging.NullHandler()
    if os.environ.get("RANK", "0") == "0":
        open_console_log()
    else:
        log.addHandler(silence)  # without any handler logging would show warnings all the same
        log.propagate = False
    try:
        yield
    finally:
        for handler in [handler for handler in log.handlers if handler is silence or handler.get_name() == "console"]:
            log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


@contextlib.contextmanager
def kept_for_file() -> Iterator[None]:
    """Keep the lines of the block for the file that `open_file_log` opens in it: it then holds those before it too."""
    keeper = logging.handlers.MemoryHandler(sys.maxsize, flushLevel=sys.maxsize)
    level = log.level
    log.addHandler(keeper)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(keeper)
        log.setLevel(level)


def open_file_log(path: Path) -> logging.Handler:
    """Append the log, down to its finest level, to a file as well; returns the handler for `close_log`."""
    path.parent.mkdir(parents=True, exist_ok=True)  # another machine may not see the first one's folders
    handler = _FileLog(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(_Formatter(colour=False))
    for keeper in [keeper for keeper in log.handlers if isinstance(keeper, logging.handlers.MemoryHandler)]:
        keeper.setTarget(handler)
        keeper.close()
        log.removeHandler(keeper)
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    return handler


def close_log(handler: logging.Handler) -> None:
    """Flush and detach a handler."""
    log.removeHandler(handler)
    with contextlib.suppress(OSError):  # a full disk has been told
        handler.close()
