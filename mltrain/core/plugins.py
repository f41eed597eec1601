"""A user's own Python files: importing them registers their tasks, trainers, trackers and callbacks."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from mltrain.core.errors import ConfigError

__all__ = ["import_own_file", "line_of", "load_plugins", "plugin_place"]

_PREFIX = "mltrain_plugin_"


def load_plugins(files: Sequence[str]) -> None:
    """Import each file once. A file that is missing or raises is reported, the latter with its own line."""
    for name in files:
        path = Path(name).resolve()
        if not path.is_file() and _loaded(path) is None:
            raise ConfigError(
                f"no file {name!r}", where="plugins", fix=f"Check the path; it is taken from {Path.cwd()} on."
            )
        import_own_file(name, path, key="plugins", fix="Mend the plugin.")


def import_own_file(name: str, path: Path, *, key: str, fix: str, with_neighbours: bool = False) -> ModuleType:
    """Import a file of the user's own, once, and return it as a module.

    Args:
        name: the file as the user named it, for errors.
        path: the same, resolved.
        key: where it was named.
        fix: what to do where it raises.
        with_neighbours: let it import the files beside it: `from .other import thing`.

    Raises:
        ConfigError: it lies in a run folder, or raises; the latter with its own line.
    """
    return _loaded(path) or _load(name, path, key, fix, [str(path.parent)] if with_neighbours else None)


def plugin_place(error: BaseException) -> str | None:
    """Return file:line of the deepest line of a plugin that had a part in an error, or None."""
    trace, place = error.__traceback__, None
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).startswith(_PREFIX):
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _is_in_run_folder(path: Path) -> bool:
    marks = ("config.yaml", "metadata.json", "checkpoints")
    return any(all((parent / mark).exists() for mark in marks) for parent in path.parents)


def _loaded(path: Path) -> ModuleType | None:
    # The user's own script may have imported the file already, under its own name.
    modules = (module for module in list(sys.modules.values()) if isinstance(module, ModuleType))
    return next((module for module in modules if module.__dict__.get("__file__") == str(path)), None)


def _load(name: str, path: Path, key: str, fix: str, search: list[str] | None) -> ModuleType:
    if _is_in_run_folder(path):
        raise ConfigError(
            f"{name!r} lies in a run folder, and nothing in there is run",
            where=key,
            fix="Where you trust the file, copy it to your own code and name that copy.",
        )
    module_name = f"{_PREFIX}{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()}"
    specification = importlib.util.spec_from_file_location(module_name, path, submodule_search_locations=search)
    if specification is None or specification.loader is None:
        raise ConfigError(f"{name!r} is not a Python file", where=key, fix="Name a .py file.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[module_name] = module
    try:
        specification.loader.exec_module(module)
    except ConfigError as error:
        del sys.modules[module_name]
        if path.name not in str(error.where):
            error.where = f"{name}:{line_of(error, path)}, {error.where}"
        raise
    except KeyboardInterrupt:
        del sys.modules[module_name]
        raise
    except BaseException as error:
        del sys.modules[module_name]
        what = error.msg if isinstance(error, SyntaxError) else str(error)
        place = f"{name}:{line_of(error, path)}"
        raise ConfigError(f"{type(error).__name__}: {what}", where=place, fix=fix) from error
    return module


def line_of(error: BaseException, path: Path) -> int:
    """Return the deepest line of the file that had a part in the error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    trace, line = error.__traceback__, 1
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
