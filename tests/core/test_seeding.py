"""Random streams: fixed bits, uniform draws, independent streams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.core.seeding import SampleGenerator, hash_id, mix, permutation, stream_key

KEYS = st.integers(0, 2**64 - 1)


def test_splitmix64_as_published() -> None:
    # The vectors that implementations of SplitMix64 are commonly checked with.
    assert [mix(0, n) for n in range(3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    generator = SampleGenerator(1234567)
    assert [generator.bits() for _ in range(5)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip


def test_keys_never_change() -> None:
    assert mix(42, 0) == 0xBDD732262FEB6E95
    assert mix(2**64 - 1, 2**64 - 1) == 0xB4D055FCF2CBBD7B
    assert mix(-1, 5) == mix(2**64 - 1, 5) == 0xD31DADBDA438BB33
    assert hash_id("") == 0xB4B2797457A0A6E4
    assert hash_id("raw/ants/1.jpg") == 0x0D190CE9BB597360
    assert hash_id("ü") == 0x372F39C1F59DF155
    assert hash_id("a\udce9") == 0x661932BB94B79202  # a file name that is not UTF-8
    assert stream_key(42, "order") == 0xF52D09705D0B031A


def test_permutations_never_change() -> None:
    assert permutation(0, 10).tolist() == [2, 4, 6, 8, 5, 1, 7, 0, 9, 3]
    assert permutation(stream_key(42, "x"), 12).tolist() == [9, 3, 7, 5, 4, 6, 11, 1, 0, 2, 8, 10]


def test_draws_of_a_sample_never_change() -> None:
    generator = SampleGenerator(42)
    assert [generator.bits() for _ in range(3)] == [0xBDD732262FEB6E95, 0x28EFE333B266F103, 0x47526757130F9F52]
    assert generator.random() == 0.34419071652363753
    assert [generator.below(10), generator.below(1)] == [0, 0]


@settings(deadline=None)
@given(KEYS, st.integers(0, 500))
def test_a_permutation_holds_each_index_once(key: int, length: int) -> None:
    order = permutation(key, length)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(length))


@settings(deadline=None)
@given(KEYS, st.integers(1, 50))
def test_a_permutation_sorts_positions_by_the_published_hash(key: int, length: int) -> None:
    assert permutation(key, length).tolist() == sorted(range(length), key=lambda position: mix(key, position))


@given(KEYS, KEYS)
def test_draws_lie_in_their_range(key: int, limit: int) -> None:
    generator = SampleGenerator(key)
    assert 0 <= generator.random() < 1
    assert 0 <= generator.below(limit % 10**6 + 1) < limit % 10**6 + 1
    assert 0 <= mix(key, limit) < 2**64


def test_the_largest_draw_stays_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SampleGenerator, "bits", lambda self: 2**64 - 1)
    generator = SampleGenerator(0)
    assert generator.random() < 1
    assert generator.below(7) == 6


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


# For n cells the statistic has mean n - 1 and standard deviation sqrt(2 (n - 1)). The keys are fixed: it never varies.
@pytest.mark.parametrize("limit", [2, 3, 10, 64])
def test_whole_numbers_are_uniform(limit: int) -> None:
    generator = SampleGenerator(stream_key(1, "test"))
    counts = np.bincount([generator.below(limit) for _ in range(20_000)], minlength=limit)
    assert chi_square(counts) < limit - 1 + 4 * (2 * (limit - 1)) ** 0.5


def test_fractions_are_uniform_over_samples_of_neighbouring_keys() -> None:
    # What augmentation does: one draw from each of many generators.
    draws = np.array([SampleGenerator(mix(stream_key(3, "augment"), n)).random() for n in range(20_000)])
    counts = np.histogram(draws, bins=50, range=(0, 1))[0]
    assert chi_square(counts) < 49 + 4 * 98**0.5
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 4 / len(draws) ** 0.5


def test_every_sample_meets_every_place_of_the_order() -> None:
    orders = np.stack([permutation(mix(stream_key(5, "order"), epoch), 8) for epoch in range(8_000)])
    for place in range(8):
        assert chi_square(np.bincount(orders[:, place], minlength=8)) < 7 + 4 * 14**0.5


def test_streams_are_apart() -> None:
    keys = {stream_key(seed, purpose) for seed in range(50) for purpose in ("weights", "order", "dropout", "augment")}
    assert len(keys) == 200
    assert len({mix(key, value) for key in keys for value in range(50)}) == 10_000
