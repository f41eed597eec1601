"""Epsilon at log points: never below the accountant's, and next to it."""

from __future__ import annotations

import pytest

from mltrain.privacy.accounting import Accountant
from mltrain.privacy.running_epsilon import RunningEpsilon


@pytest.mark.parametrize(
    ("sample_rate", "noise", "most", "delta"),
    [
        (0.01024, 1.1, 300, 1e-5), (0.18, 2.5, 180, 1e-5), (1.0, 8.0, 20, 1e-5), (0.1, 0.8, 60, 1e-5),
        (0.5, 4.0, 10, 1e-3), (0.002, 0.6, 200, 1e-6), (0.03, 1.5, 50, 5e-3), (0.3, 5.0, 200, 1e-4),
        (0.0025298, 4.31345, 3, 1.885e-6),
    ],
)  # fmt: skip
def test_it_is_next_to_the_accountant_from_above(sample_rate: float, noise: float, most: int, delta: float) -> None:
    accountant = Accountant(sample_rate, noise, delta)
    running = RunningEpsilon(accountant, most)
    for steps in (1, most // 3, most):
        assert 0 <= running(steps) - accountant.epsilon(steps) < 5e-3


def test_it_grows_with_each_step() -> None:
    running = RunningEpsilon(Accountant(0.05, 1.2, 1e-5), 40)
    values = [running(steps) for steps in range(41)]
    assert values == sorted(values)
    assert values[0] == 0


@pytest.mark.parametrize(
    "accountant",
    [Accountant(0.01, 1.1, 1e-5, "rdp"), Accountant(0.01, 0.0, 1e-5), Accountant(0.01, 1.1, 1e-14)],
    ids=["rdp", "no noise", "too small a delta"],
)
def test_where_there_is_nothing_to_prepare_the_accountant_answers(accountant: Accountant) -> None:
    running = RunningEpsilon(accountant, 100)
    if accountant.delta < 1e-12:
        with pytest.raises(Exception, match="prv cannot compute"):
            running(10)
    else:
        assert running(10) == accountant.epsilon_at_most(10)
    assert RunningEpsilon(Accountant(0.01, 1.1, 1e-5, "rdp"), 5)(7) == Accountant(0.01, 1.1, 1e-5, "rdp").epsilon(7)
