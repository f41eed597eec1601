"""Launchers of several machines meet, agree, and tell each other how their ranks ended."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mltrain.core.errors import ConfigError, HardwareError, MltrainError, SignalError
from mltrain.workflows.launch_codes import RankEnd
from mltrain.workflows.launch_link import Link, UnreachableError, serve
from mltrain.workflows.launch_machines import ManyMachines, OneMachine
from mltrain.workflows.launch_plan import LaunchPlan
from mltrain.workflows.launch_signals import Signals
from mltrain.workflows.launch_state import LaunchState

T = TypeVar("T")


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def machine(rank: int, port: int, *, signals: Signals | None = None, **changed: Any) -> ManyMachines:
    """One of two machines; its waits end after half a second."""
    folder = Path(f"state_{rank}")
    folder.mkdir(exist_ok=True)
    settings = {"num_processes": 2, "rendezvous_timeout_s": 0.5, **changed}
    plan = LaunchPlan(
        num_machines=2, machine_rank=rank, main_process_ip="127.0.0.1", main_process_port=port, **settings
    )
    return ManyMachines(plan, LaunchState(folder), signals or Signals())


def together(*works: Callable[[], T]) -> list[T | MltrainError]:
    """Do things at the same time, and return their results or errors."""
    results: dict[int, T | MltrainError] = {}

    def do(place: int, work: Callable[[], T]) -> None:
        try:
            results[place] = work()
        except MltrainError as error:
            results[place] = error

    threads = [threading.Thread(target=do, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [results[place] for place in range(len(works))]


def test_they_meet_anew_for_each_attempt(port: int) -> None:
    first, second = (machine(rank, port, rendezvous_timeout_s=20.0) for rank in (0, 1))
    places = []
    for attempt in (0, 1):
        here, there = together(lambda: first.meet(attempt), lambda: second.meet(attempt))  # noqa: B023
        assert here == there
        places.append(here)
    assert places[0] != places[1]


def test_all_continue_the_run_that_one_of_them_knows(port: int) -> None:
    first, second = (machine(rank, port, rendezvous_timeout_s=20.0) for rank in (0, 1))
    LaunchState(Path("state_1")).run_folder = "/runs/it"
    together(lambda: first.meet(1), lambda: second.meet(1))
    assert LaunchState(Path("state_0")).run_folder == "/runs/it"


def test_ends_are_exchanged_and_a_failure_is_heard_of(port: int) -> None:
    first, second = (machine(rank, port, rendezvous_timeout_s=20.0) for rank in (0, 1))
    together(lambda: first.meet(0), lambda: second.meet(0))
    assert not first.has_failed_elsewhere(0)
    second.tell_failure(0)
    heard = threading.Event()
    for _ in range(100):
        if first.has_failed_elsewhere(0) or heard.wait(0.1):
            break
    assert first.has_failed_elsewhere(0)
    mine, theirs = [RankEnd(0, 0, 75, 1.0)], [RankEnd(1, 1, -9, 2.0)]
    here, there = together(lambda: first.settle(0, mine, within=20.0), lambda: second.settle(0, theirs, within=20.0))
    assert here == ([*mine, *theirs], set())
    assert there == ([*theirs, *mine], set())


def test_one_that_does_not_come_is_named(port: int) -> None:
    with pytest.raises(HardwareError, match=r"machine 1 has not come within 0\.5 s"):
        machine(0, port).meet(0)


def test_a_first_one_that_is_not_there_is_named(port: int) -> None:
    with pytest.raises(HardwareError, match=rf"^127\.0\.0\.1:{port}: machine 0 has not answered within 0\.5 s"):
        machine(1, port).meet(0)


def test_who_says_nothing_at_the_end_is_missing(port: int) -> None:
    mine = [RankEnd(0, 0, 75, 1.0)]
    assert machine(0, port).settle(0, mine, within=0.5) == (mine, {1})


@pytest.mark.parametrize("asked", [{"num_processes": 4}, {"max_restarts": 3}])
def test_different_commands_are_refused_on_both(port: int, asked: dict[str, int]) -> None:
    first, second = machine(0, port, rendezvous_timeout_s=20.0), machine(1, port, rendezvous_timeout_s=20.0, **asked)
    (name,) = asked
    for error in together(lambda: first.meet(0), lambda: second.meet(0)):
        assert isinstance(error, ConfigError)
        assert str(error).startswith(f"--{name}: is ")


def test_two_of_the_same_rank_are_refused(port: int) -> None:
    first, second, twin = machine(0, port, rendezvous_timeout_s=20.0), *(machine(1, port) for _ in range(2))
    together(lambda: first.meet(0), lambda: second.meet(0))
    with pytest.raises(ConfigError, match="--machine_rank: another machine has come as 1 already"):
        twin.meet(0)


def test_a_signal_ends_the_wait(port: int) -> None:
    signals = Signals()
    signals.received = 15
    with pytest.raises(SignalError):
        machine(0, port, signals=signals, rendezvous_timeout_s=600.0).meet(0)


def test_a_store_that_does_not_answer_holds_nobody_up() -> None:
    """The kernel takes the connection, as it keeps one to a machine whose cable is cut; nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = Link("127.0.0.1", silent.getsockname()[1], answer_s=0.3)
        with pytest.raises(UnreachableError):
            link.read(["a"])


def test_a_store_is_reached_again_after_it_was_gone(port: int) -> None:
    link = Link("127.0.0.1", port, answer_s=2.0)
    with pytest.raises(UnreachableError):
        link.put("a", "1")
    store = serve("127.0.0.1", port)
    assert link.put("a", "1") == link.put("a", "2") == "1"
    assert link.read(["a", "b"]) == {"a": "1"}
    del store


def test_the_store_of_one_machine_is_on_loopback_only() -> None:
    import psutil

    machines = OneMachine(0)
    _, port = machines.meet(0)
    mine = [entry.laddr for entry in psutil.Process().net_connections("tcp") if entry.status == psutil.CONN_LISTEN]
    assert {place.ip for place in mine if place.port == port} == {"127.0.0.1"}
