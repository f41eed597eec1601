"""What a run was made with, against what is here: code, packages, hardware. Whatever differs may change the bits."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mltrain.config.schema import Config
from mltrain.core.run_folder import RunFolder
from mltrain.core.version import __version__
from mltrain.tracking.run_facts import flatten
from mltrain.workflows.metadata import git_facts, installed_packages

__all__ = ["circumstances_that_differ"]

_HARDWARE = ("device", "gpu", "compute_capability", "cuda", "processor", "instruction_set", "threads")
# These compute, decode or draw; the rest is counted.
_NOTABLE = ("torch", "numpy", "pillow", "accelerate", "transformers", "safetensors")


def circumstances_that_differ(
    folder: RunFolder, metadata: Mapping[str, Any], config: Config, hardware: Mapping[str, Any]
) -> list[str]:
    """Return one line for each thing that keeps a new run from being comparable to the bit with an earlier one.

    Args:
        folder, metadata: of the earlier run.
        config: its configuration.
        hardware: what `describe_hardware` says here.
    """
    return [
        *_code(metadata),
        *_settings(folder, config),
        *_packages(folder),
        *_machine(metadata, hardware),
        *_switches(config),
    ]


def _code(metadata: Mapping[str, Any]) -> Iterator[str]:
    for name, here in {"mltrain": __version__, "python": platform.python_version()}.items():
        if metadata.get(name) != here:
            yield f"{name} was {metadata.get(name)}, here it is {here}"
    then, now = metadata.get("git") or {}, git_facts(Path.cwd()) or {}
    if then.get("commit") != now.get("commit"):
        yield f"the git commit was {_short(then)}, here it is {_short(now)}"
    if then.get("dirty"):
        yield "the run was made with changes that were not committed to git"
    if now.get("dirty"):
        yield "the working folder has changes that are not committed to git"


def _settings(folder: RunFolder, config: Config) -> Iterator[str]:
    """A run keeps every key there was: one that its file lacks came with a later mltrain, and may change the result."""
    known = flatten(yaml.safe_load(folder.config.read_text(encoding="utf-8")))
    lacking = [key for key in flatten(config.model_dump()) if key not in known]
    if lacking:
        yield f"config.yaml, made by another mltrain, lacks settings and gets the defaults of this one: {_few(lacking)}"


def _short(git: Mapping[str, Any]) -> str:
    return str(git.get("commit") or "none")[:12]


def _packages(folder: RunFolder) -> Iterator[str]:
    if not folder.requirements.is_file():
        yield "requirements.txt is missing: the packages of the run are unknown"
        return
    lines = folder.requirements.read_text(encoding="utf-8").split()
    then = {name: version for name, sign, version in (line.partition("==") for line in lines) if sign}
    here = installed_packages()
    differing = [name for name in then if then[name] != here.get(name)]
    for name in sorted(set(differing) & set(_NOTABLE)):
        yield f"{name} was {then[name]}, here it is {here.get(name, 'not installed')}"
    others = sorted(set(differing) - set(_NOTABLE))
    if others:
        yield f"other packages have other versions, or are missing: {_few(others)}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _machine(metadata: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    segments = metadata.get("segments") or [metadata]
    machines = [{name: segment["hardware"].get(name) for name in _HARDWARE} for segment in segments]
    for name in _HARDWARE:
        then = list(dict.fromkeys(machine[name] for machine in machines))
        if len(then) > 1:
            yield f"{name} was {then[0]} and, when the run was resumed, {', '.join(map(str, then[1:]))}"
        elif then[0] != here.get(name):
            yield f"{name} was {then[0]}, here it is {here.get(name)}"


def _switches(config: Config) -> Iterator[str]:
    if not config.reproducibility.deterministic:
        yield "the run is not deterministic (reproducibility.deterministic: false)"
    if config.reproducibility.benchmark:
        yield "cuDNN chooses algorithms by trial (reproducibility.benchmark: true)"
