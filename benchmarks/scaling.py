"""Time a step in two processes on gloo: mltrain over a hand-written DDP loop, and both over one process.

    python -m benchmarks.scaling [--output FILE] [--networks NAME ...] [--rounds N] [--heats N]

One thread a process; the same model, windows, order and optimizer for all: two processes take half a window each.
Set-up and the first steps are not timed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import contenders, pairs, reports
from benchmarks.problems import SCALED_NETWORKS, Problem
from benchmarks.relay import Contender, Laps, Schedule, compare, race

HAND_1, OURS_1, HAND_2, OURS_2 = "by hand, 1", "mltrain, 1", "by hand, 2", "mltrain, 2"

_HEAD = ("network", "by hand, ms", "mltrain, ms", "over by hand", "range", "CPU", "1 to 2, by hand", "1 to 2, mltrain")
_BYTES = ("network", "gradients, kB", "by hand, kB", "mltrain, kB")
# Another cut rounds differently, and AdamW's first steps enlarge that; in float64 the losses agree to 1e-15.
_SAME_LOSS = 2e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON as well")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="figures of a heat")
    parser.add_argument("--heats", type=int, default=11, metavar="N", help="how often all start anew")
    choices = list(SCALED_NETWORKS)
    parser.add_argument("--networks", nargs="+", choices=choices, default=choices, metavar="NAME")
    arguments = parser.parse_args()
    times, sizes, results = [], [], {}
    schedule = Schedule(warm_up=20, block=10, turns=4, rounds=arguments.rounds, heats=arguments.heats)
    for network in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            laps = race(network, schedule, _contenders(network, schedule, Path(folder)))
            failures = {name: heat.failure for name, heats in laps.items() for heat in heats if heat.failure}
            if failures:
                raise RuntimeError(f"{network}: {failures}")
            sent = {name: json.loads((Path(folder) / name).read_text()) for name in (HAND_2, OURS_2)}
        gradient = sum(4 * parameter.numel() for parameter in Problem(network, 1).model().parameters())
        times.append([network, *_cells(laps)])
        sizes.append([network, f"{gradient / 1e3:.1f}", *(_kilobytes(sent[name]) for name in (HAND_2, OURS_2))])
        results[network] = {
            "schedule": vars(schedule),
            "gradient_bytes": gradient,
            "sent_bytes": sent,
            "laps": {name: [vars(heat) for heat in heats] for name, heats in laps.items()},
        }
    for network in arguments.networks:
        print(f"{network}: {SCALED_NETWORKS[network].title}")
    print(f"\nA step in two processes\n\n{reports.table(_HEAD, times)}")
    print(f"\nBytes that each of two processes sends in a step\n\n{reports.table(_BYTES, sizes)}")
    reports.write(arguments.output, results)


def _contenders(network: str, schedule: Schedule, folder: Path) -> dict[str, tuple[Contender, dict[str, Any]]]:
    shared = {"network": network, "schedule": schedule}
    return {
        HAND_1: (contenders.plain, {}),
        OURS_1: (pairs.ours_alone, {}),
        HAND_2: (pairs.by_hand, {**shared, "traffic": folder / HAND_2}),
        OURS_2: (pairs.ours, {**shared, "traffic": folder / OURS_2}),
    }


def _cells(laps: Mapping[str, Sequence[Laps]]) -> list[str]:
    """Return times, ratios with the range of the heats' medians, and what the second process gains."""
    base = laps[HAND_1]
    for name, heats in laps.items():
        for heat, other in zip(heats, base, strict=True):
            if abs(heat.probe - other.probe) > _SAME_LOSS:
                raise RuntimeError(f"{name} did not do the same: loss {heat.probe:.5f}, by hand {other.probe:.5f}")
    ours = compare(laps[OURS_2], laps[HAND_2], "wall")
    heats = [compare([a], [b], "wall").ratio for a, b in zip(laps[OURS_2], laps[HAND_2], strict=True)]
    gains = (compare(laps[one], laps[two], "wall").ratio for one, two in ((HAND_1, HAND_2), (OURS_1, OURS_2)))
    return [
        f"{compare(laps[HAND_2], laps[HAND_2], 'wall').each * 1e3:.2f}",
        f"{ours.each * 1e3:.2f}",
        f"{ours.ratio:.3f}",
        f"{min(heats):.3f} .. {max(heats):.3f}",
        f"{compare(laps[OURS_2], laps[HAND_2], 'cpu').ratio:.3f}",
        *(f"{gain:.2f}" for gain in gains),
    ]


def _kilobytes(size: float | None) -> str:
    return "not counted" if size is None else f"{size / 1e3:.1f}"


if __name__ == "__main__":
    main()
