"""A table of texts with a code in some of them, in train, val and test, and configurations that learn it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ["call", "now", "Win", "free", "prize", "text", "the", "our", "İstanbul", "ünder", "pay\nline", "", "stop"]
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
PARTS = ("train", "train", "train", "val", "test")


def span_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows whose longest texts need several windows of 24 tokens; one in three has no code."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        words = list(generator.choice(WORDS, size=int(generator.integers(2, 40))))
        answer, start = "", -1
        if number % 3:
            answer, place = f"£{generator.integers(100, 999)}", int(generator.integers(0, len(words)))
            words.insert(place, answer)
            start = sum(len(word) + 1 for word in words[:place])
        rows.append(
            {
                "criterion": "how much" if number % 2 else "what sum",
                "text": " ".join(words),
                "label": "spam" if answer else "ham",
                "answer": answer,
                "answer_start": start,
                "answer_end": start + len(answer) if answer else -1,
                "part": PARTS[number % 5],
            }
        )
    return rows


def write_span_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def span_config(folder: Path, task: str, *, runs: Path | None = None) -> dict[str, Any]:
    """Return the configuration of a run of a second or two."""
    return {
        "task": task,
        "data": {
            "data_dir": str(folder),
            "table": "texts.csv",
            "split_column": "part",
            "context_column": "text",
            "question_column": "criterion",
            "max_length": 24,
            "stride": 6,
            "num_workers": 0,
        },
        "model": {"architecture": "bert_tiny", "vocab_size": 120, "options": dict(TINY)},
        "training": {"num_epochs": 2, "batch_size": 8},
        "optimizer": {"lr": 0.003},
        "tracking": {"log_every_n_steps": 2, "mlflow": {"enabled": False}, "system_metrics": {"enabled": False}},
        "reproducibility": {"num_threads": 1},
        "run": {"dir": str(runs or folder / "runs")},
    }
