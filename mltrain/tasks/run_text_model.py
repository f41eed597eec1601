"""The text model that a configuration describes, with its initial weights; and the same from a package."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from mltrain.core.logging import log
from mltrain.models.lora import LoraSection, add_lora, choose_trained
from mltrain.models.pretrained_configs import portable_name
from mltrain.models.text_models import (
    Head,
    build_text_model,
    published_text_weights,
    refuse_text_elsewhere,
    text_config,
)
from mltrain.models.weight_loading import load_weights
from mltrain.models.weights import WeightsSource, find_weights
from mltrain.tasks.text_sections import TextModelSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["RunTextModel", "add_packed_adapters", "unpacked_text_model"]


class RunTextModel:
    """Builds text models for a run.

    Args:
        section: of the configuration.

    Attributes:
        configs: the transformers configuration of what was built last with each head; None where it has none.
    """

    def __init__(self, section: TextModelSection) -> None:
        self._section = section
        self.configs: dict[str, dict[str, Any] | None] = {}
        self._wanted = section.weights
        self._identity: Mapping[str, str] | None = None
        if section.weights is None and (Path(section.architecture) / "model.safetensors").is_file():
            log.warning("The weights in %s are not used; model.weights: DEFAULT takes them.", section.architecture)

    def build(
        self,
        head: Head,
        tokenizer: PreTrainedTokenizerFast,
        *,
        max_length: int,
        num_labels: int = 2,
        left_out: Collection[str] = (),
    ) -> nn.Module:
        """Return a new model with its initial weights, all of it trained: see `build_text_model`.

        Args:
            head, tokenizer, max_length, num_labels: of the model.
            left_out: options that are for other heads of the task.
        """
        section = self._section
        model = build_text_model(
            section.architecture,
            head,
            vocab_size=len(tokenizer),
            pad_id=int(tokenizer.pad_token_id),
            num_labels=num_labels,
            max_length=max_length,
            options={name: value for name, value in section.options.items() if name not in left_out},
        )
        self.configs[head] = text_config(model)
        if (source := self._source()) is not None:
            load_weights(model, source)
        return model

    def choose_trained(self, model: nn.Module) -> nn.Module:
        """Freeze parts of a model, or add adapters, as configured; returns the model."""
        choose_trained(model, frozen=self._section.freeze, lora=self._section.lora)
        return model

    def initial_weights(self) -> Mapping[str, str] | None:
        """Return the source of `model.weights` and the sha256 of its files."""
        if self._identity is None and (source := self._source()) is not None:
            self._identity = source.identity()
        return self._identity

    def continue_from_checkpoint(self, initial_weights: Mapping[str, str] | None) -> None:
        """Do without `model.weights`."""
        self._wanted, self._identity = None, initial_weights

    def package(self) -> dict[str, Any]:
        """Return what `unpacked_text_model` and `add_packed_adapters` need, as JSON values."""
        section = self._section
        return {
            "architecture": portable_name(section.architecture),
            "options": section.options,
            "lora": section.lora and section.lora.model_dump(),
            "initial_weights": self.initial_weights(),
        }

    def _source(self) -> WeightsSource | None:
        if self._wanted is None:
            return None
        return find_weights(self._wanted, self._section.architecture, published_text_weights)


def unpacked_text_model(
    package: Mapping[str, Any],
    head: Head,
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_length: int,
    num_labels: int = 2,
    config: Mapping[str, Any] | None,
) -> nn.Module:
    """Return a new model for packed weights.

    Args:
        package: of `RunTextModel.package`.
        head, tokenizer, max_length, num_labels: what it was built with.
        config: its transformers configuration, where it has one; its architecture and options are not needed then.

    Raises:
        ConfigError: the architecture is not known.
    """
    if config is None:
        refuse_text_elsewhere(package["architecture"])
    return build_text_model(
        package["architecture"],
        head,
        vocab_size=len(tokenizer),
        pad_id=int(tokenizer.pad_token_id),
        num_labels=num_labels,
        max_length=max_length,
        options=package["options"],
        config=config,
    )


def add_packed_adapters(model: nn.Module, package: Mapping[str, Any]) -> nn.Module:
    """Put the adapters of a package into a model that was built for it; returns the model."""
    if package.get("lora"):
        add_lora(model, LoraSection.model_validate(package["lora"]))
    return model
