"""The examples' gradients of layers that have no rule of their own: by Opacus's samplers, or by torch.func."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from mltrain.core.errors import ConfigError, one_line
from mltrain.privacy.layer_call import LayerCall, LayerShare, Rows
from mltrain.privacy.layer_rules import LayerRule, kept

__all__ = ["AnyLayer", "sampler_rule"]

# Of the largest output of an example. Rounding is far below, an argument that is taken apart wrongly far above.
_TOLERANCE = 1e-4


def sampler_rule(layer: nn.Module) -> LayerRule | None:
    """Return the rule of a kind of layer that is registered with Opacus (`register_grad_sampler`), or None."""
    from opacus.grad_sample import GradSampleHooks

    # Its samplers of convolutions and embeddings disregard padding_mode and padding_idx.
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Embedding):
        return None
    sampler = GradSampleHooks.GRAD_SAMPLERS.get(type(layer))
    return None if sampler is None else _Sampled(sampler)


class _Sampled:
    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler

    def rows(self, call: LayerCall, gradient: Tensor) -> Rows:
        """Return the gradients that the registered sampler gives."""
        rows: Rows = self._sampler(call.layer, list(call.arguments), gradient)
        return {parameter: row for parameter, row in rows.items() if parameter.requires_grad}

    def share(self, call: LayerCall, gradient: Tensor) -> LayerShare:
        """Return the norms of the gradients and their weighted sum."""
        return kept(self.rows(call, gradient))


class AnyLayer:
    """Runs the layer again, with all the layers within it, one example at a time in one go (`vmap`).

    Which arguments run over the examples is told by their first dimension, and tried: the outputs have to be those of
    the whole batch. One that happens to be as long as the batch, such as a mask (T, T), is found in this way.
    """

    def __init__(self) -> None:
        self._verified: dict[tuple[int, ...], tuple[bool, ...]] = {}

    def rows(self, call: LayerCall, gradient: Tensor) -> Rows:
        """Return each example's gradient.

        Raises:
            ConfigError: no choice of arguments gives the layer's outputs, or it draws random numbers.
        """
        leaves, spec = tree_flatten((call.arguments, dict(call.keywords)))
        candidates = [
            place for place, leaf in enumerate(leaves)
            if isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == len(gradient)
        ]  # fmt: skip
        key = (len(gradient), len(leaves), *candidates)
        if key in self._verified:
            try:
                return _by_example(call, gradient, leaves, spec, self._verified[key])[0]
            except (RuntimeError, ValueError, TypeError) as error:
                raise _refusal(call, error) from error
        whole = call.layer(*call.arguments, **call.keywords)
        problem: Exception = ValueError("alone, an example has another output than within the batch")
        for chosen in _choices(candidates):
            batched = tuple(place in chosen for place in range(len(leaves)))
            try:
                found, outputs = _by_example(call, gradient, leaves, spec, batched)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, ValueError, TypeError) as error:
                problem = error
                continue
            if _agree(outputs, whole):
                # Tensors of several shapes may be told apart by their values alone, which are others each time.
                if len({leaves[place].shape for place in candidates}) == 1 and bool(torch.isfinite(whole).all()):
                    self._verified[key] = batched
                return found
        raise _refusal(call, problem)

    def share(self, call: LayerCall, gradient: Tensor) -> LayerShare:
        """Return the norms of the gradients and their weighted sum: of the same ones, for another run may differ."""
        return kept(self.rows(call, gradient))


def _choices(candidates: list[int]) -> Iterator[tuple[int, ...]]:
    """Yield which arguments may run over the examples: all, then all but one or two."""
    for taken_away in range(min(3, len(candidates))):
        for away in combinations(reversed(candidates), taken_away):
            yield tuple(place for place in candidates if place not in away)


def _by_example(
    call: LayerCall, gradient: Tensor, leaves: list[Any], spec: Any, batched: tuple[bool, ...]
) -> tuple[Rows, Tensor]:
    """Return each example's gradient, and its output (B, ...)."""
    trained = {name: p for name, p in call.layer.named_parameters() if p.requires_grad}
    fixed = {name: p.detach() for name, p in call.layer.named_parameters() if not p.requires_grad}

    def product(values: dict[str, Tensor], example_gradient: Tensor, *example: Any) -> tuple[Tensor, Tensor]:
        singles = [x.unsqueeze(0) if along else x for x, along in zip(example, batched, strict=True)]
        arguments, keywords = tree_unflatten(singles, spec)
        output: Tensor = functional_call(call.layer, {**values, **fixed}, arguments, keywords)
        if output.shape != (1, *example_gradient.shape):
            raise ValueError(f"one example has an output of shape {tuple(output.shape)}")
        return (output * example_gradient.unsqueeze(0)).sum(), output.detach().squeeze(0)

    places = (None, 0, *[0 if along else None for along in batched])
    values = {name: parameter.detach() for name, parameter in trained.items()}
    found, outputs = vmap(grad(product, has_aux=True), in_dims=places)(values, gradient, *leaves)
    return {trained[name]: row for name, row in found.items()}, outputs


def _agree(outputs: Tensor, whole: Tensor) -> bool:
    """Return whether outputs are equal but for rounding. An example that is not finite has no say."""
    found, expected = outputs.flatten(1), whole.flatten(1)
    finite = torch.isfinite(expected).all(1)
    difference, largest = (found - expected).abs().amax(1), expected.abs().amax(1)
    return bool(((difference <= _TOLERANCE * largest) | ~finite).all())


def _refusal(call: LayerCall, error: Exception) -> ConfigError:
    return ConfigError(
        f"the examples' gradients of {call.title} cannot be told apart ({one_line(error)[:200]})",
        where="model.architecture",
        fix="Use another model, freeze this layer, or set its dropout to 0.",
    )
