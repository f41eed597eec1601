"""One use of a layer in a forward pass, and what of it is needed to tell its examples' gradients apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils._pytree import tree_flatten, tree_map

from mltrain.privacy.row_norms import masked

__all__ = ["LayerCall", "LayerShare", "Rows", "awaited", "title"]

Rows = dict[Parameter, Tensor]
"""Of each trainable parameter of a layer the gradient of each example, shape (B, *parameter.shape)."""


@dataclass(frozen=True)
class LayerShare:
    """What one use of a layer adds to the gradient, where no example's gradient is kept.

    Attributes:
        norms: each example's 2-norm, shape (B,).
        seen: what the gradients are computed from, tensors (B, ...); zeros for an example give it a zero gradient.
        weighted: factors (B,), *seen -> of each parameter the sum of the examples' gradients, each times its factor.
    """

    norms: Tensor
    seen: tuple[Tensor, ...]
    weighted: Callable[..., Rows]

    def sums(self, factors: Tensor, left_out: Tensor | None) -> Rows:
        """Return the weighted sum of each parameter.

        Args:
            factors: of each example, shape (B,).
            left_out: True for examples that are not finite, shape (B,); None: there are none.
        """
        seen = self.seen if left_out is None else tuple(masked(tensor, left_out) for tensor in self.seen)
        return self.weighted(factors, *seen)


@dataclass(eq=False)
class LayerCall:
    """One use of a layer.

    Attributes:
        name: of the layer in its model.
        layer: the layer.
        arguments: positional inputs; tensors are detached.
        keywords: inputs by name; tensors are detached.
        edge: where in the graph the output was made.
        starts_graph: no input depends on a trainable parameter.
        reached: a gradient has come back to the output.
    """

    name: str
    layer: nn.Module
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    edge: Any
    starts_graph: bool
    reached: bool = False

    @classmethod
    def of(
        cls, name: str, layer: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Tensor
    ) -> LayerCall:
        """Return the record of a call whose output is part of a graph.

        Args:
            name: of the layer.
            layer: what was called.
            arguments: positional inputs.
            keywords: inputs by name.
            output: where the gradient is awaited: see `awaited`.
        """
        tensors = _tensors_of(arguments, keywords)
        kept_arguments: tuple[Any, ...] = (arguments[0].detach(),) if _is_single(arguments, keywords) else ()
        kept_keywords: Mapping[str, Any] = {}
        if not kept_arguments:
            kept_arguments, kept_keywords = tree_map(_detached, (arguments, keywords))
        call = cls(
            name,
            layer,
            kept_arguments,
            kept_keywords,
            edge=torch.autograd.graph.get_gradient_edge(output),
            starts_graph=not any(tensor.requires_grad for tensor in tensors),
        )
        call._versions = [tensor._version for tensor in tensors]
        return call

    def __post_init__(self) -> None:
        self._versions: list[int] = []

    @property
    def inputs(self) -> Tensor:
        """The first input."""
        if self.arguments:
            first: Tensor = self.arguments[0]
            return first
        return next(item for item in self.keywords.values() if isinstance(item, Tensor))

    @property
    def title(self) -> str:
        """The layer's name and kind, for people."""
        return title(self.name, self.layer)

    def release(self) -> None:
        """Let go of the inputs."""
        self.arguments, self.keywords = (), {}

    def leave_graph(self) -> None:
        """Let go of the graph, which holds this call by its hook: no garbage collection sees that circle."""
        self.release()
        self.edge = None

    def is_intact(self) -> bool:
        """Return whether no input was changed in place since the call."""
        return [tensor._version for tensor in _tensors_of(self.arguments, self.keywords)] == self._versions


def title(name: str, layer: nn.Module) -> str:
    """Return a layer's name and kind, for people."""
    return f"layer '{name}' ({type(layer).__name__})" if name else f"the model ({type(layer).__name__})"


def _is_single(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> bool:
    """Return whether a layer was given one tensor, as most are: the general way takes longer than a small layer."""
    return len(arguments) == 1 and not keywords and isinstance(arguments[0], Tensor)


def _tensors_of(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> list[Tensor]:
    if _is_single(arguments, keywords):
        return [arguments[0]]
    return [item for item in tree_flatten((arguments, dict(keywords)))[0] if isinstance(item, Tensor)]


def awaited(output: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output to hand on, and the tensor whose gradient is the output's, whatever is done to it in place.

    A change in place of a view gives it a new place in the graph: a hook on the view itself would never be called.
    Linear layers give views of what they have computed, where that has the same elements in the same order.
    """
    if not output._is_view():
        return output, output
    base = output._base
    assert base is not None
    assert output.grad_fn is not None
    made_here = output.grad_fn.next_functions[0][0] is base.grad_fn and base.grad_fn is not None
    if made_here and base.numel() == output.numel() and base.is_contiguous() and output.is_contiguous():
        return output, base
    copy = output.clone()
    return copy, copy


def _detached(item: Any) -> Any:
    return item.detach() if isinstance(item, torch.Tensor) else item
