"""The part of an image that a tensor is made of, and the draws that choose it."""

from __future__ import annotations

import hashlib
import pickle
import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mltrain.core.errors import ConfigError
from mltrain.data.image_transforms import ImageTransform, Resize

BILINEAR = Image.Resampling.BILINEAR
GOLDEN_BOXES: list[Any] = [
    (14.249618744485186, 2.1791189084533698, 34.37461874448519, 22.30411890845337),
    (2.2673966193967705, 2.436371993694544, 22.39239661939677, 22.561371993694543),
]
GOLDEN_DIGEST = "651ed3f1b5bd809006e038791a06fd1bfe51f87d541846ac401d9162275eaae5"
AUGMENT: dict[str, Any] = {"random_crop": True, "random_horizontal_flip": True, "random_vertical_flip": True}


class Scripted(random.Random):
    """Gives the draws it was told to, counts them, and has no other method."""

    def __init__(self, draws: Iterable[float]) -> None:
        super().__init__(0)
        self.draws, self.count = iter(draws), 0

    def random(self) -> float:
        self.count += 1
        return next(self.draws)

    def getrandbits(self, k: int) -> int:
        raise AssertionError("only random() is the same on every version of Python")


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8))


def as_tensor(image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image))
    return pixels.permute(2, 0, 1) if image.mode == "RGB" else pixels[None]


def largest_difference(a: torch.Tensor, b: torch.Tensor) -> int:
    return int((a.int() - b.int()).abs().max())


# --- what is cut out


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_evaluation_is_pillows_resize_then_centre_crop(mode: Any) -> None:
    image = noise(192, 128, mode)
    reference = image.resize((96, 64), BILINEAR).crop((20, 4, 76, 60))
    pixels = ImageTransform(56, mode, **AUGMENT)(image, None)
    assert largest_difference(pixels, as_tensor(reference)) <= 1


@pytest.mark.parametrize(("x", "y", "left", "top"), [(0.0, 0.0, 0, 0), (0.25, 0.5, 10, 4), (0.999999, 0.0, 40, 0)])
def test_random_crop_is_pillows_resize_then_crop(x: float, y: float, left: int, top: int) -> None:
    image = noise(192, 128)
    reference = image.resize((96, 64), BILINEAR).crop((left, top, left + 56, top + 56))
    pixels = ImageTransform(56, random_crop=True)(image, Scripted([x, y]))
    assert largest_difference(pixels, as_tensor(reference)) <= 1


def test_random_crop_reaches_the_whole_image_evenly() -> None:
    transform, rng = ImageTransform(56, random_crop=True), random.Random(5)
    boxes = np.array([transform.source_box((192, 128), rng) for _ in range(4000)])
    assert np.allclose(boxes[:, 2:] - boxes[:, :2], 112)
    for positions, room in ((boxes[:, 0], 80), (boxes[:, 1], 16)):
        counts, _ = np.histogram(positions, bins=8, range=(0, room))
        assert counts.sum() == 4000
        assert np.abs(counts - 500).max() < 110  # five standard deviations
    assert abs(np.corrcoef(boxes[:, 0], boxes[:, 1])[0, 1]) < 0.08


def test_stretch_shows_the_whole_image() -> None:
    image = noise(90, 40)
    reference = as_tensor(image.resize((32, 32), BILINEAR))
    assert torch.equal(ImageTransform(32, resize="stretch")(image, random.Random(1)), reference)
    assert torch.equal(ImageTransform(32, resize="stretch", random_crop=True)(image, None), reference)


def test_stretch_with_random_crop_cuts_a_window_of_the_same_shape() -> None:
    transform = ImageTransform(32, resize="stretch", random_crop=True, crop_ratio=0.5)
    assert transform.source_box((90, 40), Scripted([0.2, 0.9])) == pytest.approx((9, 18, 54, 38))


@pytest.mark.parametrize("flag", ["random_horizontal_flip", "random_vertical_flip"])
@pytest.mark.parametrize("draw", [0.0, 0.4999999, 0.5, 0.9999])
def test_a_flip_happens_below_one_half(flag: str, draw: float) -> None:
    image = noise(20, 20)
    plain = ImageTransform(20, crop_ratio=1.0)(image, None)
    mirrored = plain.flip(-1 if flag == "random_horizontal_flip" else -2)
    pixels = ImageTransform(20, crop_ratio=1.0, **{flag: True})(image, Scripted([draw]))
    assert torch.equal(pixels, mirrored if draw < 0.5 else plain)


def test_both_flips_are_drawn_apart() -> None:
    image = noise(20, 20)
    plain = ImageTransform(20, crop_ratio=1.0)(image, None)
    transform = ImageTransform(20, crop_ratio=1.0, random_horizontal_flip=True, random_vertical_flip=True)
    assert torch.equal(transform(image, Scripted([0.1, 0.9])), plain.flip(-1))
    assert torch.equal(transform(image, Scripted([0.9, 0.1])), plain.flip(-2))
    assert torch.equal(transform(image, Scripted([0.1, 0.1])), plain.flip(-1, -2))


# --- the stream of draws


@pytest.mark.parametrize("resize", ["crop", "stretch"])
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, 0),
        ({"random_crop": True}, 2),
        ({"random_horizontal_flip": True}, 1),
        ({"random_crop": True, "random_vertical_flip": True}, 3),
        (AUGMENT, 4),
    ],
)
def test_the_number_of_draws_depends_on_the_configuration_alone(
    resize: Resize, flags: dict[str, Any], expected: int
) -> None:
    for size in ((1, 1), (64, 64), (300, 2)):
        for draw in (0.1, 0.9):
            rng = Scripted([draw] * 10)
            ImageTransform(8, resize=resize, **flags)(noise(*size), rng)
            assert rng.count == expected


def test_equal_seeds_give_equal_tensors_whatever_the_global_generators_hold() -> None:
    image, transform = noise(70, 50), ImageTransform(24, **AUGMENT)
    outputs = []
    for state in (1, 2):
        random.seed(state)
        np.random.seed(state)
        torch.manual_seed(state)
        before = (random.getstate(), torch.get_rng_state())
        outputs.append(transform(image, random.Random(11)))
        assert random.getstate() == before[0]
        assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], transform(image, random.Random(12)))


def test_a_pickled_transform_is_the_same() -> None:
    image, transform = noise(70, 50), ImageTransform(24, **AUGMENT)
    again = pickle.loads(pickle.dumps(transform))
    assert again == transform
    assert torch.equal(again(image, random.Random(4)), transform(image, random.Random(4)))


def test_the_stream_never_changes() -> None:
    """A resumed run must augment as the run did that was stopped, perhaps by an earlier version of this package."""
    transform = ImageTransform(16, **AUGMENT)
    boxes = [transform.source_box((37, 23), random.Random(seed)) for seed in (0, 1)]
    assert boxes == GOLDEN_BOXES
    y, x, channel = np.mgrid[0:23, 0:37, 0:3]
    image = Image.fromarray(((7 * x + 13 * y + 50 * channel) % 256).astype(np.uint8))
    tensors = [transform(image, random.Random(seed)) for seed in range(4)]
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()
    assert digest == GOLDEN_DIGEST


# --- every size


@settings(deadline=None, max_examples=200)
@given(
    width=st.integers(1, 20000),
    height=st.integers(1, 20000),
    crop_ratio=st.floats(0.01, 1.0),
    resize=st.sampled_from(["crop", "stretch"]),
    x=st.floats(0, 1, exclude_max=True),
    y=st.floats(0, 1, exclude_max=True),
    training=st.booleans(),
)
def test_the_box_lies_within_the_image(
    width: int, height: int, crop_ratio: float, resize: Resize, x: float, y: float, training: bool
) -> None:
    transform = ImageTransform(8, resize=resize, crop_ratio=crop_ratio, random_crop=True)
    left, top, right, bottom = transform.source_box((width, height), Scripted([x, y]) if training else None)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    if resize == "crop":
        assert right - left == pytest.approx(crop_ratio * min(width, height), abs=1e-9)
        assert bottom - top == pytest.approx(right - left, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    size=st.sampled_from([(1, 1), (1, 2), (3000, 1), (1, 3000), (2, 700)])
    | st.tuples(st.integers(1, 60), st.integers(1, 60)),
    image_size=st.integers(1, 40),
    crop_ratio=st.floats(0.01, 1.0),
    resize=st.sampled_from(["crop", "stretch"]),
    mode=st.sampled_from(["RGB", "L"]),
    seed=st.none() | st.integers(0, 1000),
)
def test_every_size_gives_the_same_shape(
    size: tuple[int, int], image_size: int, crop_ratio: float, resize: Resize, mode: Any, seed: int | None
) -> None:
    transform = ImageTransform(image_size, mode, resize=resize, crop_ratio=crop_ratio, **AUGMENT)
    pixels = transform(noise(*size, mode), None if seed is None else random.Random(seed))
    assert pixels.shape == (3 if mode == "RGB" else 1, image_size, image_size)
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()


def test_a_flat_image_stays_flat() -> None:
    for size in ((1, 1), (2, 999), (640, 480)):
        pixels = ImageTransform(12, **AUGMENT)(Image.new("RGB", size, (10, 200, 30)), random.Random(2))
        assert pixels.flatten(1).unique(dim=1).tolist() == [[10], [200], [30]]


# --- what the decoder may reduce to, and misuse


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 256),
        ({"crop_ratio": 1.0}, 224),
        ({"crop_ratio": 0.3}, 747),
        ({"resize": "stretch"}, 224),
        ({"resize": "stretch", "random_crop": True}, 256),
    ],
)
def test_min_side_leaves_the_crop_at_least_as_large_as_the_output(options: dict[str, Any], expected: int) -> None:
    transform = ImageTransform(224, **options)
    assert transform.min_side == expected
    left, _, right, _ = transform.source_box((expected, expected), random.Random(0))
    assert right - left >= 224 - 1e-9


@pytest.mark.parametrize("options", [{"image_size": 0}, {"crop_ratio": 0.0}, {"crop_ratio": 1.1}])
def test_sizes_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ImageTransform(**({"image_size": 8} | options))


def test_an_image_of_another_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mode L where RGB"):
        ImageTransform(8)(noise(9, 9, "L"), None)
