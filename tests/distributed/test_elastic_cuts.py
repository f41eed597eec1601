"""A run that continues on another number of processes keeps its window exactly, or is refused with the numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import largest_difference, weights

from mltrain.core.errors import ConfigError
from mltrain.core.files import read_json
from mltrain.workflows.elastic import ACCUMULATION, BATCH_SIZE, WindowCut, fitting_cut

counts = st.integers(1, 12)


def possible(window: int, wanted: WindowCut, group: int, by_hand: set[str]) -> list[WindowCut]:
    """Return every cut that keeps the window, by trying all."""
    share, rest = divmod(window, wanted.processes)
    cuts = [] if rest else [(share // size, size) for size in range(group, share + 1, group) if share % size == 0]
    return [
        WindowCut(wanted.processes, steps, size)
        for steps, size in cuts
        if (BATCH_SIZE not in by_hand or size == wanted.batch_size)
        and (ACCUMULATION not in by_hand or steps == wanted.accumulation)
    ]


@settings(max_examples=400, deadline=None)
@given(
    began=st.tuples(counts, counts, counts),
    group=st.integers(1, 3),
    processes=st.integers(1, 24),
    accumulation=counts,
    groups=counts,
    by_hand=st.sets(st.sampled_from([BATCH_SIZE, ACCUMULATION])),
)
def test_a_window_is_kept_exactly_or_refused(
    began: tuple[int, int, int], group: int, processes: int, accumulation: int, groups: int, by_hand: set[str]
) -> None:
    window = began[0] * began[1] * began[2] * group
    wanted = WindowCut(processes, accumulation, groups * group)
    expected = possible(window, wanted, group, by_hand)
    if not expected:
        with pytest.raises(ConfigError, match=f"{window} samples|have {window}") as caught:
            fitting_cut(window, wanted, group_size=group, by_hand=by_hand, run="runs/it")
        if caught.value.where == "runs/it":
            told = [int(number) for number in re.findall(r"\d+", str(caught.value.fix))]
            assert all(possible(window, WindowCut(number, 1, group), group, set()) for number in told)
        return
    cut = fitting_cut(window, wanted, group_size=group, by_hand=by_hand, run="runs/it")
    assert cut in expected
    assert cut.window_size == window
    if not by_hand:
        assert cut.batch_size == max(one.batch_size for one in expected if one.batch_size <= wanted.batch_size)


@pytest.fixture
def stopped(train_vectors: Any) -> Path:
    """A run of windows of 8, in one microbatch, stopped in the second epoch."""
    return Path(train_vectors({"callbacks": {"stop_at": {"step": 10}}, "run.name": "it"}).folder)


@pytest.mark.usefixtures("quick_reports")
def test_what_is_set_by_hand_stays_and_the_other_follows(stopped: Path, train_vectors: Any) -> None:
    result = train_vectors({"callbacks": {}, "training.batch_size": 4}, config=None, resume=stopped)
    assert largest_difference(weights(result.folder), weights(train_vectors({}).folder)) < 1e-6
    changes = read_json(stopped / "metadata.json")["segments"][-1]["changes"]
    assert changes["training.batch_size"] == [8, 4]
    assert changes["training.gradient_accumulation_steps"] == [1, 2]
    own = yaml.safe_load((stopped / "config.yaml").read_text())["training"]
    assert (own["batch_size"], own["gradient_accumulation_steps"]) == (4, 2)


@pytest.mark.parametrize(
    ("processes", "change", "told"),
    [
        (1, {"training.batch_size": 3}, "batch_size: is 3, which does not fit .*: 8 samples. Set it to 1, 2, 4 or 8"),
        (2, {"training.batch_size": 8}, "8 samples, of which each of 2 processes takes 4. Set it to 1, 2 or 4, or"),
        (2, {"training.gradient_accumulation_steps": 3}, "accumulation_steps: is 3, .* Set it to 1, 2 or 4, or"),
        (3, {}, "it: its windows of 8 samples cannot be shared evenly by 3 processes.*with 1, 2, 4 or 8 processes"),
        (
            2,
            {"training.batch_size": 8, "training.gradient_accumulation_steps": 1},
            r"2 process\(es\) x 1 microbatch\(es\) of 8 are 16 samples, but the windows of .*it have 8. Leave one",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_the_numbers(
    stopped: Path,
    train_vectors: Any,
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
    change: dict[str, Any],
    told: str,
) -> None:
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    with pytest.raises(ConfigError, match=told):
        train_vectors({"training.trainer_type": "accelerate", **change}, config=None, resume=stopped)
    assert before == {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
