"""Image models by name, and building one with arguments that are checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from mltrain.core.errors import ConfigError
from mltrain.core.registry import Registry, nearest

__all__ = ["IMAGE_MODELS", "build_image_model", "logits_of", "register_image_model"]

Builder = Callable[..., nn.Module]
"""(num_classes, channels, image_size, **options) -> module that maps float pixels (B, C, H, W) to logits."""

IMAGE_MODELS: Registry[Builder] = Registry(
    "image model",
    builtin={
        "mlp": "mltrain.models.small_networks",
        "resnet18": "mltrain.models.resnet",
        "simple_cnn": "mltrain.models.small_networks",
        "tiny_net": "mltrain.models.small_networks",
    },
    group="mltrain.image_models",
    config_key="model.architecture",
)

register_image_model = IMAGE_MODELS.register


def build_image_model(
    architecture: str, *, num_classes: int, channels: int, image_size: int, options: Mapping[str, Any]
) -> nn.Module:
    """Return a new image classifier with fresh weights.

    Raises:
        ConfigError: unknown architecture, or an option that it does not take.
    """
    builder = IMAGE_MODELS.get(architecture)
    known = [name for name in inspect.signature(builder).parameters if name not in _GIVEN]
    for name in options:
        if name not in known:
            close = nearest(name, known)
            hint = f"Did you mean {close}?" if close else f"It takes: {', '.join(known) or 'no options'}."
            raise ConfigError(f"{architecture} has no option {name!r}", where=f"model.options.{name}", fix=hint)
    try:
        return builder(num_classes=num_classes, channels=channels, image_size=image_size, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{architecture} cannot be built ({error})", where="model.options", fix="Correct the options."
        ) from error


def logits_of(output: Any) -> torch.Tensor:
    """Return the logits: transformers' models give an object that holds them, plain modules the tensor itself."""
    return output if isinstance(output, torch.Tensor) else output.logits


_GIVEN = ("num_classes", "channels", "image_size")
