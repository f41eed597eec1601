"""Augmentation and mixing as configured: what is built and refused, and that no cut and no worker changes a bit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs  # noqa: F401  (registers the callback stop_at)
import torch
from images import Scripted, noise, paint_classes
from PIL import Image
from torch import nn

import mltrain
from mltrain.config.load import check_config
from mltrain.core.errors import ConfigError
from mltrain.data.automatic_augmentation import RandAugment, TrivialAugment
from mltrain.data.color_augmentations import ColorJitter
from mltrain.data.geometric_augmentations import RandomAffine, RandomResizedCrop, RandomRotation
from mltrain.data.loader import EvaluationLoader, LoaderSettings, TrainingStream
from mltrain.data.mixing import Mixing
from mltrain.data.plan import Cut, OrderedPlan, Position, ShuffledPlan
from mltrain.data.random_erasing import RandomErasing
from mltrain.tasks.base import task_config_class
from mltrain.tasks.image_classification import ImageClassification
from mltrain.tasks.image_pipeline import ImagePipeline
from mltrain.workflows.checks import check_training

CLASSES = ["blue", "green", "red"]
EVERYTHING: dict[str, Any] = {
    "random_resized_crop": {"scale": [0.4, 1.0]},
    "random_horizontal_flip": True,
    "trivial_augment": True,
    "color_jitter": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05},
    "random_affine": {"degrees": 10, "translate": [0.1, 0.1], "scale": [0.9, 1.1], "shear": 5},
    "random_erasing": {"probability": 0.5, "fill": "random"},
    "mixup": {},
    "cutmix": {},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of images, split; the training split has 17, so that the last one has no partner."""
    folder = tmp_path_factory.mktemp("data") / "colours"
    paint_classes(folder, CLASSES, 11)
    (folder / "raw" / "red" / "00.png").unlink()
    mltrain.split_folder(folder / "raw", folds=3, test_ratio=0.2)
    return folder


def settings(data: Path, train: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": "image_classification",
        "data": {"data_dir": str(data), "image_size": 8, "num_workers": 0, "transforms": {"train": train}},
        "model": {"architecture": "tiny_net"},
        "training": {"num_epochs": 1, "batch_size": 4, "label_smoothing": 0.1},
        "tracking": {"mlflow": {"enabled": False}, "log_every_n_steps": 1},
        "reproducibility": {"num_threads": 1},
    }


def task_of(data: Path, train: dict[str, Any], overrides: dict[str, Any] | None = None) -> ImageClassification:
    return ImageClassification(check_config(settings(data, train), overrides or {}, task_config_class).config)


def batches(
    task: ImageClassification, *, batch: int, processes: int = 1, workers: int = 0, epochs: int = 1
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the microbatches of all processes, of windows of eight samples."""
    dataset = task.datasets()["train"]
    plan = ShuffledPlan(len(dataset), 8, seed=5)
    streams = [
        TrainingStream(
            dataset,
            task.collate,
            plan,
            Cut(rank, processes, batch, task.group_size),
            seed=5,
            settings=LoaderSettings(num_workers=workers),
            start=Position(),
            num_epochs=epochs,
        )
        for rank in range(processes)
    ]
    for _ in range(epochs * plan.windows_per_epoch):
        for stream in streams:
            (window,) = stream.windows(1)
            found = list(window.batches)
            yield from [] if window.num_own == 0 else found
    for stream in streams:
        stream.close()


def joined(parts: Iterator[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    found = list(parts)
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- from keys to augmentations


def test_keys_become_augmentations_in_the_order_of_application(data: Path) -> None:
    train = {
        "random_resized_crop": {"scale": [0.35, 1.0], "ratio": [0.75, 1.333]},
        "random_vertical_flip": True,
        "rand_augment": {"num_ops": 1, "magnitude": 12, "fill": 3},
        "color_jitter": {"hue": 0.1},
        "random_rotation": {"degrees": 15},
        "random_erasing": {"fill": 9},
        "cutmix": {"alpha": 0.5},
    }
    pipeline = task_of(data, train).pipeline
    transform = pipeline.transform
    assert transform.random_resized_crop == RandomResizedCrop((0.35, 1.0), (0.75, 1.333))
    assert (transform.random_crop, transform.random_horizontal_flip, transform.random_vertical_flip) == (0, 0, 1)
    assert transform.augmentations == (RandAugment(1, 12, 3), ColorJitter(hue=0.1), RandomRotation(15))
    assert transform.random_erasing == RandomErasing(fill=(9, 9, 9))
    assert pipeline.mixing == Mixing(8, cutmix_alpha=0.5)
    others = task_of(data, {"trivial_augment": True, "random_affine": {"shear": 4}, "mixup": {}}).pipeline
    assert others.transform.augmentations == (TrivialAugment(), RandomAffine(shear=4))
    assert others.mixing == Mixing(8, mixup_alpha=0.2)


def test_the_order_is_crop_mirror_policy_colour_rotation_erasing(data: Path) -> None:
    train = {
        "random_resized_crop": {},
        "random_horizontal_flip": True,
        "rand_augment": {"num_ops": 1},
        "color_jitter": {"brightness": 0.5},
        "random_rotation": {"degrees": 40},
        "random_erasing": {"probability": 1.0, "fill": 1},
    }
    transform = task_of(data, train).pipeline.transform
    draws = [[0.3, 0.4, 0.5, 0.6], [0.2], [0.5, 0.1], [0.7], [0.9], [0.5, 0.5, 0.5, 0.3, 0.6, 0.5]]
    image = noise(20, 30)
    rng = Scripted(*itertools.chain(*draws))
    pixels = transform(image, rng)
    assert rng.left == 0
    box = transform.random_resized_crop.box(image.size, Scripted(*draws[0]))  # type: ignore[union-attr]
    by_hand = image.resize((8, 8), Image.Resampling.BILINEAR, box=box).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for augmentation, given in zip(transform.augmentations, draws[2:5], strict=True):
        by_hand = augmentation(by_hand, Scripted(*given))
    plain = ImagePipeline.from_json(task_of(data, {}).pipeline.to_json()).transform
    tensor = torch.from_numpy(np.array(by_hand)).permute(2, 0, 1).clone()
    expected = transform.random_erasing(tensor, Scripted(*draws[5]))  # type: ignore[misc]
    assert torch.equal(pixels, expected)
    assert torch.equal(transform(image, None), plain(image, None))


@pytest.mark.parametrize(
    ("fill", "mode", "expected"),
    [("mean", "RGB", (124, 116, 104)), ("mean", "L", (114,)), ("random", "L", None), (40, "RGB", (40, 40, 40))],
)
def test_what_erasing_paints(data: Path, fill: Any, mode: str, expected: Any) -> None:
    task = task_of(data, {"random_erasing": {"fill": fill}}, {"data.image_mode": mode})
    assert task.pipeline.transform.random_erasing == RandomErasing(fill=expected)


@pytest.mark.parametrize(
    ("train", "line"),
    [
        (
            {"random_crop": True, "random_resized_crop": {}},
            "random_crop: stands beside random_resized_crop. Keep one of them.",
        ),
        ({"trivial_augment": True, "rand_augment": {}}, "trivial_augment: stands beside rand_augment."),
        (
            {"random_rotation": {"degrees": 3}, "random_affine": {"shear": 4}},
            "random_rotation: stands beside random_af",
        ),
        ({"color_jitter": {}}, "color_jitter: changes nothing. Give brightness"),
        ({"random_affine": {"scale": [1.2, 0.8]}}, "random_affine.scale: 1.2 is above 0.8. Write [0.8, 1.2]."),
        ({"random_erasing": {"fill": "green"}}, "random_erasing.fill: must be 'mean', 'random'"),
        ({"random_rotation": {}}, "random_rotation.degrees: is missing. Add it: The greatest angle"),
        ({"random_resized_crop": {"scale": [0.5]}}, "random_resized_crop.scale: must be a list of 2 entries"),
        ({"rand_augment": {"magnitude": 31}}, "rand_augment.magnitude: must be a whole number, at least 0"),
        ({"mixup": {"alpha": 0}}, "mixup.alpha: must be a number, above 0, is 0."),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_one_line(data: Path, train: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        task_of(data, train)
    (problem,) = caught.value.problems
    assert f"data.transforms.train.{line}" in problem


def test_grey_images_take_everything_but_colours(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.color_jitter: saturation and hue mean nothing for grey images"):
        task_of(data, EVERYTHING, {"data.image_mode": "L"})
    grey = {**EVERYTHING, "color_jitter": {"brightness": 0.3, "contrast": 0.3}}
    batch = next(batches(task_of(data, grey, {"data.image_mode": "L"}), batch=8))
    assert batch["pixels"].shape == (8, 1, 8, 8)


def test_packages_hold_what_evaluation_needs(data: Path) -> None:
    pipeline = task_of(data, {**EVERYTHING, "random_affine": {"shear": 4}}).pipeline
    packed = pipeline.to_json()
    assert packed["transform"] == {
        "image_size": 8, "mode": "RGB", "resize": "crop", "crop_ratio": 0.875, "random_crop": False,
    }  # fmt: skip
    again = ImagePipeline.from_json(packed)
    assert again.to_json() == packed
    assert again.transform.min_side == pipeline.transform.min_side
    older = {**packed, "transform": {**packed["transform"], "random_horizontal_flip": True}}
    assert torch.equal(
        ImagePipeline.from_json(older).transform(noise(20, 30), None), pipeline.transform(noise(20, 30), None)
    )


# --- the same bits


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(data: Path, workers: int) -> None:
    task = task_of(data, EVERYTHING)
    one = joined(batches(task, batch=4, epochs=2))
    assert same(one, joined(batches(task, batch=4, workers=workers, epochs=2)))


@pytest.mark.parametrize("name", sorted({*EVERYTHING, "rand_augment", "random_rotation"} - {"random_horizontal_flip"}))
def test_each_augmentation_changes_samples_and_not_with_workers(data: Path, name: str) -> None:
    given = {"rand_augment": {"magnitude": 20}, "random_rotation": {"degrees": 30}, **EVERYTHING}[name]
    task = task_of(data, {name: given})
    mine, plain = joined(batches(task, batch=4)), joined(batches(task_of(data, {}), batch=4))
    assert same(mine, joined(batches(task, batch=4, workers=2)))
    assert torch.equal(mine["labels"], plain["labels"])
    assert (mine["pixels"] != plain["pixels"]).any(dim=(1, 2, 3)).float().mean() > 0.3


@pytest.mark.parametrize(("batch", "processes"), [(2, 1), (8, 1), (2, 2), (4, 2)])
def test_cuts_change_nothing(data: Path, batch: int, processes: int) -> None:
    task = task_of(data, EVERYTHING)
    assert same(joined(batches(task, batch=batch, processes=processes)), joined(batches(task, batch=4)))


# --- mixing


def test_a_batch_says_what_each_image_took_in(data: Path) -> None:
    task, plain_task = task_of(data, {"mixup": {}}), task_of(data, {})
    for mixed, plain in zip(batches(task, batch=8), batches(plain_task, batch=8), strict=True):
        count = len(plain["labels"])
        partners = [index ^ 1 if (index ^ 1) < count else index for index in range(count)]
        assert torch.equal(mixed["labels"], plain["labels"])
        assert torch.equal(mixed["partner_labels"], plain["labels"][partners])
        shares = mixed["own_shares"].view(-1, 1, 1, 1)
        expected = shares * plain["pixels"] + (1 - shares) * plain["pixels"][partners]
        assert (mixed["pixels"] - expected).abs().max() <= 0.5 + 1e-4
        assert all(share == 1 for index, share in enumerate(mixed["own_shares"]) if partners[index] == index)


def test_evaluation_is_never_mixed(data: Path) -> None:
    mixed, plain = (task_of(data, train) for train in (EVERYTHING, {}))
    for split in ("train", "val", "test"):
        ours, theirs = (
            list(
                EvaluationLoader(
                    task.datasets()[split],
                    task.collate,
                    OrderedPlan(len(task.datasets()[split]), 5),
                    Cut(0, 1, 5),
                    settings=LoaderSettings(),
                )
            )
            for task in (mixed, plain)
        )
        assert all(same(one, other) for (one, _), (other, _) in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_cross_entropy_with_soft_targets(data: Path, smoothing: float) -> None:
    task = task_of(data, EVERYTHING, {"training.label_smoothing": smoothing})
    model = task.build_model().double()
    batch = next(batches(task, batch=8))
    logits = model(task.pipeline.normalization.apply(batch["pixels"]).double())
    targets = torch.zeros(8, 3, dtype=torch.float64)
    for row, (label, partner, share) in enumerate(
        zip(batch["labels"], batch["partner_labels"], batch["own_shares"].double(), strict=True)
    ):
        targets[row, label] += share
        targets[row, partner] += 1 - share
    targets = (1 - smoothing) * targets + smoothing / 3
    by_hand = -(targets * logits.log_softmax(dim=1)).sum(dim=1)
    losses = task.losses(_Double(model), batch)
    torch.testing.assert_close(losses.values.double(), by_hand, rtol=1e-5, atol=1e-6)
    assert (batch["labels"] != batch["partner_labels"]).any()
    for index in range(8):
        alone = {name: tensor[index : index + 1] for name, tensor in batch.items()}
        torch.testing.assert_close(task.losses(_Double(model), alone).values[0], losses.values[index])


class _Double(nn.Module):
    """Computes in double precision."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> Any:
        return self.model(pixels.double())


def test_the_gradient_of_a_window_does_not_depend_on_its_cut(data: Path) -> None:
    task = task_of(data, EVERYTHING)
    torch.manual_seed(0)
    model = _Double(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double())

    def gradients(batch: int, processes: int) -> list[torch.Tensor]:
        found = []
        parts = batches(task, batch=batch, processes=processes)
        for count in (8, 8, 1):
            model.zero_grad()
            seen = 0
            while seen < count:
                part = next(parts)
                seen += len(part["labels"])
                (task.losses(model, part).values.sum() / count).backward()
            found.append(torch.cat([parameter.grad.flatten().clone() for parameter in model.parameters()]))
        return found

    reference = gradients(8, 1)
    for batch, processes in [(2, 1), (4, 1), (2, 2), (4, 2)]:
        for mine, expected in zip(gradients(batch, processes), reference, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-7)


def test_an_odd_batch_is_refused_before_compute(data: Path) -> None:
    task = task_of(data, {"mixup": {}}, {"training.batch_size": 7})
    with pytest.raises(ConfigError) as caught:
        check_training(task.config, task)
    assert str(caught.value) == (
        "training.batch_size: is 7, but samples are combined in groups of 2. Use a multiple of 2."
    )
    check_training(task_of(data, {"trivial_augment": True}, {"training.batch_size": 7}).config, task_of(data, {}))


# --- whole runs


@pytest.mark.slow
def test_a_run_stopped_in_mid_epoch_continues_to_the_same_bits(data: Path) -> None:
    config = settings(data, EVERYTHING)
    straight = mltrain.train(config, {"run.name": "straight"})
    stopped = mltrain.train(config, {"run.name": "stopped", "callbacks": {"stop_at": {"step": 3}}})
    assert stopped.summary["status"] == "interrupted"
    resumed = mltrain.train(None, {"callbacks": {}, "data.num_workers": 2}, resume=stopped.folder)
    assert resumed.summary["status"] == "completed"
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
