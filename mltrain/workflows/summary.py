"""`summary.json` for programs, `summary.txt` for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mltrain.config.schema import Config
from mltrain.core.files import write_json, write_text
from mltrain.core.logging import log
from mltrain.core.masking import masked
from mltrain.core.run_folder import RunFolder
from mltrain.core.version import __version__
from mltrain.privacy.rounding import shown_up
from mltrain.tracking.non_private import NON_PRIVATE, matcher
from mltrain.trainers.base import Trainer
from mltrain.workflows.metadata import now

__all__ = ["run_summary", "write_summary"]


def run_summary(
    config: Config,
    folder: RunFolder,
    trainer: Trainer | None,
    status: str,
    *,
    reason: str,
    num_processes: int,
    best: Mapping[str, Any] | None,
    values: Mapping[str, Mapping[str, float]] | None = None,
    digest: str | None = None,
    non_private: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what `summary.json` holds.

    Args:
        config, folder: of the run.
        trainer: None before it could be set up.
        status: "running", "completed", "early_stopped", "interrupted" or "failed".
        reason: why it stopped, for people.
        num_processes: of the run.
        best: the best checkpoint so far.
        values: split -> metrics of the chosen weights, after the final evaluation.
        digest: of these weights.
        non_private: patterns of the names that no privacy guarantee covers.
    """
    summary: dict[str, Any] = {
        "status": status,
        "reason": masked(reason),
        "run_name": folder.name,
        "trainer": config.training.trainer_type,
        "task": config.task,
        "num_processes": num_processes,
        "mltrain": __version__,
        "finished": None if status == "running" else now(),
        "best": best,
        "num_epochs": config.training.num_epochs,
        "epochs": 0,
        "steps": 0,
        "samples_seen": 0,
        **(values or {}),
        "model_digest": None,
        "timing": {"total_s": 0.0, "train_s": 0.0, "samples_per_s": 0.0, "data_wait_s": 0.0},
        **({NON_PRIVATE: list(non_private)} if non_private else {}),
    }
    if trainer is None:
        return summary
    summary |= {
        "epochs": trainer.position.epoch,
        "steps": trainer.position.step,
        "samples_seen": trainer.samples_seen,
        "timing": trainer.timing.summary(trainer.samples_seen),
        **trainer.summary_facts(),
    }
    if values is not None:
        summary["weights"] = _packed_weights(config, trainer, best)
        summary["model_digest"] = digest
    return summary


def _packed_weights(config: Config, trainer: Trainer, best: Mapping[str, Any] | None) -> str:
    """Return which weights of the run were evaluated last and packed, for people."""
    selection = config.checkpointing.selection or trainer.default_selection
    moment = "of the best checkpoint" if selection == "best" and best is not None else "after the last step"
    return moment if trainer.ema is None else f"{moment}, averaged (EMA)"


def write_summary(folder: RunFolder, summary: Mapping[str, Any]) -> None:
    """Write both forms of a summary; values that are not finite become null.

    Raises:
        OSError: it cannot be written. Of a run that failed that is a warning: its own error is about to be told.
    """
    clean = _finite(summary)
    try:
        write_text(folder.summary_text, summary_text(clean))
        write_json(folder.summary, clean)
    except OSError as error:
        if summary["status"] != "failed":
            raise
        log.warning("%s: cannot be written (%s).", error.filename, error.strerror)


def summary_text(summary: Mapping[str, Any]) -> str:
    """Return a summary as lines."""
    # What is private tells no exact number of samples that were drawn, only the expected one.
    about = "about " if summary.get(NON_PRIVATE) else ""
    lines = [
        f"run          {summary['run_name']}",
        f"status       {summary['status']}" + (f" ({summary['reason']})" if summary.get("reason") else ""),
        f"task         {summary['task']}",
        f"trainer      {summary['trainer']}, {summary['num_processes']} process(es)",
        f"trained      {summary['epochs']} of {summary['num_epochs']} epochs, {summary['steps']} steps, "
        f"{about}{summary['samples_seen']} samples",
    ]
    if best := summary.get("best"):
        lines.append(
            f"best         {best['metric']} {_number(best['value'])} in epoch {best['epoch']}, step {best['step']}"
        )
    if weights := summary.get("weights"):
        lines.append(f"weights      {weights}")
    for split in ("train", "val", "test"):
        if values := summary.get(split):
            lines.append(f"{split:<12} " + ", ".join(f"{name} {_number(value)}" for name, value in values.items()))
    if claim := summary.get("privacy"):
        lines.append(f"privacy      {_claim_text(claim)}{_non_private_text(summary)}")
    if summary.get("model_digest"):
        lines.append(f"model        sha256 {summary['model_digest']}")
    timing = summary["timing"]
    lines.append(
        f"time         {timing['total_s']:.1f} s, training {timing['train_s']:.1f} s at "
        f"{timing['samples_per_s']:.0f} samples/s, waiting for data {timing['data_wait_s']:.1f} s"
    )
    return "\n".join(lines) + "\n"


def _claim_text(claim: Mapping[str, Any]) -> str:
    if claim.get("void"):
        return f"VOID: {claim['void'].rstrip('.')}"
    return (
        f"epsilon {shown_up(claim['epsilon'])} at delta {shown_up(claim['delta'])} ({claim['accountant']}), "
        f"{claim['steps']} steps"
    )


def _non_private_text(summary: Mapping[str, Any]) -> str:
    """Return, as the rest of a line, which splits' metrics no privacy guarantee covers."""
    is_non_private = matcher(summary.get(NON_PRIVATE, ()))
    splits = [split for split in ("train", "val", "test") if split in summary]
    listed = [split for split in splits if is_non_private(f"{split}/loss")]
    if splits and not listed:
        return ""
    return f"; {'' if listed == splits else ' and '.join(listed) + ' '}metrics are not private"


def _number(value: Any) -> str:
    return "not finite" if value is None else f"{value:.4f}"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
