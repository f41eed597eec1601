"""What can be told of a model's structure: what it was built as, its head, and how deep each parameter stands."""

from __future__ import annotations

import re

from torch import nn

__all__ = ["built_class", "head_name", "head_names", "layer_depths"]

# One residual block: `stages.1.layers.0` of staged networks, else the outermost numbered module (`layers.3`,
# `blocks.7`, `features.2`).
_BLOCK = re.compile(r"^(?:.*?\.)?(?:stages\.\d+\.layers\.\d+|\d+)(?=\.)")


def built_class(module: nn.Module) -> type[nn.Module]:
    """Return the class that a module was built as. FSDP2 gives it another one, derived from that."""
    from torch.distributed.fsdp import FSDPModule

    kinds = (kind for kind in type(module).__mro__ if issubclass(kind, nn.Module) and not issubclass(kind, FSDPModule))
    return next(kinds)


def head_name(model: nn.Module) -> str:
    """Return the name of the module that turns features into logits.

    It is the last linear layer, within `classifier` where there is one; without linear layers, the last module that
    has parameters of its own.
    """
    classifier = getattr(model, "classifier", None)
    has_classifier = isinstance(classifier, nn.Module) and any(True for _ in classifier.parameters())
    root, prefix = (classifier, "classifier") if has_classifier else (model, "")
    assert isinstance(root, nn.Module)
    owners = [(name, module) for name, module in root.named_modules(prefix=prefix) if _owns_parameters(module)]
    linear = [name for name, module in owners if isinstance(module, nn.Linear)]
    return next(reversed(linear or [name for name, _ in owners]), "")


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of all modules that stand between features and outputs.

    A model of several heads says so by an attribute `head_names`. Of transformers' models it is what stands beside the
    base model: a head may have several layers. Of all others it is `head_name`.
    """
    own = getattr(model, "head_names", None)
    if isinstance(own, tuple):
        return own
    base = getattr(model, "base_model_prefix", "")
    beside = [name for name, child in model.named_children() if name != base and any(True for _ in child.parameters())]
    if isinstance(getattr(model, base or "-", None), nn.Module) and beside:
        return tuple(beside)
    return (head_name(model),)


def layer_depths(model: nn.Module) -> dict[str, int]:
    """Return the depth of each parameter: 0 for what comes before the first block, 1 for the first block, and so on.

    The head, and what stands after the last block (a final norm, say), have the greatest depth. Blocks are counted in
    the order in which modules were defined, which is the order of computation in all networks offered here. A model
    without numbered modules counts each module with parameters as a block.
    """
    names = [name for name, _ in model.named_parameters()]
    head = head_name(model)
    inner = [name for name in names if not name.startswith(f"{head}.")]
    blocks = {name: match.group() for name in inner if (match := _BLOCK.match(name))}
    if not blocks:
        blocks = {name: name.rpartition(".")[0] for name in inner}
    last = max((names.index(name) for name in blocks), default=-1)
    order = list(dict.fromkeys(blocks.values()))
    depths: dict[str, int] = {}
    depth = 0
    for number, name in enumerate(names):
        if name in blocks:
            depth = order.index(blocks[name]) + 1
        after = number > last or name.startswith(f"{head}.")
        depths[name] = len(order) + 1 if after else depth
    return depths


def _owns_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))
