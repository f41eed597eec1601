"""What processes conclude from each other's signs of life, and how the signs come through the store."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psutil
import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from mltrain.core.errors import ConfigError
from mltrain.trainers.lost_process import PATIENCE_S, SILENCE_S, Verdict, failed, judge, unreachable
from mltrain.trainers.rank_heartbeat import Heartbeat
from mltrain.trainers.rank_sign import Sign, stands_in, stood_in, this_process

OWN = dataclasses.replace(this_process(0), epoch=1, step=6, phase="train")
LIVES = dataclasses.replace(OWN, rank=1, place="load (data.py:7)")
AWAY = dataclasses.replace(LIVES, machine="another one", host="far")


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[bytes], Sign]]:
    """Another process, with its sign."""
    with subprocess.Popen(["sleep", "60"]) as process:
        born = psutil.Process(process.pid).create_time()
        yield process, dataclasses.replace(LIVES, pid=process.pid, born=born)
        process.kill()


def conclusion(*others: Sign, silent_s: float = 0.0, timed_out: bool = True, waited_s: float = PATIENCE_S) -> Any:
    silent = {sign.rank: silent_s for sign in others}
    return judge(others, silent, own=OWN, timed_out=timed_out, waited_s=waited_s)


def wait_for(process: subprocess.Popen[bytes], status: str) -> None:
    end = time.monotonic() + 30
    while psutil.Process(process.pid).status() != status:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_dead_process_of_this_machine_is_known_at_once(other: tuple[subprocess.Popen[bytes], Sign]) -> None:
    process, sign = other
    assert conclusion(sign, waited_s=0.0) is None
    process.kill()
    wait_for(process, psutil.STATUS_ZOMBIE)
    found = conclusion(sign, waited_s=0.0)
    assert found.ranks == (1,)
    assert f"rank 1 (process {sign.pid} on {sign.host}) has died; it is missed in epoch 2, step 7" in found.what
    process.wait()
    assert conclusion(sign, waited_s=0.0) == found
    assert "has died" in unreachable(sign, dataclasses.replace(OWN, rank=2), "a:1").what


def test_another_process_of_the_same_number_is_not_it(other: tuple[subprocess.Popen[bytes], Sign]) -> None:
    _, sign = other
    assert sign.process() == "there"
    assert dataclasses.replace(sign, born=sign.born - 1).process() == "gone"
    assert dataclasses.replace(sign, machine="another one").process() == "unknown"


def test_a_stopped_process_hangs(other: tuple[subprocess.Popen[bytes], Sign]) -> None:
    process, sign = other
    os.kill(process.pid, signal.SIGSTOP)
    wait_for(process, psutil.STATUS_STOPPED)
    assert "hangs, for its process is stopped" in conclusion(sign, silent_s=SILENCE_S).what


def test_of_those_that_live_the_one_that_does_not_wait_is_late() -> None:
    waiting = dataclasses.replace(LIVES, rank=2, waits=True)
    searching = dataclasses.replace(LIVES, rank=3, state="examines")
    found = conclusion(LIVES, waiting, searching)
    assert found.ranks == (1,)
    assert found.where == "training.collective_timeout_s"
    assert "it stands in epoch 2, step 7, at load (data.py:7)" in found.what
    assert conclusion(LIVES, waited_s=SILENCE_S / 2) is None, "its next sign may stay away"


def test_silence_of_another_machine_may_be_its_network() -> None:
    assert conclusion(AWAY, silent_s=SILENCE_S, waited_s=0.0) is None
    told = conclusion(AWAY, silent_s=SILENCE_S, timed_out=False, waited_s=SILENCE_S).what
    assert "rank 1 (process" in told
    assert "on far) gives no sign of life since" in told
    assert "nothing answers at a:1" in unreachable(dataclasses.replace(AWAY, rank=0), LIVES, "a:1").what


def test_where_all_live_and_wait_nobody_is_lost() -> None:
    found = conclusion(dataclasses.replace(LIVES, state="examines"))
    assert found.ranks == ()
    assert "at load (data.py:7)" in found.what


def test_one_that_closes_its_connections_and_lives_is_waited_for() -> None:
    assert conclusion(LIVES, timed_out=False, waited_s=SILENCE_S) is None
    assert "has left the others" in conclusion(LIVES, timed_out=False).what


def test_of_many_some_are_named() -> None:
    many = [dataclasses.replace(AWAY, rank=rank) for rank in range(1, 9)]
    found = conclusion(*many, silent_s=SILENCE_S)
    assert found.ranks == tuple(range(1, 9))
    assert found.what.endswith("; 4 more likewise")


def test_an_error_of_its_own_is_told_with_what_it_ends_with() -> None:
    mistake = failed(OWN, ConfigError("is 0", where="data.x", fix="Use 1."))
    assert (mistake.exit_code, mistake.own_error) == (2, True)
    assert mistake.what.endswith("has failed in epoch 2, step 7: data.x: is 0. Use 1.")
    defect = failed(LIVES, ValueError("two\nlines"))
    assert defect.exit_code == 75
    assert defect.what.endswith("has failed in epoch 2, step 7, at load (data.py:7): ValueError: two lines")


@pytest.mark.parametrize(
    ("epoch", "step", "phase", "told"),
    [
        (None, None, "", "before the first step"),
        (0, 0, "train", "in epoch 1, step 1"),
        (0, 7, "validate", "in epoch 1, after step 7 (validate)"),
        (None, 21, "evaluate", "after step 21 (evaluate)"),
        (None, 7, "", "after step 7"),
    ],
)
def test_places_are_told_in_peoples_numbers(epoch: int | None, step: int | None, phase: str, told: str) -> None:
    assert dataclasses.replace(OWN, epoch=epoch, step=step, phase=phase).where() == told


@given(st.text(), st.integers(0), st.floats(allow_nan=False), st.lists(st.integers(0)))
def test_what_is_told_comes_back(text: str, number: int, born: float, ranks: list[int]) -> None:
    sign = dataclasses.replace(OWN, host=text, place=text, step=number, born=born)
    assert Sign.read(sign.text()) == sign
    verdict = Verdict(tuple(ranks), text, text, text)
    assert Verdict.read(verdict.text()) == verdict


def test_where_a_thread_stands_is_the_innermost_function_of_this_program() -> None:
    assert stands_in(threading.get_ident()).place.startswith("stands_in (rank_sign.py:")
    with pytest.raises(ValueError, match="Expecting value") as caught:
        Sign.read("no JSON")
    assert stood_in(caught.tb).place.startswith("read (rank_sign.py:")


# ---- the store -----------------------------------------------------------------------------------------------------


@pytest.fixture
def store() -> Any:
    return dist.TCPStore(
        "127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=5), wait_for_workers=False, multi_tenant=True
    )


def beating(store: Any, rank: int) -> Heartbeat:
    signs = [OWN, LIVES]
    return Heartbeat(
        ("127.0.0.1", store.port), "a board", signs, rank, lambda sign: dataclasses.replace(sign, step=7 + rank)
    )


def test_signs_and_the_first_verdict_come_to_all(store: Any) -> None:
    one, two = beating(store, 0), beating(store, 1)
    one.examines = True
    two.wait_for_round(30)
    one.wait_for_round(30)
    assert one.signs[1].step == 8
    assert two.signs[0].step == 7
    assert one.signs[1].state == "works"
    assert one.tell(Verdict((1,), "the first"))
    assert two.tell(Verdict((0,), "the second"))
    assert one.verdict == two.verdict == Verdict((1,), "the first")
    two.wait_for_round(30)
    one.wait_for_round(30)
    assert one.signs[1].state == "knows"
    one.stop()
    two.stop()


def test_one_that_leaves_says_so(store: Any) -> None:
    one, two = beating(store, 0), beating(store, 1)
    two.stop()
    one.examines = True
    one.wait_for_round(30)
    assert one.signs[1].state == "left"
    one.stop()


def test_a_process_that_hangs_writes_where_it_stands(store: Any, caplog: pytest.LogCaptureFixture) -> None:
    one, two = beating(store, 0), beating(store, 1)
    assert one.tell(Verdict((1,), "rank 1 hangs"))
    two.wait_for_round(30)
    assert "The other processes have given this one up: rank 1 hangs" in caplog.text
    assert "test_a_process_that_hangs_writes_where_it_stands" in caplog.text
    one.stop()
    two.stop()
