"""TrivialAugment and RandAugment: each operation against Pillow or a formula, and how they are drawn."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from images import Counted, Scripted, digest, noise, waves
from PIL import Image, ImageEnhance, ImageOps

from mltrain.core.errors import ConfigError
from mltrain.core.seeding import SampleGenerator, mix
from mltrain.data.automatic_augmentation import OPERATIONS, OperationSpace, RandAugment, TrivialAugment

BILINEAR = Image.Resampling.BILINEAR
SIDE = 64
GOLDEN = {
    "TrivialAugment": "101e5456c83fd3118f038070816714399e56b8ea96e2d5b10112fd533709496b",
    "RandAugment": "b99304ea6a261a9f39d95cc3f624312a9b820b840ab173cf65f39e7aa157116a",
}
SPACE = OperationSpace(0.5, 60, 0.8, min_bits=4, max_translation=0.25)


def place(name: str) -> float:
    """Return a draw that chooses an operation."""
    return (OPERATIONS.index(name) + 0.5) / len(OPERATIONS)


def affine(image: Image.Image, *back: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, back, BILINEAR)


# name -> what TrivialAugment does at full strength, to a positive and to a negative direction
WIDE: dict[str, Any] = {
    "identity": lambda image, sign: image,
    "shear_x": lambda image, sign: affine(image, 1, sign * 0.99, 0, 0, 1, 0),
    "shear_y": lambda image, sign: affine(image, 1, 0, 0, sign * 0.99, 1, 0),
    "translate_x": lambda image, sign: affine(image, 1, 0, sign * 32, 0, 1, 0),
    "translate_y": lambda image, sign: affine(image, 1, 0, 0, 0, 1, sign * 32),
    "rotate": lambda image, sign: image.rotate(sign * 135, BILINEAR),
    "brightness": lambda image, sign: ImageEnhance.Brightness(image).enhance(1 + sign * 0.99),
    "color": lambda image, sign: ImageEnhance.Color(image).enhance(1 + sign * 0.99),
    "contrast": lambda image, sign: ImageEnhance.Contrast(image).enhance(1 + sign * 0.99),
    "sharpness": lambda image, sign: ImageEnhance.Sharpness(image).enhance(1 + sign * 0.99),
    "posterize": lambda image, sign: ImageOps.posterize(image, 2),
    "solarize": lambda image, sign: ImageOps.invert(image),
    "autocontrast": lambda image, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, sign: ImageOps.equalize(image),
}
# the same for RandAugment at magnitude 30
STANDARD: dict[str, Any] = {
    **WIDE,
    "shear_x": lambda image, sign: affine(image, 1, sign * 0.3, 0, 0, 1, 0),
    "shear_y": lambda image, sign: affine(image, 1, 0, 0, sign * 0.3, 1, 0),
    "translate_x": lambda image, sign: affine(image, 1, 0, sign * SIDE * 150 / 331, 0, 1, 0),
    "translate_y": lambda image, sign: affine(image, 1, 0, 0, 0, 1, sign * SIDE * 150 / 331),
    "rotate": lambda image, sign: image.rotate(sign * 30, BILINEAR),
    "brightness": lambda image, sign: ImageEnhance.Brightness(image).enhance(1 + sign * 0.9),
    "color": lambda image, sign: ImageEnhance.Color(image).enhance(1 + sign * 0.9),
    "contrast": lambda image, sign: ImageEnhance.Contrast(image).enhance(1 + sign * 0.9),
    "sharpness": lambda image, sign: ImageEnhance.Sharpness(image).enhance(1 + sign * 0.9),
    "posterize": lambda image, sign: ImageOps.posterize(image, 4),
}


def test_the_references_are_complete() -> None:
    assert set(WIDE) == set(STANDARD) == set(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("sign", [1, -1])
def test_every_operation_at_full_strength(name: str, mode: str, sign: int) -> None:
    image, direction = waves(SIDE, SIDE, mode), 0.7 if sign > 0 else 0.2
    trivial = TrivialAugment()(image, Scripted(place(name), 0.999, direction))
    assert trivial == WIDE[name](image, sign)
    standard = RandAugment(num_ops=1, magnitude=30)(image, Scripted(place(name), direction))
    assert standard == STANDARD[name](image, sign)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"autocontrast", "equalize"}))
def test_at_no_strength_an_operation_changes_nothing(name: str) -> None:
    image = noise(20, 16)
    assert RandAugment(num_ops=1, magnitude=0)(image, Scripted(place(name), 0.9)) == image
    assert TrivialAugment()(image, Scripted(place(name), 0.0, 0.9)) == image


@pytest.mark.parametrize("strength", [0.2, -0.2, 0.5, -0.5, 0.9])
def test_amounts_are_in_proportion_to_the_strength(strength: float) -> None:
    """By formulas on levels and places, not by Pillow's operations."""
    image = waves(40, 40, "L")
    levels = np.asarray(image).astype(int)

    def changed(name: str) -> Any:
        return np.asarray(SPACE.apply(OPERATIONS.index(name), image, strength, 0)).astype(int)

    assert np.abs(changed("brightness") - np.clip(levels * (1 + 0.8 * strength), 0, 255)).max() <= 1
    mean = int(levels.mean() + 0.5)
    assert np.abs(changed("contrast") - np.clip(mean + (levels - mean) * (1 + 0.8 * strength), 0, 255)).max() <= 1
    threshold = round(256 * (1 - abs(strength)))
    assert np.array_equal(changed("solarize"), np.where(levels < threshold, levels, 255 - levels))
    step = 2 ** round(abs(strength) * 4)
    assert np.array_equal(changed("posterize"), levels // step * step)
    pixels = 10 * strength
    moved = changed("translate_x")
    middle = np.arange(15, 25)
    below = np.floor(middle + pixels).astype(int)
    weight = middle + pixels - below
    assert np.abs(moved[:, 15:25] - ((1 - weight) * levels[:, below] + weight * levels[:, below + 1])).max() <= 1


def test_color_leaves_grey_images_as_they_are() -> None:
    image = noise(9, 9, "L")
    assert TrivialAugment()(image, Scripted(place("color"), 0.9, 0.9)) == image


def test_small_images_are_not_moved_beyond_their_side() -> None:
    image = noise(8, 8)
    moved = TrivialAugment(fill=7)(image, Scripted(place("translate_x"), 16 / 31 + 0.01, 0.9))
    assert moved == image.transform(
        (8, 8), Image.Transform.AFFINE, (1, 0, 8 * 16 / 30, 0, 1, 0), BILINEAR, fillcolor=(7, 7, 7)
    )
    assert np.asarray(moved).min() >= 0
    assert (np.asarray(moved)[:, 5:] == 7).all()


def test_rand_augment_applies_its_operations_in_turn() -> None:
    image = waves(SIDE, SIDE)
    drawn = Scripted(place("solarize"), 0.9, place("rotate"), 0.1)
    once = ImageOps.solarize(image, 128)
    assert RandAugment(num_ops=2, magnitude=15)(image, drawn) == once.rotate(-15, BILINEAR)


def test_operations_strengths_and_directions_are_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, float]] = []

    def note(self: OperationSpace, place: int, image: Image.Image, strength: float, fill: int) -> Image.Image:
        seen.append((place, strength))
        return image

    monkeypatch.setattr(OperationSpace, "apply", note)
    image = noise(2, 2)
    for key in range(6200):
        TrivialAugment()(image, SampleGenerator(mix(2, key)))
    operations, strengths = Counter(place for place, _ in seen), Counter(abs(strength) for _, strength in seen)
    assert sorted(operations) == list(range(14))
    assert all(abs(count - 6200 / 14) < 105 for count in operations.values())  # five standard deviations
    assert sorted(strengths) == pytest.approx([level / 30 for level in range(31)])
    assert all(abs(count - 200) < 70 for count in strengths.values())
    assert abs(sum(strength > 0 for _, strength in seen) - 3000) < 200


@pytest.mark.parametrize(
    ("policy", "draws"), [(TrivialAugment(), 3), (RandAugment(), 4), (RandAugment(num_ops=3), 6)], ids=str
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_size_mode_and_number_of_draws_are_those_of_every_image(policy: Any, draws: int, mode: str) -> None:
    for size in ((1, 1), (2, 50), (33, 21)):
        for key in range(40):
            rng = Counted(key)
            changed = policy(noise(*size, mode), rng)
            assert rng.count == draws
            assert (changed.size, changed.mode) == (size, mode)


@pytest.mark.parametrize("policy", [TrivialAugment(), RandAugment()], ids=["TrivialAugment", "RandAugment"])
def test_the_streams_never_change(policy: Any) -> None:
    image = waves(37, 23)
    images = [policy(image, SampleGenerator(mix(7, key))) for key in range(40)]
    assert digest(images) == GOLDEN[type(policy).__name__]


def test_a_magnitude_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="31 is not a strength"):
        RandAugment(magnitude=31)
