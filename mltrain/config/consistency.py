"""What keys say about one another: problems that no key has alone."""

from __future__ import annotations

from collections.abc import Iterator

from mltrain.config.schema import Config

__all__ = ["inconsistencies"]


def inconsistencies(config: Config) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong and what to do) for each contradiction; the key is the one to look at first."""
    scheduler, lr = config.scheduler, config.optimizer.lr
    if scheduler.min_lr > lr:
        yield "scheduler.min_lr", f"is {scheduler.min_lr:g}, above optimizer.lr, which is {lr:g}. Lower it."
    if scheduler.warmup_steps is not None and scheduler.warmup_epochs is not None:
        yield "scheduler.warmup_epochs", "stands beside scheduler.warmup_steps. Keep one of them."
    if config.reproducibility.deterministic and config.reproducibility.benchmark:
        yield (
            "reproducibility.benchmark",
            "is true and needs reproducibility.deterministic: false. Set that as well.",
        )
    monitor, mode = config.checkpointing.monitor, config.checkpointing.mode
    if monitor is not None and mode is None:
        yield "checkpointing.monitor", "needs checkpointing.mode: min or max. Add it."
    if mode is not None and monitor is None:
        yield "checkpointing.mode", "needs checkpointing.monitor: a metric such as val_loss. Add it."
