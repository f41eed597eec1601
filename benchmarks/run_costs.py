"""What a run costs beside its steps: logging, the first step, checkpoints; and images a second from JPEG files.

python -m benchmarks.run_costs [--output FILE] [--repeats N] [--only PART ...] [--images FOLDER]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks import contenders, reports
from benchmarks.problems import Problem
from benchmarks.relay import Contender, Schedule, compare, race

_ROOT = Path(__file__).resolve().parents[1]
_IMAGES = _ROOT.parent / "shared" / "data" / "hymenoptera" / "raw"
_NUM_IMAGES = 1600

_NEVER = 10**9
_LOGGING: dict[str, tuple[Contender, dict[str, Any]]] = {
    "never": (contenders.ours, {"overrides": {"tracking.log_every_n_steps": _NEVER}}),
    "every 50 steps": (contenders.ours, {}),
    "every step": (contenders.ours, {"overrides": {"tracking.log_every_n_steps": 1}}),
    "every step, MLflow on": (
        contenders.ours,
        {"overrides": {"tracking.log_every_n_steps": 1, "tracking.mlflow.enabled": True}},
    ),
}
_FIRST_STEP = {
    "plain PyTorch": "plain",
    "mltrain": "ours",
    "Accelerate": "accelerate",
    "HF Trainer": "hf_trainer",
    "Lightning": "lightning",
}


def main() -> None:
    parts = {"logging": logging, "first_step": first_step, "checkpoint": checkpoint, "images": images}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON as well")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="how often each is measured")
    parser.add_argument("--only", nargs="+", choices=list(parts), default=list(parts), metavar="PART")
    parser.add_argument("--images", type=Path, default=_IMAGES, metavar="FOLDER", help="holds ants/ and bees/")
    arguments = parser.parse_args()
    results = {name: parts[name](arguments) for name in arguments.only}
    reports.write(arguments.output, results)


def logging(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time a step with more and less logging to metrics.jsonl, over a run that never logs a step."""
    schedule = Schedule(warm_up=200, block=50, turns=6, rounds=8, heats=arguments.repeats)
    laps = race("mlp", schedule, _LOGGING)
    rows, figures = [], {}
    for name, heats in laps.items():
        wall, cpu = compare(heats, laps["never"], "wall"), compare(heats, laps["never"], "cpu")
        rows.append([name, *(reports.difference(each.over) for each in (wall, cpu)), f"{wall.ratio:.2f}"])
        figures[name] = {"wall": vars(wall), "cpu": vars(cpu)}
    _show("Logging, us a step", ("steps logged", "wall", "CPU", "ratio"), rows)
    return figures


def first_step(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds from the start of the process to the end of the first optimizer step."""
    seconds: dict[str, list[float]] = {name: [] for name in _FIRST_STEP}
    for _ in range(1 + arguments.repeats):  # the first round fills the page cache
        for name, function in _FIRST_STEP.items():
            seconds[name].append(_time_to_first_step(function))
    medians = {name: statistics.median(each[1:]) for name, each in seconds.items()}
    base = medians["plain PyTorch"]
    rows = [[name, f"{median:.1f}", f"{median / base:.1f}"] for name, median in medians.items()]
    _show("Time to the first step, s", ("contender", "s", "ratio"), rows)
    return medians


def checkpoint(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds that a checkpoint holds up training, against torch.save of the same state."""
    figures = [_in_process("benchmarks.stall", "stall()") for _ in range(arguments.repeats)]
    kinds = ("held_up", "in_all")
    medians = {
        kind: {way: statistics.median(each[kind][way] for each in figures) for way in figures[0][kind]}
        for kind in kinds
    }
    rows = []
    for way in medians["held_up"]:
        values = [medians[kind][way] for kind in kinds]
        ratios = [medians[kind][way] / medians[kind]["torch.save"] for kind in kinds]
        rows.append([way, *(f"{value * 1e3:.0f} ({ratio:.2f})" for value, ratio in zip(values, ratios, strict=True))])
    head = ("way to save", "held up", "with slower steps after it")
    _show(f"Checkpoint of {figures[0]['megabytes']:.0f} MB, ms (ratio to torch.save)", head, rows)
    return {"megabytes": figures[0]["megabytes"], **medians}


def images(arguments: argparse.Namespace) -> dict[str, Any]:
    """Images a second, from JPEG files to steps of a tiny network."""
    with tempfile.TemporaryDirectory() as scratch:
        source = f"Path({str(arguments.images)!r})" if arguments.images.is_dir() else None
        folder = f"Path({str(Path(scratch) / 'data')!r})"
        _in_process("benchmarks.images", f"make_folder({source}, {folder}, {_NUM_IMAGES})")
        speeds: dict[tuple[str, int], list[float]] = {}
        for _ in range(arguments.repeats):
            for workers in (0, 2):
                for name, function in (("plain PyTorch", "plain"), ("mltrain", "ours")):
                    speed = _in_process("benchmarks.images", f"{function}({folder}, {workers})")
                    speeds.setdefault((name, workers), []).append(speed)
    medians = {key: statistics.median(each) for key, each in speeds.items()}
    rows = [
        [name, str(workers), f"{median:.0f}", f"{median / medians['plain PyTorch', workers]:.2f}"]
        for (name, workers), median in medians.items()
    ]
    kind = "photographs" if source else "generated images"
    _show(f"JPEG {kind} to 64 x 64 pixels, images/s", ("contender", "workers", "images/s", "ratio"), rows)
    return {f"{name}, {workers} workers": median for (name, workers), median in medians.items()}


class _LeaveAtFirst:
    """Says when the first step was done, and ends the process."""

    def tick(self, model: nn.Module) -> None:
        Path("done").write_text(repr(time.time()))
        os._exit(0)


def take_first_step(name: str) -> None:
    """Run a contender up to its first step, in a process made for it."""
    getattr(contenders, name)(Problem("mlp", 100), _LeaveAtFirst())


def _time_to_first_step(name: str) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        started = time.time()
        _python(f"from benchmarks.run_costs import take_first_step; take_first_step({name!r})", scratch)
        done = Path(scratch) / "done"
        return float(done.read_text()) - started if done.exists() else float("nan")


def _in_process(module: str, call: str) -> Any:
    """Return the JSON value of a call, made in a process and a working folder of its own."""
    code = f"import json; from pathlib import Path; from {module} import *; value = {call}; "
    with tempfile.TemporaryDirectory() as scratch:
        _python(code + "Path('value.json').write_text(json.dumps(value))", scratch)
        return reports.read(Path(scratch) / "value.json")


def _python(code: str, folder: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    finished = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    if finished.returncode and "ModuleNotFoundError" not in finished.stderr:
        raise RuntimeError(finished.stderr)


def _show(title: str, head: tuple[str, ...], rows: list[list[str]]) -> None:
    print(f"\n{title}\n\n{reports.table(head, rows)}", flush=True)


if __name__ == "__main__":
    main()
