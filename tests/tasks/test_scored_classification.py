"""Scored classification: figures of scikit-learn, whatever the batches, the ranks and their order."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from mltrain.tasks.score_counts import ScoreCounts
from mltrain.tasks.scored_classification import ScoredClassification

BATCHES = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def named(count: int) -> list[str]:
    return [f"class {index}" for index in range(count)]


def drawn(seed: int, classes: int, sizes: list[int], top: int | None = None) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return batches of logits and labels, the latter below `top`; some of the former are equal."""
    draw = torch.Generator().manual_seed(seed)
    logits = (torch.randn(size, classes, generator=draw) for size in sizes)
    return [
        (batch.round() if seed % 2 else batch, torch.randint(0, top or classes, (len(batch),), generator=draw))
        for batch in logits
    ]


def taken(metrics: Any, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> Any:
    for logits, labels in batches:
        metrics.update(logits, {"labels": labels})
    return metrics


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(state, allow_nan=False))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), sizes=BATCHES, second=st.booleans())
def test_two_classes_equal_scikit_learn(seed: int, sizes: list[int], second: bool) -> None:
    batches = drawn(seed, 2, sizes)
    metrics = ScoredClassification(["ham", "spam"], positive=None if second else "ham")
    found = taken(metrics, batches).compute()
    logits, labels = (torch.cat(column).numpy() for column in zip(*batches, strict=True))
    true, predicted = labels == second, logits.argmax(axis=1) == second
    assert tuple(found) == metrics.names
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(true, predicted))
    assert found["f1_macro"] == pytest.approx(reference.f1_score(true, predicted, average="macro", zero_division=0))
    for name in ("precision", "recall", "f1"):
        expected = getattr(reference, f"{name}_score")(true, predicted, zero_division=0)
        assert found[name] == pytest.approx(expected)
    if len(np.unique(true)) == 2:
        odds = logits[:, 1] - logits[:, 0]
        expected = reference.roc_auc_score(true, odds if second else -odds)
        assert found["auroc"] == pytest.approx(expected)
    else:
        assert math.isnan(found["auroc"])
    np.testing.assert_array_equal(
        metrics.confusion, reference.confusion_matrix(labels, logits.argmax(1), labels=[0, 1])
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), classes=st.integers(3, 6), sizes=BATCHES, missing=st.booleans())
def test_more_classes_equal_scikit_learn(seed: int, classes: int, sizes: list[int], missing: bool) -> None:
    batches = drawn(seed, classes, sizes, top=classes - missing)
    metrics = ScoredClassification(named(classes), positive=None)
    found = taken(metrics, batches).compute()
    assert set(found) == set(metrics.names)
    logits, labels = (torch.cat(column).numpy() for column in zip(*batches, strict=True))
    shares = torch.cat([batch for batch, _ in batches]).double().softmax(1).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("precision", "recall", "f1"):
            expected = getattr(reference, f"{name}_score")(labels, logits.argmax(1), average="macro", zero_division=0)
            assert found[f"{name}_macro"] == pytest.approx(expected)
    present = [index for index in range(classes) if 0 < (labels == index).sum() < len(labels)]
    areas = [reference.roc_auc_score(labels == index, shares[:, index].round(12)) for index in present]
    assert found["auroc"] == pytest.approx(np.mean(areas)) if areas else math.isnan(found["auroc"])


@pytest.mark.parametrize("classes", [2, 5])
def test_neither_cuts_nor_the_order_of_ranks_change_a_bit(classes: int) -> None:
    batches = drawn(3, classes, [7] * 8)
    whole = taken(ScoredClassification(named(classes), positive=None), batches)
    ranks = [taken(ScoredClassification(named(classes), positive=None), batches[rank::3]) for rank in range(3)]
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = ScoredClassification(named(classes), positive=None)
        for rank in order:
            merged.merge(through_json(ranks[rank].state()))
        assert merged.compute() == whole.compute()
        assert merged.state() == whole.state()
    resumed = ScoredClassification(named(classes), positive=None)
    resumed.merge(through_json(taken(ScoredClassification(named(classes), positive=None), batches[:5]).state()))
    assert taken(resumed, batches[5:]).compute() == whole.compute()


def test_probabilities_near_one_still_order_examples() -> None:
    """float32 probabilities of 20 and 30 are both 1; of log-odds 200 and 300 even double precision's are."""
    for scale in (1.0, 10.0):
        for classes in (2, 3):
            logits = torch.zeros(2, classes)
            logits[:, 1] = torch.tensor([20.0, 30.0]) * scale
            metrics = ScoredClassification(named(classes), positive=None)
            metrics.update(logits, {"labels": torch.tensor([0, 1])})
            found = metrics.compute()["auroc"]
            assert found == (1.0 if classes == 2 else pytest.approx(1.0))


def test_one_example_none_and_a_bad_one() -> None:
    empty, one = (ScoredClassification(["a", "b"], positive=None) for _ in range(2))
    assert empty.compute().keys() == set(empty.names)
    assert all(math.isnan(value) for value in empty.compute().values())
    one.merge(through_json(empty.state()))
    one.update(torch.tensor([[0.0, 1.0]]), {"labels": torch.tensor([1])})
    found = one.compute()
    assert math.isnan(found.pop("auroc"))
    assert found == {"accuracy": 1.0, "f1_macro": 1.0, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    one.update(torch.full((1, 2), math.nan), {"labels": torch.tensor([0])})
    found = one.compute()
    assert math.isnan(found["auroc"])
    assert 0 <= found["accuracy"] <= 1
    assert through_json(one.state()) == one.state()


def test_outputs_of_half_precision_and_with_a_gradient_are_taken() -> None:
    metrics = ScoredClassification(["a", "b"], positive=None)
    logits = torch.randn(4, 2).bfloat16().requires_grad_()
    metrics.update(logits * 2, {"labels": torch.tensor([0, 1, 0, 1])})
    assert not math.isnan(metrics.compute()["auroc"])


def test_more_than_32_classes_have_no_area() -> None:
    metrics = taken(ScoredClassification(named(33), positive=None), drawn(0, 33, [50]))
    assert "auroc" not in metrics.names
    assert set(metrics.compute()) == set(metrics.names)
    other = ScoredClassification(named(33), positive=None)
    other.merge(through_json(metrics.state()))
    assert other.compute() == metrics.compute()


def test_memory_is_bounded_and_the_area_stays() -> None:
    """Where more scores differ than are kept, they are rounded; when that was does not matter."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (20_000,), generator=draw)
    logits = torch.randn(20_000, 3, generator=draw) + 1.5 * torch.nn.functional.one_hot(labels, 3)
    exact, rounded, cut = (
        ScoreCounts(range(3)),
        ScoreCounts(range(3), most_exact=1000),
        ScoreCounts(range(3), most_exact=1000),
    )
    exact.add(logits, labels)
    rounded.add(logits, labels)
    for start in range(0, 20_000, 31):
        cut.add(logits[start : start + 31], labels[start : start + 31])
    parts = [ScoreCounts(range(3), most_exact=1000) for _ in range(3)]
    for part, size in zip(parts, (slice(0, 100), slice(100, 200), slice(200, None)), strict=True):
        part.add(logits[size], labels[size])
    assert [part.state()["rounded"] for part in parts] == [False, False, True]
    merged = ScoreCounts(range(3), most_exact=1000)
    for part in parts:
        merged.merge(through_json(part.state()))
    assert rounded.state() == cut.state() == merged.state()
    assert len(json.dumps(rounded.state())) < 0.2 * len(json.dumps(exact.state()))
    assert rounded.auroc() == cut.auroc() == merged.auroc()
    assert rounded.auroc() != exact.auroc()
    assert rounded.auroc() == pytest.approx(exact.auroc(), abs=1e-4)
