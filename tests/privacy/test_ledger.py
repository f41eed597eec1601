"""The ledger counts every step before it is taken, through kills, torn lines and older checkpoints; or it refuses."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.core.errors import CheckpointError
from mltrain.privacy.account import PrivacyAccount
from mltrain.privacy.accounting import Accountant
from mltrain.privacy.ledger import Ledger
from mltrain.privacy.poisson_plan import PoissonPlan
from mltrain.privacy.private_update import PrivateUpdate

pytestmark = pytest.mark.usefixtures("quick_reports")

MECHANISM: dict[str, Any] = {"noise_multiplier": 1.25, "max_grad_norm": 1.0, "sample_rate": 0.125}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def counted(path: Path, steps: int, start: int = 0) -> Ledger:
    """Open the ledger and count so many steps; it is left open, as a run that dies leaves it."""
    ledger = Ledger(path, MECHANISM)
    for position in range(start, start + steps):
        ledger.begin_step(position)
    return ledger


Patch = pytest.MonkeyPatch


def steps_in(path: Path) -> int:
    ledger = Ledger(path, MECHANISM)
    ledger.close()
    return ledger.steps


def test_steps_are_on_the_disk_before_they_are_taken(path: Path) -> None:
    ledger = Ledger(path, MECHANISM)
    for step in range(1, 6):
        ledger.begin_step(step - 1)
        assert json.loads(path.read_text().splitlines()[-1])["step"] == step == ledger.steps


def test_each_step_is_synced(path: Path, monkeypatch: Patch) -> None:
    """Written is not enough: a machine that loses its power loses what no `fsync` has confirmed."""
    ledger, synced = Ledger(path, MECHANISM), []
    for name in ("fsync", "fdatasync"):
        usual = getattr(os, name)
        monkeypatch.setattr(os, name, lambda file, usual=usual: (usual(file), synced.append(path.read_bytes())))
    for position in range(3):
        ledger.begin_step(position)
        ledger.settle()
        assert synced[-1] == path.read_bytes()
    assert len(synced) == 3


def test_a_disk_that_does_not_take_a_step_is_told_before_it_is_taken(path: Path, monkeypatch: Patch) -> None:
    ledger = counted(path, 2)
    ledger.settle()

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        ledger.begin_step(2)
        with pytest.raises(CheckpointError, match=r"cannot be written \(Input/output error\)"):
            ledger.settle()
    assert steps_in(path) == 3


def test_a_run_changes_no_weight_before_the_disk_has_the_step(train_vectors: Any, monkeypatch: Patch) -> None:
    events, flush, finish = [], Ledger._flush, PrivateUpdate.finish

    def slow_flush(ledger: Ledger) -> None:
        time.sleep(0.01)
        flush(ledger)
        events.append("on the disk")

    def noted_finish(update: PrivateUpdate, **wishes: Any) -> Any:
        events.append("taken")
        return finish(update, **wishes)

    monkeypatch.setattr(Ledger, "_flush", slow_flush)
    monkeypatch.setattr(PrivateUpdate, "finish", noted_finish)
    dp = {"noise_multiplier": 2.0, "accountant": "rdp", "grad_sample_mode": "hooks"}
    train_vectors({"training.trainer_type": "dp", "training.dp": dp, "training.num_epochs": 1})
    steps = events.count("taken")
    assert steps > 2
    assert events == ["on the disk"] + ["on the disk", "taken"] * steps


def _dies(path: Path) -> None:
    counted(path, 4)
    os._exit(9)


def test_a_step_that_dies_after_it_was_counted_counts(path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_dies, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == 9
    ledger = counted(path, 2, start=3)
    assert (ledger.steps, len(ledger.segments)) == (6, 2)
    assert steps_in(path) == 6


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 80)), min_size=1, max_size=5))
def test_a_last_line_that_is_torn_counts(
    tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[int, int]]
) -> None:
    """Each life counts some steps and dies while it writes the next line, of which some bytes get to the disk."""
    path, taken, torn = tmp_path_factory.mktemp("torn") / "ledger.jsonl", 0, 0
    for steps, bytes_left in lives:
        ledger = counted(path, steps)
        taken += steps
        assert taken <= ledger.steps <= taken + torn
        whole = path.read_bytes()
        ledger.begin_step(steps)
        line = path.read_bytes()[len(whole) :]
        path.write_bytes(whole + line[: min(bytes_left, len(line) - 1)])
        torn += bytes_left > 0
        ledger.close()
    assert taken <= steps_in(path) == taken + torn


def test_a_ledger_cut_anywhere_counts_every_step_that_its_whole_lines_tell(path: Path) -> None:
    counted(path, 5)
    content = path.read_bytes()
    head = len(content.splitlines(keepends=True)[0])
    for end in range(head, len(content)):
        path.write_bytes(content[:end])
        told = sum(b'"step"' in line for line in content[:end].splitlines(keepends=True) if line.endswith(b"\n"))
        assert steps_in(path) == told + (not content[:end].endswith(b"\n"))
    for end in range(head):
        path.write_bytes(content[:end])
        with pytest.raises(CheckpointError, match="damaged"):
            Ledger(path, MECHANISM)


def test_a_bit_that_flips_is_found_or_costs_nothing(path: Path) -> None:
    ledger = counted(path, 3)
    counted(path, 4, start=3)
    state = {**ledger.state(), "steps": 7}
    content, generator = path.read_bytes(), random.Random(5)
    refused = []
    for place in range(len(content)):
        flipped = bytes([content[place] ^ 1 << generator.randrange(8)])
        path.write_bytes(content[:place] + flipped + content[place + 1 :])
        try:
            damaged = Ledger(path, MECHANISM)
            damaged.check(state)
        except CheckpointError as error:
            refused.append(str(error))
        else:
            damaged.close()
            assert damaged.steps >= 7
            assert damaged.mechanism == MECHANISM
    assert len(refused) > len(content) // 2
    assert all(str(path) in line and "Put the file of the run back" in line for line in refused)


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 9, "position": 3}',
        '{"segment": 2, "steps": 1}',
        '{"segment": 2, "steps": 7}',
        "{}",
        "[3]",
        "null",
        "3",
    ],
)
def test_lines_that_do_not_follow_are_refused(path: Path, line: str) -> None:
    counted(path, 3)
    with path.open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(CheckpointError, match="is damaged"):
        Ledger(path, MECHANISM)


def test_a_ledger_that_is_missing_is_refused_by_a_checkpoint_that_has_one(path: Path) -> None:
    state = counted(path, 3).state()
    path.unlink()
    for _ in range(2):  # the file that the first try leaves behind changes nothing
        with pytest.raises(CheckpointError, match="counts 0 steps, and the checkpoint 3"):
            Ledger(path, MECHANISM).check(state)


def test_a_ledger_with_fewer_steps_than_a_checkpoint_is_refused(path: Path) -> None:
    state = counted(path, 3).state()
    content = path.read_text().splitlines(keepends=True)
    path.write_text("".join(content[:-1]))
    with pytest.raises(CheckpointError, match="counts 2 steps, and the checkpoint 3"):
        Ledger(path, MECHANISM).check(state)


def test_a_ledger_of_another_run_is_refused(path: Path) -> None:
    state = counted(path, 3).state()
    for changed in ({"noise_multiplier": 5.0}, {"sample_rate": 0.001}, {"dataset_digest": "other"}):
        other = {**state, "mechanism": {**MECHANISM, **changed}}
        with pytest.raises(CheckpointError, match="is of another run than the checkpoint"):
            Ledger(path, MECHANISM).check(other)


def test_an_older_checkpoint_changes_nothing(path: Path) -> None:
    """What a kill lost was spent: the ledger's count stands."""
    early = counted(path, 3).state()
    counted(path, 4, start=3)
    with pytest.raises(CheckpointError, match="is of another run"):
        Ledger(path, {**MECHANISM, "noise_multiplier": 9.0})
    ledger = Ledger(path, MECHANISM)
    ledger.check(early)
    assert (ledger.steps, ledger.mechanism) == (7, MECHANISM)
    ledger.begin_step(3)
    assert steps_in(path) == 8


def test_a_full_disk_stops_the_step_and_leaves_whole_lines(path: Path, monkeypatch: Patch) -> None:
    ledger = counted(path, 3)
    before, usual, left = path.read_bytes(), os.write, [5]

    def write(file: int, content: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = min(left[0], len(content))
        left[0] -= count
        return usual(file, content[:count])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(CheckpointError, match=r"cannot be written \(No space left on device\).*--resume"):
            ledger.begin_step(3)
    assert path.read_bytes() == before
    assert ledger.steps == 3
    ledger.begin_step(3)
    assert steps_in(path) == 4


def test_a_short_write_is_completed(path: Path, monkeypatch: Patch) -> None:
    ledger, usual = Ledger(path, MECHANISM), os.write
    monkeypatch.setattr(os, "write", lambda file, content: usual(file, content[:3]))
    ledger.begin_step(0)
    monkeypatch.undo()
    assert steps_in(path) == 1


# ---- the budget


def account(path: Path, steps: int = 0, target: float | None = 2.0) -> PrivacyAccount:
    plan = PoissonPlan(400, 20, 2)
    accountant = Accountant(plan.sample_rate, 1.1, 1e-4, "rdp")
    ledger = Ledger(path, MECHANISM)
    assert ledger.steps == steps
    return PrivacyAccount(plan, accountant, target_epsilon=target, ledger=ledger, steps=ledger.steps)


def test_the_budget_is_never_passed_though_kills_lose_steps(path: Path) -> None:
    """Each life takes up the run three steps before where the last one died."""
    accountant = account(path).accountant
    path.unlink()
    position, taken, lives = 0, 0, 0
    while True:
        one = account(path, taken)
        allowed = one.steps_allowed(position)
        assert accountant.epsilon(taken + allowed) <= 2.0
        for _ in range(min(allowed, 5)):
            one.begin_step(position)
            position, taken = position + 1, taken + 1
        one.close()
        if not allowed:
            break
        position, lives = max(0, position - 3), lives + 1
    assert lives > 2
    assert accountant.epsilon(taken) <= 2.0 < accountant.epsilon(taken + 1)
    assert steps_in(path) == taken


def test_a_step_over_the_budget_is_not_counted_either(path: Path) -> None:
    one = account(path)
    for position in range(one.steps_allowed(0)):
        one.begin_step(position)
    spent = one.steps
    assert one.steps_allowed(spent) == 0
    with pytest.raises(RuntimeError, match="would pass epsilon 2"):
        one.begin_step(spent)
    assert one.steps == steps_in(path) == spent


def test_a_step_that_is_tried_again_counts_once(path: Path) -> None:
    one = account(path, target=None)
    for position in (0, 1, 1, 1, 2):
        one.begin_step(position)
    assert one.steps == steps_in(path) == 3
