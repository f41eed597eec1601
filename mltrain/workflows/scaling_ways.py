"""The ways to divide training over processes: what each rank keeps whole, and what it keeps a share of."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ALONE", "WAYS", "Precision", "Way"]


_TORCH_BUCKET_BYTES = 25 * 2**20
_DEEPSPEED_BUCKET_VALUES = 500_000_000


@dataclass(frozen=True)
class Precision:
    """Bytes of a value.

    Attributes:
        stored: as the optimizer sees it.
        compute: in forward and backward passes.
    """

    stored: int
    compute: int

    @classmethod
    def named(cls, name: str) -> Precision:
        """Return `float32`, or `bf16-mixed`: bfloat16 in the passes, float32 for what the optimizer steps with."""
        return cls(4, 2 if name == "bf16-mixed" else 4)


@dataclass(frozen=True)
class Way:
    """One way.

    Attributes:
        name: as the table shows it.
        key: as it is chosen.
        shards_weights, shards_gradients, shards_optimizer: of what each rank keeps a share of 1/n: the third is stage 1
            of ZeRO, the second and third stage 2, all three stage 3 (Rajbhandari et al., "ZeRO: Memory Optimizations
            Toward Training Trillion Parameter Models", 2020).
        casts_weights: in mixed precision the weights themselves lie in the type of computation, with a float32 copy
            beside the optimizer's state (ZeRO as DeepSpeed does it); otherwise they lie in float32 and are cast.
        gathers_again: weights are gathered for the forward pass and again for the backward pass.
        every_microbatch: gradients are exchanged after each microbatch, not after the last of the window alone.
    """

    name: str
    key: str
    shards_weights: bool = False
    shards_gradients: bool = False
    shards_optimizer: bool = False
    casts_weights: bool = False
    gathers_again: bool = False
    every_microbatch: bool = False

    def bucket_bytes(self, precision: Precision, wanted: int | None) -> int:
        """Return the size of a bucket of gradients: the one wanted, or the default of torch, or that of DeepSpeed."""
        if wanted is not None:
            return wanted
        return _DEEPSPEED_BUCKET_VALUES * self.gradient_bytes(precision) if self.casts_weights else _TORCH_BUCKET_BYTES

    def weight_bytes(self, precision: Precision) -> int:
        """Return the bytes of a weight that lies on a rank."""
        return precision.compute if self.casts_weights else precision.stored

    def gradient_bytes(self, precision: Precision) -> int:
        """Return the bytes of a value of the gradient, on a rank and on the wire.

        Autocast under DDP leaves gradients in float32, and mltrain has FSDP2 add them up in float32.
        """
        return precision.compute if self.casts_weights else precision.stored


ALONE = Way("one process", "alone")
WAYS = {
    way.key: way
    for way in (
        Way("DDP", "ddp"),
        Way("ZeRO-1", "zero1", shards_optimizer=True, casts_weights=True),
        Way(
            "ZeRO-2",
            "zero2",
            shards_gradients=True,
            shards_optimizer=True,
            casts_weights=True,
            every_microbatch=True,
        ),
        Way(
            "FSDP2, kept",
            "fsdp2-kept",
            shards_weights=True,
            shards_gradients=True,
            shards_optimizer=True,
            every_microbatch=True,
        ),
        Way(
            "FSDP2, ZeRO-3",
            "fsdp2",
            shards_weights=True,
            shards_gradients=True,
            shards_optimizer=True,
            gathers_again=True,
            every_microbatch=True,
        ),
        Way(
            "FSDP2, no_sync",
            "fsdp2-no-sync",
            shards_weights=True,
            shards_gradients=True,
            shards_optimizer=True,
            gathers_again=True,
        ),
    )
}
"""By key; `kept`: the weights stay gathered from the forward to the backward pass; `no_sync`: gradients stay whole on
each rank until the last microbatch of the window."""
