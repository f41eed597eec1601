"""Rows of a table as samples: all windows of a row are one sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mltrain.core.seeding import SampleGenerator
from mltrain.data.batches import Batch
from mltrain.data.text.windows import Windows

__all__ = ["WindowDataset", "WindowedRow", "collate_windows"]


class WindowedRow(NamedTuple):
    """One row: its number in the table, and of each of its W windows the tokens.

    tokens: W pairs of token numbers and segments, (L,) each.
    inside: W masks (L,): which tokens stand for a part of the context.
    targets: first and last token of the answer in each window, (W, 2).
    label: the class, where rows have one; else 0.
    """

    row: int
    tokens: list[tuple[NDArray[np.int32], NDArray[np.int8]]]
    inside: list[NDArray[np.bool_]]
    targets: NDArray[np.int32]
    label: int


class WindowDataset:
    """Rows of a table.

    Args:
        rows: their numbers among all rows of the windows.
        ids: of each row of the table an ID that stays with it.
        windows: of all rows of the table.
        targets: of all windows, (windows, 2): see `Answers.targets`.
        labels: the class of each row of the table; None: they have none.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        ids: Sequence[str],
        windows: Windows,
        targets: NDArray[np.int32],
        labels: NDArray[np.int64] | None = None,
    ) -> None:
        self._rows, self._ids, self._windows, self._targets, self._labels = rows, ids, windows, targets, labels

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def sample_id(self, index: int) -> str:
        """Return the ID of a row."""
        return self._ids[int(self._rows[index])]

    def load(self, index: int, generator: SampleGenerator | None) -> WindowedRow:
        """Return a row with all its windows. Nothing is drawn."""
        row, windows = int(self._rows[index]), self._windows
        places = windows.of_row(row)
        first = int(windows.row_starts[row])
        return WindowedRow(
            row,
            [(windows.input_ids[tokens], windows.type_ids[tokens]) for tokens in places],
            [windows.offsets[tokens, 1] > 0 for tokens in places],
            self._targets[first : first + len(places)],
            0 if self._labels is None else int(self._labels[row]),
        )


def collate_windows(items: Sequence[WindowedRow], pad_id: int) -> Batch:
    """Return B rows as tensors (B, W, L): W windows for the row that has the most, L tokens for the longest window.

    Returns:
        input_ids, attention_mask, token_type_ids: int64 (B, W, L).
        inside: bool (B, W, L), tokens that stand for a part of the context.
        targets: int64 (B, W, 2), first and last token of the answer; (0, 0) where the window has none.
        windows: bool (B, W), False for what fills up a row that has fewer. Such a window shows one token of padding,
            since attention to nothing has no value.
        rows: int64 (B,), the numbers of the rows in their table.
        labels: int64 (B,), their classes.
    """
    count = max(len(item.tokens) for item in items)
    length = max(len(ids) for item in items for ids, _ in item.tokens)
    input_ids = np.full((len(items), count, length), pad_id, dtype=np.int64)
    mask, type_ids = np.zeros_like(input_ids), np.zeros_like(input_ids)
    inside = np.zeros(input_ids.shape, dtype=np.bool_)
    targets = np.zeros((len(items), count, 2), dtype=np.int64)
    real = np.zeros((len(items), count), dtype=np.bool_)
    mask[:, :, 0] = 1
    for number, item in enumerate(items):
        for window, ((ids, types), within) in enumerate(zip(item.tokens, item.inside, strict=True)):
            place = number, window, slice(len(ids))
            input_ids[place], type_ids[place], inside[place], mask[place] = ids, types, within, 1
        targets[number, : len(item.tokens)] = item.targets
        real[number, : len(item.tokens)] = True
    return {
        "input_ids": torch.from_numpy(input_ids),
        "attention_mask": torch.from_numpy(mask),
        "token_type_ids": torch.from_numpy(type_ids),
        "inside": torch.from_numpy(inside),
        "targets": torch.from_numpy(targets),
        "windows": torch.from_numpy(real),
        "rows": torch.tensor([item.row for item in items]),
        "labels": torch.tensor([item.label for item in items]),
    }
