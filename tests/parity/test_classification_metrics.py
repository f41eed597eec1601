"""Metrics from the confusion matrix against scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from mltrain.tasks.classification_metrics import ClassificationMetrics
from mltrain.tasks.classification_report import classification_text


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(2, 6),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    seed=st.integers(0, 2**31),
    missing=st.booleans(),
)
def test_equal_scikit_learn(classes: int, sizes: list[int], seed: int, missing: bool) -> None:
    random = np.random.default_rng(seed)
    top = classes - 1 if missing else classes  # a class that never occurs
    metrics, halves = ClassificationMetrics(classes), [ClassificationMetrics(classes), ClassificationMetrics(classes)]
    true, predicted = [], []
    for number, size in enumerate(sizes):
        labels, logits = random.integers(0, top, size), random.normal(size=(size, classes))
        logits[:, top:] = -9.0
        batch = {"labels": torch.tensor(labels)}
        metrics.update(torch.tensor(logits), batch)
        halves[number % 2].update(torch.tensor(logits), batch)
        true += labels.tolist()
        predicted += logits.argmax(axis=1).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "accuracy": accuracy_score(true, predicted),
            "f1_macro": f1_score(true, predicted, average="macro", zero_division=0),
            "precision_macro": precision_score(true, predicted, average="macro", zero_division=0),
            "recall_macro": recall_score(true, predicted, average="macro", zero_division=0),
        }
    assert metrics.compute() == pytest.approx(expected)
    assert tuple(metrics.compute()) == metrics.names
    assert np.array_equal(metrics.confusion, confusion_matrix(true, predicted, labels=range(classes)))
    halves[0].merge(halves[1].state())
    assert halves[0].compute() == metrics.compute()


def test_report_counts_what_the_matrix_counts() -> None:
    text = classification_text(np.array([[3, 1], [0, 6]]), ["ant", "bee"])
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert rows["ant"][:3] == ["1.0000", "0.7500", "0.8571"]
    assert rows["accuracy"][0] == "0.9000"
