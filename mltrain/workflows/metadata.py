"""`metadata.json` and `requirements.txt`: what a run was made with."""

from __future__ import annotations

import datetime
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from mltrain.core.masking import masked
from mltrain.core.version import __version__

__all__ = ["command_line", "git_facts", "installed_packages", "now", "run_metadata"]


def run_metadata(*, hardware: dict[str, Any], data: dict[str, Any], packages: Mapping[str, str]) -> dict[str, Any]:
    """Return what `metadata.json` holds of a new run, without its segments."""
    notable = ("torch", "accelerate", "transformers", "numpy", "pillow", "safetensors", "mlflow", "scikit-learn")
    return {
        "created": now(),
        "command_line": command_line(),
        "mltrain": __version__,
        "python": platform.python_version(),
        "git": git_facts(Path.cwd()),
        "packages": {name: packages[name] for name in notable if name in packages},
        "hardware": hardware,
        "data": data,
    }


def command_line() -> str:
    """Return the command that started this process, fit to be typed again but for passwords, which are hidden."""
    program = Path(sys.argv[0])
    words = ["python", "-m", program.parent.name] if program.name == "__main__.py" else [program.name]
    return shlex.join([*words, *map(masked, sys.argv[1:])])


def installed_packages() -> dict[str, str]:
    """Return every installed distribution and its version, by name; of two of one name the one that is imported."""
    found: dict[str, str] = {}
    for item in distributions():
        try:
            name, version = item.metadata["Name"], item.metadata["Version"]
        except (KeyError, OSError, TypeError):
            continue  # a damaged installation; libraries bring finders that raise where Python's own gives None
        if name and version:
            found.setdefault(name.lower(), version)
    return dict(sorted(found.items()))


def git_facts(folder: Path) -> dict[str, Any] | None:
    """Return commit and whether files differ from it, of the working folder's repository; None outside of one."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
