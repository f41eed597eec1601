"""Mixup and cutmix: the shares that are drawn, the pixels that are mixed, and who is whose partner."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from images import Counted, Scripted
from scipy import stats

from mltrain.core.seeding import SampleGenerator, mix
from mltrain.data.mixing import Blend, Mixing, Patch, mix_pairs, symmetric_beta


def images(count: int, size: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


# --- the shares


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 2.0, 30.0])
def test_shares_have_the_beta_distribution(alpha: float) -> None:
    values = [symmetric_beta(alpha, SampleGenerator(mix(11, key))) for key in range(5000)]
    assert stats.kstest(values, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_shares_of_a_small_parameter_lie_near_the_ends() -> None:
    """So near that a double cannot tell them from 1: the distribution can be held to its quantiles only."""
    values = np.array([symmetric_beta(0.02, SampleGenerator(mix(11, key))) for key in range(5000)])
    for level in (1e-6, 0.01, 0.5, 0.99):
        expected = stats.beta(0.02, 0.02).cdf(level)
        assert abs((values < level).mean() - expected) < 5 * math.sqrt(expected * (1 - expected) / 5000)


@settings(deadline=None, max_examples=200)
@given(alpha=st.floats(1e-4, 1e4), one=st.floats(0, 1, exclude_max=True), two=st.floats(0, 1, exclude_max=True))
def test_every_draw_gives_a_share(alpha: float, one: float, two: float) -> None:
    assert 0 <= symmetric_beta(alpha, Scripted(one, two)) <= 1


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_own_share_is_the_greater_one(alpha: float) -> None:
    mixing = Mixing(32, mixup_alpha=alpha)
    shares = np.array([mixing.draw(SampleGenerator(mix(4, key))).share for key in range(4000)])
    assert shares.min() >= 0.5
    beta = stats.beta(alpha, alpha)
    assert stats.kstest(shares, lambda share: 2 * beta.cdf(share) - 1).pvalue > 1e-3


def test_cutmix_cuts_the_square_that_was_drawn() -> None:
    # exp(-log(1 - u)) - 1 = 3 for alpha = 1; the cosine is 1: the deviate is sqrt(3), and l = (1 + sqrt(3) / 2) / 2.
    share = 0.5 + math.sqrt(3) / 4
    side = int(64 * math.sqrt(1 - share))
    drawn = Mixing(64, cutmix_alpha=1.0).draw(Scripted(0.5, 0.25, 0.75, 0.0))
    left, top = 32 - side // 2, 16 - side // 2
    assert side == 16
    assert drawn == Patch((left, top, left + side, top + side), 1 - side**2 / 64**2)


@settings(deadline=None, max_examples=200)
@given(size=st.integers(1, 100), alpha=st.floats(0.01, 10), key=st.integers(0, 2**64 - 1))
def test_a_patch_lies_within_and_leaves_at_least_half(size: int, alpha: float, key: int) -> None:
    drawn = Mixing(size, cutmix_alpha=alpha).draw(SampleGenerator(key))
    assert isinstance(drawn, Patch)
    left, top, right, bottom = drawn.box
    assert 0 <= left <= right <= size
    assert 0 <= top <= bottom <= size
    assert drawn.share == 1 - (right - left) * (bottom - top) / size**2
    assert drawn.share >= 0.5


def test_with_both_each_is_drawn_half_of_the_time() -> None:
    mixing = Mixing(16, mixup_alpha=0.2, cutmix_alpha=1.0)
    blends = sum(isinstance(mixing.draw(SampleGenerator(mix(8, key))), Blend) for key in range(2000))
    assert abs(blends - 1000) < 112  # five standard deviations


@pytest.mark.parametrize(("alphas", "draws"), [((0.2, None), 2), ((None, 1.0), 4), ((0.2, 1.0), 5)])
def test_the_number_of_draws_depends_on_the_configuration_alone(alphas: Any, draws: int) -> None:
    for key in range(20):
        rng = Counted(key)
        Mixing(16, *alphas).draw(rng)
        assert rng.count == draws


# --- the pixels


@pytest.mark.parametrize("share", [0.5, 0.6180339887, 0.9999, 1.0])
def test_a_blend_is_the_weighted_mean_rounded(share: float) -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    own, partner = levels.repeat(256).view(1, 256, 256), levels.repeat_interleave(256).view(1, 256, 256)
    exact = share * own.double() + (1 - share) * partner.double()
    mixed = Blend(share).apply(own, partner)
    assert mixed.dtype == torch.uint8
    assert (mixed.double() - exact).abs().max() <= 0.5 + 1e-4
    assert torch.equal(own.flatten()[:256], levels)


def test_a_patch_is_the_partners() -> None:
    own, partner = images(2)
    mixed = Patch((2, 0, 5, 8), 1 - 24 / 64).apply(own, partner)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[0:8, 2:5] = True
    assert torch.equal(mixed, torch.where(inside, partner, own))


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_partners_are_neighbours_and_a_last_one_alone_stays(count: int) -> None:
    pixels = images(count)
    before = pixels.clone()
    mixes = [Blend(0.5 + 0.05 * index) for index in range(count)]
    mixed, partners, shares = mix_pairs(pixels, mixes)
    assert torch.equal(pixels, before)
    expected = {1: [0], 2: [1, 0], 5: [1, 0, 3, 2, 4], 6: [1, 0, 3, 2, 5, 4]}[count]
    assert partners.tolist() == expected
    for index, partner in enumerate(expected):
        if index == partner:
            assert torch.equal(mixed[index], pixels[index])
            assert shares[index] == 1
        else:
            assert torch.equal(mixed[index], mixes[index].apply(pixels[index], pixels[partner]))
            assert shares[index] == pytest.approx(mixes[index].share)
