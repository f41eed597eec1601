"""Which Python packages are installed, and whether they are those that mltrain needs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

from mltrain.core.errors import one_line
from mltrain.core.machine import Package
from mltrain.core.version import __version__

__all__ = ["package_versions"]

_OPTIONAL = {
    "dp-accounting": "the second accountant of privacy statements",
    "deepspeed": "DeepSpeed under the trainer accelerate",
    "nvidia-ml-py": "the load of GPUs among the system metrics",
    "timm": "models of timm (model.architecture: timm/...)",
    "torchvision": "timm, and image processors of transformers",
    "triton": "torch.compile on GPUs",
    "wandb": "the tracker wandb",
}
# Made for one build of torch: of another they are installed and fail when they are imported.
_TO_BE_TRIED = ("torchvision",)
_TRYING_S = 60


def package_versions() -> tuple[Package, ...]:
    """Return mltrain itself, the packages that it requires, and the optional ones."""
    required = [_required(requirement) for requirement in _requirements()]
    names = {package.name.lower() for package in required}
    optional = [_optional(name, purpose) for name, purpose in _OPTIONAL.items() if name not in names]
    return (Package("mltrain", __version__), *sorted(required, key=lambda package: package.name.lower()), *optional)


def _requirements() -> list[Requirement]:
    """Return what the installed mltrain requires here, without its extras."""
    try:
        texts = requires("mltrain") or []
    except PackageNotFoundError:  # it runs from a folder of sources
        return []
    found = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found.append(requirement)
    return found


def _required(requirement: Requirement) -> Package:
    here, wish, problem = _version(requirement.name), str(requirement.specifier), ""
    if here is None:
        problem = "is not installed"
    elif not _satisfies(here, requirement):
        problem = f"is {here}, and mltrain needs {wish}"
    return Package(requirement.name, here, wish, problem=problem)


def _satisfies(here: str, requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(here, prereleases=True)
    except InvalidVersion:
        return False


def _optional(name: str, purpose: str) -> Package:
    here = _version(name)
    problem = _failure(name) if here is not None and name in _TO_BE_TRIED else ""
    return Package(name, here, purpose=purpose, problem=problem)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except Exception:  # not there, or damaged: finders of libraries raise what they like
        return None


def _failure(name: str) -> str:
    """Return how importing a package fails, or "". In a process of its own: a wrong build may end it."""
    try:
        ended = subprocess.run(
            [sys.executable, "-c", f"import {name}"], capture_output=True, text=True, timeout=_TRYING_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"could not be tried ({type(error).__name__})"
    if ended.returncode == 0:
        return ""
    last = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
    return f"cannot be imported ({one_line(last)[:200]})"
