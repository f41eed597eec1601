"""Loaders: the same batches for any number of workers and from any position; errors come out as they went in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mltrain.core.errors import DataError
from mltrain.core.seeding import SampleGenerator
from mltrain.data.loader import EvaluationLoader, LoaderSettings, TrainingStream
from mltrain.data.plan import Cut, OrderedPlan, Position, ShuffledPlan


class Numbers:
    """Gives its index and two draws; fails at one index if told to."""

    def __init__(self, size: int, bad: int = -1) -> None:
        self.size, self.bad = size, bad

    def __len__(self) -> int:
        return self.size

    def sample_id(self, index: int) -> str:
        return f"number-{index}"

    def load(self, index: int, generator: SampleGenerator | None) -> list[float]:
        if index == self.bad:
            raise DataError("is truncated", where=f"image {index}", fix="Replace it.")
        draws = [generator.random(), generator.random()] if generator is not None else [-1.0, -1.0]
        return [float(index), *draws]


def collate(items: list[Any]) -> dict[str, torch.Tensor]:
    return {"rows": torch.tensor(items, dtype=torch.float64)}


def windows(workers: int, start: Position, *, epochs: int = 2, rank: int = 0, processes: int = 1) -> list[Any]:
    stream = TrainingStream(
        Numbers(23),
        collate,
        ShuffledPlan(23, 6, seed=1),
        Cut(rank, processes, 2),
        seed=1,
        settings=LoaderSettings(num_workers=workers),
        start=start,
        num_epochs=epochs,
    )
    found = []
    for epoch in range(start.epoch, epochs):
        for window in stream.windows(4 - (start.window if epoch == start.epoch else 0)):
            found.append(torch.cat([batch["rows"] for batch in window.batches]).tolist())
    stream.close()
    return found


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_workers_change_nothing(workers: int) -> None:
    assert windows(workers, Position()) == windows(0, Position())


@pytest.mark.parametrize("done", [1, 3, 4, 6])
def test_a_stream_continues_where_another_left_off(done: int) -> None:
    start = Position(epoch=done // 4, window=done % 4, step=done)
    assert windows(2, start) == windows(0, Position())[done:]


def test_draws_belong_to_sample_and_epoch() -> None:
    rows = [row for window in windows(0, Position()) for row in window]
    draws = {tuple(row[1:]) for row in rows}
    assert len(draws) == 46
    half = windows(0, Position(), rank=1, processes=3)
    assert all(row in rows for window in half for row in window)


def test_the_models_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    windows(0, Position())
    windows(2, Position())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_evaluation_gives_each_sample_once_over_all_ranks(processes: int) -> None:
    seen, lengths = [], []
    for rank in range(processes):
        plan, cut = OrderedPlan(11, 3 * processes), Cut(rank, processes, 3)
        loader = EvaluationLoader(Numbers(11), collate, plan, cut, settings=LoaderSettings())
        batches = list(loader)
        lengths.append(len(batches))
        seen += [row for batch, filler in batches if not filler for row in batch["rows"][:, 0].tolist()]
        assert all(batch["rows"][:, 1:].eq(-1.0).all() for batch, _ in batches)
    assert sorted(seen) == list(range(11))
    assert len(set(lengths)) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_for_people_stays_one_line(workers: int) -> None:
    settings = LoaderSettings(num_workers=workers)
    loader = EvaluationLoader(Numbers(9, bad=4), collate, OrderedPlan(9, 3), Cut(0, 1, 3), settings=settings)
    with pytest.raises(DataError) as caught:
        list(loader)
    loader.close()
    assert str(caught.value) == "image 4: is truncated. Replace it."


def test_workers_ignore_signals_meant_for_the_run(tmp_path: Path) -> None:
    import os
    import signal

    settings = LoaderSettings(num_workers=2)
    loader = EvaluationLoader(Numbers(40), collate, OrderedPlan(40, 2), Cut(0, 1, 2), settings=settings)
    batches = iter(loader)
    next(batches)
    for worker in loader._batches._workers:  # type: ignore[union-attr]
        os.kill(worker.pid, signal.SIGTERM)
        os.kill(worker.pid, signal.SIGINT)
    assert len(list(batches)) == 19
    loader.close()
