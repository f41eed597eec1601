"""What keys say about one another: problems that no key has alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mltrain.config.schema import Config
from mltrain.core.masking import has_password, masked

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
    yield from _compilation(config)
    monitor, mode = config.checkpointing.monitor, config.checkpointing.mode
    if monitor is not None and mode is None:
        yield "checkpointing.monitor", "needs checkpointing.mode: min or max. Add it."
    if mode is not None and monitor is None:
        yield "checkpointing.mode", "needs checkpointing.monitor: a metric such as val_loss. Add it."
    yield from _passwords(config.model_dump())


def _compilation(config: Config) -> Iterator[tuple[str, str]]:
    section = config.training.compile
    if not section.enabled or section.mode == "default":
        return
    if section.backend != "inductor":
        yield "training.compile.mode", f"is {section.mode}, which {section.backend} does not have. Leave it out."
    elif config.reproducibility.deterministic:
        yield (
            "training.compile.mode",
            f"is {section.mode}, which chooses by trial and needs reproducibility.deterministic: false. "
            "Set that as well, or leave the mode out.",
        )


def _passwords(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each address with a password: a run folder keeps the whole configuration, and its command line."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _passwords(value, f"{key}.")
        elif has_password(str(value)):
            how = "Leave it out and give it to the tracker by the environment."
            if key == "tracking.mlflow.tracking_uri":
                how = (
                    "Leave it out; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment, or "
                    "the whole address as MLFLOW_TRACKING_URI."
                )
            yield key, f"is {masked(str(value))}, with a password, which the run folder would show. {how}"
