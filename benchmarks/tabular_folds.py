"""Figures of `tabular` over five folds, beside a linear model of scikit-learn: `python -m benchmarks.tabular_folds`.

Needs the two tables and their splits: `mltrain make-data breast_cancer`, `mltrain make-data diabetes`, and the command
that each of them says. The models of the folds differ in what they were trained and validated on; the test rows are the
same. The linear models (logistic regression; ridge regression, its penalty chosen by leave-one-out) are fitted to the
same training rows, standardised, and see neither validation nor test. A fold that is there already is taken as it is.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

import mltrain
from mltrain.data.tables.columns import Column
from mltrain.data.tables.row_splits import read_row_splits
from mltrain.data.tables.tabular_features import TabularFeatures

FOLDS = 5
# Configuration -> target, whether it is a class, and the figures to show.
CASES: dict[str, tuple[str, bool, list[str]]] = {
    "breast_cancer": ("diagnosis", True, ["accuracy", "f1", "auroc"]),
    "diabetes": ("progression", False, ["mae", "rmse", "r2"]),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", nargs="+", default=["mlp", "tabular_transformer"])
    parser.add_argument("--data", nargs="+", default=list(CASES))
    arguments = parser.parse_args()
    print("| table | model | split | figures: mean over five folds (standard deviation) |")
    print("|---|---|---|---|")
    for name in arguments.data:
        target, is_class, figures = CASES[name]
        rows = {model: [trained(name, model, fold) for fold in range(FOLDS)] for model in arguments.architecture}
        rows["scikit-learn, linear"] = [linear(name, target, is_class, fold) for fold in range(FOLDS)]
        for model, folds in rows.items():
            for split in ("val", "test"):
                print(f"| {name} | {model} | {split} | {line([fold[split] for fold in folds], figures)} |", flush=True)
    return 0


def line(folds: list[dict[str, float]], figures: list[str]) -> str:
    shown = []
    for name in figures:
        values = [fold[name] for fold in folds]
        shown.append(f"{name} {statistics.mean(values):.4g} ({statistics.stdev(values):.2g})")
    return ", ".join(shown)


def trained(name: str, architecture: str, fold: int) -> dict[str, dict[str, float]]:
    settings: dict[str, Any] = {
        "data.fold": fold,
        "model.architecture": architecture,
        "run.name": f"tabular_folds_{name}_{architecture}_{fold}",
        "reproducibility.num_threads": 1,
        "tracking.mlflow.enabled": False,
    }
    result = mltrain.train(f"configs/tabular_{name}.yaml", settings, resume="auto", verbose=False)
    summary: dict[str, dict[str, float]] = result.summary
    return summary


def linear(name: str, target: str, is_class: bool, fold: int) -> dict[str, dict[str, float]]:
    """Fit a linear model to the training rows of a fold; return its figures by split."""
    from sklearn.linear_model import LogisticRegression, RidgeCV

    file = Path("data") / name / f"{name}.csv"
    names = file.read_text(encoding="utf-8").partition("\n")[0].split(",")
    columns = [Column(column, "data", "number") for column in names if column != target]
    columns.append(Column(target, "data", "label" if is_class else "number"))
    splits = read_row_splits(
        file.parent,
        file.name,
        fold,
        splits_dir=None,
        split_column=None,
        columns=columns,
        label=target if is_class else None,
    )
    values = {column.name: splits.values(column.name) for column in columns}
    rows = {split: numbers.tolist() for split, numbers in splits.splits.items()}
    features = TabularFeatures.fit(values, rows["train"], [column.name for column in columns[:-1]], [])
    inputs = {split: features.number_array(values, numbers) for split, numbers in rows.items()}
    targets = {split: np.asarray([values[target][row] for row in numbers]) for split, numbers in rows.items()}
    model = LogisticRegression(max_iter=5000) if is_class else RidgeCV(alphas=np.logspace(-2, 3, 50))
    model.fit(inputs["train"], targets["train"])
    return {split: scores(model, inputs[split], targets[split], is_class) for split in rows}


def scores(model: Any, inputs: Any, targets: Any, is_class: bool) -> dict[str, float]:
    from sklearn import metrics

    predicted = model.predict(inputs)
    if not is_class:
        return {
            "mae": metrics.mean_absolute_error(targets, predicted),
            "rmse": metrics.root_mean_squared_error(targets, predicted),
            "r2": metrics.r2_score(targets, predicted),
        }
    positive = model.classes_[-1]
    return {
        "accuracy": metrics.accuracy_score(targets, predicted),
        "f1": metrics.f1_score(targets, predicted, pos_label=positive),
        "auroc": metrics.roc_auc_score(targets == positive, model.predict_proba(inputs)[:, -1]),
    }


if __name__ == "__main__":
    sys.exit(main())
