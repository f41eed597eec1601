"""Crops, rotations and affine maps against Pillow and against matrices; bounds, evenness and the stream of draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from images import Counted, Scripted, digest, noise, waves
from PIL import Image, ImageChops
from scipy import stats

from mltrain.core.errors import ConfigError
from mltrain.core.seeding import SampleGenerator, mix
from mltrain.data.geometric_augmentations import RandomAffine, RandomResizedCrop, RandomRotation
from mltrain.data.image_transforms import ImageTransform, to_image

BILINEAR = Image.Resampling.BILINEAR
GOLDEN = {
    "rotation": "ee1c124feb57ddb25aeba660fa3a14796cee14af020d555e8867dd96fc12e94f",
    "affine": "fcee63349cc4ca290d409f879c8201ee5bbf659d80f9d8ed3e816a931af94b1c",
}


def furthest(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


# --- the part of the image


def test_the_part_has_the_area_the_ratio_and_the_place_that_were_drawn() -> None:
    crop = RandomResizedCrop(scale=(0.2, 0.6), ratio=(0.5, 2.0))
    left, top, right, bottom = crop.box((200, 100), Scripted(0.25, 0.75, 0.5, 0.1))
    width, height = right - left, bottom - top
    assert width * height == pytest.approx(0.3 * 200 * 100)
    # With 30 % of the area a part of 200 x 100 pixels is at least 0.6 times as wide as high.
    assert width / height == pytest.approx(math.exp(math.log(0.6) + 0.75 * math.log(2.0 / 0.6)))
    assert left == pytest.approx(0.5 * (200 - width))
    assert top == pytest.approx(0.1 * (100 - height))


def test_one_resampling_of_the_part() -> None:
    image = noise(128, 128)
    transform = ImageTransform(32, random_resized_crop=RandomResizedCrop(scale=(0.25, 0.25), ratio=(1.0, 1.0)))
    pixels = transform(image, Scripted(0.0, 0.0, 0.5, 0.25))
    reference = image.resize((64, 64), BILINEAR).crop((16, 8, 48, 40))
    assert furthest(to_image(pixels), reference) <= 1
    assert torch.equal(transform(image, None), ImageTransform(32)(image, None))


def test_areas_ratios_and_places_are_even() -> None:
    crop = RandomResizedCrop(scale=(0.1, 0.5), ratio=(0.75, 4 / 3))
    boxes = np.array([crop.box((100, 100), SampleGenerator(mix(1, key))) for key in range(3000)])
    sides = boxes[:, 2:] - boxes[:, :2]
    areas, ratios = sides.prod(axis=1) / 100**2, np.log(sides[:, 0] / sides[:, 1])
    places = boxes[:, :2] / (100 - sides)
    for values, low, high in (
        (areas, 0.1, 0.5),
        (ratios, math.log(0.75), math.log(4 / 3)),
        (places[:, 0], 0, 1),
        (places[:, 1], 0, 1),
    ):
        assert stats.kstest(values, "uniform", (low, high - low)).pvalue > 1e-3


@settings(deadline=None, max_examples=300)
@given(
    width=st.integers(1, 20000),
    height=st.integers(1, 20000),
    scale=st.tuples(st.floats(0.001, 1.0), st.floats(0.001, 1.0)).map(sorted).map(tuple),
    ratio=st.tuples(st.floats(0.01, 100.0), st.floats(0.01, 100.0)).map(sorted).map(tuple),
    key=st.integers(0, 2**64 - 1),
)
def test_the_part_lies_within_the_image(width: int, height: int, scale: Any, ratio: Any, key: int) -> None:
    rng = Counted(key)
    left, top, right, bottom = RandomResizedCrop(scale, ratio).box((width, height), rng)
    assert rng.count == 4
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    share = (right - left) * (bottom - top) / (width * height)
    assert share <= scale[1] * (1 + 1e-6)
    assert ratio[0] * (1 - 1e-6) <= (right - left) / (bottom - top) <= ratio[1] * (1 + 1e-6)


@settings(deadline=None, max_examples=200)
@given(
    side=st.integers(1, 300),
    longer=st.floats(1.0, 4.0),
    scale=st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 1.0)).map(sorted).map(tuple),
    key=st.integers(0, 2**64 - 1),
    upright=st.booleans(),
)
def test_no_part_is_smaller_than_decoding_counts_on(
    side: int, longer: float, scale: Any, key: int, upright: bool
) -> None:
    crop = RandomResizedCrop(scale)
    size = (side, round(longer * side)) if upright else (round(longer * side), side)
    left, top, right, bottom = crop.box(size, SampleGenerator(key))
    assert min(right - left, bottom - top) >= crop.least_side * side * (1 - 1e-6)
    transform = ImageTransform(64, random_resized_crop=crop)
    assert transform.training_min_side == math.ceil(64 / crop.least_side)
    assert transform.min_side == ImageTransform(64).min_side


# --- rotation and affine maps


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(("draw", "angle"), [(0.0, -30), (0.75, 15), (0.5, 0)])
def test_rotation_is_pillows(mode: str, draw: float, angle: float) -> None:
    image = waves(40, 30, mode)
    colour = (9, 9, 9) if mode == "RGB" else 9
    reference = image.rotate(angle, BILINEAR, fillcolor=colour)
    assert furthest(RandomRotation(30, fill=9)(image, Scripted(draw)), reference) == 0
    assert furthest(RandomAffine(degrees=30, fill=9)(image, Scripted(draw, 0, 0, 0, 0.5)), reference) <= 1


def test_translation_moves_by_shares_of_the_sides() -> None:
    image = noise(40, 30)
    moved = RandomAffine(translate=(0.25, 0.5))(image, Scripted(0.5, 0.9, 0.3, 0.5, 0.5))
    right, down = round(40 * (-0.25 + 0.9 * 0.5)), round(30 * (-0.5 + 0.3))
    reference = ImageChops.offset(image, right, down)
    reference.paste("black", (0, 0, right, 30))
    reference.paste("black", (0, 30 + down, 40, 30))
    assert (right, down) == (8, -6)
    assert furthest(moved, reference) == 0


@settings(deadline=None, max_examples=60)
@given(draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=5, max_size=5))
def test_an_affine_map_is_the_product_of_its_parts(draws: list[float]) -> None:
    """Output place = centre + shift + factor * rotation @ shear @ (input place - centre)."""
    width, height = 48, 36
    image = waves(width, height)
    affine = RandomAffine(degrees=40, translate=(0.1, 0.2), scale=(0.7, 1.5), shear=20, fill=50)
    between = [(-40, 40), (-0.1 * width, 0.1 * width), (-0.2 * height, 0.2 * height), (0.7, 1.5), (-20, 20)]
    angle, right, down, factor, slant = (
        low + draw * (high - low) for draw, (low, high) in zip(draws, between, strict=True)
    )
    turn, slope = -math.radians(angle), math.tan(math.radians(slant))

    def shift(x: float, y: float) -> Any:
        return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=float)

    rotation = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    forward = (
        shift(width / 2 + right, height / 2 + down)
        @ np.diag([factor, factor, 1])
        @ rotation
        @ np.array([[1, slope, 0], [0, 1, 0], [0, 0, 1]])
        @ shift(-width / 2, -height / 2)
    )
    back = np.linalg.inv(forward)[:2].ravel().tolist()
    reference = image.transform(image.size, Image.Transform.AFFINE, back, BILINEAR, fillcolor=(50, 50, 50))
    difference = np.abs(np.asarray(affine(image, Scripted(*draws)), int) - np.asarray(reference, int))
    # A place that lies on the border may fall to either side of it.
    assert np.mean(difference > 1) < 0.01


@pytest.mark.parametrize("augmentation", [RandomRotation(25), RandomAffine(10, (0.1, 0.1), (0.8, 1.2), 10)], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 64)], ids=str)
def test_size_mode_and_number_of_draws_are_those_of_every_image(augmentation: Any, mode: str, size: Any) -> None:
    rng = Counted(5)
    changed = augmentation(noise(*size, mode), rng)
    assert (changed.size, changed.mode) == (size, mode)
    assert rng.count == (1 if isinstance(augmentation, RandomRotation) else 5)


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        (RandomRotation(25), "rotation"),
        (RandomAffine(10, (0.1, 0.1), (0.8, 1.2), 10), "affine"),
    ],
    ids=["rotation", "affine"],
)
def test_the_streams_never_change(augmentation: Any, expected: str) -> None:
    image = waves(37, 23)
    assert digest(augmentation(image, SampleGenerator(mix(7, key))) for key in range(4)) == GOLDEN[expected]


# --- misuse


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: RandomResizedCrop(scale=(0.9, 0.1)), "random_resized_crop.scale"),
        (lambda: RandomResizedCrop(ratio=(2.0, 1.0)), "random_resized_crop.ratio"),
        (lambda: RandomAffine(), "random_affine"),
        (lambda: RandomAffine(scale=(2.0, 1.0)), "random_affine.scale"),
    ],
)
def test_bounds_that_cannot_be_are_refused(make: Any, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.where == f"data.transforms.train.{key}"
