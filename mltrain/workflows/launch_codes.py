"""How the ranks of a launch ended, and what follows: the launcher's exit code, its last line, whether to restart."""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Ending", "RankEnd", "ending", "forbids_restart", "is_interruption", "may_restart", "reason"]

_DEFECT, _TOLD, _LOST = 1, 2, 75


@dataclass(frozen=True)
class RankEnd:
    """The end of one process.

    Attributes:
        rank, machine: which one.
        code: its exit code; -n: signal n killed it.
        at: when it was seen, in seconds of the launch; orders the ends of one machine.
        stopped: whether the launcher had stopped it before, because others had failed.
    """

    rank: int
    machine: int
    code: int
    at: float
    stopped: bool = False


@dataclass(frozen=True)
class Ending:
    """What the launcher does at its end.

    Attributes:
        code: its exit code.
        line: what it says; None: a rank has said it, or there is nothing to say.
    """

    code: int
    line: str | None = None


def is_interruption(code: int) -> bool:
    """Return whether an exit code says that a signal, or a limit of time, ended the run as it should."""
    return 128 < code <= 128 + signal.NSIG


def forbids_restart(ends: Iterable[RankEnd]) -> bool:
    """Return whether a rank ended so that a new attempt would be wrong.

    An error that the user must mend would come again, and who interrupts a run does not want it to go on. What may come
    to another end: a death by signal, a defect, the loss of a peer.
    """
    return any(end.code > 0 and end.code not in (_DEFECT, _LOST) and not end.stopped for end in ends)


def may_restart(ends: Sequence[RankEnd]) -> bool:
    """Return whether the ranks of all machines ended so that a new attempt is right."""
    return any(end.code != 0 and not end.stopped for end in ends) and not forbids_restart(ends)


def _is_defect(code: int) -> bool:
    return code > 0 and code not in (_TOLD, _LOST) and not is_interruption(code)


def reason(ends: Sequence[RankEnd], *, machines: int = 1) -> str:
    """Return which rank failed first, and how."""
    culprit = _culprit(ends)
    return "the ranks ended" if culprit is None else f"{_name(culprit, machines)} {_how(culprit)}"


def ending(
    ends: Sequence[RankEnd],
    *,
    received: int | None,
    machines: int = 1,
    missing: Collection[int] = (),
    errors: Mapping[int, str] | None = None,
    continued: str = "",
) -> Ending:
    """Return how a launch ends for good.

    Args:
        ends: of all ranks that are known of.
        received: the signal that the launcher was sent; None: none.
        machines: of the launch.
        missing: machines that have not said how their ranks ended.
        errors: rank -> its error for people, where no other process has shown it.
        continued: what to do to continue.
    """
    if all(end.code == 0 for end in ends):
        return Ending(0)  # ranks that came to a good end need nobody any more
    failed = [end for end in ends if not end.stopped and end.code != 0]
    defect = next((end for end in failed if _is_defect(end.code)), None)
    told = [end for end in failed if end.code == _TOLD]
    interruption = min((end.code for end in failed if is_interruption(end.code)), default=None)
    if defect is not None:
        return Ending(_DEFECT, f"{_name(defect, machines)} {_how(defect)}. {continued}".strip())
    if told:
        return Ending(_TOLD, _told(told, machines, errors or {}))
    if received is not None or interruption is not None:
        return Ending(128 + received if received is not None else interruption or 0)
    if missing and all(end.code == _LOST for end in failed):
        names = ", ".join(str(machine) for machine in sorted(missing))
        return Ending(_LOST, f"machine {names} does not answer any more. {continued}".strip())
    return Ending(_LOST, f"{reason(ends, machines=machines)}. {continued}".strip())


def _culprit(ends: Iterable[RankEnd]) -> RankEnd | None:
    """Return the rank that failed first; of what is seen at once, a death comes before what it does to the others."""
    failed = [end for end in ends if end.code != 0 and not is_interruption(end.code) and not end.stopped]
    causes = [end for end in failed if end.code not in (_LOST, _TOLD)]
    hung = [end for end in ends if end.stopped]
    losses = [end for end in failed if end.code == _LOST]
    candidates = causes or hung or losses
    return min(candidates, key=lambda end: (end.code > 0, end.at, end.rank), default=None)


def _how(end: RankEnd) -> str:
    if end.stopped:
        return "gave no answer to the others and was stopped"
    if end.code == _LOST:
        return "lost the others"
    if end.code > 0:
        return f"ended with exit code {end.code}; its own error is above"
    try:
        name = signal.Signals(-end.code).name
    except ValueError:
        name = f"signal {-end.code}"
    return f"was killed by {name}{' (most often for want of memory)' if name == 'SIGKILL' else ''}"


def _told(told: Sequence[RankEnd], machines: int, errors: Mapping[int, str]) -> str | None:
    """Return what a rank other than the first had to say; the first shows its own error."""
    if any(end.rank == 0 for end in told):
        return None
    return f"{_name(told[0], machines)}: {errors.get(told[0].rank, 'it ended with exit code 2')}"


def _name(end: RankEnd, machines: int) -> str:
    return f"rank {end.rank} on machine {end.machine}" if machines > 1 else f"rank {end.rank}"
