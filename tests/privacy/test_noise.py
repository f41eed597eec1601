"""Noise is normal, float32, and never the same twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from mltrain.privacy.noise import KEY_BYTES, NoiseSource

COUNT = 200_000
KEY = bytes(range(KEY_BYTES))
LEVEL = 1e-4


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return NoiseSource(KEY).draw(COUNT).double().numpy()


def test_it_passes_kolmogorov_and_smirnov(noise: np.ndarray) -> None:
    assert stats.kstest(noise, "norm").pvalue > LEVEL
    for part in np.array_split(noise, 8):
        assert stats.kstest(part, "norm").pvalue > LEVEL / 8


def test_its_moments_are_those_of_the_normal_distribution(noise: np.ndarray) -> None:
    assert abs(noise.mean()) < 4 / COUNT**0.5
    assert noise.std() == pytest.approx(1.0, abs=4 / (2 * COUNT) ** 0.5)
    assert stats.skew(noise) == pytest.approx(0.0, abs=4 * (6 / COUNT) ** 0.5)
    assert stats.kurtosis(noise) == pytest.approx(0.0, abs=4 * (24 / COUNT) ** 0.5)


def test_a_wrong_scale_would_be_seen(noise: np.ndarray) -> None:
    for scale in (0.98, 1.02):
        assert stats.kstest(scale * noise, "norm").pvalue < LEVEL
        assert abs((scale * noise).std() - 1.0) > 4 / (2 * COUNT) ** 0.5


def test_its_tails_are_there(noise: np.ndarray) -> None:
    for limit in (2.0, 3.0, 3.5):
        expected = 2 * stats.norm.sf(limit)
        seen = int((np.abs(noise) > limit).sum())
        assert stats.binomtest(seen, COUNT, expected).pvalue > LEVEL


def test_draws_are_independent_of_their_neighbours_and_of_the_other_half_of_a_pair(noise: np.ndarray) -> None:
    pairs = min(COUNT // 2, 65536)
    for one, other in [(noise[:-1], noise[1:]), (noise[:pairs], noise[pairs : 2 * pairs])]:
        bound = 4 / len(one) ** 0.5
        assert abs(np.corrcoef(one, other)[0, 1]) < bound
        assert abs(np.corrcoef(one**2, other**2)[0, 1]) < bound
        assert abs(np.corrcoef(one * np.abs(one), other)[0, 1]) < bound


@pytest.mark.parametrize("count", [0, 1, 2, 7, 131_072, 131_073])
def test_any_number_of_draws_is_float32_on_the_cpu(count: int) -> None:
    drawn = NoiseSource(KEY).draw(count)
    assert (drawn.dtype, drawn.shape, drawn.device.type) == (torch.float32, (count,), "cpu")
    assert drawn.isfinite().all()


def test_no_two_streams_and_no_two_draws_of_one_have_anything_in_common() -> None:
    source = NoiseSource()
    streams = [source.draw(1000), source.draw(1000), NoiseSource().draw(1000), NoiseSource(KEY).draw(1000)]
    source.rekey(bytes(KEY_BYTES))
    values = np.concatenate([stream.numpy() for stream in [*streams, source.draw(1000)]])
    assert len(np.unique(values)) > 4990  # float32 alone makes some equal
    assert np.abs(np.corrcoef(values.reshape(5, 1000)) - np.eye(5)).max() < 0.16


def test_a_key_gives_one_stream_whatever_torch_is_seeded_with() -> None:
    torch.manual_seed(1)
    first = NoiseSource(KEY).draw(100)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    source = NoiseSource(bytes(KEY_BYTES))
    source.rekey(KEY)
    assert torch.equal(source.draw(100), first)
    assert torch.equal(torch.get_rng_state(), state)
