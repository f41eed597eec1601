"""Sums of examples' gradients, each clipped to one norm: an influence that noise can hide (Abadi et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from mltrain.core.errors import ConfigError
from mltrain.privacy.any_layer import AnyLayer, sampler_rule
from mltrain.privacy.layer_call import LayerCall, LayerShare, awaited, title
from mltrain.privacy.layer_rules import LayerRule, rule_for
from mltrain.privacy.row_norms import joint_norms, masked, row_norms, weighted_sum

__all__ = ["ClippedGradients"]

_MODE_KEY = "training.dp.grad_sample_mode"
# Norms and products are rounded. Two units in the last place keep an example within the bound all the same.
_MARGIN = 1 - 2**-22


class ClippedGradients:
    """The sum of examples' gradients, each clipped over all trainable parameters together.

    Listens to the layers that hold trainable parameters: their inputs in the forward pass, the gradient of their
    outputs in the backward pass. These are tensor hooks, so that outputs may be changed in place, and the backward pass
    leaves out the gradients of the weights, which nothing needs. All forward passes since the last `add` belong to the
    next one.

    Args:
        model: its weights, their number and `requires_grad` stay as they are until `close`.
        max_grad_norm: C, the largest 2-norm of one example's share.
        mode: "hooks" keeps each example's whole gradient until its norm is known; "ghost" keeps what a layer has seen,
            and computes norms and the weighted sum from it: less memory where layers are large. Of a layer that is
            called more than once, whole gradients are kept in either mode.

    Attributes:
        parameters: the trainable ones, in the order of `model.parameters()`.
        sums: the sum of clipped gradients of each of them.

    Raises:
        ConfigError: nothing is trainable, or a parameter belongs to several layers in mode ghost.
    """

    def __init__(self, model: nn.Module, max_grad_norm: float, mode: Literal["ghost", "hooks"]) -> None:
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not self.parameters:
            raise ConfigError("has no trainable parameter", where="model", fix="Freeze less of it.")
        self._max_grad_norm, self._mode = max_grad_norm, mode
        self._listens = True
        self._calls: list[LayerCall] = []
        self._rows: dict[Parameter, Tensor] = {}
        self._shares: list[LayerShare] = []
        self._count = 0
        self.sums = [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters]
        layers = list(_layers_of(model, set()))
        if mode == "ghost":
            _refuse_shared(layers)
        self._handles = [
            layer.register_forward_hook(_Listener(self, name, _rule(layer)), with_kwargs=True) for name, layer in layers
        ]

    def add(self, losses: Tensor) -> Tensor:
        """Add the clipped gradients of a microbatch; of an example whose gradient is not finite, nothing.

        What the others add is the same with and without such an example.

        Args:
            losses: of each example, shape (B,), from a forward pass since the last `add` or `clear`.

        Returns:
            The 2-norm of each example's gradient before clipping, shape (B,); not finite where nothing was added.

        Raises:
            ConfigError: a layer does not keep examples apart.
        """
        try:
            self._backward(losses)
            norms = self._norms(losses)
            factors, finite = (self._max_grad_norm * _MARGIN / norms).clamp(max=1.0), torch.isfinite(norms)
            if bool(finite.all()):
                self._add_weighted(factors)
            else:
                self._add_weighted(masked(factors, ~finite), left_out=~finite)
            return norms
        finally:
            self._forget_microbatch()

    def clear(self) -> None:
        """Forget the sums, and whatever an interrupted forward or backward pass has left."""
        self._forget_microbatch()
        torch._foreach_zero_(self.sums)

    def close(self) -> None:
        """Leave the model as it was found."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.clear()

    def _backward(self, losses: Tensor) -> None:
        starts = [call.edge for call in self._calls if call.starts_graph]
        if not starts:
            raise RuntimeError("no layer of the model has taken part in these losses")
        self._count, self._listens = len(losses), False
        # Up to the outputs of the first layers and no further: no gradient of a weight is computed.
        torch.autograd.grad(losses.sum(), starts, allow_unused=True)
        _refuse_missed(losses, [call for call in self._calls if not call.reached])

    @torch.no_grad()
    def _take(self, call: LayerCall, rule: LayerRule, shape: torch.Size, gradient: Tensor) -> None:
        """Compute what is needed of a layer, given the gradient of the sum of losses by its output."""
        if self._listens:  # a backward pass that is not ours
            return
        call.reached, gradient = True, gradient.reshape(shape)
        self._check(call, gradient)
        with torch.autocast(gradient.device.type, enabled=False):
            exact = gradient.to(next(call.layer.parameters()).dtype)
            if self._mode == "ghost" and not self._is_used_again(call):
                self._shares.append(rule.share(call, exact))
            else:
                for parameter, row in rule.rows(call, exact).items():
                    self._rows[parameter] = self._rows[parameter] + row if parameter in self._rows else row
        call.release()

    def _is_used_again(self, call: LayerCall) -> bool:
        """Return whether a layer was called more than once: its gradients add up before their norm is taken."""
        return any(other.layer is call.layer and other is not call for other in self._calls)

    def _check(self, call: LayerCall, gradient: Tensor) -> None:
        if len(gradient) != self._count:
            raise ConfigError(
                f"{call.title} gives {len(gradient)} rows for {self._count} examples, whose "
                "shares of its gradient cannot be told apart",
                where="model.architecture",
                fix="Use another model, or freeze this layer.",
            )
        if not call.is_intact():
            raise ConfigError(
                f"an input of {call.title} was changed in place after it was used",
                where="model.architecture",
                fix="Use another model, or one without operations in place.",
            )

    def _norms(self, losses: Tensor) -> Tensor:
        norms = [share.norms for share in self._shares] + [row_norms(row) for row in self._rows.values()]
        return joint_norms(norms) if norms else torch.zeros_like(losses, requires_grad=False)

    @torch.no_grad()
    def _add_weighted(self, factors: Tensor, left_out: Tensor | None = None) -> None:
        places = dict(zip(self.parameters, self.sums, strict=True))
        while self._shares:
            for parameter, part in self._shares.pop().sums(factors, left_out).items():
                places[parameter] += part
        while self._rows:
            parameter, row = self._rows.popitem()
            places[parameter] += weighted_sum(factors, row if left_out is None else masked(row, left_out))

    def _forget_microbatch(self) -> None:
        for call in self._calls:
            call.leave_graph()
        self._calls, self._rows, self._shares = [], {}, []
        self._listens = True


class _Listener:
    """The hook of one layer. A copy of the model, and a pickled one, has a hook that does nothing instead."""

    def __init__(self, owner: ClippedGradients, name: str, rule: LayerRule) -> None:
        self._owner, self._name, self._rule = owner, name, rule

    def __call__(self, layer: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Any:
        owner = self._owner
        if not (owner._listens and torch.is_grad_enabled()):
            return output
        if not isinstance(output, Tensor):
            raise ConfigError(
                f"{title(self._name, layer)} gives a {type(output).__name__}, whose examples cannot be told apart",
                where="model.architecture",
                fix="Use another model, or freeze this layer.",
            )
        if not output.requires_grad:
            return output
        output, source = awaited(output)
        call = LayerCall.of(self._name, layer, arguments, keywords, source)
        owner._calls.append(call)
        source.register_hook(  # type: ignore[no-untyped-call]
            partial(owner._take, call, self._rule, output.shape)
        )
        return output

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Any:
        return _no_listener

    def __reduce__(self) -> Any:
        return _get_no_listener, ()


def _no_listener(layer: nn.Module, arguments: Any, keywords: Any, output: Any) -> None:
    """Stand for the hook in a copy of the model."""


def _get_no_listener() -> Any:
    return _no_listener


def _layers_of(module: nn.Module, seen: set[nn.Module], name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers whose gradients are computed as a whole: the outermost that hold trainable parameters."""
    if module in seen:
        return
    seen.add(module)
    if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
        yield name, module
        return
    for child_name, child in module.named_children():
        yield from _layers_of(child, seen, f"{name}.{child_name}" if name else child_name)


def _rule(layer: nn.Module) -> LayerRule:
    return rule_for(layer) or sampler_rule(layer) or AnyLayer()


def _refuse_shared(layers: list[tuple[str, nn.Module]]) -> None:
    owners: dict[Parameter, str] = {}
    for name, layer in layers:
        for parameter in layer.parameters():
            if owners.setdefault(parameter, name) != name and parameter.requires_grad:
                raise ConfigError(
                    f"ghost cannot do with weights that layers '{owners[parameter]}' and '{name}' share",
                    where=_MODE_KEY,
                    fix="Set it to hooks.",
                )


def _refuse_missed(losses: Tensor, unreached: list[LayerCall]) -> None:
    """Raise ConfigError for a layer that has part in the losses and got no gradient. Unused heads may get none."""
    if not unreached:
        return
    waiting, seen = [losses.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    for call in unreached:
        if call.edge.node in seen:
            raise ConfigError(
                f"the gradient of {call.title} was missed, since its weights, or the inputs' own "
                "gradient, are used outside of layers",
                where="model.architecture",
                fix="Use another model.",
            )
