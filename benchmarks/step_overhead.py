"""Time a step over a plain PyTorch loop: mltrain, Accelerate, Hugging Face Trainer, Lightning.

    python -m benchmarks.step_overhead [--output FILE] [--rounds N]

One thread, the same model, data, order and optimizer for all. Set-up and the first steps are not timed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks import contenders, reports
from benchmarks.problems import NETWORKS
from benchmarks.relay import Contender, Laps, Schedule, over, race

CONTENDERS: dict[str, tuple[Contender, dict[str, Any]]] = {
    "plain PyTorch": (contenders.plain, {}),
    "mltrain": (contenders.ours, {}),
    "mltrain, MLflow on": (contenders.ours, {"mlflow": True}),
    "Accelerate": (contenders.accelerate, {}),
    "HF Trainer": (contenders.hf_trainer, {}),
    "Lightning": (contenders.lightning, {}),
}
BASE = "plain PyTorch"

# A block is about a third of a second, and of many log points.
BLOCKS = {"mlp": 500, "cnn": 100}

_HEAD = ("contender", "us a step", "over plain", "ratio", "CPU us a step", "over plain", "ratio")
_SAME_LOSS = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON as well")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="blocks of each contender")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NAME")
    arguments = parser.parse_args()
    results = {}
    for network in arguments.networks:
        schedule = Schedule(warm_up=200, block=BLOCKS[network], rounds=arguments.rounds)
        laps = race(network, schedule, CONTENDERS)
        print(f"\n{NETWORKS[network].title}; {schedule.rounds} rounds of {schedule.block} steps each\n")
        print(reports.table(_HEAD, [_row(name, laps[name], laps[BASE]) for name in laps]))
        results[network] = {"schedule": vars(schedule), "laps": {name: vars(each) for name, each in laps.items()}}
    reports.write(arguments.output, results)


def _row(name: str, laps: Laps, base: Laps) -> list[str]:
    if laps.failure:
        return [f"{name}: {laps.failure}", *[""] * (len(_HEAD) - 1)]
    if abs(laps.probe - base.probe) > _SAME_LOSS:
        name += f" (loss {laps.probe:.4f} instead of {base.probe:.4f})"
    cells = []
    for attribute in ("wall", "cpu"):
        each, difference, ratio = over(laps, base, attribute)
        cells += [reports.microseconds(each), reports.microseconds(difference, sign=True), f"{ratio:.2f}"]
    return [name, *cells]


if __name__ == "__main__":
    main()
