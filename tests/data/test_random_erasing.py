"""Random erasing: what is painted, where, how often, and how many draws it takes."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from images import Counted, Scripted
from scipy import stats

from mltrain.core.errors import ConfigError
from mltrain.core.seeding import SampleGenerator, mix
from mltrain.data.random_erasing import RandomErasing

GOLDEN = "50cedb38efea99297da3075b1264e03c34c68e5fcc7e19d03c9d8dfe0dfb5b19"


def flat(width: int, height: int, channels: int = 3) -> torch.Tensor:
    return torch.full((channels, height, width), 200, dtype=torch.uint8)


def test_the_rectangle_is_the_one_that_was_drawn() -> None:
    erasing = RandomErasing(0.5, scale=(0.25, 0.25), ratio=(4.0, 4.0), fill=(1, 2, 3))
    pixels = erasing(flat(32, 32), Scripted(0.49, 0.0, 0.0, 0.0, 0.5, 0.0))
    expected = flat(32, 32)
    expected[:, 12:20, 0:32] = torch.tensor([1, 2, 3], dtype=torch.uint8).view(3, 1, 1)
    assert torch.equal(pixels, expected)
    assert torch.equal(erasing(flat(32, 32), Scripted(0.51, 0.0, 0.0, 0.0, 0.5, 0.0)), flat(32, 32))


def test_random_pixels_are_even_and_the_samples_own() -> None:
    erasing = RandomErasing(1.0, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    one, again, other = (erasing(flat(64, 64), SampleGenerator(key)) for key in (5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    counts = np.bincount(one.flatten().numpy(), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-4
    assert not torch.equal(one[0], one[1])


def test_how_often() -> None:
    erasing = RandomErasing(0.3, fill=(0,))
    erased = sum(bool((erasing(flat(8, 8, 1), SampleGenerator(mix(1, key))) == 0).any()) for key in range(2000))
    assert abs(erased - 600) < 103  # five standard deviations


@settings(deadline=None, max_examples=150)
@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    channels=st.sampled_from([1, 3]),
    scale=st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)).map(sorted).map(tuple),
    random_pixels=st.booleans(),
    key=st.integers(0, 2**64 - 1),
)
def test_one_rectangle_within_the_image_after_six_draws(
    width: int, height: int, channels: int, scale: Any, random_pixels: bool, key: int
) -> None:
    fill = None if random_pixels else (0,) * channels
    rng = Counted(key)
    pixels = RandomErasing(1.0, scale, fill=fill)(flat(width, height, channels), rng)
    assert rng.count == 6
    assert pixels.dtype == torch.uint8
    changed = (pixels != 200).any(dim=0)
    assert changed.any() or random_pixels
    if not random_pixels:
        rows, columns = changed.any(dim=1), changed.any(dim=0)
        assert torch.equal(changed, rows[:, None] & columns[None, :])
        assert (rows.int().diff() != 0).sum() <= 2
        assert (columns.int().diff() != 0).sum() <= 2
        box_width, box_height = int(columns.sum()), int(rows.sum())
        assert (box_width - 0.51) * (box_height - 0.51) <= scale[1] * width * height or 1 in (box_width, box_height)


def test_an_image_that_is_spared_takes_as_many_draws() -> None:
    rng = Counted(3)
    assert torch.equal(RandomErasing(0.0)(flat(9, 9), rng), flat(9, 9))
    assert rng.count == 6


def test_the_stream_never_changes() -> None:
    erasing = RandomErasing(0.8)
    images = [erasing(flat(21, 17), SampleGenerator(mix(7, key))) for key in range(8)]
    assert hashlib.sha256(b"".join(image.numpy().tobytes() for image in images)).hexdigest() == GOLDEN


@pytest.mark.parametrize("name", ["scale", "ratio"])
def test_bounds_out_of_order_are_refused(name: str) -> None:
    bounds: Any = {name: (0.5, 0.1)}
    with pytest.raises(ConfigError, match=rf"random_erasing\.{name}: 0.5 is above 0.1\. Write \[0.1, 0.5\]"):
        RandomErasing(**bounds)
