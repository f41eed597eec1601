"""Draws are Poisson at the rate that is accounted for, and independent; plans that are not so are found out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from mltrain.config.training import DPSection
from mltrain.core.seeding import SampleGenerator
from mltrain.data.loader import LoaderSettings, Plan, TrainingStream
from mltrain.data.plan import Cut, Position, ShuffledPlan
from mltrain.privacy.account import new_accountant
from mltrain.privacy.poisson_plan import PoissonPlan

KEYS = [bytes([rank]) * 32 for rank in range(4)]
SAMPLES, BATCH, STEPS = 240, 48, 1500
# The draws follow from fixed keys: a level so strict that sound plans pass with nearly any key.
LEVEL = 1e-5

Drawn = NDArray[np.bool_]  # (steps, samples)


def drawn(plan: Plan, steps: int = STEPS, samples: int = SAMPLES) -> Drawn:
    """Return which samples are in each of the first windows."""
    found = np.zeros((steps, samples), dtype=bool)
    for step in range(steps):
        found[step, plan.window(*divmod(step, plan.windows_per_epoch))] = True
    return found


def of_ranks(count: int, keys: Sequence[bytes] = KEYS, kind: type[PoissonPlan] = PoissonPlan) -> list[Drawn]:
    """Return what each of the ranks of a run draws."""
    plans = [kind(SAMPLES, BATCH, 10_000, rank=rank, processes=count, key=key) for rank, key in enumerate(keys[:count])]
    return [drawn(plan) for plan in plans]


def is_normal(value: float, mean: float, deviation: float) -> bool:
    return bool(2 * stats.norm.sf(abs(value - mean) / deviation) > LEVEL)


def faults(ranks: Sequence[Drawn], sample_rate: float) -> set[str]:
    """Return what keeps draws from being Poisson at a rate, by tests of their counts."""
    found = set()
    union, (steps, samples) = np.logical_or.reduce(ranks), ranks[0].shape
    spread = sample_rate * (1 - sample_rate)
    scores = ((union.sum(axis=0) - steps * sample_rate) ** 2 / (steps * spread)).sum()
    if min(stats.chi2.sf(scores, samples), stats.chi2.cdf(scores, samples)) < LEVEL:
        found.add("rate")
    sizes = union.sum(axis=1)
    variance = samples * spread
    if not is_normal(sizes.mean(), samples * sample_rate, (variance / steps) ** 0.5):
        found.add("size")
    if not is_normal(sizes.var() / variance, 1.0, (2 / steps) ** 0.5):
        found.add("spread of sizes")
    again = (union[1:] & union[:-1]).mean()
    if not is_normal(again, sample_rate**2, sample_rate * (2 / union[1:].size) ** 0.5):
        found.add("again")
    for one in range(len(ranks)):
        for other in range(one):
            if (ranks[one] & ranks[other]).any():
                found.add("shared samples")
            alike = np.corrcoef(ranks[one].sum(axis=1), ranks[other].sum(axis=1))[0, 1]
            if not is_normal(alike, 0.0, steps**-0.5):
                found.add("ranks alike")
    return found


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_draws_are_poisson_over_all_ranks(processes: int) -> None:
    assert faults(of_ranks(processes), BATCH / SAMPLES) == set()


def test_sizes_are_binomial() -> None:
    sizes = np.sum(of_ranks(2), axis=0).sum(axis=1)
    edges = stats.binom.ppf(np.linspace(0, 1, 11)[1:-1], SAMPLES, BATCH / SAMPLES)
    shares = np.diff(stats.binom.cdf(edges, SAMPLES, BATCH / SAMPLES), prepend=0.0, append=1.0)
    counts = np.bincount(np.searchsorted(edges, sizes), minlength=10)
    assert stats.chisquare(counts, shares * STEPS).pvalue > LEVEL


class Faster(PoissonPlan):
    """Draws a tenth more often than it says."""

    def window(self, epoch: int, index: int) -> NDArray[np.int64]:
        more = PoissonPlan(self.num_samples, self.batch_size * 11 // 10, 1, key=self._key)
        return more.window(epoch, index)


class FixedSize(PoissonPlan):
    """Draws anew for each window, but always B samples."""

    def window(self, epoch: int, index: int) -> NDArray[np.int64]:
        generator = np.random.default_rng([epoch, index])
        return generator.choice(self.num_samples, self.batch_size, replace=False)


class Sticky(PoissonPlan):
    """Takes two windows in a row from one draw."""

    def window(self, epoch: int, index: int) -> NDArray[np.int64]:
        return super().window(epoch, index // 2 * 2)


PLANTED: dict[str, tuple[Callable[[], list[Drawn]], set[str]]] = {
    "one stream for all ranks": (lambda: of_ranks(2, [KEYS[0]] * 2), {"ranks alike", "spread of sizes"}),
    "shuffled batches": (lambda: [drawn(ShuffledPlan(SAMPLES, BATCH, seed=1))], {"spread of sizes", "again"}),
    "batches of a fixed size": (lambda: of_ranks(1, kind=FixedSize), {"spread of sizes"}),
    "another rate than it says": (lambda: of_ranks(1, kind=Faster), {"rate", "size"}),
    "each draw twice": (lambda: of_ranks(1, kind=Sticky), {"again"}),
    "all samples on all ranks": (
        lambda: [drawn(PoissonPlan(SAMPLES, BATCH, 10_000, key=key)) for key in KEYS[:2]],
        {"shared samples", "rate"},
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_faults_are_found(fault: str) -> None:
    draw, signs = PLANTED[fault]
    assert faults(draw(), BATCH / SAMPLES) >= signs


def test_the_rate_is_exact() -> None:
    """What the length of a loader would make the same 0.5."""
    for batch in (512, 600, 999):
        plan = PoissonPlan(1000, batch, 3, key=KEYS[0])
        assert (plan.sample_rate, plan.windows_per_epoch, plan.total_steps) == (batch / 1000, 2, 6)
        sizes = [len(plan.window(0, index)) for index in range(400)]
        deviation = (1000 * plan.sample_rate * (1 - plan.sample_rate) / 400) ** 0.5
        assert is_normal(float(np.mean(sizes)), batch, deviation)
        assert new_accountant(DPSection(noise_multiplier=1.1), plan).sample_rate == batch / 1000
    assert PoissonPlan(93, 1, 1).windows_per_epoch == 93


def test_the_noise_is_calibrated_for_the_plans_own_steps() -> None:
    plan = PoissonPlan(1000, 600, 3)
    accountant = new_accountant(DPSection(target_epsilon=3.0, accountant="rdp"), plan)
    assert accountant.epsilon(plan.total_steps) <= 3.0 < accountant.epsilon(plan.total_steps + 1)
    assert accountant.most_steps(3.0, 10**6) == plan.total_steps


class Numbers:
    """Samples that are their own numbers."""

    def __len__(self) -> int:
        return 50

    def sample_id(self, index: int) -> str:
        return str(index)

    def load(self, index: int, generator: SampleGenerator | None) -> int:
        return index


def tensors(items: list[int]) -> dict[str, torch.Tensor]:
    return {"numbers": torch.tensor(items)}


class Longer(PoissonPlan):
    """Has one window an epoch more than it accounts for."""

    @property
    def total_steps(self) -> int:
        return self.num_epochs * (self.windows_per_epoch - 1)


@pytest.mark.parametrize(("kind", "sound"), [(PoissonPlan, True), (Longer, False)])
@pytest.mark.parametrize("processes", [1, 2])
def test_every_rank_is_given_the_windows_that_are_accounted_for(
    kind: type[PoissonPlan], sound: bool, processes: int
) -> None:
    """Windows that are empty, and microbatches cut from long ones, are windows all the same."""
    for rank in range(processes):
        plan = kind(50, 2, 4, rank=rank, processes=processes, key=KEYS[rank])
        stream = TrainingStream(
            Numbers(), tensors, plan, Cut(0, 1, 2), seed=1, settings=LoaderSettings(), start=Position(), num_epochs=4
        )
        given = []
        with contextlib.suppress(StopIteration):
            while True:
                window = stream.next_window()
                given.append([int(number) for batch in window.batches for number in batch["numbers"]])
        assert (len(given) == plan.total_steps) == sound
        assert given == [plan.window(*divmod(step, 25)).tolist() for step in range(100)]
        assert any(not numbers for numbers in given)
        assert any(len(numbers) > 2 for numbers in given)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_parts_of_ranks_are_disjoint_and_the_rate_that_of_the_batch(data: st.DataObject) -> None:
    samples = data.draw(st.integers(1, 300))
    batch, epochs = data.draw(st.integers(1, samples)), data.draw(st.integers(1, 5))
    processes = data.draw(st.integers(1, 5))
    plans = [
        PoissonPlan(samples, batch, epochs, rank=rank, processes=processes, key=bytes([rank]) * 32)
        for rank in range(processes)
    ]
    plan = plans[0]
    assert Fraction(batch, samples) == Fraction(plan.sample_rate).limit_denominator(1000)
    assert type(plan.total_steps) is int
    assert plan.total_steps == epochs * -(-samples // batch)
    parts = [plan.window(epochs - 1, 0) for plan in plans]
    for part in parts:
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    union = np.concatenate(parts)
    assert len(set(union.tolist())) == len(union)
    assert all(0 <= index < samples for index in union)
    assert batch < samples or len(union) == samples


def test_a_window_is_the_same_each_time_and_another_one_for_another_key_or_place() -> None:
    plan, again, other = (PoissonPlan(SAMPLES, BATCH, 9, key=key) for key in (KEYS[0], KEYS[0], KEYS[1]))
    places = [(epoch, index) for epoch in range(9) for index in range(5)]
    windows = {place: plan.window(*place).tolist() for place in places}
    assert {place: again.window(*place).tolist() for place in reversed(places)} == windows
    assert len({tuple(window) for window in windows.values()}) == len(places)
    assert all(other.window(*place).tolist() != window for place, window in windows.items())


@pytest.mark.parametrize("batch", [BATCH, SAMPLES])
def test_lengths_order_a_draw_and_do_not_change_it(batch: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 9, SAMPLES)
    for rank in range(2):
        plain = PoissonPlan(SAMPLES, batch, 10, rank=rank, processes=2, key=KEYS[rank])
        ordered = PoissonPlan(SAMPLES, batch, 10, rank=rank, processes=2, key=KEYS[rank], lengths=lengths)
        for place in np.ndindex(2, 3):
            window = ordered.window(*place)
            np.testing.assert_array_equal(np.sort(window), plain.window(*place))
            assert (np.diff(lengths[window]) >= 0).all()


def test_every_segment_draws_anew() -> None:
    """Without a key, which only tests give, no two plans have a draw in common."""
    firsts = {tuple(PoissonPlan(SAMPLES, BATCH, 1).window(0, 0).tolist()) for _ in range(50)}
    assert len(firsts) == 50


@pytest.mark.parametrize("batch", [0, 241])
def test_batches_that_cannot_be_drawn(batch: int) -> None:
    with pytest.raises(ValueError, match=f"windows of {batch} out of 240"):
        PoissonPlan(SAMPLES, batch, 1)
