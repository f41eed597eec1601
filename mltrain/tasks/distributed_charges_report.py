"""Reports about the potential of a split: a table with the errors of references beside the model's, and a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mltrain.core.files import write_text
from mltrain.data.molecules.molecule_splits import MoleculeSplits
from mltrain.data.molecules.references import reference_errors
from mltrain.tasks.distributed_charges_metrics import ChargeMetrics

__all__ = ["charge_text", "draw_potential", "write_charge_report"]


def write_charge_report(
    split: str, metrics: ChargeMetrics, splits: MoleculeSplits, *, n_dcm: int, reports: Path
) -> None:
    """Write a table, `charges_<split>.txt`, and a picture, `potential_<split>.png`, into `reports`."""
    write_text(reports / f"charges_{split}.txt", charge_text(split, metrics, splits, n_dcm=n_dcm))
    draw_potential(split, metrics, reports / f"potential_{split}.png")


def charge_text(split: str, metrics: ChargeMetrics, splits: MoleculeSplits, *, n_dcm: int) -> str:
    """Return the errors of the potential by molecule as a table, with a sentence on what they mean."""
    part, molecules = splits.splits[split], splits.molecules
    errors = reference_errors(molecules, part)
    names, points = np.array([molecules.names[index] for index in part]), molecules.point_counts[part]
    rows = [f"{'':<20} {'geometries':>10} {'spread':>9} {'monopoles':>9} {'fitted':>9} {'model':>9}"]
    for name, model in metrics.by_molecule().items():
        among = np.full(len(names), True) if name == "all" else names == name
        references = [_rmse(sums, points, among) for sums in (errors.monopoles, errors.fitted)]
        figures = [model.spread, *references, model.rmse]
        rows.append(f"{name:<20.20} {among.sum():>10} " + " ".join(f"{figure:>9.3f}" for figure in figures))
    # The last row is of all molecules.
    to_monopoles, to_fitted = model.rmse / references[0], model.rmse / references[1]
    return "\n".join(
        [
            f"Root mean square error of the potential of the {split} split, in kcal/mol/e",
            "",
            *rows,
            "",
            "spread     standard deviation of the reference potential",
            "monopoles  error of the monopoles of the data, at the nuclei",
            "fitted     error of charges at the nuclei that are fitted to each geometry's own potential:",
            "           the least that one charge an atom can reach",
            f"model      error of the model, with {n_dcm} charge{'' if n_dcm == 1 else 's'} an atom",
            "",
            f"The model's error is {to_monopoles:.2f} of that of the monopoles and {to_fitted:.2f} of that of fitted "
            "charges.",
            "",
        ]
    )


def draw_potential(split: str, metrics: ChargeMetrics, path: Path) -> None:
    """Draw the predicted over the reference potential, by the number of points, to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    counts = metrics.counts
    edges = np.linspace(*metrics.limits, len(counts) + 1)
    shown = np.ma.masked_equal(counts.T, 0)
    image = axes.pcolormesh(edges, edges, shown, cmap="viridis", norm=LogNorm(1, max(2, int(counts.max()))))
    axes.plot(metrics.limits, metrics.limits, color="black", linewidth=0.6)
    error = metrics.by_molecule()["all"].rmse
    axes.set(
        title=f"{split}: RMSE {error:.3f} kcal/mol/e",
        xlabel="reference potential, kcal/mol/e",
        ylabel="predicted potential",
    )
    axes.set_aspect("equal")
    figure.colorbar(image, ax=axes, shrink=0.8, label="points")
    figure.savefig(path, dpi=110)


def _rmse(sums: NDArray[np.float64], points: NDArray[np.int64], among: NDArray[np.bool_]) -> float:
    return float(np.sqrt(sums[among].sum() / points[among].sum()))
