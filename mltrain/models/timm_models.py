"""timm's models, as `timm/NAME`, where timm is installed. It is not a dependency."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from torch import nn

from mltrain.core.errors import ConfigError, one_line

__all__ = ["PREFIX", "TimmModel"]

PREFIX = "timm/"

_LOADING = frozenset({"cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"})


class TimmModel:
    """Builds a model of timm's; its options are the arguments of `timm.create_model`.

    Args:
        architecture: `timm/NAME`, where NAME may end with the tag of its weights (`timm/resnet18.a1_in1k`).

    Raises:
        ConfigError: timm cannot be imported.
    """

    def __init__(self, architecture: str) -> None:
        self._name = architecture.removeprefix(PREFIX)
        try:
            self._timm = importlib.import_module("timm")
        except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision's, where it does not match torch
            raise ConfigError(
                f"{architecture} needs timm, which cannot be imported ({one_line(error)[:120]})",
                where="model.architecture",
                fix="Install it (pip install timm); its torchvision must be of the version and build that match torch.",
            ) from None

    @property
    def __signature__(self) -> inspect.Signature:
        """Any option: timm hands them on to the model, which refuses what it does not take."""
        return inspect.Signature([inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)])

    @property
    def published(self) -> str | None:
        """The hub name of the weights that DEFAULT takes."""
        published = getattr(self._pretrained_config(), "hf_hub_id", None)
        return str(published) if published else None

    def __call__(self, num_classes: int, channels: int, image_size: int, **options: Any) -> nn.Module:
        """Return the model with fresh weights."""
        if loading := sorted(_LOADING.intersection(options)):
            raise ConfigError(
                f"{loading[0]} loads weights, of kinds that can run code",
                where=f"model.options.{loading[0]}",
                fix="Leave it out and set model.weights.",
            )
        arguments: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
        if getattr(self._pretrained_config(), "fixed_input_size", False):
            arguments["img_size"] = image_size
        model: nn.Module = self._timm.create_model(self._name, pretrained=False, **{**arguments, **options})
        return model

    def _pretrained_config(self) -> Any:
        find = getattr(self._timm, "get_pretrained_cfg", None)
        return None if find is None else find(self._name)
