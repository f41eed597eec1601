"""The report about predicted voxels: a text with figures per subject, and a histogram beside the noise ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mltrain.core.files import write_text

__all__ = ["SubjectVoxels", "voxel_text", "write_voxel_report"]


@dataclass(frozen=True)
class SubjectVoxels:
    """Correlation over time of a subject's voxels, (V,), NaN where one does not vary; and their noise ceiling."""

    subject: str
    correlation: NDArray[np.float64]
    ceiling: NDArray[np.float64] | None


def write_voxel_report(split: str, subjects: Sequence[SubjectVoxels], reports: Path) -> None:
    """Write `voxels_<split>.txt` and `voxel_correlation_<split>.png`."""
    write_text(reports / f"voxels_{split}.txt", voxel_text(subjects))
    draw_voxel_correlation(subjects, f"{split}: correlation over time", reports / f"voxel_correlation_{split}.png")


def voxel_text(subjects: Sequence[SubjectVoxels]) -> str:
    """Return a table: of each subject the mean, median and quartiles over its voxels, and the mean noise ceiling."""
    lines = [
        f"{'subject':<20}{'voxels':>8}{'left out':>10}{'mean r':>9}{'25 %':>9}{'50 %':>9}{'75 %':>9}{'ceiling':>9}"
    ]
    for each in subjects:
        known = each.correlation[np.isfinite(each.correlation)]
        quartiles = np.percentile(known, [25, 50, 75]) if len(known) else np.zeros(3)
        mean = known.mean() if len(known) else 0.0
        ceiling = "-" if each.ceiling is None else f"{each.ceiling.mean():.3f}"
        numbers = "".join(f"{value:>9.3f}" for value in (mean, *quartiles))
        left_out = len(each.correlation) - len(known)
        lines.append(f"{each.subject:<20}{len(each.correlation):>8}{left_out:>10}{numbers}{ceiling:>9}")
    return "\n".join(lines) + "\n"


def draw_voxel_correlation(subjects: Sequence[SubjectVoxels], title: str, path: Path) -> None:
    """Draw the histogram of all voxels' correlations, with that of their ceilings where all subjects have one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = np.concatenate([each.correlation for each in subjects])
    found = found[np.isfinite(found)]
    ceilings = [each.ceiling for each in subjects if each.ceiling is not None]
    low = min(-0.1, float(found.min(initial=0.0)))
    bins = np.linspace(low, 1, 45).tolist()
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(found, bins=bins, alpha=0.8, label=f"predicted, mean {found.mean() if len(found) else 0:.3f}")
    if len(ceilings) == len(subjects):
        ceiling = np.concatenate(ceilings)
        axes.hist(ceiling, bins=bins, histtype="step", color="black", label=f"noise ceiling, mean {ceiling.mean():.3f}")
    axes.set(title=title, xlabel="Pearson's r of a voxel", ylabel="voxels")
    axes.legend()
    figure.savefig(path, dpi=110)
