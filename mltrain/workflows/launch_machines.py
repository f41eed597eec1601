"""The machines of a launch: how their launchers meet before each attempt, and tell each other how it ended."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from mltrain.core.errors import ConfigError, HardwareError
from mltrain.workflows.launch_codes import RankEnd
from mltrain.workflows.launch_link import Link, UnreachableError, serve
from mltrain.workflows.launch_plan import LaunchPlan
from mltrain.workflows.launch_signals import Signals
from mltrain.workflows.launch_state import LaunchState

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

__all__ = ["Machines", "ManyMachines", "OneMachine"]

_LOOK_EVERY_S = 0.5
_FAREWELL_S = 10.0


class Machines(Protocol):
    """What an attempt needs to know of the machines."""

    def meet(self, attempt: int) -> tuple[str, int]:
        """Return, when all machines are here, the address and port at which the ranks of this attempt meet."""
        ...

    def tell_failure(self, attempt: int) -> None:
        """Let the others know that ranks here have failed."""
        ...

    def has_failed_elsewhere(self, attempt: int) -> bool:
        """Return whether another machine has told so."""
        ...

    def settle(self, attempt: int, ends: Sequence[RankEnd], *, within: float) -> tuple[list[RankEnd], set[int]]:
        """Return how the ranks of all machines ended, and the machines that have not said so in time."""
        ...


class OneMachine:
    """This machine alone.

    Args:
        port: for the ranks to meet at; 0: any free one.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._store: TCPStore | None = None

    def meet(self, attempt: int) -> tuple[str, int]:
        """Open a store for the ranks: a new one each time, so that nothing of an earlier attempt is in it."""
        self._store = None
        self._store = _serve("127.0.0.1", self._port)
        return "127.0.0.1", self._store.port

    def tell_failure(self, attempt: int) -> None:
        """Do nothing: nobody else need know."""

    def has_failed_elsewhere(self, attempt: int) -> bool:
        """Return False."""
        return False

    def settle(self, attempt: int, ends: Sequence[RankEnd], *, within: float) -> tuple[list[RankEnd], set[int]]:
        """Return the ends."""
        return list(ends), set()


class ManyMachines:
    """This machine and others, which meet at a store that the launcher of machine 0 keeps.

    Args:
        plan: of the launch, the same on all machines but for the machine's rank.
        state: learns the run folder from the others.
        signals: end every wait.
    """

    def __init__(self, plan: LaunchPlan, state: LaunchState, signals: Signals) -> None:
        self._plan, self._state, self._signals = plan, state, signals
        self._address, self._rank = str(plan.main_process_ip), plan.machine_rank
        self._token = uuid.uuid4().hex
        self._server = _serve(self._address, plan.main_process_port) if self._rank == 0 else None
        self._ranks_store: TCPStore | None = None
        self._main = self._link()
        self._host: str | None = None
        self._failed: set[int] = set()
        self._watched: set[int] = set()

    def meet(self, attempt: int) -> tuple[str, int]:
        """Wait for all machines, and see that they were asked for the same.

        Raises:
            HardwareError: one does not come in time.
            ConfigError: they were asked for different things.
        """
        port = None
        if self._rank == 0:
            self._ranks_store = None
            self._ranks_store = _serve(self._address, 0)
            port = self._ranks_store.port
        mine = json.dumps({"port": port, "token": self._token, "run": self._state.run_folder, **self._asked()})
        found = self._gather(f"{attempt}/here", mine, self._plan.rendezvous_timeout_s)
        self._check(found)
        missing = set(range(self._plan.num_machines)) - found.keys()
        if missing:
            raise self._alone(missing)
        self._agree_on_run(found)
        self._watch(attempt)
        return self._address, int(found[0]["port"])

    def tell_failure(self, attempt: int) -> None:
        """Tell it in the background: the link may be what failed."""
        link = self._link()

        def tell() -> None:
            for _ in range(3):
                try:
                    link.put(f"{attempt}/failed", "1")
                    return
                except UnreachableError:
                    time.sleep(_LOOK_EVERY_S)

        threading.Thread(target=tell, daemon=True).start()

    def has_failed_elsewhere(self, attempt: int) -> bool:
        """Return what the background has seen."""
        return attempt in self._failed

    def settle(self, attempt: int, ends: Sequence[RankEnd], *, within: float) -> tuple[list[RankEnd], set[int]]:
        """Exchange the ends. The first machine, which keeps the store, then waits a moment for the others to read."""
        self._watched.discard(attempt)
        mine = json.dumps([asdict(end) for end in ends])
        found = self._gather(f"{attempt}/ends", mine, within)
        missing = set(range(self._plan.num_machines)) - found.keys()
        if not missing:
            self._gather(f"{attempt}/read", "true", _FAREWELL_S if self._rank == 0 else 0.0)
        others = [RankEnd(**end) for rank, told in found.items() if rank != self._rank for end in told]
        return [*ends, *others], missing

    # ---- talking ---------------------------------------------------------------------------------------------------

    def _link(self) -> Link:
        return Link(self._address, self._plan.main_process_port)

    def _gather(self, key: str, mine: str, within: float) -> dict[int, Any]:
        """Tell the others something, and return what each told: of those that have, when all have or time is over."""
        keys = {f"{key}/{rank}": rank for rank in range(self._plan.num_machines)}
        end = time.monotonic() + within
        found: dict[int, Any] = {self._rank: json.loads(mine)}
        while True:
            try:
                stored = self._main.put(f"{key}/{self._rank}", mine)
                if stored != mine:
                    raise self._taken()
                found |= {keys[name]: json.loads(text) for name, text in self._main.read(list(keys)).items()}
            except UnreachableError:
                pass
            if len(found) == len(keys) or time.monotonic() > end:
                return found
            self._signals.raise_received()
            time.sleep(_LOOK_EVERY_S)

    def _watch(self, attempt: int) -> None:
        """Look in the background, while the attempt lasts, whether another machine tells of a failure."""
        link = self._link()
        self._watched.add(attempt)

        def watch() -> None:
            while attempt in self._watched and attempt not in self._failed:
                time.sleep(_LOOK_EVERY_S)
                try:
                    if link.read([f"{attempt}/failed"]):
                        self._failed.add(attempt)
                except UnreachableError:
                    continue

        threading.Thread(target=watch, daemon=True).start()

    # ---- agreeing --------------------------------------------------------------------------------------------------

    def _asked(self) -> dict[str, Any]:
        return {"num_processes": self._plan.num_processes, "max_restarts": self._plan.max_restarts}

    def _check(self, found: Mapping[int, Any]) -> None:
        """Raise where the machines were asked for different things, or machine 0 is not the one that was met before."""
        for name, wanted in self._asked().items():
            others = {rank: told[name] for rank, told in found.items() if told[name] != wanted}
            for rank, value in others.items():
                raise ConfigError(
                    f"is {wanted} here and {value} on machine {rank}",
                    where=f"--{name}",
                    fix="Give the same command on all machines, but for --machine_rank.",
                )
        token = found.get(0, {}).get("token")
        if self._host not in (None, token) and token is not None:
            raise HardwareError(
                "machine 0 has been started anew", where=self._place, fix="Start this one again as well, with --resume."
            )
        self._host = token or self._host

    def _agree_on_run(self, found: Mapping[int, Any]) -> None:
        """Note the run folder that any machine knows, so that after a restart all ranks continue the same."""
        known = next((told["run"] for _, told in sorted(found.items()) if told["run"] is not None), None)
        if known is not None and self._state.run_folder is None:
            self._state.run_folder = known

    @property
    def _place(self) -> str:
        return f"{self._address}:{self._plan.main_process_port}"

    def _alone(self, missing: set[int]) -> HardwareError:
        seconds = f"{self._plan.rendezvous_timeout_s:g} s"
        if 0 in missing:
            return HardwareError(
                f"machine 0 has not answered within {seconds}",
                where=self._place,
                fix="See that the same command runs there, with --machine_rank 0, and that this machine can reach it.",
            )
        names = ", ".join(map(str, sorted(missing)))
        return HardwareError(
            f"machine {names} has not come within {seconds}",
            where=self._place,
            fix="See that the same command runs there, with its own --machine_rank, and that it reaches this machine.",
        )

    def _taken(self) -> ConfigError:
        return ConfigError(
            f"another machine has come as {self._rank} already",
            where="--machine_rank",
            fix="Number the machines 0, 1, ...; to start one of them again start all.",
        )


def _serve(address: str, port: int) -> TCPStore:
    """Return a store; raises ConfigError where it cannot listen."""
    try:
        return serve(address, port)
    except OSError as error:
        where = "--main_process_port" if port else "--main_process_ip"
        raise ConfigError(
            f"cannot listen at {address}:{port} ({os.strerror(error.errno or 0)})",
            where=where,
            fix="Choose a free port, and an address of machine 0.",
        ) from None
