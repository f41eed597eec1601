"""From a plan to batches: one stream of windows for the whole training, and a loader for evaluation.

The plan's order travels to the workers as keys (epoch, indices), so what a worker loads depends on its key alone. One
DataLoader iterator serves all epochs: workers start once, and read ahead over the end of an epoch during validation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader

from mltrain.core.seeding import stream_key
from mltrain.data import loader_processes
from mltrain.data.batches import Batch, Collate
from mltrain.data.dataset import SampleDataset
from mltrain.data.keyed_dataset import Collation, Failure, Key, KeyedDataset, sound
from mltrain.data.plan import Cut, Indices, Position, Share

__all__ = ["Batch", "EvaluationLoader", "LoaderSettings", "Plan", "TrainingStream", "Window"]

_Item = TypeVar("_Item")
_BLOCK = 32


class Plan(Protocol):
    """What a loader needs of a plan."""

    @property
    def windows_per_epoch(self) -> int:
        """Number of windows of each epoch."""
        ...

    def window(self, epoch: int, index: int) -> Indices:
        """Return the sample indices of a window."""
        ...


@dataclass(frozen=True)
class LoaderSettings:
    """How batches are made. None of this changes what is in them.

    num_workers: loader processes; 0 loads in the training process.
    pin_memory: page-locked batches, for asynchronous copies to a GPU.
    prefetch_factor: batches that each worker reads ahead.
    """

    num_workers: int = 0
    pin_memory: bool = False
    prefetch_factor: int = 2


@dataclass(frozen=True)
class Window:
    """One optimizer step's samples, as this rank sees them.

    num_examples: samples of the window, over all ranks.
    num_microbatches: batches that `batches` will give.
    num_own: those of them that count; the others are fillers (see `Share`).
    """

    num_examples: int
    num_microbatches: int
    num_own: int
    batches: Iterator[Batch]


class _KeyedLoader(DataLoader[Any]):
    def check_worker_number_rationality(self) -> None:
        """Say nothing: more workers than cores are told where their number is chosen, once a run."""


class _Shares:
    """The shares of one rank with their epochs, in order; can be iterated again and again."""

    def __init__(self, plan: Plan, cut: Cut, start: Position, num_epochs: int) -> None:
        self._plan, self._cut, self._start, self._num_epochs = plan, cut, start, num_epochs

    def __iter__(self) -> Iterator[tuple[int, Share]]:
        return _in_blocks(self._each())

    def _each(self) -> Iterator[tuple[int, Share]]:
        for epoch in range(self._start.epoch, self._num_epochs):
            first = self._start.window if epoch == self._start.epoch else 0
            for index in range(first, self._plan.windows_per_epoch):
                yield epoch, self._cut.share(self._plan.window(epoch, index))


class _Keys:
    """The keys of the microbatches of shares: what the DataLoader takes for a batch sampler."""

    def __init__(self, shares: Iterable[tuple[int, Share]], *, augment: bool) -> None:
        self._shares, self._augment = shares, augment

    def __iter__(self) -> Iterator[Key]:
        return _in_blocks(self._each())

    def _each(self) -> Iterator[Key]:
        for epoch, share in self._shares:
            for microbatch in share.microbatches:
                yield epoch if self._augment else -1, microbatch.tolist()


def _in_blocks(items: Iterator[_Item]) -> Iterator[_Item]:
    """Yield the items, made a block at a time: on a CPU each costs several times as much between two steps."""
    while block := list(itertools.islice(items, _BLOCK)):
        yield from block


def _data_loader(
    dataset: SampleDataset, key: int, keys: _Keys, collate: Collate, settings: LoaderSettings, *, persistent: bool
) -> DataLoader[Any]:
    return _KeyedLoader(
        KeyedDataset(dataset, key),
        batch_sampler=keys,  # type: ignore[arg-type]  # `__getitems__` takes whatever this gives
        num_workers=settings.num_workers,
        collate_fn=Collation(collate),
        pin_memory=settings.pin_memory,
        prefetch_factor=settings.prefetch_factor if settings.num_workers > 0 else None,
        persistent_workers=persistent and settings.num_workers > 0,
        worker_init_fn=loader_processes.prepare_process,
        multiprocessing_context=loader_processes.loader_context() if settings.num_workers > 0 else None,
        # iter(DataLoader) draws a base seed: from here, not from the model's generator.
        generator=torch.Generator(),
    )


class TrainingStream:
    """The windows of a rank from a position to the end of the last epoch.

    Args:
        dataset: the training split.
        collate: items -> batch.
        plan, cut: which samples, in which order and microbatches.
        seed: the run's seed, for augmentation.
        settings: workers and pinned memory.
        start: the position to begin at.
        num_epochs: the epoch to end before.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        collate: Collate,
        plan: Plan,
        cut: Cut,
        *,
        seed: int,
        settings: LoaderSettings,
        start: Position,
        num_epochs: int,
    ) -> None:
        self._plan, self._num_epochs = plan, num_epochs
        key = stream_key(seed, "augmentation")
        self._new_loader: Callable[[_Keys], DataLoader[Any]] = partial(
            _data_loader, dataset, key, collate=collate, settings=settings, persistent=False
        )
        self._begin(start, cut)

    def restart(self, start: Position, cut: Cut) -> None:
        """Go on from a position with another cut of the same windows."""
        self.close()
        self._begin(start, cut)

    def windows(self, count: int) -> Iterator[Window]:
        """Yield the next `count` windows."""
        for _ in range(count):
            yield self.next_window()

    def next_window(self) -> Window:
        """Return the next window. Its batches must be used up before another is asked for, or the stream restarted."""
        _, share = next(self._shares)
        number = len(share.microbatches)
        return Window(share.num_examples, number, share.num_own, self._take(number))

    def _begin(self, start: Position, cut: Cut) -> None:
        # The loader reads ahead in its own copy.
        self._shares, shares = itertools.tee(_Shares(self._plan, cut, start, self._num_epochs))
        self._batches = loader_processes.start(self._new_loader(_Keys(shares, augment=True)))

    def _take(self, number: int) -> Iterator[Batch]:
        for _ in range(number):
            yield sound(loader_processes.take(self._batches))

    def close(self) -> None:
        """Stop the workers."""
        loader_processes.stop(self._batches)


class EvaluationLoader:
    """The batches of a rank over a whole split, each sample once over all ranks. Can be iterated again and again.

    Args:
        dataset: the split.
        collate: items -> batch.
        plan, cut: an `OrderedPlan` and how ranks share it.
        settings: workers and pinned memory.
    """

    def __init__(
        self, dataset: SampleDataset, collate: Collate, plan: Plan, cut: Cut, *, settings: LoaderSettings
    ) -> None:
        self._shares = _Shares(plan, cut, Position(), 1)
        keys = _Keys(self._shares, augment=False)
        self._loader = _data_loader(dataset, 0, keys, collate, settings, persistent=True)
        self._batches: Iterator[Batch | Failure] | None = None

    def __iter__(self) -> Iterator[tuple[Batch, bool]]:
        """Yield (batch, filler). Every rank gets the same number; a filler batch counts elsewhere."""
        self._batches = loader_processes.start(self._loader)
        fillers: Sequence[bool] = [share.filler for _, share in self._shares]
        for filler in fillers:
            yield sound(loader_processes.take(self._batches)), filler

    def close(self) -> None:
        """Stop the workers."""
        if self._batches is not None:
            loader_processes.stop(self._batches)
