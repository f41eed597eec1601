"""torch's elastic agent, as torchrun runs it, with our rules for signals, failures and restarts."""

from __future__ import annotations

from typing import Any

from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SubprocessContext
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from mltrain.core.logging import log
from mltrain.workflows.launch_codes import Ending, RankEnd, ending, may_restart, reason
from mltrain.workflows.launch_machines import Machines
from mltrain.workflows.launch_plan import LaunchPlan
from mltrain.workflows.launch_ranks import Patience, Ranks
from mltrain.workflows.launch_signals import Signals
from mltrain.workflows.launch_state import LaunchState

__all__ = ["LaunchAgent", "Rendezvous"]


class Rendezvous(RendezvousHandler):
    """A fixed number of machines with fixed ranks, which meet anew for each attempt.

    torch's own dynamic rendezvous orders the machines by their addresses and takes a machine that is cut off for one
    that has left; its static one keeps the keys of a failed attempt.

    Args:
        machines: meet.
        plan: of the launch.
        launch_id: of it.
    """

    def __init__(self, machines: Machines, plan: LaunchPlan, launch_id: str) -> None:
        self._machines, self._plan, self._launch_id = machines, plan, launch_id
        self.attempt = -1

    def get_backend(self) -> str:
        """Return what the ranks meet by."""
        return "c10d"

    @property
    def use_agent_store(self) -> bool:
        """Ranks use the store of the first machine's launcher, which outlives them."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """Meet for the next attempt."""
        self.attempt += 1
        address, port = self._machines.meet(self.attempt)
        # The agent keeps nothing in the store: with equal machines the ranks follow from the machine's own.
        place = RendezvousStoreInfo(address, port)
        return RendezvousInfo(HashStore(), self._plan.machine_rank, self._plan.num_machines, place)

    def is_closed(self) -> bool:
        """Return False: the agent decides when it is over."""
        return False

    def set_closed(self) -> None:
        """Do nothing."""

    def num_nodes_waiting(self) -> int:
        """Return 0: no machine joins a launch that goes on."""
        return 0

    def get_run_id(self) -> str:
        """Return the launch's ID."""
        return self._launch_id

    def shutdown(self) -> bool:
        """Return True: the store goes with the process."""
        return True


class LaunchAgent(LocalElasticAgent):
    """Starts the ranks of this machine, waits for all of them to end, and decides from all exit codes what follows.

    Args:
        spec: what is started.
        logs: folder for torch's own files.
        plan, machines, signals, state, patience: of the launch.

    Attributes:
        ending: what the launcher does in the end.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        logs: str,
        plan: LaunchPlan,
        machines: Machines,
        signals: Signals,
        state: LaunchState,
        patience: Patience,
    ) -> None:
        super().__init__(spec, DefaultLogsSpecs(log_dir=logs))
        self._plan, self._machines, self._signals, self._state = plan, machines, signals, state
        self._patience = patience
        self._ranks = Ranks({}, plan.machine_rank, patience)
        self._attempt, self._has_told = -1, False
        self.ending: Ending | None = None

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        self._signals.raise_received()
        pids: dict[int, Any] = super()._start_workers(worker_group)
        context = self._pcontext
        assert isinstance(context, SubprocessContext)
        processes = {
            worker.global_rank: context.subprocess_handlers[worker.local_rank].proc for worker in worker_group.workers
        }
        self._ranks = Ranks(processes, self._plan.machine_rank, self._patience)
        self._attempt += 1
        self._has_told = False
        self._signals.forward_to(list(processes.values()))
        return pids

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        ranks = self._ranks
        ranks.look()
        if ranks.are_over:
            return self._settle(ranks)
        if ranks.have_failed and not self._has_told:
            self._has_told = True
            self._machines.tell_failure(self._attempt)
        if ranks.have_failed or self._signals.is_repeated or self._machines.has_failed_elsewhere(self._attempt):
            ranks.end(at_once=self._signals.is_repeated)
        return RunResult(WorkerState.HEALTHY)

    def _exit_barrier(self) -> None:
        """Do nothing: the machines have exchanged how their ranks ended."""

    def _settle(self, ranks: Ranks) -> RunResult:
        """Return what follows from the ends of all ranks of all machines."""
        self._signals.forward_to(())
        mine = list(ranks.ends.values())
        may_go_on = self._remaining_restarts > 0 and self._signals.received is None
        waits = may_go_on and may_restart(mine)
        within = self._plan.rendezvous_timeout_s if waits else self._patience.settle_s
        ends, missing = self._machines.settle(self._attempt, mine, within=within)
        if may_go_on and not missing and may_restart(ends):
            count = self._plan.max_restarts - self._remaining_restarts + 1
            why = reason(ends, machines=self._plan.num_machines)
            log.warning("Restart %d of %d: %s.", count, self._plan.max_restarts, why)
            return RunResult(WorkerState.FAILED)
        self.ending = self._ending(ends, missing)
        if all(end.code == 0 for end in mine):
            return RunResult(WorkerState.SUCCEEDED, return_values={end.rank: None for end in mine})
        self._remaining_restarts = 0
        return RunResult(WorkerState.FAILED)

    def _ending(self, ends: list[RankEnd], missing: set[int]) -> Ending:
        run = self._state.run_folder
        restarts = "" if self._plan.max_restarts else ", or let --max_restarts N do so"
        continued = f"Continue with --resume {run}{restarts}." if run else "The run had not begun: start it again."
        return ending(
            ends,
            received=self._signals.received,
            machines=self._plan.num_machines,
            missing=missing,
            errors=self._state.errors(),
            continued=continued,
        )
