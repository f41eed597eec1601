"""How many examples had each score for a class: all that the area under a ROC curve needs, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mltrain.metrics.figures import auroc
from mltrain.tasks.gathered_rows import array_from_json, array_to_json

__all__ = ["ScoreCounts"]

_FOLD_AFTER = 256
_MOST_EXACT = 2**20


class ScoreCounts:
    """Counts, for each class and each score for it, the examples of the class and those of others.

    A score is the log-odds of the class, float32: it orders examples as the probability does, which near 1 has no
    digits left to order them by. As long as there are at most 2**20 different pairs of class and score, each is kept
    as it is, and the area under the curve is exact. Beyond that all scores are rounded to 8 significant bits, by which
    the area changes by less than 1e-3. Whether they are rounded follows from the examples alone, not from how they
    were cut or in which order they were merged.

    Args:
        classes: indices of the classes that have a curve.
        most_exact: how many different scores are kept as they are.
    """

    def __init__(self, classes: Sequence[int], *, most_exact: int = _MOST_EXACT) -> None:
        self._classes = np.asarray(classes, dtype=np.uint64)
        self._most_exact = most_exact
        self._rounded = False
        self._pending: list[tuple[torch.Tensor, torch.Tensor]] = []
        # Sorted and different: the class above, the bits of the score below; and the two counts of each.
        self._keys = np.zeros(0, dtype=np.uint64)
        self._counts = np.zeros((0, 2), dtype=np.int64)
        self._loose: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []

    def add(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Take in logits (B, C) and labels (B,). Both stay on the device until they are asked for."""
        self._pending.append((logits.detach(), labels))
        if len(self._pending) >= _FOLD_AFTER:
            self._fold()
            if sum(len(keys) for keys, _ in self._loose) > len(self._keys):
                self._settle()

    def auroc(self) -> float:
        """Return the mean over the classes of the area under the curve of each against the rest."""
        self._settle()
        rows, kinds = np.nonzero(self._counts)
        keys = self._keys[rows]
        scores = keys.astype(np.uint32).view(np.float32)  # the lower half
        return auroc(scores, kinds == 0, self._counts[rows, kinds], (keys >> np.uint64(32)).astype(np.int64))

    def state(self) -> dict[str, Any]:
        """Return all counts as JSON values: 10 bytes for each score, where it occurred fewer than 256 times."""
        self._settle()
        counts = self._counts.astype(np.min_scalar_type(self._counts.max(initial=0)))
        return {"rounded": self._rounded, "keys": array_to_json(self._keys), "counts": array_to_json(counts)}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add counts."""
        self._rounded |= state["rounded"]
        self._loose.append((array_from_json(state["keys"]), array_from_json(state["counts"]).astype(np.int64)))

    def _fold(self) -> None:
        if not self._pending:
            return
        logits, labels = (torch.cat(tensors) for tensors in zip(*self._pending, strict=True))
        self._pending.clear()
        of_class = labels.cpu().numpy()[:, None] == self._classes.astype(np.int64)
        bits = _log_odds(logits.float().cpu().numpy())[:, self._classes.astype(np.int64)].view(np.uint32)
        keys = (bits.astype(np.uint64) | (self._classes << np.uint64(32))).reshape(-1)
        counts = np.stack([of_class, ~of_class], axis=-1).reshape(-1, 2).astype(np.int64)
        self._loose.append((keys, counts))

    def _settle(self) -> None:
        """Bring all counts together."""
        self._fold()
        keys, counts = (np.concatenate(parts) for parts in zip((self._keys, self._counts), *self._loose, strict=True))
        self._loose.clear()
        if not len(keys):
            return
        self._keys, self._counts = _added(_rounded(keys) if self._rounded else keys, counts)
        if not self._rounded and len(self._keys) > self._most_exact:
            self._rounded = True
            self._keys, self._counts = _added(_rounded(self._keys), self._counts)


def _log_odds(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log p - log (1 - p) of the softmax p of logits (N, C), without the cancellation of 1 - p near p = 1."""
    values = logits.astype(np.float64)
    rows, best = np.arange(len(values)), values.argmax(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        values -= values[rows, best][:, None]
        shares = np.exp(values)
        shares[rows, best] = 0.0
        others = shares.sum(axis=1)
        rest = (others + 1.0)[:, None] - shares
        rest[rows, best] = others
        odds: NDArray[np.float32] = (values - np.log(rest)).astype(np.float32)
    # One bit pattern for each value: zeros and NaNs have several.
    odds[np.isnan(odds)] = np.nan
    odds += np.float32(0.0)
    return odds


def _added(keys: NDArray[np.uint64], counts: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the different keys, sorted, and the sums of their counts."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(counts[order], starts, axis=0)


def _rounded(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return keys whose scores are rounded to the nearest bfloat16, ties to even."""
    odd = (keys >> np.uint64(16)) & np.uint64(1)
    return (keys + np.uint64(0x7FFF) + odd) & ~np.uint64(0xFFFF)
