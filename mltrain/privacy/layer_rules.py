"""How each kind of layer gives its examples' gradients: whole, or as their norms and a weighted sum alone.

Whole gradients are those of Opacus (Yousefpour et al. 2021). The norm of a linear layer's gradient from the inner
products of inputs and of output gradients is ghost clipping (Goodfellow 2015; Li et al. 2022). The choice between this
and the whole gradient of one layer at a time follows Bu et al. 2022 ("Scalable and efficient training of large
convolutional neural networks with differential privacy"); the weighted sum without another backward pass, Bu et al.
2023 ("Differentially private optimization on large model at small cost").
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight

from mltrain.privacy.layer_call import LayerCall, LayerShare, Rows
from mltrain.privacy.row_norms import joint_norms, product_norms, row_norms, underflow, weighted_sum

__all__ = ["LayerRule", "kept", "rule_for"]


class LayerRule(Protocol):
    """The gradients of one kind of layer, from its inputs and the gradient of its output (B, ...)."""

    def rows(self, call: LayerCall, gradient: Tensor) -> Rows:
        """Return each example's gradient."""
        ...

    def share(self, call: LayerCall, gradient: Tensor) -> LayerShare:
        """Return the norms of the examples' gradients, and their weighted sum as a function."""
        ...


def rule_for(layer: nn.Module) -> LayerRule | None:
    """Return the rule of a layer that has no layers within; None: there is none, or it would not be right for it."""
    if any(True for _ in layer.children()):
        return None
    for kind, rule, suits in _RULES:
        # A subclass that computes the same has the same gradient.
        if isinstance(layer, kind) and type(layer).forward is kind.forward and suits(layer):
            return rule
    return None


class _Kept:
    """Layers whose gradients are small: they are kept whole in either mode."""

    def rows(self, call: LayerCall, gradient: Tensor) -> Rows:
        raise NotImplementedError

    def share(self, call: LayerCall, gradient: Tensor) -> LayerShare:
        """Return the norms of the kept gradients, and their weighted sum as a function."""
        return kept(self.rows(call, gradient))


class _LayerNorm(_Kept):
    def rows(self, call: LayerCall, gradient: Tensor) -> Rows:
        layer: Any = call.layer
        between = tuple(range(1, gradient.ndim - len(layer.normalized_shape)))

        def total(product: Tensor) -> Tensor:
            return product.sum(between) if between else product

        rows: Rows = {}
        if _is_trained(layer.weight):
            normed = F.layer_norm(call.inputs.to(gradient.dtype), layer.normalized_shape, eps=layer.eps)
            rows[layer.weight] = total(normed * gradient)
        if _is_trained(layer.bias):
            rows[layer.bias] = total(gradient)
        return rows


class _GroupNorm(_Kept):
    def rows(self, call: LayerCall, gradient: Tensor) -> Rows:
        layer: Any = call.layer
        rows: Rows = {}
        if _is_trained(layer.weight):
            normed = F.group_norm(call.inputs.to(gradient.dtype), layer.num_groups, eps=layer.eps)
            rows[layer.weight] = (normed * gradient).flatten(2).sum(2) if gradient.ndim > 2 else normed * gradient
        if _is_trained(layer.bias):
            rows[layer.bias] = gradient.flatten(2).sum(2) if gradient.ndim > 2 else gradient
        return rows


class _Linear:
    def rows(self, call: LayerCall, gradient: Tensor) -> Rows:
        layer: Any = call.layer
        gradients, inputs = _as_sequences(gradient), _as_sequences(call.inputs.to(gradient.dtype))
        rows: Rows = {}
        if _is_trained(layer.weight):
            rows[layer.weight] = torch.bmm(gradients.transpose(1, 2), inputs)
        if _is_trained(layer.bias):
            rows[layer.bias] = gradients.sum(1)
        return rows

    def share(self, call: LayerCall, gradient: Tensor) -> LayerShare:
        layer: Any = call.layer
        if gradient.ndim == 2:
            return _share_of_vectors(layer, call.inputs.to(gradient.dtype), gradient)
        if _is_smaller_whole(call, gradient):
            return kept(self.rows(call, gradient))
        gradients, inputs = _as_sequences(gradient), _as_sequences(call.inputs.to(gradient.dtype))
        norms = []
        if _is_trained(layer.weight):
            norms.append(product_norms(gradients.transpose(1, 2), inputs))
        if _is_trained(layer.bias):
            norms.append(row_norms(gradients.sum(1)))

        def weighted(factors: Tensor, gradients: Tensor, inputs: Tensor) -> Rows:
            scaled = gradients * factors[:, None, None]
            sums: Rows = {}
            if _is_trained(layer.weight):
                sums[layer.weight] = scaled.flatten(0, 1).T @ inputs.flatten(0, 1)
            if _is_trained(layer.bias):
                sums[layer.bias] = scaled.sum((0, 1))
            return sums

        return LayerShare(joint_norms(norms), (gradients, inputs), weighted)


def _share_of_vectors(layer: Any, inputs: Tensor, gradient: Tensor) -> LayerShare:
    """Return the share of a linear layer that saw one vector an example: each gradient is an outer product."""
    widths = row_norms(inputs) if _is_trained(layer.weight) else gradient.new_zeros(len(gradient))
    if _is_trained(layer.bias):
        widths = torch.hypot(widths, torch.ones_like(widths))

    def weighted(factors: Tensor, gradient: Tensor, inputs: Tensor) -> Rows:
        scaled = gradient * factors[:, None]
        sums: Rows = {}
        if _is_trained(layer.weight):
            sums[layer.weight] = scaled.T @ inputs
        if _is_trained(layer.bias):
            sums[layer.bias] = scaled.sum(0)
        return sums

    # Norms are multiplied, never their squares: that of a tiny gradient would underflow before it meets a large input.
    return LayerShare(row_norms(gradient) * widths, (gradient, inputs), weighted)


class _Convolution:
    """Convolutions over one or two dimensions, as the product of the output's gradient and the unfolded input."""

    def rows(self, call: LayerCall, gradient: Tensor) -> Rows:
        layer: Any = call.layer
        rows: Rows = {}
        if _is_trained(layer.weight):
            patches = _patches(layer, call.inputs.to(gradient.dtype))
            rows[layer.weight] = _convolved(layer, gradient, patches)
        if _is_trained(layer.bias):
            rows[layer.bias] = gradient.flatten(2).sum(2)
        return rows

    def share(self, call: LayerCall, gradient: Tensor) -> LayerShare:
        layer: Any = call.layer
        if _is_smaller_whole(call, gradient):
            return kept(self.rows(call, gradient))
        inputs = call.inputs.to(gradient.dtype)
        norms = []
        if _is_trained(layer.weight):
            patches = _patches(layer, inputs)
            if layer.groups == 1:
                norms.append(product_norms(gradient.flatten(2), patches.transpose(1, 2)))
            else:
                norms.append(row_norms(_convolved(layer, gradient, patches)))
            del patches
        if _is_trained(layer.bias):
            norms.append(row_norms(gradient.flatten(2).sum(2)))

        def weighted(factors: Tensor, gradient: Tensor, inputs: Tensor) -> Rows:
            scaled = gradient * factors.view(-1, *[1] * (gradient.ndim - 1))
            sums: Rows = {}
            if _is_trained(layer.weight):
                sums[layer.weight] = _weight_gradient(layer, inputs, scaled)
            if _is_trained(layer.bias):
                sums[layer.bias] = scaled.flatten(2).sum((0, 2))
            return sums

        return LayerShare(joint_norms(norms), (gradient, inputs), weighted)


class _Embedding:
    def rows(self, call: LayerCall, gradient: Tensor) -> Rows:
        layer: Any = call.layer
        numbers, gradients = self._flat(layer, call.inputs, gradient)
        whole = gradient.new_zeros(len(gradient), *layer.weight.shape)
        index = numbers.unsqueeze(-1).expand_as(gradients)
        return {layer.weight: whole.scatter_add_(1, index, gradients)}

    def share(self, call: LayerCall, gradient: Tensor) -> LayerShare:
        layer: Any = call.layer
        numbers, gradients = self._flat(layer, call.inputs, gradient)
        # Of each example, the gradients of each word add up before they are squared.
        places = numbers + torch.arange(len(numbers), device=numbers.device)[:, None] * layer.num_embeddings
        found, order = places.flatten().unique(return_inverse=True)
        totals = gradients.new_zeros(len(found), gradients.shape[-1]).index_add_(0, order, gradients.flatten(0, 1))
        owners = torch.div(found, layer.num_embeddings, rounding_mode="floor")
        squares = gradients.new_zeros(len(numbers)).index_add_(0, owners, totals.square().sum(1))
        norms = squares.sqrt() + underflow(gradients.shape[1] * gradients.shape[2])

        def weighted(factors: Tensor, gradients: Tensor, numbers: Tensor) -> Rows:
            scaled = (gradients * factors[:, None, None]).flatten(0, 1)
            return {layer.weight: torch.zeros_like(layer.weight).index_add_(0, numbers.flatten(), scaled)}

        return LayerShare(norms, (gradients, numbers), weighted)

    @staticmethod
    def _flat(layer: Any, numbers: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        numbers = numbers.reshape(len(numbers), -1)
        gradients = gradient.reshape(*numbers.shape, -1)
        if layer.padding_idx is not None:
            gradients = gradients.masked_fill((numbers == layer.padding_idx).unsqueeze(-1), 0.0)
        return numbers, gradients


def kept(rows: Rows) -> LayerShare:
    """Return the share of a layer from its examples' whole gradients."""

    def weighted(factors: Tensor, *seen: Tensor) -> Rows:
        return {p: weighted_sum(factors, row) for p, row in zip(parameters, seen, strict=True)}

    parameters, norms = list(rows), [row_norms(row) for row in rows.values()]
    return LayerShare(joint_norms(norms), tuple(rows.values()), weighted)


def _is_smaller_whole(call: LayerCall, gradient: Tensor) -> bool:
    """Return whether the examples' gradients take less memory than what they are computed from."""
    weight: Any = call.layer.weight
    return bool(weight.numel() * len(gradient) <= call.inputs.numel() + gradient.numel())


def _is_trained(parameter: Tensor | None) -> bool:
    return parameter is not None and parameter.requires_grad


def _as_sequences(values: Tensor) -> Tensor:
    """Return (B, ..., width) as (B, T, width)."""
    return values.unsqueeze(1) if values.ndim == 2 else values.flatten(1, -2)


def _patches(layer: Any, inputs: Tensor) -> Tensor:
    """Return the input under each position of the kernel, shape (B, channels x kernel, positions)."""
    inputs, padding = _padded(layer, inputs)
    if all(size == 1 for size in layer.kernel_size) and not any(padding):
        places: Any = (..., *[slice(None, None, step) for step in layer.stride])
        return inputs[places].flatten(2)
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    if inputs.ndim == 3:
        inputs = inputs.unsqueeze(2)
        kernel, dilation, stride, padding = (1, *kernel), (1, *dilation), (1, *stride), (0, *padding)
    return F.unfold(inputs, kernel, dilation=dilation, padding=padding, stride=stride)


def _padded(layer: Any, inputs: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Return the input and the padding of both sides that it still needs."""
    if not isinstance(layer.padding, str):
        return inputs, tuple(layer.padding)
    return F.pad(inputs, layer._reversed_padding_repeated_twice), (0,) * len(layer.kernel_size)


def _convolved(layer: Any, gradient: Tensor, patches: Tensor) -> Tensor:
    """Return each example's gradient of the kernel, shape (B, *kernel)."""
    count, groups = len(gradient), layer.groups
    grouped = gradient.reshape(count * groups, gradient.shape[1] // groups, -1)
    product = torch.bmm(grouped, patches.reshape(count * groups, -1, patches.shape[-1]).transpose(1, 2))
    return product.view(count, *layer.weight.shape)


def _weight_gradient(layer: Any, inputs: Tensor, gradient: Tensor) -> Tensor:
    inputs, padding = _padded(layer, inputs)
    find = conv1d_weight if inputs.ndim == 3 else conv2d_weight
    options: Any = (layer.stride, padding, layer.dilation, layer.groups)
    weight: Tensor = find(inputs, layer.weight.shape, gradient, *options)  # type: ignore[no-untyped-call]
    return weight


def _always(_: Any) -> bool:
    return True


def _is_standard(layer: Any) -> bool:
    own = type(layer)._conv_forward
    return layer.padding_mode == "zeros" and own in (nn.Conv1d._conv_forward, nn.Conv2d._conv_forward)


def _is_plain(layer: Any) -> bool:
    return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse


_RULES: list[tuple[Any, LayerRule, Any]] = [
    (nn.Linear, _Linear(), _always),
    (nn.Conv1d, _Convolution(), _is_standard),
    (nn.Conv2d, _Convolution(), _is_standard),
    (nn.LayerNorm, _LayerNorm(), _always),
    (nn.GroupNorm, _GroupNorm(), _always),
    (nn.Embedding, _Embedding(), _is_plain),
]
