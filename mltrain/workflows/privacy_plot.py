"""The table of a privacy plan as a picture."""

from __future__ import annotations

import io
import math
from pathlib import Path

from mltrain.core.errors import ConfigError
from mltrain.privacy.rounding import shown_up
from mltrain.workflows.privacy_plan import PrivacyPlan

__all__ = ["draw_privacy_plan"]


def draw_privacy_plan(plan: PrivacyPlan, folder: Path) -> Path | None:
    """Draw epsilon, or the noise, over epochs, a line for each batch size, to a PNG file.

    Args:
        plan: the answer whose table is drawn.
        folder: is made if it is missing. The file is `privacy_plan.png`, or numbered where that is there already.

    Returns:
        The file; None where the table has no figure that can be drawn.

    Raises:
        ConfigError: the file cannot be written.
    """
    content = _picture(plan)
    if content is None:
        return None
    path = folder / "privacy_plan.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(2, 10_000):
            try:
                with path.open("xb") as stream:
                    stream.write(content)
                return path
            except FileExistsError:
                path = folder / f"privacy_plan_{number}.png"
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
        raise ConfigError(reason, where=str(path), fix="Choose another folder with --output.") from None
    raise ConfigError("holds thousands of plans", where=str(folder), fix="Choose another folder with --output.")


def _picture(plan: PrivacyPlan) -> bytes | None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines: dict[int, list[tuple[int, float]]] = {}
    for row in plan.table:
        value = row.epsilon if plan.asked == "epsilon" else row.noise_multiplier
        if value is not None and math.isfinite(value):
            lines.setdefault(row.batch_size, []).append((row.num_epochs, value))
    if not lines:
        return None
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for size, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=f"batch of {size}")
    if plan.asked == "epsilon":
        title = f"epsilon at noise multiplier {plan.run.noise_multiplier:.6g}"
        if plan.target_epsilon is not None:
            axes.axhline(plan.target_epsilon, color="black", lw=0.8, ls="--", label=f"target {plan.target_epsilon:g}")
    else:
        title = f"noise multiplier for epsilon {plan.target_epsilon:g}"
    axes.set(
        title=f"{title}\nN = {plan.num_samples}, delta {shown_up(plan.delta)}, by {plan.accountant}",
        xlabel="epochs",
        ylabel="epsilon" if plan.asked == "epsilon" else "noise multiplier",
    )
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()
