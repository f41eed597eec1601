"""The examples' gradients of layers that have no rule of their own: by Opacus's samplers, or by torch.func."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from mltrain.core.errors import ConfigError, one_line
from mltrain.privacy.layer_call import LayerCall, LayerShare, Rows
from mltrain.privacy.layer_rules import LayerRule, kept
from mltrain.privacy.row_norms import sum_of_squares

__all__ = ["AnyLayer", "sampler_rule"]


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
    """Runs the layer again, with all the layers within it, one example at a time in one go (`vmap`)."""

    def rows(self, call: LayerCall, gradient: Tensor) -> Rows:
        """Return each example's gradient."""
        trained = {name: p for name, p in call.layer.named_parameters() if p.requires_grad}
        fixed = {name: p.detach() for name, p in call.layer.named_parameters() if not p.requires_grad}
        leaves, spec = tree_flatten((call.arguments, dict(call.keywords)))
        is_batched = [isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == len(gradient) for leaf in leaves]

        def product(values: dict[str, Tensor], example_gradient: Tensor, *example: Any) -> Tensor:
            singles = [x.unsqueeze(0) if batched else x for x, batched in zip(example, is_batched, strict=True)]
            arguments, keywords = tree_unflatten(singles, spec)
            output: Tensor = functional_call(call.layer, {**values, **fixed}, arguments, keywords)
            return (output * example_gradient.unsqueeze(0)).sum()

        places = (None, 0, *[0 if batched else None for batched in is_batched])
        values = {name: parameter.detach() for name, parameter in trained.items()}
        try:
            found: dict[str, Tensor] = vmap(grad(product), in_dims=places)(values, gradient, *leaves)
        except (RuntimeError, ValueError, TypeError) as error:
            raise _cannot_be_told_apart(call, error) from error
        return {trained[name]: row for name, row in found.items()}

    def share(self, call: LayerCall, gradient: Tensor) -> LayerShare:
        """Return the norms; the weighted sum is another run of the layer, without an example's gradient kept."""
        squares = sum_of_squares(list(self.rows(call, gradient).values()))
        layer, arguments, keywords = call.layer, call.arguments, call.keywords

        def weighted(factors: Tensor) -> Rows:
            trained = [p for p in layer.parameters() if p.requires_grad]
            scaled = gradient * factors.view(-1, *[1] * (gradient.ndim - 1))
            with torch.enable_grad():
                output = layer(*arguments, **keywords)
                found = torch.autograd.grad(output, trained, scaled, allow_unused=True)
            return {p: total for p, total in zip(trained, found, strict=True) if total is not None}

        return LayerShare(squares, weighted)


def _cannot_be_told_apart(call: LayerCall, error: Exception) -> ConfigError:
    return ConfigError(
        f"the examples' gradients of {call.name or 'the model'} ({type(call.layer).__name__}) cannot be told apart "
        f"({one_line(error)[:200]})",
        where="model.architecture",
        fix="Use another model, freeze this layer, or set its dropout to 0.",
    )
