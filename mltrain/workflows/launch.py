"""`--num_processes`: one command that starts all processes of a run, by torchrun's machinery."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mltrain.core.environment import variables_set
from mltrain.core.errors import SignalError
from mltrain.core.hardware import usable_cores
from mltrain.core.logging import log
from mltrain.core.signal_handling import NOTHING_TO_SAVE
from mltrain.core.world_size import ASKED
from mltrain.workflows.launch_codes import Ending
from mltrain.workflows.launch_plan import LaunchPlan
from mltrain.workflows.launch_ranks import Patience
from mltrain.workflows.launch_signals import Signals
from mltrain.workflows.launch_state import LAUNCHER, STARTED, STATE, LaunchState

__all__ = ["launch", "rank_command"]

_LOOK_EVERY_S = 0.1


def rank_command(words: Sequence[str]) -> list[str]:
    """Return the command line of a rank: this Python, `mltrain` and the words after it."""
    # As for this process: a console command does not look for modules in the working folder, `python -m` does.
    in_folder = Path(sys.path[0] or ".").resolve() == Path.cwd()
    return [sys.executable, *([] if in_folder else ["-P"]), "-m", "mltrain", *words]


def launch(
    plan: LaunchPlan,
    command: Sequence[str],
    *,
    started: float,
    debug: bool = False,
    patience: Patience | None = None,
) -> Ending:
    """Start the processes of this machine, see them through to their end and return what to say and to exit with.

    Args:
        plan: how many, and where.
        command: what each of them is.
        started: when the launcher began, by `time.monotonic`.
        debug: show what torch has to say.
        patience: how long others are waited for.

    Raises:
        ConfigError, HardwareError: the machines do not come together.
    """
    patience = patience or Patience()
    signals = Signals()
    with signals.taken_over(), tempfile.TemporaryDirectory(prefix="mltrain-launch-") as folder, _quiet(debug=debug):
        state = LaunchState(Path(folder))
        variables = {STATE: folder, STARTED: repr(started), LAUNCHER: str(os.getpid()), **_variables(plan, debug=debug)}
        with variables_set(variables):
            try:
                return _run(plan, command, signals, state, patience, folder)
            except SignalError as error:
                if state.run_folder is None:
                    log.warning(NOTHING_TO_SAVE)
                return Ending(128 + error.number)


def _run(
    plan: LaunchPlan, command: Sequence[str], signals: Signals, state: LaunchState, patience: Patience, folder: str
) -> Ending:
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.multiprocessing import SignalException

    from mltrain.workflows.launch_agent import LaunchAgent, Rendezvous
    from mltrain.workflows.launch_machines import Machines, ManyMachines, OneMachine

    machines: Machines = OneMachine(plan.main_process_port)
    if plan.num_machines > 1:
        machines = ManyMachines(plan, state, signals)
    spec = WorkerSpec(
        role="mltrain",
        local_world_size=plan.local_processes,
        entrypoint=command[0],
        # The agent replaces ${local_rank} in them; a "$" of the user's own means itself.
        args=tuple(word.replace("$", "$$") for word in command[1:]),
        rdzv_handler=Rendezvous(machines, plan, uuid.uuid4().hex),
        max_restarts=plan.max_restarts,
        monitor_interval=_LOOK_EVERY_S,
    )
    agent = LaunchAgent(
        spec, logs=folder, plan=plan, machines=machines, signals=signals, state=state, patience=patience
    )
    try:
        agent.run()
    except SignalException as error:  # SIGQUIT, the one that torch is left: it has ended the ranks
        return Ending(128 + error.sigval)
    assert agent.ending is not None
    return agent.ending


def _variables(plan: LaunchPlan, *, debug: bool) -> Mapping[str, str]:
    """Return what the agent and the ranks find in their environment."""
    variables = {
        **plan.environment,
        ASKED: str(plan.num_processes),
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGQUIT",
        "TORCH_ELASTIC_WORKER_IDENTICAL": "1",
    }
    if "OMP_NUM_THREADS" not in os.environ:
        variables["OMP_NUM_THREADS"] = str(max(1, usable_cores() // plan.local_processes))
    if not debug:
        variables["TORCH_CPP_LOG_LEVEL"] = os.environ.get("TORCH_CPP_LOG_LEVEL", "FATAL")
    return variables


@contextlib.contextmanager
def _quiet(*, debug: bool) -> Iterator[None]:
    """Keep torch's own reports of failures off the terminal: what matters of them is said in one line."""
    if debug:
        yield
        return
    torch_log = logging.getLogger("torch.distributed")
    before = torch_log.propagate, torch_log.handlers[:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch_log.propagate, torch_log.handlers = False, [logging.NullHandler()]
        try:
            yield
        finally:
            torch_log.propagate, torch_log.handlers = before
