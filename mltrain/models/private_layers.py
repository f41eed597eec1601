"""Making a model one whose examples do not meet: batch norms become group norms, told; the rest is refused by name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrize

from mltrain.core.errors import ConfigError

__all__ = ["adapt_for_privacy", "adapt_to_state", "keeps_examples_apart"]

_GROUPS = 32
# One call computes with several weights, and with the same weight many times.
_FUSED = (nn.RNNBase, nn.MultiheadAttention)
_WITH_LINEAR = (
    "Use attention or recurrence written with nn.Linear layers (as transformers' models are), or freeze this layer."
)


def adapt_for_privacy(model: nn.Module) -> list[str]:
    """Replace the layers that mix examples, where that can be done.

    A batch norm becomes a group norm (Wu and He 2018) of as many groups as divide both 32 and its channels. It keeps
    its scale and shift: the same parameters, frozen where they were. One that is frozen as a whole stays as it is: in
    evaluation mode it computes with its stored statistics alone.

    From then on `keeps_examples_apart` says so of the model: each of its layers must see one row for each example.

    Args:
        model: changed in place; may be on the device "meta".

    Returns:
        What was done, a sentence for each kind of change.

    Raises:
        ConfigError: a layer that mixes examples, or that gives no gradients of single ones, and cannot be replaced.
    """
    _refuse_unsuited(model)
    marked: Any = model
    marked.examples_apart = True
    mixing = [(name, layer) for name, layer in _batch_norms(model) if not _is_fixed(layer)]
    _replace(model, mixing)
    kinds = Counter(type(layer).__name__ for _, layer in mixing)
    told = [
        f"{count} {kind} {_layers(count)} became GroupNorm, with "
        f"{'its scale and shift' if count == 1 else 'their scales and shifts'}; running statistics are dropped."
        for kind, count in kinds.items()
    ]
    if kept := sum(1 for _ in _batch_norms(model)):
        told.append(
            f"{kept} frozen batch norm {_layers(kept)} kept {'its' if kept == 1 else 'their'} stored statistics."
        )
    return told


def keeps_examples_apart(model: nn.Module) -> bool:
    """Return whether a model was adapted for privacy, so that its layers must see one row for each example."""
    return bool(getattr(model, "examples_apart", False))


def adapt_to_state(model: nn.Module, names: Collection[str]) -> None:
    """Replace the layers that `adapt_for_privacy` replaced in the model whose state has these names."""
    _replace(model, [(name, layer) for name, layer in _batch_norms(model) if f"{name}.running_mean" not in names])


def _batch_norms(model: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm):
            yield name, layer


def _is_fixed(layer: Any) -> bool:
    """Return whether a batch norm uses its stored statistics now and will in training."""
    trained = any(parameter.requires_grad for parameter in layer.parameters())
    return not trained and not layer.training and layer.running_mean is not None


def _replace(model: nn.Module, found: list[tuple[str, _BatchNorm]]) -> None:
    for name, layer in found:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, _group_norm(layer))


def _group_norm(layer: _BatchNorm) -> nn.GroupNorm:
    # Of a vector there may be a single value in each of 32 groups, which would become 0 whatever it was.
    groups = 1 if isinstance(layer, nn.BatchNorm1d) else math.gcd(_GROUPS, layer.num_features)
    norm = nn.GroupNorm(groups, layer.num_features, eps=layer.eps, affine=False)
    norm.affine = layer.affine
    # The parameters themselves: an optimizer, a frozen layer or the device "meta" need no thought.
    norm.weight, norm.bias = layer.weight, layer.bias
    return norm.train(layer.training)


def _refuse_unsuited(model: nn.Module) -> None:
    for name, layer in model.named_modules():
        reason = _unsuited(layer)
        if reason:
            raise ConfigError(
                f"{repr(name) if name else 'the model'} ({type(layer).__name__}) {reason}",
                where="model.architecture",
                fix=_WITH_LINEAR if isinstance(layer, _FUSED) else "Use another model, or freeze this layer.",
            )


def _unsuited(layer: nn.Module) -> str | None:
    """Return why private training cannot do with a layer, or None."""
    if isinstance(layer, _BatchNorm):
        inherited = any(type(layer).forward is kind.forward for kind in (nn.BatchNorm1d, nn.SyncBatchNorm))
        return None if inherited or _is_fixed(layer) else "mixes the examples of a batch in a way of its own"
    if layer.training and getattr(layer, "running_mean", None) is not None:
        return "keeps statistics of the examples it sees"
    # Attention uses the weights of its output layer without calling it.
    fused = isinstance(layer, _FUSED)
    if not any(parameter.requires_grad for parameter in layer.parameters(recurse=fused)):
        return None
    if fused or isinstance(layer, nn.EmbeddingBag):
        return "is of a kind for which the dp trainer cannot compute the gradient of each example"
    if parametrize.is_parametrized(layer) or isinstance(layer, parametrize.ParametrizationList):
        return "computes its weights from others"
    if isinstance(layer, nn.Embedding) and (layer.scale_grad_by_freq or layer.max_norm is not None):
        return "changes or scales its weights by what is in a batch"
    if any(isinstance(part, _DropoutNd) and part.p > 0 and part.training for part in layer.modules()):
        return "has dropout around weights of its own, so that its examples' gradients cannot be told apart"
    return None


def _layers(count: int) -> str:
    return "layer" if count == 1 else "layers"
