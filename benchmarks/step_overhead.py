"""Time a step over a plain PyTorch loop: mltrain, Accelerate, Hugging Face Trainer, Lightning.

    python -m benchmarks.step_overhead [--output FILE] [--rounds N] [--heats N]

One thread; the same model, data, order of samples and optimizer for all. Set-up and the first steps are not timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import contenders, reports
from benchmarks.problems import LOG_EVERY, NETWORKS
from benchmarks.relay import Contender, Laps, Schedule, compare, race

CONTENDERS: dict[str, tuple[Contender, dict[str, Any]]] = {
    "plain PyTorch": (contenders.plain, {}),
    "mltrain": (contenders.ours, {}),
    "mltrain, MLflow on": (contenders.ours, {"overrides": {"tracking.mlflow.enabled": True}}),
    "Accelerate": (contenders.accelerate, {}),
    "HF Trainer": (contenders.hf_trainer, {}),
    "Lightning": (contenders.lightning, {}),
}
BASE = "plain PyTorch"

# A turn holds one log point, a round more than one of whatever happens every 256 steps.
_BLOCK, _TURNS = LOG_EVERY, 6
_SAME_LOSS = 1e-4
_HEAD = ("contender", "us a step", "over plain", "range", "ratio", "CPU us a step", "over plain", "ratio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON as well")
    parser.add_argument("--rounds", type=int, default=8, metavar="N", help="figures of a heat")
    parser.add_argument("--heats", type=int, default=5, metavar="N", help="how often all start anew")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=["mlp", "cnn"], metavar="NAME")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS), metavar="NAME")
    arguments = parser.parse_args()
    chosen = {name: CONTENDERS[name] for name in CONTENDERS if name in (BASE, *arguments.contenders)}
    results = {}
    for network in arguments.networks:
        schedule = Schedule(warm_up=200, block=_BLOCK, turns=_TURNS, rounds=arguments.rounds, heats=arguments.heats)
        laps = race(network, schedule, chosen)
        steps = schedule.heats * schedule.rounds * schedule.turns * schedule.block
        print(f"\n{NETWORKS[network].title}: {steps} steps of each contender in {schedule.heats} heats\n")
        print(reports.table(_HEAD, [_row(name, laps[name], laps[BASE]) for name in chosen]))
        results[network] = {
            "schedule": vars(schedule),
            "laps": {name: [vars(heat) for heat in heats] for name, heats in laps.items()},
        }
    reports.write(arguments.output, results)


def _row(name: str, laps: Sequence[Laps], base: Sequence[Laps]) -> list[str]:
    failures = {heat.failure for heat in laps if heat.failure}
    if failures:
        return [f"{name}: {', '.join(failures)}", *[""] * (len(_HEAD) - 1)]
    if any(abs(heat.probe - other.probe) > _SAME_LOSS for heat, other in zip(laps, base, strict=True)):
        name += f" (not the same: loss {laps[0].probe:.4f}, plain {base[0].probe:.4f})"
    wall, cpu = compare(laps, base, "wall"), compare(laps, base, "cpu")
    us, difference = reports.microseconds, reports.difference
    return [
        name,
        us(wall.each),
        difference(wall.over),
        f"{difference(wall.lowest)} .. {difference(wall.highest)}",
        f"{wall.ratio:.2f}",
        us(cpu.each),
        difference(cpu.over),
        f"{cpu.ratio:.2f}",
    ]


if __name__ == "__main__":
    main()
