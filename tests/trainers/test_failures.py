"""torch's errors that the user can mend become one line; others stay what they are."""

from __future__ import annotations

import pytest
import torch

from mltrain.trainers.failures import explained


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "out of memory. Halve it"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory. Halve it"),
        (
            RuntimeError("cumsum_cuda does not have a deterministic implementation, but you set "
                         "'torch.use_deterministic_algorithms(True)'"),
            "cumsum_cuda has no deterministic form",
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "a loader process was killed"),
    ],
)  # fmt: skip
def test_told_in_words(error: RuntimeError, told: str) -> None:
    plain = explained(error)
    assert plain is not None
    assert told in str(plain)
    assert "\n" not in str(plain)


def test_a_defect_stays_a_defect() -> None:
    assert explained(RuntimeError("shape mismatch")) is None
    assert explained(KeyError("x")) is None


def test_torch_says_what_is_looked_for() -> None:
    """The real message of this torch, so that a change of its wording is seen."""
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError) as caught:
            torch.empty(4).put_(torch.tensor([0]), torch.tensor([1.0]), accumulate=False)
    finally:
        torch.use_deterministic_algorithms(False)
    assert explained(caught.value) is not None
