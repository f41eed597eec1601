"""Curves of a run as a picture, from its `metrics.jsonl`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["draw_curves"]

_COLOURS = {"train": "tab:blue", "train, by step": "tab:cyan", "validation": "tab:orange", "learning rate": "tab:green"}


def draw_curves(records: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draw loss, the other metrics of train and validation, and the learning rate over steps, to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = _panels(records)
    if not panels:
        return
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, parse_math=False)
    for index, (name, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        for label, key in lines.items():
            points = [(record["step"], record[key]) for record in records if record.get(key) is not None]
            steps, values = zip(*points, strict=True)
            fine = key == "train/step_loss"
            axes.plot(
                steps, values, label=label, color=_COLOURS.get(label), lw=0.8 if fine else 1.6,
                alpha=0.45 if fine else 1.0, marker="o" if len(points) == 1 else None,
            )  # fmt: skip
        axes.set_title(name, parse_math=False)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize="small")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # an odd run name
        figure.savefig(path, dpi=110)


def _panels(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return panel -> label -> key: one panel a metric that train and validation share, then the learning rate."""
    keys = {key for record in records for key, value in record.items() if value is not None}
    shared = sorted(key.removeprefix("train/") for key in keys if key.startswith("train/") and f"val/{key[6:]}" in keys)
    shared.sort(key=lambda name: name != "loss")
    panels: dict[str, dict[str, str]] = {}
    for name in shared or (["loss"] if "train/loss" in keys else []):
        lines = {"train": f"train/{name}", "validation": f"val/{name}"}
        if name == "loss":
            lines = {"train, by step": "train/step_loss", **lines}
        panels[name] = {label: key for label, key in lines.items() if key in keys}
    if "train/lr" in keys:
        panels["learning rate"] = {"learning rate": "train/lr"}
    return panels
