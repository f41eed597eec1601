"""A user's data set draws from global generators; what it draws depends on the sample's generator alone."""

from __future__ import annotations

import random

import numpy as np
import torch

from mltrain.core.seeding import SampleGenerator
from mltrain.data.item_digest import items_digest
from mltrain.data.seeded_dataset import SeededDataset, seeded


class Drawing:
    """Gives its index and a draw of each global generator."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, random.random(), float(np.random.rand()), float(torch.rand(()))


class Stateful(Drawing):
    """Draws from a generator of its own, which nobody can seed."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, float(self.generator.random()), 0.0, 0.0


def test_draws_depend_on_the_samples_generator_alone() -> None:
    data = SeededDataset(Drawing())
    first = data.load(3, SampleGenerator(7))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    data.load(5, SampleGenerator(9))
    assert data.load(3, SampleGenerator(7)) == first
    other = data.load(3, SampleGenerator(8))
    assert all(one != two for one, two in zip(first[1:], other[1:], strict=True))


def test_evaluation_reads_the_same_each_time_and_differs_between_samples() -> None:
    data = SeededDataset(Drawing())
    assert data.load(3, None) == data.load(3, None)
    assert data.load(3, None)[1:] != data.load(4, None)[1:]


def draws() -> list[float]:
    return [random.random(), random.gauss(0, 1), float(np.random.rand()), float(torch.rand(())), float(torch.randn(()))]


def test_the_streams_outside_go_on_as_if_nothing_had_been_drawn() -> None:
    def outside(between: bool) -> list[float]:
        random.seed(5), np.random.seed(5), torch.manual_seed(5)
        before = draws()
        if between:
            with seeded(12345):
                draws()
        return before + draws()

    assert outside(True) == outside(False)


def test_the_streams_go_on_after_an_error() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    generator = np.random.get_bit_generator()
    try:
        with seeded(1):
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.rand(2), expected)
    assert np.random.get_bit_generator() is generator


def test_digest_tells_data_sets_apart_and_finds_a_hidden_generator() -> None:
    digest, same = items_digest(SeededDataset(Drawing()))
    assert same
    assert items_digest(SeededDataset(Drawing())) == (digest, True)
    assert not items_digest(SeededDataset(Stateful()))[1]
    values: list[object] = [
        [1, 2], [1, 3], [1, 2, 3], [torch.zeros(2), 2], [torch.zeros(1, 2), 2], [{"a": 1}, 2], [{"b": 1}, 2],
        [np.zeros(2), 2], ["1", 2], [b"1", None],
    ]  # fmt: skip
    found = {items_digest(SeededDataset(value))[0] for value in values}  # type: ignore[arg-type]
    assert len(found) == len(values)
