"""Gradient checkpointing (Chen et al. 2016): a block keeps its inputs and computes the rest again when it is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from mltrain.core.errors import ConfigError

__all__ = ["gradient_checkpointing", "refuse_without_checkpointing"]


def refuse_without_checkpointing(model: nn.Module) -> None:
    """Raise ConfigError for a model whose blocks cannot be computed again."""
    # transformers' models have the attribute, those of its families that cannot as False.
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ConfigError(
            f"{type(model).__name__} has no gradient checkpointing",
            where="training.gradient_checkpointing",
            fix="Leave it out, or train a model of transformers that has it: vit_tiny, vit_small, vit_base, or one of "
            "another family (swin, dinov2, bert, ...) from a folder or a script.",
        )


@contextlib.contextmanager
def gradient_checkpointing(model: nn.Module, *, wanted: bool) -> Iterator[None]:
    """Train a model with gradient checkpointing while the block lasts, where it is wanted.

    Dropout draws the same masks when a block is computed again, so that gradients are the same bits as without. Frozen
    blocks, which stay in evaluation mode, and evaluation itself are not touched.

    Args:
        model: on any device, not wrapped or compiled yet. Afterwards it is as it came.
        wanted: False does nothing.

    Raises:
        ConfigError: the model cannot.
    """
    if not wanted:
        yield
        return
    refuse_without_checkpointing(model)
    pretrained: Any = model
    # Newer versions of transformers have another name for it.
    renamed = hasattr(pretrained, "activation_checkpointing_enable")
    name = "activation_checkpointing" if renamed else "gradient_checkpointing"
    if getattr(pretrained, f"is_{name}"):  # the user's own module, with settings of its own
        yield
        return
    had_hooks = bool(getattr(pretrained, "_require_grads_hooks", None))
    getattr(pretrained, f"{name}_enable")({"use_reentrant": False})
    if not had_hooks:
        # Made for reentrant checkpointing alone. Here they would keep activations of frozen blocks for nothing.
        pretrained.disable_input_require_grads()
    try:
        yield
    finally:
        getattr(pretrained, f"{name}_disable")()
