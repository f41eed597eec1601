"""Test accuracy on the digits with differential privacy: `python -m benchmarks.private_digits`.

Needs the digits, and splits that leave more for training than five folds do; the test images are the same:

    mltrain make-data digits --output data/digits
    ml-split --raw_data data/digits/raw --folds 20 --output data/digits/splits_20

Five runs for each epsilon, each on a fold of its own and from weights of its own: draws and noise are those of the
operating system, so the figures differ from one time to the next. A run that is there already is taken as it is.
"""

from __future__ import annotations

import argparse
import statistics
import sys

import mltrain

CONFIG = "configs/digits_private.yaml"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[3.0, 8.0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--splits_dir", default="data/digits/splits_20")
    arguments = parser.parse_args()
    print("| epsilon | mean test accuracy | standard deviation | runs |", "|---|---|---|---|", sep="\n")
    for epsilon in arguments.epsilons:
        accuracies = [_accuracy(epsilon, run, arguments.splits_dir) for run in range(arguments.runs)]
        if None in accuracies:
            return 1
        each = ", ".join(f"{accuracy:.3f}" for accuracy in accuracies)
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        print(f"| {epsilon:g} | {statistics.mean(accuracies):.4f} | {spread:.4f} | {each} |")
    return 0


def _accuracy(epsilon: float, run: int, splits_dir: str) -> float | None:
    """Return the test accuracy of one run, or None where it did not end."""
    settings = {
        "training.dp.target_epsilon": epsilon,
        "data.splits_dir": splits_dir,
        "data.fold": run,
        "seed": run,
        "run.name": f"private_digits_{epsilon:g}_{run}",
        "reproducibility.num_threads": 1,
        "tracking.mlflow.enabled": False,
    }
    summary = mltrain.train(CONFIG, settings, resume="auto").summary
    return summary["test"]["accuracy"] if summary["status"] == "completed" else None


if __name__ == "__main__":
    sys.exit(main())
