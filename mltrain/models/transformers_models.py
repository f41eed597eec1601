"""Image classifiers from transformers' configurations: by name, from a folder, or from the hub. No code is fetched.

ResNet (He et al. 2015), MobileNetV2 (Sandler et al. 2018), EfficientNet (Tan and Le 2019), ViT (Dosovitskiy et al.
2020), ConvNeXt V2 (Woo et al. 2023).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mltrain.core.errors import ConfigError, one_line
from mltrain.models.pretrained_configs import config_elsewhere, without_checkpoint
from mltrain.models.registry import register_image_model

__all__ = ["TransformersModel", "named_elsewhere"]

_GIVEN = ("num_channels", "image_size")


class TransformersModel:
    """Builds the classifier of a configuration; its options are the arguments of transformers' configuration class.

    Args:
        values: the configuration: `model_type`, and what differs from the defaults of its class.
        published: hub name or folder of the weights that DEFAULT takes.

    Raises:
        ConfigError: transformers has no image classifier of this type.
    """

    def __init__(self, values: Mapping[str, Any], *, published: str | None = None) -> None:
        self._values = without_checkpoint(values)
        self.published = published

    @property
    def __signature__(self) -> inspect.Signature:
        """The options, as `inspect.signature` finds them."""
        from transformers import PreTrainedConfig

        general = inspect.signature(PreTrainedConfig).parameters
        parameters = inspect.signature(self._config_class()).parameters
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in parameters.items()
            if name not in (*general, *_GIVEN)
            and not name.startswith("_")
            and parameter.kind is not parameter.VAR_KEYWORD
        ]
        return inspect.Signature(own)

    def __call__(self, num_classes: int, channels: int, image_size: int, **options: Any) -> nn.Module:
        """Return the classifier with fresh weights."""
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoModelForImageClassification

        kind = self._config_class()
        known = inspect.signature(kind).parameters
        given = {"num_channels": channels, "image_size": image_size}
        arguments = {**self._values, **{name: value for name, value in given.items() if name in known}, **options}
        try:
            config = kind.from_dict({**arguments, "num_labels": num_classes})
        except StrictDataclassError as error:
            raise ValueError(one_line(error)) from error
        _check_patches(config, image_size)
        model: nn.Module = AutoModelForImageClassification.from_config(config)
        _mend_batch_norms(model, keep_momentum="batch_norm_momentum" in options)
        if next(model.parameters()).is_meta:
            _check_forward(model, num_classes=num_classes, channels=channels, image_size=image_size)
        return model

    def _config_class(self) -> Any:
        from transformers import CONFIG_MAPPING, MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

        model_type = self._values.get("model_type")
        if model_type not in CONFIG_MAPPING or CONFIG_MAPPING[model_type] not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
            raise ConfigError(
                f"transformers has no image classifier of type {model_type!r}",
                where="model.architecture",
                fix="Name another model, or update transformers.",
            )
        return CONFIG_MAPPING[model_type]


def named_elsewhere(name: str) -> TransformersModel | None:
    """Return the model of a folder that `save_pretrained` wrote, or of a hub name; None: it is neither.

    Raises:
        ConfigError: the folder has no configuration, or the hub's cannot be had.
    """
    found = config_elsewhere(name)
    return None if found is None else TransformersModel(found[0], published=found[1])


def _check_patches(config: Any, image_size: int) -> None:
    patch = getattr(config, "patch_size", None)
    sides = patch if isinstance(patch, list | tuple) else [patch]
    if any(isinstance(side, int) and image_size % side for side in sides):
        raise ConfigError(
            f"is {image_size}, which patches of {patch} pixels do not fill",
            where="data.image_size",
            fix=f"Set it to a multiple of {patch}, or set model.options.patch_size.",
        )


def _mend_batch_norms(model: nn.Module, *, keep_momentum: bool) -> None:
    """Mend two things that keep a network from being trained from the start.

    transformers draws the scales of EfficientNet's batch norms from N(0, 0.02) as if they were weights. Three in each
    of 16 blocks make the features vanish (1e-32 after the last block of B0, gradient of the stem exactly 0), and the
    loss stays where it was. A scale starts at 1.

    TensorFlow's momentum is the share of the old statistics, torch's that of the new batch. 0.99 (EfficientNet) and
    0.997 (MobileNet) were carried over as they are, so that evaluation uses the statistics of the last batch alone.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            if getattr(model.config, "model_type", None) == "efficientnet":
                module.reset_parameters()
            if module.momentum is not None and module.momentum > 0.5 and not keep_momentum:
                module.momentum = 0.1


def _check_forward(model: nn.Module, *, num_classes: int, channels: int, image_size: int) -> None:
    """Raise ConfigError where images of this size cannot go through the model. Costs no memory."""
    model.eval()
    size = f"{channels} x {image_size} x {image_size}"
    try:
        logits = model(torch.empty(2, channels, image_size, image_size, device="meta")).logits
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"images of {size} do not go through the model ({one_line(error)[:160]})",
            where="data.image_size",
            fix="Set another size, or change model.options.",
        ) from error
    finally:
        model.train()
    assert logits.shape == (2, num_classes)


_VIT = {"model_type": "vit", "num_hidden_layers": 12, "patch_size": 16}
_BASIC = {"model_type": "resnet", "embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"}

# name -> (configuration, hub name of the published weights)
_MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "resnet18": ({**_BASIC, "depths": [2, 2, 2, 2]}, "microsoft/resnet-18"),
    "resnet34": ({**_BASIC, "depths": [3, 4, 6, 3]}, "microsoft/resnet-34"),
    "resnet50": (
        {"model_type": "resnet", "embedding_size": 64, "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3],
         "layer_type": "bottleneck"},
        "microsoft/resnet-50",
    ),
    # transformers' default of 0.8 is TensorFlow's share that is kept, not dropped.
    "mobilenet_v2": ({"model_type": "mobilenet_v2", "classifier_dropout_prob": 0.2}, "google/mobilenet_v2_1.0_224"),
    "efficientnet_b0": (
        {"model_type": "efficientnet", "width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280,
         "dropout_rate": 0.2},
        # Its main branch has a pickle only; safetensors are in this revision.
        "google/efficientnet-b0@refs/pr/3",
    ),
    "vit_tiny": (
        {**_VIT, "hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
        "WinKawaks/vit-tiny-patch16-224",
    ),
    "vit_small": (
        {**_VIT, "hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
        "WinKawaks/vit-small-patch16-224",
    ),
    "vit_base": (
        {**_VIT, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
        "google/vit-base-patch16-224",
    ),
    "convnextv2_atto": (
        {"model_type": "convnextv2", "depths": [2, 2, 6, 2], "hidden_sizes": [40, 80, 160, 320]},
        "facebook/convnextv2-atto-1k-224",
    ),
    "convnextv2_nano": (
        {"model_type": "convnextv2", "depths": [2, 2, 8, 2], "hidden_sizes": [80, 160, 320, 640]},
        "facebook/convnextv2-nano-1k-224",
    ),
    "convnextv2_tiny": (
        {"model_type": "convnextv2", "depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768]},
        "facebook/convnextv2-tiny-1k-224",
    ),
}  # fmt: skip

for _name, (_values, _published) in _MODELS.items():
    register_image_model(_name)(TransformersModel(_values, published=_published))
