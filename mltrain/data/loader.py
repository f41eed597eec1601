"""From a plan to batches: one stream of windows for the whole training, and a loader for evaluation.

The plan's order travels to the workers as keys (epoch, index), so what a worker loads depends on its key alone. One
DataLoader iterator serves all epochs: workers start once, and read ahead over the end of an epoch during validation.
"""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from mltrain.core.errors import MltrainError
from mltrain.core.seeding import SampleGenerator, hash_id, mix, stream_key
from mltrain.data.dataset import SampleDataset
from mltrain.data.plan import Cut, Indices, Position, Share

__all__ = ["Batch", "EvaluationLoader", "LoaderSettings", "Plan", "TrainingStream", "Window"]

Batch = dict[str, torch.Tensor]
_RUNNING: weakref.WeakSet[Any] = weakref.WeakSet()
Collate = Callable[[list[Any]], Batch]
_Key = tuple[int, int]


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
    """

    num_workers: int = 0
    pin_memory: bool = False


@dataclass(frozen=True)
class Window:
    """One optimizer step's samples, as this rank sees them.

    num_examples: samples of the window, over all ranks.
    num_microbatches: batches that `batches` will give.
    filler: this rank has no sample of its own in the window (see `Share`).
    """

    num_examples: int
    num_microbatches: int
    filler: bool
    batches: Iterator[Batch]


@dataclass(frozen=True)
class _Failure:
    """An error for people, on its way from a worker: torch would turn it into a page of traceback."""

    error: MltrainError


class _KeyedDataset(Dataset[Any]):
    """Loads what a key (epoch, index) says. A negative epoch means: no augmentation."""

    def __init__(self, dataset: SampleDataset, key: int) -> None:
        self._dataset, self._key = dataset, key
        self._epoch, self._epoch_key = -1, 0
        self._hashes: dict[int, int] = {}

    def __getitem__(self, key: _Key) -> Any:
        epoch, index = key
        try:
            return self._dataset.load(index, None if epoch < 0 else self._generator(epoch, index))
        except MltrainError as error:
            return _Failure(error)

    def _generator(self, epoch: int, index: int) -> SampleGenerator:
        if epoch != self._epoch:
            self._epoch, self._epoch_key = epoch, mix(self._key, epoch)
        if (sample := self._hashes.get(index)) is None:
            sample = self._hashes[index] = hash_id(self._dataset.sample_id(index))
        return SampleGenerator(mix(self._epoch_key, sample))


class _Collation:
    """Collates items, unless one of them is a failure."""

    def __init__(self, collate: Collate) -> None:
        self._collate = collate

    def __call__(self, items: list[Any]) -> Batch | _Failure:
        for item in items:
            if isinstance(item, _Failure):
                return item
        return self._collate(items)


class _Shares:
    """The shares of one rank, in order: iterated by the DataLoader as lists of keys, by the stream as shares."""

    def __init__(self, plan: Plan, cut: Cut, start: Position, num_epochs: int, *, augment: bool) -> None:
        self._plan, self._cut, self._start, self._num_epochs = plan, cut, start, num_epochs
        self._augment = augment

    def shares(self) -> Iterator[tuple[int, Share]]:
        for epoch in range(self._start.epoch, self._num_epochs):
            first = self._start.window if epoch == self._start.epoch else 0
            for index in range(first, self._plan.windows_per_epoch):
                yield epoch, self._cut.share(self._plan.window(epoch, index))

    def __iter__(self) -> Iterator[list[_Key]]:
        for epoch, share in self.shares():
            tag = epoch if self._augment else -1
            for microbatch in share.microbatches:
                yield [(tag, index) for index in microbatch.tolist()]


def _data_loader(
    dataset: SampleDataset, key: int, keys: _Shares, collate: Collate, settings: LoaderSettings, *, persistent: bool
) -> DataLoader[Any]:
    return DataLoader(
        _KeyedDataset(dataset, key),
        batch_sampler=keys,  # type: ignore[arg-type]  # any iterable of key lists serves
        num_workers=settings.num_workers,
        collate_fn=_Collation(collate),
        pin_memory=settings.pin_memory,
        persistent_workers=persistent and settings.num_workers > 0,
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
        shares = _Shares(plan, cut, start, num_epochs, augment=True)
        key = stream_key(seed, "augmentation")
        self._shares = shares.shares()
        self._batches = _start(_data_loader(dataset, key, shares, collate, settings, persistent=False))

    def windows(self, count: int) -> Iterator[Window]:
        """Yield the next `count` windows. The batches of one must be used up before the next is asked for."""
        for _ in range(count):
            _, share = next(self._shares)
            number = len(share.microbatches)
            yield Window(share.num_examples, number, share.filler, self._take(number))

    def _take(self, number: int) -> Iterator[Batch]:
        for _ in range(number):
            yield _sound(next(self._batches))

    def close(self) -> None:
        """Stop the workers."""
        _stop_workers(self._batches)


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
        self._keys = _Shares(plan, cut, Position(), 1, augment=False)
        self._loader = _data_loader(dataset, 0, self._keys, collate, settings, persistent=True)
        self._batches: Iterator[Batch | _Failure] | None = None

    def __iter__(self) -> Iterator[tuple[Batch, bool]]:
        """Yield (batch, filler). Every rank gets the same number; a filler batch counts elsewhere."""
        self._batches = _start(self._loader)
        fillers: Sequence[bool] = [share.filler for _, share in self._keys.shares()]
        for filler in fillers:
            yield _sound(next(self._batches)), filler

    def close(self) -> None:
        """Stop the workers."""
        if self._batches is not None:
            _stop_workers(self._batches)


def _sound(batch: Batch | _Failure) -> Batch:
    if isinstance(batch, _Failure):
        raise batch.error
    return batch


def _start(loader: DataLoader[Any]) -> Iterator[Any]:
    """Return the loader's iterator, its workers deaf to the signals that are meant for the run.

    A terminal and a scheduler signal every process of a group, but only the training process may act: it needs its
    workers to reach the next safe point. They are born with the signals blocked, so there is no moment without.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        batches = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
    _RUNNING.add(batches)
    return batches


def _stop_workers(batches: Iterator[Any]) -> None:
    shut_down = getattr(batches, "_shutdown_workers", None)
    workers = list(getattr(batches, "_workers", []))
    if shut_down is not None:
        shut_down()
    for worker in workers:
        if worker.is_alive():
            worker.kill()


@atexit.register
def _stop_all_workers() -> None:
    # multiprocessing ends workers that are left over with SIGTERM, which they do not hear, and would wait for them.
    for batches in list(_RUNNING):
        _stop_workers(batches)
