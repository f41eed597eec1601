"""Real tables that come with scikit-learn, as CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mltrain.data.examples.output_file import write_new_text

__all__ = ["write_breast_cancer", "write_diabetes"]


def write_breast_cancer(output: Path) -> str:
    """Write 569 fine needle aspirates of breast masses: 30 measurements of cell nuclei and the diagnosis.

    Source: W. Wolberg, O. Mangasarian, N. Street and W. Street, "Breast Cancer Wisconsin (Diagnostic)", UCI Machine
    Learning Repository, 1993 (CC BY 4.0).
    """
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = [str(name).replace(" ", "_") for name in data.feature_names]
    diagnoses = [str(data.target_names[number]) for number in data.target]
    return _write(output / "breast_cancer.csv", [*names, "diagnosis"], data.data, diagnoses)


def write_diabetes(output: Path) -> str:
    """Write 442 patients with diabetes: 10 measurements at the start, and how far the disease had gone a year later.

    The measurements are in their own units; sex is a code, 1 or 2.

    Source: B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, "Least Angle Regression", Annals of Statistics 32(2),
    2004, pages 407 to 499.
    """
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    return _write(output / "diabetes.csv", [*data.feature_names, "progression"], data.data, data.target)


def _write(path: Path, names: Sequence[str], features: Iterable[Sequence[float]], targets: Iterable[Any]) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(names)
    rows = [[*(f"{value:.12g}" for value in row), _text(target)] for row, target in zip(features, targets, strict=True)]
    lines.writerows(rows)
    write_new_text(path, text.getvalue())
    return f"{len(rows)} rows in {path}"


def _text(target: Any) -> str:
    return target if isinstance(target, str) else f"{target:.12g}"
