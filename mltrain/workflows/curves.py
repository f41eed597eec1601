"""Curves of a run as a picture, from its `metrics.jsonl`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mltrain.tracking.non_private import NON_PRIVATE

__all__ = ["draw_curves"]

_COLOURS = {"train": "tab:blue", "train, by step": "tab:cyan", "validation": "tab:orange", "learning rate": "tab:green"}


def draw_curves(records: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draw loss, the other metrics of train and validation, and the learning rate over steps, to a PNG.

    Values that the records list as not private are labelled so.
    """
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
    listed = {name for record in records for name in record.get(NON_PRIVATE, ())}
    for index, (name, lines) in enumerate(panels.items()):
        none_is_private = listed.issuperset(lines.values())
        axes = figure.add_subplot(rows, columns, index + 1)
        for label, key in lines.items():
            points = [(record["step"], record[key]) for record in records if record.get(key) is not None]
            steps, values = zip(*points, strict=True)
            fine = key == "train/step_loss"
            shown = _labelled(label, key in listed and not none_is_private)
            axes.plot(
                steps, values, label=shown, color=_COLOURS.get(label), lw=0.8 if fine else 1.6,
                alpha=0.45 if fine else 1.0, marker="o" if len(points) == 1 else None,
            )  # fmt: skip
        axes.set_title(_labelled(name, none_is_private), parse_math=False)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize="small")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # an odd run name
        figure.savefig(path, dpi=110)


def _panels(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return panel -> label -> key: one panel a metric that train and validation share, then what has one line."""
    keys = {key for record in records for key, value in record.items() if value is not None}
    shared = sorted(key.removeprefix("train/") for key in keys if key.startswith("train/") and f"val/{key[6:]}" in keys)
    shared.sort(key=lambda name: name != "loss")
    panels: dict[str, dict[str, str]] = {}
    for name in shared or (["loss"] if "train/loss" in keys else []):
        lines = {"train": f"train/{name}", "validation": f"val/{name}"}
        if name == "loss":
            lines = {"train, by step": "train/step_loss", **lines}
        panels[name] = {label: key for label, key in lines.items() if key in keys}
    for name, key in {"learning rate": "train/lr", "epsilon": "privacy/epsilon"}.items():
        if key in keys:
            panels[name] = {name: key}
    return panels


def _labelled(text: str, non_private: bool) -> str:
    return f"{text} (not private)" if non_private else text
