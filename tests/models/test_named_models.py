"""Every model by name: learns eight images, is saved, loads and predicts the same; and what a name may be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import mltrain
from mltrain.config.load import check_config
from mltrain.core.errors import ConfigError
from mltrain.models.registry import build_image_model, logits_of, published_weights
from mltrain.tasks.base import task_config_class
from mltrain.tasks.image_classification import ImageClassification, predicted_classes
from mltrain.tasks.package import save_model

# Parameters with 1000 classes, as the published checkpoints have them.
MODELS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "mobilenet_v2": 3_504_872,
    "efficientnet_b0": 5_288_548,
    "vit_tiny": 5_717_416,
    "vit_small": 22_050_664,
    "vit_base": 86_567_656,
    "convnextv2_atto": 3_708_400,
    "convnextv2_nano": 15_623_800,
    "convnextv2_tiny": 28_635_496,
}
HEAVY = ("resnet34", "resnet50", "vit_small", "vit_base", "convnextv2_tiny")
MARKED = [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in MODELS]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six noise images, split so that eight of them are for training and validation."""
    folder = tmp_path_factory.mktemp("data") / "noise"
    for label, name in enumerate(("one", "two")):
        for number in range(6):
            pixels = np.random.default_rng(10 * label + number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            path = folder / "raw" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    mltrain.split_folder(folder / "raw", folds=2, test_ratio=0.34)
    return folder


def task_of(images: Path, architecture: str, overrides: dict[str, Any] | None = None) -> ImageClassification:
    content = {
        "task": "image_classification",
        "data": {"data_dir": str(images), "image_size": 32, "num_workers": 0},
        "model": {"architecture": architecture},
    }
    return ImageClassification(check_config(content, overrides or {}, task_config_class).config)


def eight(task: ImageClassification, images: Path) -> tuple[dict[str, torch.Tensor], list[Path]]:
    """Return the images for training and validation as one batch, and their files."""
    splits = task.datasets()
    items = [(splits[name], index) for name in ("train", "val") for index in range(len(splits[name]))]
    batch = task.collate([split.load(index, None) for split, index in items])
    return batch, [images / split.sample_id(index) for split, index in items]


@pytest.mark.parametrize("name", MARKED)
def test_eight_images_are_learned_saved_loaded_and_predicted_alike(name: str, images: Path, tmp_path: Path) -> None:
    task = task_of(images, name)
    batch, paths = eight(task, images)
    assert len(paths) == 8
    torch.manual_seed(0)
    model = task.build_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4 if name.startswith("vit") else 1e-3)
    for _ in range(60):
        loss = task.losses(model, batch).values.mean()
        if loss < 0.01:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01

    _settle_statistics(task, model, batch)
    with torch.inference_mode():
        evaluated = task.losses(model.eval(), batch)
    assert (evaluated.outputs.argmax(dim=1) == batch["labels"]).all()

    digest = save_model(tmp_path / "model", "image_classification", task, model)
    packed = mltrain.load_model(tmp_path / "model")
    assert packed.facts["model_digest"] == digest
    assert packed.predict(paths) == predicted_classes(evaluated.outputs, task.classes)


def _settle_statistics(task: ImageClassification, model: nn.Module, batch: dict[str, torch.Tensor]) -> None:
    """Make running statistics those of the final weights. Each image four times: a variance of 8 is biased by 1/7."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    for dropout in dropouts:
        dropout.eval()
    with torch.no_grad():
        task.losses(model, {key: torch.cat([tensor] * 4) for key, tensor in batch.items()})
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_parameters_of_the_published_one(name: str) -> None:
    with torch.device("meta"):
        model = build_image_model(name, num_classes=1000, channels=3, image_size=224, options={})
    assert sum(parameter.numel() for parameter in model.parameters()) == MODELS[name]
    assert "/" in published_weights(name)


def test_the_features_of_efficientnet_tell_images_apart_from_the_start() -> None:
    """With the scales of its norms drawn from N(0, 0.02), all features were below 1e-30."""
    torch.manual_seed(0)
    model: Any = build_image_model("efficientnet_b0", num_classes=2, channels=3, image_size=32, options={})
    features = model.efficientnet(torch.randn(4, 3, 32, 32)).pooler_output.flatten(1)
    assert features.std(dim=0).mean() > 0.1
    features.sum().backward()
    assert model.efficientnet.embeddings.convolution.weight.grad.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v2"])
def test_running_statistics_are_an_average_over_batches(name: str) -> None:
    model = build_image_model(name, num_classes=2, channels=3, image_size=32, options={})
    momenta = {module.momentum for module in model.modules() if isinstance(module, _BatchNorm)}
    assert momenta == {0.1}


def test_a_given_momentum_is_kept() -> None:
    options = {"batch_norm_momentum": 0.9}
    model = build_image_model("efficientnet_b0", num_classes=2, channels=3, image_size=32, options=options)
    assert 0.9 in {module.momentum for module in model.modules() if isinstance(module, _BatchNorm)}


def test_options_are_those_of_the_configuration() -> None:
    options = {"patch_size": 8, "num_hidden_layers": 2, "hidden_dropout_prob": 0.5}
    model: Any = build_image_model("vit_tiny", num_classes=2, channels=1, image_size=32, options=options)
    assert (model.config.patch_size, model.config.num_hidden_layers, model.config.image_size) == (8, 2, 32)
    assert model.config.hidden_dropout_prob == 0.5
    assert logits_of(model(torch.randn(2, 1, 32, 32))).shape == (2, 2)


@pytest.mark.parametrize(
    ("name", "size", "options", "told"),
    [
        ("vit_tiny", 30, {}, r"data\.image_size: is 30, which patches of 16 pixels do not fill\. Set it to a multiple"),
        ("vit_tiny", 32, {"patchsize": 8}, r"vit_tiny has no option 'patchsize'\. Did you mean patch_size\?"),
        ("convnextv2_atto", 32, {"drop_path": 0.1}, r"Did you mean drop_path_rate\?"),
        ("vit_tiny", 32, {"image_size": 64}, r"vit_tiny has no option 'image_size'"),
        ("vit_tiny", 32, {"hidden_size": "wide"}, r"model\.options: vit_tiny cannot be built .*hidden_size"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(name: str, size: int, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        build_image_model(name, num_classes=2, channels=3, image_size=size, options=options)
    assert "\n" not in str(caught.value)


def test_images_too_small_are_told_before_any_is_read() -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=r"images of 3 x 8 x 8 do not go through the model"):
        build_image_model("convnextv2_atto", num_classes=2, channels=3, image_size=8, options={})


# ---- folders, the hub and timm --------------------------------------------------------------------------------------

SMALL_VIT = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 2}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder that transformers wrote: a small ViT of 5 classes for images of 16 pixels."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(7)
    config = ViTConfig(**SMALL_VIT, image_size=16, patch_size=8, num_labels=5)
    ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def test_a_folder_of_save_pretrained_is_a_model(saved: Path, images: Path, tmp_path: Path) -> None:
    task = task_of(images, str(saved), {"model.weights": "DEFAULT"})
    torch.manual_seed(0)
    model: Any = task.build_model()
    assert (model.config.hidden_size, model.config.num_labels, model.config.image_size) == (32, 2, 32)

    save_model(tmp_path / "model", "image_classification", task, model)
    saved.rename(tmp_path / "gone")
    batch, paths = eight(task, images)
    with torch.inference_mode():
        outputs = task.losses(model.eval(), batch).outputs
    packed = mltrain.load_model(tmp_path / "model")
    assert packed.predict(paths) == predicted_classes(outputs, task.classes)
    assert packed.facts["initial_weights"]["source"] == "vit"
    assert str(tmp_path) not in (tmp_path / "model" / "mltrain.json").read_text()


def test_a_packed_model_is_a_model_too(images: Path, tmp_path: Path) -> None:
    task = task_of(images, "vit_tiny", {"model.options": SMALL_VIT})
    model = task.build_model()
    (tmp_path / "run").mkdir()
    save_model(tmp_path / "run" / "model", "image_classification", task, model)
    again = task_of(images, str(tmp_path / "run"), {"model.weights": "DEFAULT"}).build_model()
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


def test_a_folder_without_a_configuration_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"model\.architecture: .*empty has no config\.json\. Name a folder"):
        build_image_model(str(tmp_path / "empty"), num_classes=2, channels=3, image_size=32, options={})


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", r"config\.json: cannot be read"), ('{"model_type": "bert"}', "no image classifier of type 'bert'")],
)
def test_a_configuration_of_no_image_classifier_is_told(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=told):
        build_image_model(str(tmp_path), num_classes=2, channels=3, image_size=32, options={})


def test_a_hub_name_without_a_network_is_told_with_what_to_do() -> None:
    with pytest.raises(
        ConfigError, match=r"run `hf download google/vit-base-patch16-224 --local-dir FOLDER`"
    ) as caught:
        build_image_model("google/vit-base-patch16-224", num_classes=2, channels=3, image_size=32, options={})
    assert "\n" not in str(caught.value)


TIMM = """
from types import SimpleNamespace

import torch


def get_pretrained_cfg(name):
    if name == "unknown":
        raise RuntimeError("Unknown model (unknown)")
    return SimpleNamespace(hf_hub_id=f"timm/{name}", fixed_input_size=name.startswith("vit"))


def create_model(name, pretrained=False, num_classes=1000, in_chans=3, img_size=None, drop_rate=0.0):
    assert not pretrained
    features = torch.nn.Conv2d(in_chans, 4, 3)
    model = torch.nn.Sequential(features, torch.nn.Flatten(), torch.nn.LazyLinear(num_classes))
    model(torch.zeros(1, in_chans, img_size or 32, img_size or 32))
    model.drop_rate = drop_rate
    return model
"""


@pytest.fixture
def timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that stands in for timm, with the functions of its interface that are used."""
    (tmp_path / "stand_in").mkdir()
    (tmp_path / "stand_in" / "timm.py").write_text(TIMM)
    monkeypatch.syspath_prepend(str(tmp_path / "stand_in"))
    monkeypatch.delitem(sys.modules, "timm", raising=False)


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("name", ["timm/resnet10", "timm/vit_small"])
def test_a_model_of_timm_is_built_with_classes_channels_and_size(name: str) -> None:
    model: Any = build_image_model(name, num_classes=2, channels=1, image_size=32, options={"drop_rate": 0.5})
    assert model(torch.zeros(3, 1, 32, 32)).shape == (3, 2)
    assert model.drop_rate == 0.5
    assert published_weights(name) == name


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(("name", "option"), [("timm/unknown", {}), ("timm/resnet10", {"drop_rat": 0.5})])
def test_what_timm_refuses_is_told_in_one_line(name: str, option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"{name} cannot be built \(.+\)"):
        build_image_model(name, num_classes=2, channels=1, image_size=32, options=option)


def test_timm_is_asked_for_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"timm/resnet10 needs timm, which cannot be imported .*match torch"):
        build_image_model("timm/resnet10", num_classes=2, channels=3, image_size=32, options={})
