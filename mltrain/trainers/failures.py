"""torch's errors that the user can mend, in words."""

from __future__ import annotations

import torch

from mltrain.core.errors import HardwareError

__all__ = ["explained"]


def explained(error: BaseException) -> HardwareError | None:
    """Return the error for people that an error of torch stands for, or None."""
    text = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in text
    ):
        return HardwareError(
            "out of memory",
            where="training.batch_size",
            fix="Halve it and double training.gradient_accumulation_steps: the gradient stays the same.",
        )
    if isinstance(error, RuntimeError) and "use_deterministic_algorithms" in text:
        operation = text.split(" ", 1)[0]
        return HardwareError(
            f"{operation} has no deterministic form on this device",
            where="reproducibility.deterministic",
            fix="Set it to false (a second run will then not give the same bits), or use another model.",
        )
    if isinstance(error, RuntimeError) and "DataLoader worker" in text and "killed" in text:
        return HardwareError(
            "a loader process was killed, most likely for want of memory or shared memory",
            where="data.num_workers",
            fix="Lower it, or give the machine more (with containers: --shm-size).",
        )
    if isinstance(error, RuntimeError) and "does not require grad" in text:
        return HardwareError(
            "the loss does not depend on any weight that is trained, so there is no gradient",
            where="loss",
            fix="Compute it from the model's outputs without detach(), item() or whole numbers; freeze less.",
        )
    if isinstance(error, ValueError) and "Expected more than 1 value per channel" in text:
        return HardwareError(
            "batch norm cannot learn from one value: a microbatch has a single example whose map is one pixel",
            where="training.batch_size",
            fix="Choose one that leaves more than one example to the last window, or larger images.",
        )
    return None
