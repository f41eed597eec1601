"""Image models by name, and building one with arguments that are checked."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from mltrain.core.errors import ConfigError
from mltrain.core.registry import Registry
from mltrain.models.building import build_with_options, published_by

__all__ = [
    "IMAGE_MODELS",
    "build_image_model",
    "logits_of",
    "published_weights",
    "refuse_elsewhere",
    "register_image_model",
]

Builder = Callable[..., nn.Module]
"""(num_classes, channels, image_size, **options) -> module that maps float pixels (B, C, H, W) to logits.

A builder may have an attribute `published`: the hub name of the weights that were published for it.
"""

_TRANSFORMERS = "mltrain.models.transformers_models"
IMAGE_MODELS: Registry[Builder] = Registry(
    "image model",
    builtin={
        "convnextv2_atto": _TRANSFORMERS,
        "convnextv2_nano": _TRANSFORMERS,
        "convnextv2_tiny": _TRANSFORMERS,
        "efficientnet_b0": _TRANSFORMERS,
        "mlp": "mltrain.models.small_networks",
        "mobilenet_v2": _TRANSFORMERS,
        "resnet18": _TRANSFORMERS,
        "resnet34": _TRANSFORMERS,
        "resnet50": _TRANSFORMERS,
        "simple_cnn": "mltrain.models.small_networks",
        "tiny_net": "mltrain.models.small_networks",
        "vit_base": _TRANSFORMERS,
        "vit_small": _TRANSFORMERS,
        "vit_tiny": _TRANSFORMERS,
    },
    group="mltrain.image_models",
    config_key="model.architecture",
)

register_image_model = IMAGE_MODELS.register


def build_image_model(
    architecture: str,
    *,
    num_classes: int,
    channels: int,
    image_size: int,
    options: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return a new image classifier with fresh weights.

    Args:
        architecture: a known name; a folder that `save_pretrained` wrote; a hub name; or `timm/NAME`.
        num_classes: size of the output.
        channels: of the images.
        image_size: side of the images, in pixels.
        options: arguments of the architecture.
        config: a transformers configuration that holds all of this already: a package's, which needs no folder or hub.

    Raises:
        ConfigError: unknown architecture, or an option that it does not take.
    """
    if config is not None:
        builder: Builder = importlib.import_module(_TRANSFORMERS).TransformersModel(config)
        return builder(num_classes=num_classes, channels=channels, image_size=image_size)
    builder = _builder(architecture)
    return build_with_options(
        architecture, builder, options, num_classes=num_classes, channels=channels, image_size=image_size
    )


def refuse_elsewhere(architecture: str) -> None:
    """Raise ConfigError for an architecture that is not known by its name, but would be read from a folder or a hub."""
    if architecture not in IMAGE_MODELS.names() and not re.fullmatch(r"timm/[\w.-]+", architecture):
        raise ConfigError(
            f"{architecture!r} is none of the known models ({', '.join(IMAGE_MODELS.names()[:3])}, ...)",
            where="model.architecture",
            fix="Load the plugin that defines it, or trust no package that names another place.",
        )


def published_weights(architecture: str) -> str:
    """Return the hub name, or the folder, of the weights that belong to an architecture.

    Raises:
        ConfigError: there are none.
    """
    return published_by(_builder(architecture), architecture)


def logits_of(output: Any) -> torch.Tensor:
    """Return the logits: transformers' models give an object that holds them, plain modules the tensor itself.

    Raises:
        ConfigError: the output is something else.
    """
    if not isinstance(output, torch.Tensor):
        output = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(output, torch.Tensor):
        raise ConfigError(
            f"gives a {type(output).__name__} where logits are needed",
            where="model",
            fix="Return a tensor, or an object or dict that has logits.",
        )
    return output


def _builder(architecture: str) -> Builder:
    """Return the builder of a known name, or of one that says where the model comes from."""
    if "/" in architecture or "\\" in architecture or architecture not in IMAGE_MODELS.names():
        if architecture.startswith("timm/"):
            timm_model: Builder = importlib.import_module("mltrain.models.timm_models").TimmModel(architecture)
            return timm_model
        elsewhere: Builder | None = importlib.import_module(_TRANSFORMERS).named_elsewhere(architecture)
        if elsewhere is not None:
            return elsewhere
    return IMAGE_MODELS.get(architecture)
