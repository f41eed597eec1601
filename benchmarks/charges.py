"""Errors of distributed charges on potentials of small molecules: `python -m benchmarks.charges`.

Needs esp_small.npz in data/esp (`--data_dir` names another folder). Trains configs/esp_small.yaml with 1 charge at each
nucleus, with 1 and with 4 charges around it, and prints their errors on the held-out geometries beside those of the
monopoles of the file and of charges fitted to each geometry. The weights are those of the lowest validation error;
nothing is chosen by the test split. A run that is there already is taken as it is. One thread each.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import mltrain

CONFIG = "configs/esp_small.yaml"
MODELS: dict[str, dict[str, Any]] = {
    "1 charge, at the nucleus": {"model.n_dcm": 1, "model.max_displacement": 0.0},
    "1 charge": {"model.n_dcm": 1},
    "4 charges": {"model.n_dcm": 4},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default="data/esp")
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    summaries: dict[str, Any] = {}
    for fold in arguments.folds:
        for name, settings in MODELS.items():
            run_name = f"charges_{name.replace(',', '').replace(' ', '_')}_fold_{fold}"
            fixed = {"data.data_dir": arguments.data_dir, "data.fold": fold, "reproducibility.num_threads": 1}
            result = mltrain.train(CONFIG, {**settings, **fixed, "run.name": run_name}, resume="auto")
            if result.summary["status"] != "completed":
                return 1
            summaries[f"{name} (fold {fold})"] = result.summary
    monopoles, fitted = references(result.folder)
    print("| model | validation | test | of the monopoles' error | of the fitted charges' | MAE of monopoles, e |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, summary in summaries.items():
        test = summary["test"]
        error = test["esp_rmse"]
        print(
            f"| {name} | {summary['val']['esp_rmse']:.3f} | {error:.3f} | {error / monopoles:.2f} "
            f"| {error / fitted:.2f} | {test['mono_mae']:.3f} |"
        )
    print(f"Test: monopoles of the file {monopoles:.3f}, charges fitted to each geometry {fitted:.3f} kcal/mol/e.")
    return 0


def references(folder: Path) -> tuple[float, float]:
    """Return the errors of monopoles and of fitted charges, from a run's report on its test split."""
    lines = (folder / "reports" / "charges_test.txt").read_text(encoding="utf-8").splitlines()
    monopoles, fitted, _ = next(line.split()[-3:] for line in lines if line.startswith("all"))
    return float(monopoles), float(fitted)


if __name__ == "__main__":
    sys.exit(main())
