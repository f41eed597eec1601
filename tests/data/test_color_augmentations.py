"""Colour jitter against Pillow's enhancements and against the colour circle; order, bounds and draws."""

from __future__ import annotations

import colorsys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from images import Counted, Scripted, digest, noise, waves
from PIL import ImageEnhance

from mltrain.core.errors import ConfigError
from mltrain.core.seeding import SampleGenerator, mix
from mltrain.data.color_augmentations import ColorJitter, shift_hue

GOLDEN = "bc862887a4eec78a70eafdef552bcf64ec66d96ba402faad20d773ab27380b42"
KINDS: dict[str, Any] = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(("amount", "draw", "factor"), [(0.4, 0.0, 0.6), (0.4, 0.75, 1.2), (3.0, 0.5, 2.0)])
def test_one_property_is_pillows_enhancement(name: str, mode: str, amount: float, draw: float, factor: float) -> None:
    image = noise(20, 15, mode)
    assert ColorJitter(**{name: amount})(image, Scripted(draw)) == KINDS[name](image).enhance(factor)


@pytest.mark.parametrize("share", [-0.5, -0.1, 0.0, 0.25, 1 / 3, 0.5])
def test_hue_turns_the_colour_circle(share: float) -> None:
    image = waves(30, 20)
    shifted = np.asarray(shift_hue(image, share)) / 255
    for before, after in zip(np.asarray(image).reshape(-1, 3) / 255, shifted.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        # Pillow's HSV has 8 bits a channel.
        assert np.abs(np.array(colorsys.hsv_to_rgb((hue + share) % 1, saturation, value)) - after).max() < 0.03


def test_hue_is_drawn_to_either_side() -> None:
    image = waves(12, 12)
    jitter = ColorJitter(hue=0.2)
    assert jitter(image, Scripted(0.0)) == shift_hue(image, -0.2)
    assert jitter(image, Scripted(0.75)) == shift_hue(image, 0.1)


def test_the_order_is_drawn() -> None:
    image = noise(20, 15)
    jitter = ColorJitter(brightness=0.9, contrast=0.9)
    brighter, flatter = ImageEnhance.Brightness(image).enhance(1.9 - 1e-9), ImageEnhance.Contrast(image).enhance(0.1)
    one_way = ImageEnhance.Contrast(brighter).enhance(0.1)
    other_way = ImageEnhance.Brightness(flatter).enhance(1.9 - 1e-9)
    draws = (1 - 1e-9 / 1.8, 0.0)
    assert one_way != other_way
    assert jitter(image, Scripted(*draws, 0.9)) == one_way
    assert jitter(image, Scripted(*draws, 0.1)) == other_way


def test_every_order_of_four_is_as_likely() -> None:
    jitter = ColorJitter(0.5, 0.5, 0.5, 0.1)
    image = noise(4, 4)
    fixed = [0.9, 0.1, 0.05, 0.8]

    class Ordered(Scripted):
        """Gives fixed amounts and an order from a generator of its own."""

        def __init__(self, key: int) -> None:
            super().__init__(*fixed)
            self.order = SampleGenerator(mix(3, key))

        def below(self, limit: int) -> int:
            return self.order.below(limit)

    seen = Counter(jitter(image, Ordered(key)).tobytes() for key in range(2400))
    assert len(seen) == 24
    assert all(50 < count < 150 for count in seen.values())  # five standard deviations about 100


@pytest.mark.parametrize(
    ("jitter", "draws"),
    [
        (ColorJitter(0.1), 1),
        (ColorJitter(0.1, 0.1), 3),
        (ColorJitter(0.1, 0.1, 0.1), 5),
        (ColorJitter(1, 1, 1, 0.5), 7),
    ],
    ids=str,
)
def test_the_number_of_draws_depends_on_the_configuration_alone(jitter: ColorJitter, draws: int) -> None:
    for size in ((1, 1), (40, 3)):
        for key in range(5):
            rng = Counted(key)
            changed = jitter(noise(*size), rng)
            assert rng.count == draws
            assert (changed.size, changed.mode) == (size, "RGB")


def test_the_stream_never_changes() -> None:
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1)
    assert digest(jitter(waves(37, 23), SampleGenerator(mix(7, key))) for key in range(6)) == GOLDEN


def test_a_jitter_that_changes_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"color_jitter: changes nothing"):
        ColorJitter()
