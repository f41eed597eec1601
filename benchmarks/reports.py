"""Tables for people, JSON for programs, and what is told of the machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "accelerate", "transformers", "lightning", "mlflow")


def machine() -> dict[str, Any]:
    """Return what bears on the figures and names nobody."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, aligned for reading as text; numbers to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = zip(row, widths, strict=True)
        lines.append([cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(cells)])
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def write(path: Path | None, results: dict[str, Any]) -> None:
    """Write results with the machine's description, if a file is asked for."""
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), **results}, indent=2) + "\n", encoding="utf-8")


def read(path: Path) -> Any:
    """Return the value of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def microseconds(seconds: float) -> str:
    """Return whole microseconds."""
    return f"{seconds * 1e6:.0f}"


def difference(seconds: float) -> str:
    """Return whole microseconds with their sign."""
    return f"{seconds * 1e6:+.0f}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
