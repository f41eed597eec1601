"""Standardization against NumPy's own means and deviations, of training samples alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mltrain.data.modalities import array_files
from mltrain.data.modalities.array_files import ArrayFile
from mltrain.data.modalities.standardization import Standardization, fit_standardization, packed, unpacked


def saved(folder: Path, values: np.ndarray) -> ArrayFile:
    np.save(folder / "values.npy", values)
    return ArrayFile(folder / "values.npy")


@pytest.mark.parametrize("shape", [(5,), (4, 3), (3, 4, 2)], ids=["vectors", "spectrograms", "pictures"])
@pytest.mark.parametrize("chunk", [1, 300, 1 << 24])
def test_it_is_that_of_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], chunk: int
) -> None:
    monkeypatch.setattr(array_files, "_CHUNK_BYTES", chunk)
    draw = np.random.default_rng(0)
    values = (draw.normal(1000, 3, (50, *shape))).astype(np.float32)
    times = np.array([3, 4, 9, 20, 21, 49])
    found = fit_standardization([saved(tmp_path, values)], times)
    rows = np.moveaxis(values[times], 1, 0).reshape(shape[0], -1).astype(np.float64)
    np.testing.assert_allclose(found.mean, rows.mean(1), rtol=1e-6)
    np.testing.assert_allclose(found.std, rows.std(1), rtol=1e-5)
    batch = torch.from_numpy(values[times]).unsqueeze(1)
    standard = np.moveaxis(found.apply(batch).numpy()[:, 0], 1, 0).reshape(shape[0], -1)
    np.testing.assert_allclose(standard.mean(1), 0, atol=1e-4)
    np.testing.assert_allclose(standard.std(1), 1, atol=1e-4)


def test_other_samples_have_no_part_in_it(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 1, (20, 4))
    times = np.arange(10)
    first = fit_standardization([saved(tmp_path, values)], times)
    values[10:] = 1e6
    second = fit_standardization([saved(tmp_path, values)], times)
    assert np.array_equal(first.mean, second.mean)
    assert np.array_equal(first.std, second.std)


def test_what_does_not_vary_becomes_zero_and_is_named(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 1, (20, 4))
    values[:, 2] = 123.456
    found = fit_standardization([saved(tmp_path, values.astype(np.float32))], np.arange(20))
    assert found.constant.tolist() == [2]
    assert found.apply(torch.tensor(values))[:, 2].abs().max() < 1e-4


def test_several_arrays_count_together(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(0, 1, (30, 3)), draw.normal(5, 2, (30, 3))
    (tmp_path / "b").mkdir()
    found = fit_standardization([saved(tmp_path, one), saved(tmp_path / "b", other)], np.arange(30))
    np.testing.assert_allclose(found.mean, np.concatenate([one, other]).mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.std, np.concatenate([one, other]).std(0), rtol=1e-6)


def test_json_gives_the_same_bits_and_units_come_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(3, 2, (30, 3)).astype(np.float32)
    found = fit_standardization([saved(tmp_path, values)], np.arange(30))
    again = Standardization.from_json(json.loads(json.dumps(found.to_json())))
    assert again.mean.tobytes() == found.mean.tobytes()
    assert again.std.tobytes() == found.std.tobytes()
    batch = torch.from_numpy(values)
    torch.testing.assert_close(again.invert(again.apply(batch)), batch)


def test_packed_bytes_have_one_order() -> None:
    values = np.array([1.5, -2.0])
    assert packed(values) == packed(values.astype(">f8"))
    assert unpacked(packed(values), "<f8").tolist() == [1.5, -2.0]
