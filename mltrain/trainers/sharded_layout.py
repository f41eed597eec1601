"""FSDP2: each process keeps a part of every weight, its gradient and its optimizer state, and gathers whole layers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import torch
from accelerate import Accelerator
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from mltrain.checkpoints.parts import Place, is_divided, own_parts
from mltrain.trainers.layout import Layout, refuse_scalars
from mltrain.trainers.updates import DirectUpdate, Update

__all__ = ["ShardedLayout"]


class ShardedLayout(Layout):
    """Weights in parts, as `fully_shard` divides them: by their first dimension.

    Every process builds the whole model on its host first, from the seed alone, and keeps its part of it.
    """

    exchanges_weights: ClassVar[bool] = True
    division: ClassVar[str | None] = "FSDP2"

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__(accelerator)
        self._plugin = plugin = accelerator.state.fsdp_plugin
        precision = MixedPrecisionPolicy()
        if accelerator.mixed_precision == "bf16":
            # Gradients added up in the smaller type, as Accelerate has it, would depend on how a window is cut.
            precision = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        self._settings = {"offload_policy": plugin.cpu_offload, "mp_policy": precision}

    @property
    def writers(self) -> int:
        """All of them."""
        count: int = self._accelerator.num_processes
        return count

    def place(self, model: nn.Module) -> nn.Module:
        """Divide a model in place, by the modules that the settings for Accelerate name; what remains is one part more.

        Accelerate's own way begins with embeddings, and cannot divide a model whose settings name what holds them.

        Raises:
            ConfigError: a parameter has no dimension.
        """
        refuse_scalars(model, self.division)
        self._plugin.set_auto_wrap_policy(model)
        is_named = fsdp2_prepare_auto_wrap_policy(self._plugin, model) or (lambda _: False)
        # What a module holds comes before the module.
        for module in reversed(list(model.modules())[1:]):
            if is_named(module):
                fully_shard(module, reshard_after_forward=self._plugin.reshard_after_forward, **self._settings)
        fully_shard(model, **self._settings)
        return model

    def prepare(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float | None
    ) -> tuple[nn.Module, torch.optim.Optimizer, Update]:
        """Return them as they are."""
        return model, optimizer, ShardedUpdate(optimizer, max_norm)

    def more_to_come(self, model: nn.Module) -> AbstractContextManager[None]:
        """Exchange gradients all the same: else each process would hold whole ones between microbatches."""
        return nullcontext()

    def forget_gathered(self, model: nn.Module) -> None:
        """Leave this process with its parts alone."""
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def own(self, tensors: Mapping[str, torch.Tensor]) -> tuple[Mapping[str, torch.Tensor], Mapping[str, Place]]:
        """Return this process's parts; the main one has what is not divided too."""
        return own_parts(tensors, is_main=self._is_main)

    def whole_state(self, model: nn.Module) -> dict[str, torch.Tensor] | None:
        """Gather one tensor at a time, onto the main process's host."""
        whole = {}
        for name, tensor in model.state_dict().items():
            gathered = tensor.full_tensor() if is_divided(tensor) else tensor
            if self._is_main:
                whole[name] = gathered.cpu()
        return whole if self._is_main else None


class ShardedUpdate(DirectUpdate):
    """Clips by the norm over all parts of the gradient."""

    def _total_norm(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        norm = torch.nn.utils.get_total_norm(gradients)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm
