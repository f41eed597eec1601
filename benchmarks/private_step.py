"""Time a private step and its peak memory: mltrain's trainer `dp` over training without privacy, and over Opacus.

    python -m benchmarks.private_step [--output FILE] [--networks NAME ...] [--rounds N] [--heats N]

One thread; the same model, examples, order and optimizer for all. Set-up and the first steps are not timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import private_contenders, reports
from benchmarks.private_memory import extra_memory, in_new_process
from benchmarks.problems import MAX_NORM, PRIVATE_NETWORKS, Problem
from benchmarks.relay import Contender, Laps, Schedule, compare, race

MODES = ("hooks", "ghost")
PLAIN = "without privacy"

# Steps of a turn, turns of a round and steps before the first: those of a slow network take seconds.
_PACES = {"private_mlp": (25, 4, 50), "tiny_net": (10, 3, 20), "vit_tiny": (5, 2, 5), "resnet18": (4, 2, 4)}
_TIMES = ("network", "mode", "plain, ms", "Opacus, ms", "mltrain, ms", "over Opacus", "range", "CPU", "over plain")
_MEMORY = ("network", "mode", "plain, MB", "Opacus, MB", "mltrain, MB", "quicker", "auto picks")


@dataclass(frozen=True)
class Figures:
    """Of one network and mode: seconds a step, ratios and the range of heats, and bytes on top of the weights."""

    plain: float
    opacus: float
    ours: float
    over_opacus: float
    lowest: float
    highest: float
    cpu_over_opacus: float
    over_plain: float
    opacus_memory: int
    our_memory: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON as well")
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="figures of a heat")
    parser.add_argument("--heats", type=int, default=3, metavar="N", help="how often all start anew")
    choices = list(PRIVATE_NETWORKS)
    parser.add_argument("--networks", nargs="+", choices=choices, default=choices, metavar="NAME")
    arguments = parser.parse_args()
    times, memory, results = [], [], {}
    for network in arguments.networks:
        block, turns, warm_up = _PACES[network]
        laps = race(network, Schedule(warm_up, block, turns, arguments.rounds, arguments.heats), _contenders())
        failures = {name: heat.failure for name, heats in laps.items() for heat in heats if heat.failure}
        if failures:
            raise RuntimeError(f"{network}: {failures}")
        plain_memory = in_new_process(extra_memory, network, "plain_step", "")
        figures = {mode: _figures(network, mode, laps) for mode in MODES}
        quicker = min(MODES, key=lambda mode: figures[mode].ours)
        picked = in_new_process(picked_mode, network)
        results[network] = {
            "auto": picked,
            "plain_memory": plain_memory,
            "modes": {mode: vars(each) for mode, each in figures.items()},
            "laps": {name: [vars(heat) for heat in heats] for name, heats in laps.items()},
        }
        for mode, each in figures.items():
            times.append([network, mode, *_time_cells(each)])
            sizes = (plain_memory, each.opacus_memory, each.our_memory)
            memory.append([network, mode, *(f"{size / 1e6:.0f}" for size in sizes), quicker, picked])
    for network in arguments.networks:
        print(f"{network}: {PRIVATE_NETWORKS[network].title}")
    print(f"\nTime of a step\n\n{reports.table(_TIMES, times)}")
    print(f"\nPeak memory beside the weights\n\n{reports.table(_MEMORY, memory)}")
    reports.write(arguments.output, results)


def picked_mode(network: str) -> str:
    """Return the mode that `grad_sample_mode: auto` takes, decided by a trial as the trainer does it."""
    import torch.nn.functional as F

    from mltrain.privacy.mode_choice import choose_mode

    problem = Problem(network, 1)
    model, inputs, labels = problem.model(), problem.samples.inputs, problem.samples.labels
    mode, _ = choose_mode(
        model, lambda: F.cross_entropy(model(inputs), labels, reduction="none"), max_grad_norm=MAX_NORM
    )
    return mode


def _contenders() -> dict[str, tuple[Contender, dict[str, Any]]]:
    found: dict[str, tuple[Contender, dict[str, Any]]] = {PLAIN: (private_contenders.without_privacy, {})}
    for mode in MODES:
        found[f"Opacus, {mode}"] = (private_contenders.opacus, {"mode": mode})
        found[f"mltrain, {mode}"] = (private_contenders.ours, {"mode": mode})
    return found


def _figures(network: str, mode: str, laps: Mapping[str, Sequence[Laps]]) -> Figures:
    plain, opacus, ours = laps[PLAIN], laps[f"Opacus, {mode}"], laps[f"mltrain, {mode}"]
    wall, heats = compare(ours, opacus, "wall"), [compare([a], [b], "wall") for a, b in zip(ours, opacus, strict=True)]
    return Figures(
        plain=compare(plain, plain, "wall").each,
        opacus=compare(opacus, opacus, "wall").each,
        ours=wall.each,
        over_opacus=wall.ratio,
        lowest=min(heat.ratio for heat in heats),
        highest=max(heat.ratio for heat in heats),
        cpu_over_opacus=compare(ours, opacus, "cpu").ratio,
        over_plain=compare(ours, plain, "wall").ratio,
        opacus_memory=in_new_process(extra_memory, network, "opacus_step", mode),
        our_memory=in_new_process(extra_memory, network, "our_step", mode),
    )


def _time_cells(each: Figures) -> list[str]:
    return [
        *(f"{seconds * 1e3:.1f}" for seconds in (each.plain, each.opacus, each.ours)),
        f"{each.over_opacus:.2f}",
        f"{each.lowest:.2f} .. {each.highest:.2f}",
        f"{each.cpu_over_opacus:.2f}",
        f"{each.over_plain:.2f}",
    ]


if __name__ == "__main__":
    main()
