"""`summary.json` for programs, `summary.txt` for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mltrain.core.files import write_json, write_text
from mltrain.core.run_folder import RunFolder

__all__ = ["write_summary"]


def write_summary(folder: RunFolder, summary: Mapping[str, Any]) -> None:
    """Write both forms of a summary; values that are not finite become null."""
    clean = _finite(summary)
    write_text(folder.summary_text, summary_text(clean))
    write_json(folder.summary, clean)


def summary_text(summary: Mapping[str, Any]) -> str:
    """Return a summary as lines."""
    lines = [
        f"run          {summary['run_name']}",
        f"status       {summary['status']}" + (f" ({summary['reason']})" if summary.get("reason") else ""),
        f"task         {summary['task']}",
        f"trainer      {summary['trainer']}, {summary['num_processes']} process(es)",
        f"trained      {summary['epochs']} epochs, {summary['steps']} steps, {summary['samples_seen']} samples",
    ]
    if best := summary.get("best"):
        lines.append(
            f"best         {best['metric']} {_number(best['value'])} in epoch {best['epoch']}, step {best['step']}"
        )
    for split in ("train", "val", "test"):
        if values := summary.get(split):
            lines.append(f"{split:<12} " + ", ".join(f"{name} {_number(value)}" for name, value in values.items()))
    if summary.get("model_digest"):
        lines.append(f"model        sha256 {summary['model_digest']}")
    timing = summary["timing"]
    lines.append(
        f"time         {timing['total_s']:.1f} s, training {timing['train_s']:.1f} s at "
        f"{timing['samples_per_s']:.0f} samples/s, waiting for data {timing['data_wait_s']:.1f} s"
    )
    return "\n".join(lines) + "\n"


def _number(value: Any) -> str:
    return "not finite" if value is None else f"{value:.4f}"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
