"""Correlations, errors and explained shares from running sums, against NumPy and scikit-learn on the whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from mltrain.tasks.multimodal_losses import FMRI_LOSSES, correlation_loss, subject_means
from mltrain.tasks.multimodal_metrics import RecordingMetrics
from mltrain.tasks.multimodal_report import SubjectVoxels, voxel_text, write_voxel_report


def outputs(count: int, voxels: int = 5, seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    measured = torch.randn(count, voxels, generator=draw) + 3
    shown = torch.randn(count, 2, 3, 4, generator=draw) - 1
    return {
        "fmri": 0.5 * measured + torch.randn(count, voxels, generator=draw),
        "fmri_target": measured,
        "video": 0.7 * shown + 0.4 * torch.randn(count, 2, 3, 4, generator=draw),
        "video_target": shown,
    }


def taken_in(parts: list[dict[str, torch.Tensor]]) -> RecordingMetrics:
    metrics = RecordingMetrics(["video"])
    for part in parts:
        metrics.update(part, {})
    return metrics


def cut(whole: dict[str, torch.Tensor], sizes: list[int]) -> list[dict[str, torch.Tensor]]:
    pieces = {name: values.split(sizes) for name, values in whole.items()}
    return [{name: values[number] for name, values in pieces.items()} for number in range(len(sizes))]


def test_they_are_those_of_scikit_learn() -> None:
    whole = outputs(40)
    metrics = taken_in(cut(whole, [7, 1, 20, 12]))
    found = metrics.compute()
    assert tuple(found) == metrics.names
    x, y = whole["fmri"].double().numpy(), whole["fmri_target"].double().numpy()
    correlation = [np.corrcoef(x[:, v], y[:, v])[0, 1] for v in range(5)]
    np.testing.assert_allclose(metrics.correlation(), correlation, rtol=1e-9)
    assert found["voxel_correlation"] == pytest.approx(np.mean(correlation), rel=1e-9)
    assert found["fmri_mse"] == pytest.approx(mean_squared_error(y, x), rel=1e-9)
    assert found["fmri_mae"] == pytest.approx(mean_absolute_error(y, x), rel=1e-9)
    assert found["fmri_explained"] == pytest.approx(r2_score(y, x, multioutput="variance_weighted"), rel=1e-9)
    video, shown = (whole[name].double().flatten(1).numpy() for name in ("video", "video_target"))
    expected = r2_score(shown, video, multioutput="variance_weighted")
    assert found["video_explained"] == pytest.approx(expected, rel=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=90), st.integers(0, 90), st.integers(0, 2))
def test_ranks_and_checkpoints_add_up(sizes: list[int], first: int, gone_on: int) -> None:
    """Two ranks, one of which was saved as JSON and went on, make what one alone would have."""
    whole = outputs(sum(sizes))
    parts = cut(whole, sizes)
    one, other = taken_in(parts[:first]), taken_in(parts[first + gone_on :])
    merged = RecordingMetrics(["video"])
    merged.merge(json.loads(json.dumps(one.state())))
    for part in parts[first : first + gone_on]:
        merged.update(part, {})
    merged.merge(json.loads(json.dumps(other.state())))
    expected = taken_in([whole]).compute()
    assert merged.compute() == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_what_was_saved_in_between_does_not_change_a_bit() -> None:
    parts = cut(outputs(300), [2] * 150)
    straight, stopped = taken_in(parts), taken_in(parts[:77])
    resumed = RecordingMetrics(["video"])
    resumed.merge(json.loads(json.dumps(stopped.state())))
    for number, part in enumerate(parts[77:]):
        resumed.update(part, {})
        if number % 10 == 0:
            resumed.compute()
    assert resumed.state() == straight.state()


def test_nothing_taken_in_gives_nothing() -> None:
    empty = RecordingMetrics(["video"])
    assert empty.compute() == {}
    empty.merge(json.loads(json.dumps(RecordingMetrics(["video"]).state())))
    assert empty.compute() == {}


def test_a_voxel_that_does_not_vary_is_left_out_and_one_predicted_so_counts_as_nothing() -> None:
    whole = outputs(30)
    whole["fmri_target"][:, 1] = 0.1
    whole["fmri"][:, 2] = -7.3
    metrics = taken_in(cut(whole, [10, 20]))
    found = metrics.correlation()
    assert np.isnan(found[1])
    assert found[2] == 0
    assert metrics.compute()["voxel_correlation"] == pytest.approx(found[[0, 2, 3, 4]].mean())


@pytest.mark.parametrize("name", FMRI_LOSSES)
def test_losses_are_of_one_example_each(name: str) -> None:
    whole = outputs(6, voxels=9)
    losses = subject_means(FMRI_LOSSES[name], whole["fmri"], whole["fmri_target"], [4, 5])
    for index in range(6):
        x, y = (whole[key][index].double().numpy() for key in ("fmri", "fmri_target"))
        by_hand = []
        for part in (slice(0, 4), slice(4, 9)):
            by_hand.append(
                {
                    "mse": np.mean((x[part] - y[part]) ** 2),
                    "mae": np.mean(np.abs(x[part] - y[part])),
                    "correlation": 1 - np.corrcoef(x[part], y[part])[0, 1],
                }[name]
            )
        assert float(losses[index]) == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_correlation_of_what_does_not_vary_has_a_gradient() -> None:
    predicted = torch.full((2, 4), 0.3, requires_grad=True)
    loss = correlation_loss(predicted, torch.randn(2, 4))
    assert loss.tolist() == pytest.approx([1, 1], abs=1e-3)
    loss.sum().backward()
    assert torch.isfinite(predicted.grad).all()


def test_the_report_has_a_line_for_each_subject(tmp_path: Path) -> None:
    subjects = [
        SubjectVoxels("ann", np.array([0.1, 0.3, np.nan, 0.5]), np.array([0.6, 0.6, 0.6, 0.6])),
        SubjectVoxels("bob", np.array([np.nan]), None),
    ]
    head, ann, bob = voxel_text(subjects).splitlines()
    assert head.split() == ["subject", "voxels", "left", "out", "mean", "r", "25", "%", "50", "%", "75", "%", "ceiling"]
    assert ann.split() == ["ann", "4", "1", "0.300", "0.200", "0.300", "0.400", "0.600"]
    assert bob.split() == ["bob", "1", "1", "0.000", "0.000", "0.000", "0.000", "-"]
    write_voxel_report("test", subjects, tmp_path)
    assert (tmp_path / "voxels_test.txt").read_text() == voxel_text(subjects)
    assert (tmp_path / "voxel_correlation_test.png").stat().st_size > 1000
