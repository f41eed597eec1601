"""The launcher with small programs as its ranks: signals, failures and restarts."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from mltrain.core.errors import ConfigError
from mltrain.workflows.launch import launch
from mltrain.workflows.launch_codes import Ending
from mltrain.workflows.launch_plan import LaunchPlan
from mltrain.workflows.launch_ranks import Patience

QUICK = Patience(tell_s=0.5, stop_s=0.5, settle_s=1.0)
HEAD = """
import os, signal, sys, time
rank, attempt = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
open(f"began_{rank}_{attempt}", "w").write(str(os.getpid()))
def until(condition):
    while not condition():
        time.sleep(0.01)
def exits(code):
    return lambda *_: os._exit(code)
"""
SAVES = """
saved = lambda number, _: (time.sleep(0.7), os._exit(128 + number))
signal.signal(signal.SIGTERM, saved); signal.signal(signal.SIGINT, saved)
open(f"ready_{rank}", "w")
until(lambda: False)
"""


def run(program: str, *words: str, restarts: int = 0, port: int = 0, patience: Patience = QUICK) -> Ending:
    """Launch two ranks that run a program, which takes a fraction of the time that training does to begin."""
    command = [sys.executable, "-I", "-S", "-c", HEAD + program, *words]
    plan = LaunchPlan(2, max_restarts=restarts, main_process_port=port)
    return launch(plan, command, started=0.0, patience=patience)


def when(files: list[str], *numbers: signal.Signals, apart: float = 0.0) -> threading.Thread:
    """Send this process signals as soon as files are there."""

    def wait() -> None:
        while not all(Path(file).exists() for file in files):
            time.sleep(0.01)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(apart)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_ranks_find_their_place_and_their_words() -> None:
    told = """
names = "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MLTRAIN_NUM_PROCESSES OMP_NUM_THREADS".split()
open(f"told_{rank}", "w").write(" ".join([*(os.environ[name] for name in names), sys.argv[1]]))
"""
    assert run(told, "$HOME is ${local_rank} $$") == Ending(0)
    for rank in (0, 1):
        text = Path(f"told_{rank}").read_text()
        assert text == f"{rank} {rank} 2 2 127.0.0.1 2 1 $HOME is ${{local_rank}} $$"


def test_cores_are_shared_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("mltrain.workflows.launch.usable_cores", lambda: 7)
    assert run('open("threads", "w").write(os.environ["OMP_NUM_THREADS"])') == Ending(0)
    assert Path("threads").read_text() == "3"
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_signal_reaches_every_rank_and_their_time_is_theirs(number: str, code: int) -> None:
    """Saving takes them longer than after a failure they would be given. A closed terminal is SIGTERM to them."""
    when(["ready_0", "ready_1"], getattr(signal, number))
    assert run(SAVES, restarts=3) == Ending(code)
    assert not Path("began_0_1").exists()


def test_after_a_second_signal_nothing_is_waited_for() -> None:
    when(["ready_0", "ready_1"], signal.SIGTERM, signal.SIGTERM, apart=0.7)
    deaf = 'signal.signal(signal.SIGTERM, signal.SIG_IGN); open(f"ready_{rank}", "w"); until(lambda: False)'
    assert run(deaf) == Ending(143)


def test_nor_for_what_others_have_to_say_of_a_failure() -> None:
    when(["ready_1"], signal.SIGTERM, signal.SIGTERM, apart=0.7)
    deaf = 'signal.signal(signal.SIGTERM, signal.SIG_IGN); open(f"ready_{rank}", "w"); until(lambda: False)'
    began = time.monotonic()
    assert run(f"rank or os._exit(75); {deaf}", patience=Patience(tell_s=100.0, stop_s=0.3)) == Ending(143)
    assert time.monotonic() - began < 60


def test_quit_ends_all_at_once() -> None:
    when(["ready_0", "ready_1"], signal.SIGQUIT)
    assert run(SAVES) == Ending(131)


def test_one_that_dies_takes_the_others_along_and_is_named() -> None:
    """The other one is stopped (SIGSTOP), so that it heeds no SIGTERM."""
    end = run("os.kill(os.getpid(), signal.SIGKILL if rank else signal.SIGSTOP)")
    assert end.code == 75
    assert end.line is not None
    assert end.line.startswith("rank 1 was killed by SIGKILL")
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("began_0_0").read_text()), 0)


def test_one_that_hangs_is_named_by_what_the_others_say() -> None:
    end = run("os._exit(75) if rank == 0 else os.kill(os.getpid(), signal.SIGSTOP)")
    assert (end.code, (end.line or "").partition(".")[0]) == (75, "rank 1 gave no answer to the others and was stopped")


def test_others_have_the_time_to_tell() -> None:
    end = run("os.kill(os.getpid(), 9) if rank else (time.sleep(0.3), open('told', 'w'), os._exit(75))")
    assert end.code == 75
    assert Path("told").exists()


@pytest.mark.parametrize("failure", ["os.kill(os.getpid(), 11)", "os._exit(1)", "os._exit(75)"])
def test_a_failure_is_tried_again(failure: str) -> None:
    assert run(f"attempt < 2 and rank == 1 and {failure}", restarts=2) == Ending(0)
    assert Path("began_0_2").exists()


def test_restarts_come_to_an_end() -> None:
    assert run("rank == 1 and os._exit(1)", restarts=1).code == 1
    assert not Path("began_0_2").exists()


@pytest.mark.parametrize(("code", "line"), [(2, None), (143, None), (3, "rank 0 ended with exit code 3")])
def test_what_a_restart_would_not_mend_is_not_tried_again(code: int, line: str | None) -> None:
    end = run(f"os._exit({code} if rank == 0 else 75)", restarts=3)
    assert (end.code, end.line and end.line.partition(";")[0]) == (1 if code == 3 else code, line)
    assert not Path("began_0_1").exists()


def test_an_error_that_only_another_rank_has_is_told() -> None:
    wrote = "open(os.environ['MLTRAIN_LAUNCH_STATE'] + '/error_1', 'w').write('no such file')"
    assert run(f"rank and {wrote}; os._exit(2 if rank else 75)") == Ending(2, "rank 1: no such file")


def test_a_port_in_use_is_told_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="Address already in use"):
        run("", port=taken.getsockname()[1])
    assert not Path("began_0_0").exists()


def test_nothing_is_left_behind(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(Path("tmp").absolute()))
    before = dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert run("rank == 1 and os._exit(1)", restarts=1).code == 1
    assert before == (dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    assert list(Path("tmp").iterdir()) == []
    output, errors = capfd.readouterr()
    lines = [line for line in errors.splitlines() if "Restart 1 of 1: rank 1 ended with exit code 1" not in line]
    assert (output, lines) == ("", [])
