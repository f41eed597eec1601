"""Accuracy over the five folds of ants and bees: `python -m benchmarks.hymenoptera_folds`.

Needs the photographs in data/hymenoptera and their splits (`ml-split --raw_data data/hymenoptera/raw --folds 5`). The
five models differ in what they were trained and validated on; the test photographs are the same. A fold that is there
already is taken as it is, so an interrupted run of this script continues; `--folds 0 1` trains some of them, so that
two processes can share the work. One thread each: the number of threads is part of the bits.
"""

from __future__ import annotations

import argparse
import statistics
import sys

import mltrain

CONFIG = "configs/hymenoptera_resnet18.yaml"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(5)))
    folds = parser.parse_args().folds
    results = []
    for fold in folds:
        settings = {"data.fold": fold, "run.name": f"hymenoptera_folds_{fold}", "reproducibility.num_threads": 1}
        result = mltrain.train(CONFIG, settings, resume="auto")
        if result.summary["status"] not in ("completed", "early_stopped"):
            return 1
        results.append(result.summary)
    print("| fold | epochs | validation accuracy | test accuracy |")
    print("|---|---|---|---|")
    for fold, summary in zip(folds, results, strict=True):
        print(
            f"| {fold} | {summary['epochs']} | {summary['val']['accuracy']:.3f} | {summary['test']['accuracy']:.3f} |"
        )
    for split in ("val", "test"):
        accuracies = [summary[split]["accuracy"] for summary in results]
        spread = f", standard deviation {statistics.stdev(accuracies):.3f}" if len(accuracies) > 1 else ""
        print(f"mean {split} accuracy {statistics.mean(accuracies):.3f}{spread}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
