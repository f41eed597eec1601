"""DeepSpeed ZeRO: optimizer state, gradients and, in stage 3, weights divided among the processes.

DeepSpeed's own checkpoints are pickles. Here its tensors are put together one at a time and kept as those of any other
run are, in full precision, so that a run moves between DeepSpeed, DDP and one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, ClassVar, cast

import torch
from accelerate import Accelerator, DeepSpeedPlugin, DistributedType
from torch import nn

from mltrain.checkpoints.parts import Place
from mltrain.core.errors import ConfigError, HardwareError
from mltrain.trainers.layout import Layout, refuse_scalars
from mltrain.trainers.updates import Update
from mltrain.trainers.zero_optimizer import ZeroOptimizer, check_divisible

__all__ = ["DeepSpeedLayout", "DeepSpeedUpdate", "check_deepspeed", "turn_to_deepspeed"]


def turn_to_deepspeed(accelerator: Accelerator) -> None:
    """Turn to DeepSpeed on CPUs, for which Accelerate passes over it."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    plugin = DeepSpeedPlugin()
    plugin.set_mixed_precision(accelerator.mixed_precision)
    accelerator.state.deepspeed_plugins = plugin
    accelerator.state.distributed_type = DistributedType.DEEPSPEED


def check_deepspeed(accelerator: Accelerator) -> None:
    """Raise HardwareError or ConfigError where DeepSpeed cannot do what was launched."""
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise HardwareError(
            f"{accelerator.mixed_precision} was launched with DeepSpeed",
            where="mixed_precision",
            fix="Launch bf16, or full precision; or DDP (accelerate_configs/multi_gpu_ddp.yaml).",
        )
    plugin = accelerator.state.deepspeed_plugin
    if plugin.zero_stage not in (1, 2, 3):
        raise HardwareError(
            f"DeepSpeed was launched with ZeRO stage {plugin.zero_stage}, which divides nothing",
            where="zero_stage",
            fix="Launch stage 1, 2 or 3, or DDP: see accelerate_configs/.",
        )
    given = plugin.deepspeed_config
    for name in ("optimizer", "scheduler"):
        if name in given:
            raise ConfigError(
                f"DeepSpeed was launched with its own {name}",
                where=name,
                fix="Take it out of the configuration of DeepSpeed: that of mltrain has one.",
            )
    for name in ("offload_optimizer", "offload_param"):
        if ((given["zero_optimization"].get(name) or {}).get("device") or "none") != "none":
            raise HardwareError(
                f"DeepSpeed was launched with {name}, which is not built",
                where=f"{name}_device",
                fix="Set it to none, and divide over more processes.",
            )


class DeepSpeedLayout(Layout):
    """Weights as an engine of DeepSpeed keeps them. Every process builds the whole model first, from the seed alone."""

    # In stage 2 it is gradients, in every backward pass, for which all must be there as well.
    exchanges_weights: ClassVar[bool] = True
    division: ClassVar[str | None] = "DeepSpeed"

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__(accelerator)
        self._plugin: DeepSpeedPlugin = accelerator.state.deepspeed_plugin
        self._divides_weights = self._plugin.zero_stage == 3
        self._rank: int = accelerator.process_index
        self._count: int = accelerator.num_processes
        self._keepers = self._count
        self._is_bf16 = accelerator.mixed_precision == "bf16"
        self._engine: Any = None
        # While this lives, transformers builds models in parts.
        self._plugin.dschf = None

    @property
    def writers(self) -> int:
        """All of them: each tensor is written whole by one."""
        return self._count

    @property
    def autocast(self) -> Callable[[], AbstractContextManager[Any]]:
        """What forward passes run in."""
        return partial(torch.autocast, self._accelerator.device.type, torch.bfloat16) if self._is_bf16 else nullcontext

    def place(self, model: nn.Module) -> nn.Module:
        """Leave a model that will be divided on the host: a device may have no room for more than its part.

        Raises:
            ConfigError: a parameter has no dimension; or a second model is wanted, for the average of the weights,
                where the engine divides weights: it does so with one.
        """
        refuse_scalars(model, self.division)
        if not self._divides_weights:
            return super().place(model)
        if self._engine is not None:
            raise ConfigError(
                "the average of the weights cannot be kept where DeepSpeed divides them (ZeRO stage 3)",
                where="training.ema.enabled",
                fix="Launch ZeRO stage 2, or FSDP2 (accelerate_configs/fsdp2.yaml).",
            )
        return model

    def prepare(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float | None
    ) -> tuple[nn.Module, torch.optim.Optimizer, Update]:
        """Hand both to an engine. What a window is, and when a step is due, stays with the loop."""
        check_divisible(optimizer)
        groups = [list(group["params"]) for group in optimizer.param_groups]
        self._plugin.deepspeed_config |= _settings(max_norm, self._count, is_bf16=self._is_bf16)
        shapes = [[parameter.shape for parameter in group] for group in groups]
        self._engine, _ = self._accelerator.prepare(model, optimizer)
        hooked: Any = model
        if self._divides_weights:
            hooked.register_state_dict_post_hook(partial(self._gather))  # torch marks it, which a method forbids
            hooked.register_load_state_dict_pre_hook(self._divide)
        hooked.register_load_state_dict_post_hook(lambda *_: self._engine.optimizer.refresh_fp32_params())
        whole: Any = ZeroOptimizer(optimizer, self._engine.optimizer, groups, shapes)
        return self._engine, whole, DeepSpeedUpdate(self._engine)

    @contextmanager
    def more_to_come(self, model: nn.Module) -> Iterator[None]:
        """Tell the engine that more microbatches of the window follow."""
        self._engine.set_gradient_accumulation_boundary(False)
        try:
            yield
        finally:
            self._engine.set_gradient_accumulation_boundary(True)

    def size_of(self, parameter: nn.Parameter) -> int:
        """Return the same: DeepSpeed leaves no elements in what it has divided."""
        return int(getattr(parameter, "ds_numel", parameter.numel()))

    def own(self, tensors: Mapping[str, torch.Tensor]) -> tuple[Mapping[str, torch.Tensor], Mapping[str, Place]]:
        """Return every so many-th tensor, whole."""
        return {name: tensor for index, (name, tensor) in enumerate(tensors.items()) if self._keeps(index)}, {}

    def whole_state(self, model: nn.Module) -> dict[str, torch.Tensor] | None:
        """Put one tensor at a time together, onto the main process's host."""
        self._keepers = 1
        try:
            state = model.state_dict()
        finally:
            self._keepers = self._count
        return {name: tensor.cpu() for name, tensor in state.items()} if self._is_main else None

    def _keeps(self, index: int) -> bool:
        return bool(index % self._keepers == self._rank)

    def _gather(self, model: nn.Module, state: dict[str, torch.Tensor], *_: Any) -> None:
        """Put whole tensors into a state dict for parts; for those that another process keeps, only their shape."""
        from deepspeed import zero  # type: ignore[import-not-found]

        parameters = dict(model.named_parameters(remove_duplicate=False))
        for index, name in enumerate(state):
            if name in parameters:
                with zero.GatheredParameters([parameters[name]]):
                    whole = parameters[name].detach()
                    state[name] = whole.to("cpu", copy=True) if self._keeps(index) else whole.to("meta")

    def _divide(self, model: nn.Module, state: dict[str, torch.Tensor], prefix: str, *rest: Any) -> None:
        """Load the parameters of a state dict, and leave in it what changes nothing."""
        from deepspeed import zero  # type: ignore[import-not-found]

        errors: list[str] = rest[-1]
        for name, parameter in model.named_parameters(remove_duplicate=False):
            whole, inner = state.get(name), cast(Any, parameter)
            if whole is not None and whole.shape != inner.ds_shape:
                errors.append(f"size mismatch for {name}: {tuple(whole.shape)}, not {tuple(inner.ds_shape)}")
            elif whole is not None:
                with zero.GatheredParameters([parameter], modifier_rank=0), torch.no_grad():
                    if self._rank == 0:
                        parameter.copy_(whole)
            if whole is not None:
                state[name] = parameter.detach()


class DeepSpeedUpdate:
    """The engine's backward pass, clipping and step.

    Args:
        engine: of DeepSpeed.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def backward(self, values: torch.Tensor, scale: torch.Tensor | float, word: object = None) -> None:
        """Add to the gradients, which the engine averages over the processes. No word goes with them."""
        self._engine.backward((values * scale).sum())

    def finish(self, *, want_norm: bool) -> torch.Tensor | None:
        """Clip and take the step, which the engine leaves out where the norm is not finite: it does all in one."""
        self._engine.step()
        norm = self._engine.get_global_grad_norm()
        return None if norm is None else torch.as_tensor(norm)

    def is_sound(self, norm: torch.Tensor | None) -> bool:
        """Return whether the step was taken."""
        applied: bool = self._engine.was_step_applied()
        return applied

    def step(self) -> None:
        """Do nothing: `finish` has taken the step."""

    def clear(self) -> None:
        """Forget the gradients."""
        self._engine.optimizer.zero_grad()


def _settings(max_norm: float | None, count: int, *, is_bf16: bool) -> dict[str, Any]:
    """Return the settings of an engine that the loop answers for."""
    return {
        # One engine step is one microbatch to the engine; the loop says which is the last of a window.
        "train_batch_size": count,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": max_norm or 0.0,
        # Weights stay in full precision, as with every other trainer, and so does what is exchanged of them.
        "fp16": {"enabled": False},
        "bf16": {"enabled": False},
        "torch_autocast": {"enabled": is_bf16, "dtype": "bfloat16", "lower_precision_safe_modules": []},
    }
