"""mltrain: train PyTorch models from a folder of data and a YAML file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mltrain.core.version import __version__

if TYPE_CHECKING:
    from mltrain.tasks.package import load_model as load_model
    from mltrain.workflows.split import split_folder as split_folder
    from mltrain.workflows.train import train as train

# Imported when first used: `import mltrain` and `--help` must not wait for torch.
_LAZY = {
    "load_model": "mltrain.tasks.package",
    "split_folder": "mltrain.workflows.split",
    "train": "mltrain.workflows.train",
}

__all__ = ["__version__", "load_model", "split_folder", "train"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mltrain' has no attribute {name!r}")
