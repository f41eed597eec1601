"""What a run says before its first step: what is trained, on what, how it is loaded, and what looks like a mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mltrain.core.logging import log
from mltrain.trainers.base import Trainer
from mltrain.workflows.rank_facts import differences_between_ranks

__all__ = ["announce"]


def announce(trainer: Trainer, ranks: Sequence[Mapping[str, Any]]) -> None:
    """Log the run's plan, and warnings about settings that are allowed but rarely meant.

    Args:
        trainer: set up, before its first step.
        ranks: what `gather_rank_facts` gave.
    """
    config = trainer.config
    sizes = ", ".join(f"{split} {len(dataset)}" for split, dataset in trainer.loaders.splits.items())
    log.info("Run %s, trainer %s, %d process(es).", trainer.folder.name, trainer.name, trainer.processes.count)
    log.info("Device %s.", _device(ranks[0]["hardware"]))
    if len(ranks) > 1:
        hosts = len({facts["host"] for facts in ranks})
        division = trainer.layout.division
        log.info(
            "The processes are on %d machine(s) and exchange tensors by %s. The weights are %s.",
            hosts, ranks[0]["backend"], f"divided by {division}" if division else "whole on each",
        )  # fmt: skip
    log.info("Samples: %s. Model: %s with %s.", sizes, config.model.architecture, _parameters(trainer))
    log.info("%d steps an epoch of %s. %s", trainer.steps_per_epoch, trainer.window_text(), _loading(trainer))
    for line in trainer.adaptations:
        log.info("%s", line)
    _warn(trainer)
    if differences := differences_between_ranks(ranks):
        log.warning("Processes differ in what bears on the bits of the result: %s.", "; ".join(differences))


def _device(facts: Mapping[str, Any]) -> str:
    types = ", ".join(name for name in ("bf16", "tf32") if facts.get(name)) or "neither bf16 nor tf32"
    host = f"{facts['cores']} core(s), {facts['threads']} thread(s), {facts['memory_gib']} GiB"
    if "gpu" not in facts:
        return f"{facts['device']} ({facts['instruction_set']}): {host}; {types} in hardware"
    return (
        f"{facts['device']} ({facts['gpu']}, capability {facts['compute_capability']}): {facts['gpu_memory_gib']} GiB; "
        f"{types} in hardware; host: {host}"
    )


def _parameters(trainer: Trainer) -> str:
    parameters = list(trainer.plain_model.parameters())
    counts = [trainer.layout.size_of(parameter) for parameter in parameters]
    total = sum(counts)
    trained = sum(count for count, parameter in zip(counts, parameters, strict=True) if parameter.requires_grad)
    return f"{total:,} parameters" + (f", {trained:,} of them trained" if trained < total else "")


def _loading(trainer: Trainer) -> str:
    settings = trainer.loaders.settings
    memory = "pinned memory" if settings.pin_memory else "memory not pinned"
    if settings.num_workers == 0:
        return f"Loaded by the training process, {memory}."
    workers = f"{settings.num_workers} loader worker(s) for the whole run"
    return f"{workers}, {settings.prefetch_factor} batches ahead each, {memory}."


def _warn(trainer: Trainer) -> None:
    config, total = trainer.config, trainer.steps_per_epoch * trainer.num_epochs
    if trainer.schedule.warmup_steps >= total:
        log.warning(
            "The warm-up takes %d steps and the whole run %d: the learning rate never reaches optimizer.lr. "
            "Shorten scheduler.warmup_steps or warmup_epochs, or train longer.",
            trainer.schedule.warmup_steps, total,
        )  # fmt: skip
    samples = len(trainer.loaders.splits["train"])
    if trainer.window_size > samples:
        log.warning(
            "A step takes up to %d samples (batch_size x processes x gradient_accumulation_steps), and training has "
            "%d: each epoch is one step with all of them.",
            trainer.window_size, samples,
        )  # fmt: skip
    if "val" not in trainer.loaders.splits:
        log.warning("There is no validation split: no epoch is the best one, and the last weights are packed.")
    switches = config.reproducibility
    if not switches.deterministic:
        log.warning(
            "Not deterministic: a second run will not give the same bits (reproducibility.deterministic: false%s).",
            ", benchmark: true" if switches.benchmark else "",
        )
