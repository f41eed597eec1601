"""Which process of a run is lost, and how: what the others conclude from its signs of life, and say of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from mltrain.core.errors import MltrainError, one_line
from mltrain.trainers.rank_sign import Sign

__all__ = ["PATIENCE_S", "SILENCE_S", "Verdict", "failed", "judge", "unreachable"]

# A process that lives gives a sign each half second.
SILENCE_S = 3.0
PATIENCE_S = 6.0

_TIMEOUT = "training.collective_timeout_s"
_LOOK = "Its own output says why, if anything does."
_RAISE = "Raise it if that process was at work."
_NAMED = 4


@dataclass(frozen=True)
class Verdict:
    """What the processes of a run say of the one that is lost.

    ranks: of the lost processes; empty: all are there, but nothing comes through.
    what, where, advice: the parts of the error, as `MltrainError` has them.
    exit_code: of the processes that are left.
    own_error: whether the lost process itself told why it ends.
    """

    ranks: tuple[int, ...]
    what: str
    where: str | None = None
    advice: str = _LOOK
    exit_code: int = 75
    own_error: bool = False

    @classmethod
    def read(cls, text: str | bytes) -> Verdict:
        """Return the verdict that `text` gave."""
        values = json.loads(text)
        return cls(**{**values, "ranks": tuple(values["ranks"])})

    def text(self) -> str:
        """Return the verdict as it stands in the store."""
        return json.dumps(asdict(self))


def judge(
    others: Sequence[Sign], silent_s: Mapping[int, float], *, own: Sign, timed_out: bool, waited_s: float
) -> Verdict | None:
    """Return which of the other processes is lost, or None while that cannot be known yet.

    Args:
        others: the latest signs of the other processes.
        silent_s: for how long the sign of each rank has stayed the same, in seconds.
        own: the sign of this process, whose exchange has failed.
        timed_out: whether the exchange ran out of time; else a connection broke.
        waited_s: for how long the signs have been looked at.
    """
    # One that knows of a loss, or looks for it, is not it.
    suspects = [sign for sign in others if sign.state in ("works", "left")]
    gone = [sign for sign in suspects if sign.process() == "gone"]
    if gone:
        return _verdict(gone, lambda sign: _silent(sign, own))
    if waited_s < SILENCE_S:
        return None
    silent = [sign for sign in suspects if silent_s[sign.rank] >= SILENCE_S]
    if silent:
        return _verdict(silent, lambda sign: _silent(sign, own))
    if timed_out and suspects:
        late = [sign for sign in suspects if not sign.waits] or suspects
        return _verdict(late, _late, where=_TIMEOUT, advice=_RAISE)
    if not suspects:
        return _apart([own, *others])
    return _verdict(suspects, _absent) if waited_s >= PATIENCE_S else None


def failed(own: Sign, error: BaseException) -> Verdict:
    """Return the verdict of a process on itself, when it ends by an error of its own."""
    if isinstance(error, MltrainError):
        told, code = f"has failed {own.where()}: {error}", error.exit_code
    else:
        how = "has failed" if isinstance(error, Exception) else "was interrupted"
        told, code = f"{how} {_standing(own)}: {one_line(f'{type(error).__name__}: {error}')}", 75
    return replace(_verdict([own], lambda _: told, advice=""), exit_code=code, own_error=True)


def unreachable(first: Sign, own: Sign, address: str) -> Verdict:
    """Return the verdict where the store of the run does not answer.

    Args:
        first: the last sign that came from the first process, beside which the store lies.
        own: the sign of this process.
        address: of the store.
    """
    if first.rank == own.rank:
        return Verdict((), f"nothing answers at {address}, where the processes of the run meet: its launcher is gone")
    if first.process() in ("gone", "stopped"):
        return _verdict([first], lambda sign: _silent(sign, own))
    told = f"cannot be reached: nothing answers at {address} (its machine, its launcher or the network is gone)"
    return _verdict([first], lambda _: f"{told}; it is missed {own.where()}", advice="")


def _verdict(
    signs: Sequence[Sign], told: Callable[[Sign], str], *, where: str | None = None, advice: str = _LOOK
) -> Verdict:
    """Return the verdict on processes, of each of which the same is told."""
    parts = [f"rank {sign.rank} (process {sign.pid} on {sign.host}) {told(sign)}" for sign in signs[:_NAMED]]
    more = [f"{len(signs) - _NAMED} more likewise"] if len(signs) > _NAMED else []
    return Verdict(tuple(sign.rank for sign in signs), "; ".join(parts + more), where, advice)


def _silent(sign: Sign, own: Sign) -> str:
    """Return what has become of a process that gives no sign of life; where it is missed is exact, its sign is not."""
    missed = f"it is missed {own.where()}"
    match sign.process():
        case "gone":
            return f"has died; {missed}"
        case "stopped":
            return f"hangs, for its process is stopped; {missed}"
        case "there":
            return f"gives no sign of life, but its process is there (it hangs, or the network is gone); {missed}"
        case _:
            return f"gives no sign of life since {sign.at} (it has died, or its machine or network is gone); {missed}"


def _late(sign: Sign) -> str:
    return f"hangs, or is slow: it lives, but does not come to where the others wait; it stands {_standing(sign)}"


def _absent(sign: Sign) -> str:
    return f"has left the others, but lives; it stands {_standing(sign)}"


def _apart(signs: Sequence[Sign]) -> Verdict:
    """Return the verdict where every process lives and waits: for different things, or without hearing anything."""
    places = "; ".join(f"rank {sign.rank} on {sign.host} {_standing(sign)}" for sign in signs[:_NAMED])
    return Verdict((), f"all processes live, but their exchange does not come about: {places}", _TIMEOUT, "")


def _standing(sign: Sign) -> str:
    return f"{sign.where()}, at {sign.place}" if sign.place else sign.where()
