"""Sums over the examples of a split that can be stopped, saved and added up anywhere.

They stay on the device of the batches, in double precision where it has that, and are added one batch after the other:
what comes out does not depend on when they were read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray

from mltrain.data.modalities.standardization import packed, unpacked

__all__ = ["ErrorSums", "PairSums"]

Numbers = NDArray[np.float64]

# Below this share of a mean square, a variance is rounding.
_CONSTANT = 1e-9


class _Sums(ABC):
    """Sums of pairs (x, y), predicted and true, of the V numbers of an example."""

    def __init__(self) -> None:
        self._total: torch.Tensor | None = None

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Take in a batch of pairs, (B, ...) each. Does not wait for the device."""
        sums = self._of_batch(*(_precise(values.detach().flatten(1)) for values in (x, y)))
        self._total = sums if self._total is None else self._total.to(sums) + sums

    def total(self) -> Numbers | None:
        """Return the sums; None: nothing was taken in."""
        return None if self._total is None else self._total.cpu().double().numpy()

    def state(self) -> str | None:
        """Return the sums as base64."""
        total = self.total()
        return None if total is None else packed(total)

    def merge(self, state: str | None) -> None:
        """Add the sums of another one."""
        if state is not None:
            sums, own = self._shaped(unpacked(state, "<f8")), self.total()
            self._total = torch.from_numpy(sums if own is None else own + sums)

    @abstractmethod
    def _of_batch(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the sums of a batch of pairs (B, V)."""

    @abstractmethod
    def _shaped(self, flat: Numbers) -> Numbers:
        """Return sums as `_of_batch` gives them, of their values in a row."""


class PairSums(_Sums):
    """All that the correlation and the errors of each number are made of: seven sums of V numbers."""

    def correlation(self) -> Numbers:
        """Return Pearson's correlation of each number, (V,).

        NaN where y does not vary; 0 where only x does not.
        """
        total = self.total()
        if total is None:
            return np.empty(0)
        count, x, y, xx, yy, xy, _ = total
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (xy / count - x * y / count**2) / np.sqrt(_variance(count, x, xx) * _variance(count, y, yy))
        return np.asarray(np.where(_variance(count, y, yy) > 0, np.where(np.isfinite(found), found, 0.0), np.nan))

    def squared_error(self) -> float:
        """Return the mean of (x - y)^2 over everything."""
        count, _, _, xx, yy, xy, _ = self._some()
        return float((xx - 2 * xy + yy).sum() / count.sum())

    def absolute_error(self) -> float:
        """Return the mean of |x - y| over everything."""
        count, *_, absolute = self._some()
        return float(absolute.sum() / count.sum())

    def explained(self) -> float:
        """Return 1 - squared error / variation of y about its mean, of all numbers together."""
        count, _, y, _, yy, _, _ = self._some()
        return _explained(self.squared_error() * float(count.sum()), float((_variance(count, y, yy) * count).sum()))

    def _some(self) -> Numbers:
        total = self.total()
        assert total is not None
        return total

    def _of_batch(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        squares = [(one * other).sum(0) for one, other in ((x, x), (y, y), (x, y))]
        return torch.stack([torch.ones_like(x).sum(0), x.sum(0), y.sum(0), *squares, (x - y).abs().sum(0)])

    def _shaped(self, flat: Numbers) -> Numbers:
        return flat.reshape(7, -1)


class ErrorSums(_Sums):
    """What the explained share of all numbers together is made of: V sums and three more."""

    def explained(self) -> float:
        """Return 1 - squared error / variation of y about its mean, of all numbers together."""
        total = self.total()
        assert total is not None
        count, error, squares = total[:3]
        return _explained(float(error), float(squares - (total[3:] ** 2).sum() / count))

    def _of_batch(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        alone = torch.stack([torch.ones_like(y[:, 0]).sum(), (x - y).square().sum(), y.square().sum()])
        return torch.cat([alone, y.sum(0)])

    def _shaped(self, flat: Numbers) -> Numbers:
        return flat


def _explained(error: float, variation: float) -> float:
    return 1 - error / variation if variation > 0 else 0.0


def _variance(count: Numbers, total: Numbers, squares: Numbers) -> Numbers:
    """Return the variance; 0 where it is no more than rounding."""
    mean_square = squares / count
    variance = mean_square - (total / count) ** 2
    return np.asarray(np.where(variance > _CONSTANT * mean_square, variance, 0.0))


def _precise(values: torch.Tensor) -> torch.Tensor:
    """Return values in double precision, where the device has it."""
    return values.float() if values.device.type == "mps" else values.double()
