"""The one place where an error becomes a line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import inspect
import operator
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from mltrain.core.errors import TOLD_ELSEWHERE, LostProcessError, MltrainError, SignalError, one_line
from mltrain.core.masking import masked
from mltrain.workflows.launch_state import STATE

__all__ = ["guarded"]

T = TypeVar("T")

_LONGEST = 500
_PLUGIN = "mltrain_plugin_"
_LOADER_FRAME = re.compile(r'File "(.+)", line (\d+)')
_REFUSED_CALL = re.compile(r"([\w.]+)\(\) (?:takes|missing|got)")

# What the machine refuses; no program can do better.
_OUTER = {errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EPERM, errno.EROFS}


def guarded(run: Callable[[T], int], argument: T, *, debug: bool) -> int:
    """Return the exit code of run(argument), whatever happens in it. With `debug` an error shows its traceback."""
    # Of a process that is lost torch tells at length, with the addresses of its machine code. It is not imported yet.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "INFO" if debug else "ERROR")
    try:
        code = int(run(argument))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as error:
        lost = _met_before(error)
        if lost is not None:
            return _show(lost, debug=debug)
        return 128 + (error.number if isinstance(error, SignalError) else signal.SIGINT)
    except BrokenPipeError:
        # The reader of the output has gone; Python must not meet that again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        return _show(error, debug=debug)


def _show(error: Exception, *, debug: bool) -> int:
    """Print an error and return its exit code."""
    code, lines = _verdict(error)
    if debug:
        print(masked("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    if not _tells(error, code):
        return code
    if isinstance(error, LostProcessError) and STATE in os.environ:
        # The launcher says last how the run ended, or that it begins again: this is not the end yet.
        print(masked(f"{one_line(error.what).rstrip('.')}."), file=sys.stderr)
        return code
    for line in lines:
        print(f"error: {masked(line)}", file=sys.stderr)
    return code


def _met_before(interrupt: BaseException) -> LostProcessError | None:
    """Return the loss of another process that was on its way up when a signal came, as launchers send one then."""
    error: BaseException | None = interrupt
    while error is not None and not isinstance(error, LostProcessError):
        error = error.__context__
    return error


def _tells(error: Exception, code: int) -> bool:
    """Return whether this process prints its error: one line is enough for a launch of many."""
    rank = os.environ.get("RANK", "0")
    if isinstance(error, LostProcessError):
        return rank == str(error.told_by)
    # A mistake of the user's is met by every process.
    return rank == "0" or (code == 1 and TOLD_ELSEWHERE not in getattr(error, "__notes__", ()))


def _verdict(error: Exception) -> tuple[int, list[str]]:
    """Return the exit code and the lines of an error."""
    if isinstance(error, MltrainError):
        return error.exit_code, error.problems
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which must not be imported to be known
        fix = "Lower training.batch_size, and raise training.gradient_accumulation_steps as much."
        return 2, [f"the GPU has too little memory: {one_line(error).rstrip('.')}. {fix}"]
    if isinstance(error, OSError) and error.errno in _OUTER:
        return 2, [f"{error.filename or 'this machine'}: {error.strerror}. Mend that and run again."]
    what = _described(error)
    plugin = _plugin_line(error)
    if plugin is not None:
        return 1, [f"{plugin}: {what} (raised in a plugin; --debug shows the traceback)"]
    return 1, [f"{what} (a defect of mltrain; --debug shows where)"]


def _described(error: Exception) -> str:
    """Return an error's name and text; of one from a loader process its own, not the traceback around it."""
    text = f"{type(error).__name__}: {error}"
    if "Original Traceback" in text:
        text = f"{text.strip().splitlines()[-1]} (in a loader process)"
    text = one_line(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _plugin_line(error: Exception) -> str | None:
    """Return file:line in a user's own file that had a part in the error: the deepest one, wherever it ran."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if str(frame.f_globals.get("__name__", "")).startswith(_PLUGIN):
            return f"{Path(frame.f_code.co_filename).name}:{line}"
    plugins = {name: module for name, module in sys.modules.items() if name.startswith(_PLUGIN)}
    files = {getattr(module, "__file__", None) for module in plugins.values()}
    for file, line in reversed(_LOADER_FRAME.findall(str(error))):  # of the traceback in a loader process
        if file in files:
            return f"{Path(file).name}:{line}"
    return _called_wrongly(error, plugins) if isinstance(error, TypeError) else None


def _called_wrongly(error: TypeError, plugins: Mapping[str, ModuleType]) -> str | None:
    """Return where a plugin defines the function that could not be called with the loop's arguments."""
    if (called := _REFUSED_CALL.match(str(error))) is None:
        return None
    for module in plugins.values():
        with contextlib.suppress(AttributeError, OSError, TypeError):
            function = operator.attrgetter(called[1])(module)
            return f"{Path(str(module.__file__)).name}:{inspect.getsourcelines(function)[1]}"
    return None
