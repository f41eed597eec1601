"""FSDP2: each process keeps a part of every weight, its gradient and its optimizer state, and gathers whole layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from accelerate import Accelerator
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

from mltrain.checkpoints.parts import Place, is_divided, own_parts
from mltrain.trainers.layout import Layout
from mltrain.trainers.updates import DirectUpdate, Update

__all__ = ["ShardedLayout"]

_COMPUTED_IN = {"bf16": torch.bfloat16, "fp16": torch.float16}


class ShardedLayout(Layout):
    """Weights in parts, as `fully_shard` divides them: by their first dimension.

    Every process builds the whole model on its host first, from the seed alone, and keeps its part of it.
    """

    exchanges_weights: ClassVar[bool] = True

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__(accelerator)
        plugin = accelerator.state.fsdp_plugin
        # All processes have the same weights from the seed: to send them would be for nothing, and buffers cannot be.
        plugin.cpu_ram_efficient_loading = False
        if accelerator.mixed_precision != "no":
            # Accelerate would add up gradients in the smaller type, whose sum depends on how a window is cut.
            plugin.mixed_precision_policy = MixedPrecisionPolicy(
                param_dtype=_COMPUTED_IN[accelerator.mixed_precision], reduce_dtype=torch.float32
            )

    @property
    def writers(self) -> int:
        """All of them."""
        count: int = self._accelerator.num_processes
        return count

    def place(self, model: nn.Module) -> nn.Module:
        """Leave the model on the host: a device may have no room for more than its part."""
        return model

    def prepare(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float | None
    ) -> tuple[nn.Module, torch.optim.Optimizer, Update]:
        """Divide the model in place, and the optimizer's parameters with it."""
        prepared_model, _ = self._accelerator.prepare(model, optimizer)
        return prepared_model, optimizer, ShardedUpdate(optimizer, max_norm)

    def divide(self, model: nn.Module) -> nn.Module:
        """Divide a second model in place."""
        divided: nn.Module = fsdp2_prepare_model(self._accelerator, model)
        return divided

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
