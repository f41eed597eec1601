"""mltrain: train PyTorch models from a folder of data and a YAML file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mltrain.core.version import __version__

if TYPE_CHECKING:
    from mltrain.tasks.package import PackedModel as PackedModel
    from mltrain.tasks.package import load_model as load_model
    from mltrain.workflows.make_data import make_data as make_data
    from mltrain.workflows.own_module import Trainer as Trainer
    from mltrain.workflows.result import TrainResult as TrainResult
    from mltrain.workflows.run_training import run_training as run_training
    from mltrain.workflows.split import split_folder as split_folder
    from mltrain.workflows.split_rows import split_rows as split_rows
    from mltrain.workflows.split_table import split_table as split_table
    from mltrain.workflows.train import train as train

# Imported when first used: `import mltrain` and `--help` must not wait for torch.
_LAZY = {
    "PackedModel": "mltrain.tasks.package",
    "TrainResult": "mltrain.workflows.result",
    "Trainer": "mltrain.workflows.own_module",
    "load_model": "mltrain.tasks.package",
    "make_data": "mltrain.workflows.make_data",
    "run_training": "mltrain.workflows.run_training",
    "split_folder": "mltrain.workflows.split",
    "split_rows": "mltrain.workflows.split_rows",
    "split_table": "mltrain.workflows.split_table",
    "train": "mltrain.workflows.train",
}

__all__ = [
    "PackedModel",
    "TrainResult",
    "Trainer",
    "__version__",
    "load_model",
    "make_data",
    "run_training",
    "split_folder",
    "split_rows",
    "split_table",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mltrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
