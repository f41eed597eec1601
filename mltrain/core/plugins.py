"""A user's own Python files: importing them registers their tasks, trainers, trackers and callbacks."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from mltrain.core.errors import ConfigError

__all__ = ["load_plugins"]


def load_plugins(files: Sequence[str]) -> None:
    """Import each file once. A file that is missing or raises is reported with its own line."""
    for name in files:
        path = Path(name).resolve()
        module_name = f"mltrain_plugin_{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()}"
        # The user's own script may have imported the file already, under its own name.
        if any(getattr(module, "__file__", None) == str(path) for module in list(sys.modules.values())):
            continue
        if not path.is_file():
            raise ConfigError("no such file", where=f"plugins, {name}", fix="Check the path.")
        specification = importlib.util.spec_from_file_location(module_name, path)
        if specification is None or specification.loader is None:
            raise ConfigError("not a Python file", where=f"plugins, {name}", fix="Name a .py file.")
        module = importlib.util.module_from_spec(specification)
        sys.modules[module_name] = module
        try:
            specification.loader.exec_module(module)
        except ConfigError:
            del sys.modules[module_name]
            raise
        except Exception as error:
            del sys.modules[module_name]
            trace, line = error.__traceback__, 0
            while trace is not None:
                if trace.tb_frame.f_code.co_filename == str(path):
                    line = trace.tb_lineno
                trace = trace.tb_next
            raise ConfigError(
                f"{type(error).__name__}: {error}", where=f"plugins, {name}:{line}", fix="Mend the plugin."
            ) from error
