"""Samples as a key says, (epoch, indices), in whatever process they are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset, get_worker_info

from mltrain.core.errors import MltrainError
from mltrain.core.seeding import SampleGenerator, hash_id, mix
from mltrain.data.batches import Batch, Collate, collated
from mltrain.data.dataset import SampleDataset

__all__ = ["Collation", "Failure", "Key", "KeyedDataset", "sound"]

Key = tuple[int, list[int]]
"""Epoch and sample indices of a microbatch; a negative epoch means: no augmentation."""


@dataclass(frozen=True)
class Failure:
    """An error for people, on its way from a worker: torch would turn it into a page of traceback."""

    error: MltrainError


class _DeferredGenerator(SampleGenerator):
    """The generator of a sample in an epoch; derives its key when it is first drawn from: many data sets never draw."""

    __slots__ = ("_dataset", "_index")

    def __init__(self, dataset: SampleDataset, index: int, epoch_key: int) -> None:
        self._dataset, self._index = dataset, index
        self._key, self._draws = epoch_key, 0

    def bits(self) -> int:
        if self._draws == 0:
            self._key = mix(self._key, hash_id(self._dataset.sample_id(self._index)))
        return super().bits()


class KeyedDataset(Dataset[Any]):
    """Loads the samples of a batch as its key (epoch, indices) says. A negative epoch means: no augmentation."""

    def __init__(self, dataset: SampleDataset, key: int) -> None:
        self._dataset, self._key = dataset, key

    def __getitems__(self, key: Key) -> list[Any] | Failure:
        epoch, indices = key
        dataset = self._dataset
        try:
            if epoch < 0:
                return [dataset.load(index, None) for index in indices]
            epoch_key = mix(self._key, epoch)
            return [dataset.load(index, _DeferredGenerator(dataset, index, epoch_key)) for index in indices]
        except MltrainError as error:
            return Failure(error)


class Collation:
    """Collates items, unless they could not be loaded."""

    def __init__(self, collate: Collate) -> None:
        self._collate = collate

    def __call__(self, items: list[Any] | Failure) -> Batch | Failure:
        """Return the batch of items, or the failure that came in their place."""
        if isinstance(items, Failure):
            return items
        try:
            return _sendable(collated(items, self._collate))
        except MltrainError as error:
            return Failure(error)


def _sendable(batch: Batch) -> Batch:
    """Return the batch, in shared memory if this is a worker: an error there reaches the training process.

    torch's own copy is made by the thread that sends; where there is no room it prints that, and the batch never comes.
    """
    if get_worker_info() is not None:
        for tensor in batch.values():
            tensor.share_memory_()  # type: ignore[no-untyped-call]
    return batch


def sound(batch: Batch | Failure) -> Batch:
    """Return a batch; raises the error that came in its place."""
    if isinstance(batch, Failure):
        raise batch.error
    return batch
