"""Say what privacy a configuration gives, before training: epsilon for a noise, or the noise for an epsilon.

  mltrain privacy --config configs/x.yaml --target_epsilon 3
  mltrain privacy --config configs/x.yaml --noise_multiplier 1.1 --epochs 10,20,40 --batch_sizes 64,256
  mltrain privacy --config configs/x.yaml --samples 50000 training.dp.target_epsilon=8 training.dp.accountant=rdp

Prints the answer and a table over epochs and batch sizes, and draws the table to a PNG file. With both a noise and an
epsilon it says where training would stop. Epsilon, delta and a noise that was found are rounded up. Nothing is trained;
with --samples no data is needed.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mltrain.cli.flags import add_flag, counts
from mltrain.cli.tables import new_table, print_table

if TYPE_CHECKING:
    from mltrain.workflows.privacy_plan import PlannedRun, PrivacyPlan

__all__ = ["add_arguments", "run"]

_NO_MATTER = ("trainer", "lr", "seed", "num_workers", "device", "run_name")
_COLUMNS = ("epochs", "batch", "q", "steps", "noise multiplier", "epsilon")
_STOP = "above the target"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the configuration, what is asked, the rows of the table and the folder of the picture."""
    from mltrain.cli.train import add_keys

    add = partial(add_flag, parser)
    add("config", metavar="FILE", required=True, help="YAML file")
    add("noise_multiplier", type=float, metavar="S", help="in place of training.dp.noise_multiplier")
    add("target_epsilon", type=float, metavar="E", help="in place of training.dp.target_epsilon")
    add("epochs", type=counts, default=(), metavar="N,N", help="rows (default: half, as and twice as configured)")
    add("batch_sizes", type=counts, default=(), metavar="N,N", help="the same of training.batch_size")
    add("samples", type=int, metavar="N", help="training examples (default: those of the data are counted)")
    add("num_processes", type=int, default=1, metavar="N", help="processes that will train (default: 1)")
    add("output", type=Path, default=Path(), metavar="DIR", help="folder of privacy_plan.png (default: this one)")
    add_keys(parser, without=_NO_MATTER)


def run(arguments: argparse.Namespace) -> int:
    """Print the answer and the table, draw it, and return 0."""
    from mltrain.cli.train import given_keys
    from mltrain.core.logging import console_log

    overrides = given_keys(arguments)

    from mltrain.data.image_files import printable
    from mltrain.workflows.privacy_plan import privacy_plan
    from mltrain.workflows.privacy_plot import draw_privacy_plan

    with console_log():
        plan = privacy_plan(
            arguments.config,
            overrides,
            noise_multiplier=arguments.noise_multiplier,
            target_epsilon=arguments.target_epsilon,
            epochs=arguments.epochs,
            batch_sizes=arguments.batch_sizes,
            num_samples=arguments.samples,
            num_processes=arguments.num_processes,
            by_hand="command line",
        )
    print("\n".join(_lines(plan)))
    print()
    _print_table(plan)
    for problem in dict.fromkeys(row.problem for row in plan.table if row.problem):
        print(f"No figure: {problem}")
    file = draw_privacy_plan(plan, arguments.output)
    if file is not None:
        print(f"\nDrawn: {printable(str(file))}")
    return 0


def _lines(plan: PrivacyPlan) -> list[str]:
    from mltrain.privacy.rounding import shown_up

    run = plan.run
    epochs = "1 epoch" if run.num_epochs == 1 else f"{run.num_epochs} epochs"
    lines = [
        f"{plan.num_samples} training examples, delta {shown_up(plan.delta)}; neighbours differ by one example, added "
        "or removed.",
        f"{run.batch_size} examples a step on average, q = {run.sample_rate:.6g}, {epochs}: {run.steps} steps.",
    ]
    if plan.asked == "noise":
        lines.append(
            f"Epsilon {plan.target_epsilon:g} takes a noise multiplier of {_noise(plan, run, 6)} (by "
            f"{plan.accountant}: epsilon {_epsilon(run)} after the last step)."
        )
        return lines
    lines.append(
        f"Noise multiplier {_noise(plan, run, 6)} gives epsilon {_epsilon(run)} after the last step, by "
        f"{plan.accountant}."
    )
    if plan.target_epsilon is not None:
        lines.append(_ending(plan, plan.target_epsilon))
    return lines


def _ending(plan: PrivacyPlan, target: float) -> str:
    stops_after = plan.run.stops_after
    if stops_after is None:
        return f"All {plan.run.steps} steps stay within epsilon {target:g}."
    if stops_after == 0:
        return f"Not one step stays within epsilon {target:g}: nothing would be trained."
    epoch = math.ceil(stops_after * plan.run.num_epochs / plan.run.steps)
    return f"Training stops after step {stops_after}, in epoch {epoch}: the next would pass epsilon {target:g}."


def _print_table(plan: PrivacyPlan) -> None:
    has_stops = any(row.stops_after is not None for row in plan.table)
    table = new_table((*_COLUMNS, _STOP) if has_stops else _COLUMNS)
    for row in plan.table:
        cells = (str(row.num_epochs), str(row.batch_size), f"{row.sample_rate:.5f}", str(row.steps))
        stop = (_stop(row),) if has_stops else ()
        table.add_row(*cells, _noise(plan, row, 5), _epsilon(row), *stop)
    print_table(table)


def _noise(plan: PrivacyPlan, row: PlannedRun, digits: int) -> str:
    """Return a noise multiplier: rounded up where it was calibrated, so that it keeps to the epsilon."""
    from mltrain.privacy.rounding import shown_up

    if row.noise_multiplier is None:
        return "-"
    return shown_up(row.noise_multiplier, digits) if plan.asked == "noise" else f"{row.noise_multiplier:.10g}"


def _epsilon(row: PlannedRun) -> str:
    from mltrain.privacy.rounding import shown_up

    if row.epsilon is None:
        return "-"
    return shown_up(row.epsilon) if math.isfinite(row.epsilon) else "infinite"


def _stop(row: PlannedRun) -> str:
    """Return what becomes of a run whose epsilon would be above the target."""
    if row.stops_after is None:
        return ""
    return f"stops after step {row.stops_after}" if row.stops_after else "no step is taken"
