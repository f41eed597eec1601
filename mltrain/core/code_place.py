"""Where a class or function is written, for errors about it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

__all__ = ["code_place"]


def code_place(item: Any) -> str:
    """Return the file and line of a class or function, with its name: "my_task.py:12, PointTask.losses"."""
    name = str(getattr(item, "__qualname__", item))
    try:
        file, line = inspect.getsourcefile(item), inspect.getsourcelines(item)[1]
    except (OSError, TypeError):  # made in a notebook or by other code
        return name
    return f"{Path(file or '').name}:{line}, {name}"
