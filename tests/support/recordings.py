"""Small recordings that a test can make in a moment, and the configuration of a run on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mltrain.data.examples.fmri import FmriSimulation, write_fmri

__all__ = ["SMALL", "recordings_config", "write_recordings"]

SMALL: dict[str, Any] = {"samples": 240, "voxels": (10, 7)}


def write_recordings(folder: Path, **changes: Any) -> Path:
    """Write a small experiment and return its folder."""
    write_fmri(folder, FmriSimulation(**{**SMALL, **changes}))
    return folder


def recordings_config(folder: Path, runs: Path) -> dict[str, Any]:
    """Return the configuration of a run that takes about a second."""
    return {
        "task": "multimodal_autoencoder",
        "data": {
            "data_dir": str(folder),
            "window": 2,
            "block_length": 20,
            "gap": 3,
            "folds": 3,
            "num_workers": 0,
        },
        "model": {"bottleneck": 8, "features": 6, "width": 4, "hidden": 12},
        "training": {"num_epochs": 2, "batch_size": 16},
        "tracking": {
            "log_every_n_steps": 2,
            "mlflow": {"enabled": False},
            "system_metrics": {"enabled": False},
        },
        "reproducibility": {"num_threads": 1},
        "run": {"dir": str(runs)},
    }
