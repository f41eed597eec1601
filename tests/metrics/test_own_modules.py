"""Our evaluate modules against scikit-learn: figure by figure, over random predictions, with weights and without."""

from __future__ import annotations

import math
import socket
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

SEEDS = st.integers(0, 2**31)


def combined(*modules: Any, **inputs: Any) -> dict[str, Any]:
    import evaluate

    return evaluate.combine(list(modules)).compute(**inputs)


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, classes=st.integers(2, 6), size=st.integers(1, 30), weighted=st.booleans())
def test_figures_of_classes_equal_scikit_learn(seed: int, classes: int, size: int, weighted: bool) -> None:
    from mltrain.metrics.classification_modules import F1, Accuracy, ConfusionMatrix, Precision, Recall

    random = np.random.default_rng(seed)
    true, predicted = random.integers(0, classes, (2, size))
    weights = random.integers(1, 5, size) if weighted else None
    positive = int(random.integers(0, classes))
    kinds = {"precision": Precision, "recall": Recall, "f1": F1}
    modules = [kind(average, classes, positive) for kind in kinds.values() for average in ("binary", "macro")]
    extra = {} if weights is None else {"sample_weight": weights}
    found = combined(
        Accuracy(), ConfusionMatrix(classes), *modules, predictions=predicted, references=true, **extra
    )  # fmt: skip

    matrix = reference.confusion_matrix(true, predicted, labels=range(classes), sample_weight=weights)
    np.testing.assert_array_equal(found["confusion_matrix"], matrix)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(true, predicted, sample_weight=weights))
    for name in kinds:
        score = getattr(reference, f"{name}_score")
        given_ = {"sample_weight": weights, "zero_division": 0}
        assert found[f"{name}_macro"] == pytest.approx(score(true, predicted, average="macro", **given_))
        of_one = score(true, predicted, average=None, labels=[positive], **given_)[0]
        assert found[name] == pytest.approx(of_one)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, classes=st.integers(2, 5), size=st.integers(2, 40), ties=st.booleans(), weighted=st.booleans())
def test_area_equals_scikit_learn(seed: int, classes: int, size: int, ties: bool, weighted: bool) -> None:
    from mltrain.metrics.classification_modules import Auroc

    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, size)
    scores = random.normal(size=(size, classes)).astype(np.float32)
    scores = np.round(scores) if ties else scores
    weights = random.integers(1, 5, size) if weighted else np.ones(size, dtype=np.int64)
    found = combined(
        Auroc(),
        prediction_scores=scores.T.reshape(-1),
        references=np.concatenate([labels == index for index in range(classes)]),
        classes=np.repeat(np.arange(classes), size),
        sample_weight=np.tile(weights, classes),
    )["auroc"]
    defined = [index for index in range(classes) if 0 < (labels == index).sum() < size]
    areas = [reference.roc_auc_score(labels == index, scores[:, index], sample_weight=weights) for index in defined]
    assert found == pytest.approx(np.mean(areas)) if areas else math.isnan(found)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, size=st.integers(2, 40), scale=st.sampled_from([1e-6, 1.0, 1e6]), shift=st.sampled_from([0, 1e3]))
def test_figures_of_numbers_equal_scikit_learn(seed: int, size: int, scale: float, shift: float) -> None:
    from mltrain.metrics.regression_modules import R2, Mae, Rmse

    random = np.random.default_rng(seed)
    true, predicted = random.normal(shift, scale, (2, size))
    found = combined(Mae(), Rmse(), R2(), predictions=predicted, references=true)
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(true, predicted))
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(true, predicted))
    assert found["r2"] == pytest.approx(reference.r2_score(true, predicted))


def test_the_mean_over_all_classes_is_scikit_learns() -> None:
    from mltrain.metrics.classification_modules import Auroc

    random = np.random.default_rng(0)
    labels, shares = random.permutation(np.arange(60) % 4), random.dirichlet(np.ones(4), 60)
    found = Auroc().compute(
        prediction_scores=shares.T.reshape(-1),
        references=np.concatenate([labels == index for index in range(4)]),
        classes=np.repeat(np.arange(4), 60),
    )
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(labels, shares, multi_class="ovr"))


def test_what_is_not_defined_is_nan() -> None:
    from mltrain.metrics.classification_modules import F1, Accuracy, Auroc, Precision
    from mltrain.metrics.regression_modules import R2, Mae, Rmse

    nothing = {"predictions": [], "references": []}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = combined(Accuracy(), F1("macro", 3), Precision("binary", 2), **nothing)
        found |= combined(Mae(), Rmse(), R2(), **nothing)
        assert len(found) == 6
        assert all(math.isnan(value) for value in found.values())
        assert math.isnan(Auroc().compute(prediction_scores=[0.1, 0.9], references=[1, 1])["auroc"])
        assert math.isnan(Auroc().compute(prediction_scores=[0.1, math.nan], references=[0, 1])["auroc"])
        assert math.isnan(R2().compute(predictions=[1.0], references=[2.0])["r2"])
        assert math.isnan(R2().compute(predictions=[1.0, 2.0], references=[2.0, 2.0])["r2"])
        assert math.isnan(Mae().compute(predictions=[1.0, math.nan], references=[2.0, 2.0])["mae"])


def test_columns_of_two_lengths_are_refused() -> None:
    from mltrain.metrics.regression_modules import Mae

    with pytest.raises(ValueError, match=r"mae takes columns of one length, was given \[\(1,\), \(2,\)\]"):
        Mae().compute(predictions=[1.0], references=[1.0, 2.0])


def test_nothing_is_written_and_nothing_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import evaluate

    from mltrain.metrics.figures import auroc, classification_figures, regression_figures
    from mltrain.metrics.squad import squad_figures

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    cache, scratch = tmp_path / "cache", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    for name in ("HF_METRICS_CACHE", "HF_MODULES_CACHE", "HF_EVALUATE_CACHE", "DOWNLOADED_EVALUATE_PATH"):
        monkeypatch.setattr(evaluate.config, name, cache)
    assert classification_figures(np.array([[3, 1], [0, 2]]), positive=1)["recall"] == 1.0
    ones = np.ones(2, dtype=np.int64)
    assert auroc(np.array([0, 1], dtype=np.float32), np.array([False, True]), ones, 0 * ones) == 1.0
    assert regression_figures(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == {"mae": 0.0, "rmse": 0.0, "r2": 1.0}
    assert squad_figures(["a cat"], [["cat"]]) == {"exact_match": 1.0, "f1": 1.0}
    assert not cache.exists()
    assert not list(scratch.iterdir())
    assert capfd.readouterr() == ("", "")
