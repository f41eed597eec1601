"""Early stopping against a reference that is easy to read."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltrain.callbacks.base import Stop
from mltrain.callbacks.early_stopping import EarlyStopping
from mltrain.config.training import EarlyStoppingSection

VALUES = st.lists(
    st.one_of(st.integers(-4, 4).map(lambda n: n / 4), st.sampled_from([math.nan, math.inf, -math.inf])), max_size=20
)


def watch(section: EarlyStoppingSection, values: list[float], *, reload: bool = False) -> int | None:
    """Return the epoch after which the callback asks to stop."""
    callback, loop = EarlyStopping(section), SimpleNamespace(stop=Stop())
    for epoch, value in enumerate(values):
        callback.on_epoch_end(loop, epoch, {"val/loss": value})  # type: ignore[arg-type]
        if loop.stop.status is not None:
            assert loop.stop.status == "early_stopped"
            assert "val/loss has not improved" in loop.stop.reason
            return epoch
        if reload:
            state = json.loads(json.dumps(callback.state(), allow_nan=False))
            callback = EarlyStopping(section)
            callback.load(state)
    return None


def reference(values: list[float], sign: int, patience: int, min_delta: float) -> int | None:
    """The last improvement lies `patience` epochs back."""
    best, last = math.inf, -1
    for epoch, value in enumerate(values):
        if math.isfinite(value) and (best == math.inf or sign * value < best - min_delta):
            best, last = sign * value, epoch
        elif epoch - last >= patience:
            return epoch
    return None


@given(
    values=VALUES,
    mode=st.sampled_from(["min", "max"]),
    patience=st.integers(1, 5),
    min_delta=st.sampled_from([0.0, 0.25, 0.5]),
    reload=st.booleans(),
)
def test_equals_the_reference(values: list[float], mode: Any, patience: int, min_delta: float, reload: bool) -> None:
    section = EarlyStoppingSection(mode=mode, patience=patience, min_delta=min_delta)
    sign = 1 if mode == "min" else -1
    assert watch(section, values, reload=reload) == reference(values, sign, patience, min_delta)


@pytest.mark.parametrize(
    ("values", "settings", "epoch"),
    [
        ([3, 2, 1, 1, 1], {"patience": 2}, 4),
        ([3, 2, 1, 1, 0.9, 1, 1], {"patience": 2}, 6),
        ([1, 2, 3, 3, 3], {"patience": 2, "mode": "max"}, 4),
        ([1.0, 0.95, 0.9], {"patience": 2, "min_delta": 0.1}, 2),
        ([1.0, 0.95, 0.8, 0.6], {"patience": 2, "min_delta": 0.1}, None),
        ([math.nan, math.nan], {"patience": 1}, 0),
        ([math.inf, 5.0, 4.0], {"patience": 2}, None),
        ([1.0], {"patience": 1}, None),
    ],
)
def test_by_hand(values: list[float], settings: dict[str, Any], epoch: int | None) -> None:
    assert watch(EarlyStoppingSection(**settings), values) == epoch


def test_any_metric_can_be_watched_in_either_spelling() -> None:
    for spelt in ("train_f1_macro", "train/f1_macro"):
        callback, loop = EarlyStopping(EarlyStoppingSection(monitor=spelt, patience=1)), SimpleNamespace(stop=Stop())
        for epoch in range(2):
            callback.on_epoch_end(loop, epoch, {"train/f1_macro": 0.5, "val/loss": -epoch})  # type: ignore[arg-type]
        assert loop.stop.reason == "train/f1_macro has not improved on 0.5 for 1 epochs"


def test_an_interruption_beats_an_early_stop_and_the_first_reason_stays() -> None:
    stop = Stop()
    stop.request("early_stopped", "first")
    stop.request("early_stopped", "second")
    assert (stop.status, stop.reason) == ("early_stopped", "first")
    stop.request("interrupted", "third", signal=15)
    stop.request("interrupted", "fourth", signal=2)
    stop.request("early_stopped", "fifth")
    assert (stop.status, stop.reason, stop.signal) == ("interrupted", "third", 15)
