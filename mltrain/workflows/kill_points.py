"""The moments at which a run is killed: spread over its training, and aimed at what is hardest to survive."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from mltrain.workflows.run_watch import Sight, Timeline

__all__ = ["KillPoint", "draw_kill_points", "earlier"]

_COMMIT_S = 0.005


@dataclass(frozen=True)
class KillPoint:
    """One moment.

    Attributes:
        aim: one of "moment", "save", "commit", "validation", "evaluation", "start".
        share: how much of the training that is left passes before anything is aimed at, in [0, 1).
        delay: seconds from what is aimed at to the kill.
    """

    aim: str
    share: float
    delay: float

    def is_seen(self, sight: Sight, passed: float) -> bool:
        """Return whether what is aimed at has come.

        Args:
            sight: of the run, at present.
            passed: how much has passed of the training that was left when the run began or continued.
        """
        return passed >= self.share and _SEEN[self.aim](sight)


_SEEN: dict[str, Callable[[Sight], bool]] = {
    "moment": lambda sight: sight.phase != "starting",
    "save": lambda sight: sight.staging,
    "commit": lambda sight: sight.committed,
    "validation": lambda sight: sight.phase == "validating",
    "evaluation": lambda sight: sight.phase == "evaluating",
    "start": lambda sight: sight.phase == "starting",
}
# A few kills meet a save, a commit and the end; of many, half fall anywhere.
_ROUND = (
    *("save", "moment", "commit", "evaluation", "moment", "validation", "moment", "start"),
    *("save", "moment", "moment", "save", "moment", "moment", "moment", "commit"),
)


def draw_kill_points(count: int, timeline: Timeline, generator: random.Random) -> list[KillPoint]:
    """Return kill points in the order in which one run meets them, each uniform over what it is aimed at.

    Args:
        count: how many.
        timeline: of the undisturbed run: what it never did is not aimed at.
        generator: the source of all draws.
    """
    aims = [aim for aim, _ in zip(_aims(timeline), range(count), strict=False)]
    last = [aim for aim in aims if aim == "evaluation"]
    spread = [aim for aim in aims if aim != "evaluation"]
    generator.shuffle(spread)
    return [
        _draw(aim, number, timeline, generator)
        for number, aim in [*zip(range(len(spread), 0, -1), spread, strict=True), *((0, aim) for aim in last)]
    ]


def earlier(point: KillPoint, generator: random.Random) -> KillPoint:
    """Return a point to take instead of one that came after the run's end."""
    return replace(point, share=point.share * generator.random(), delay=point.delay * generator.random())


def _aims(timeline: Timeline) -> Iterator[str]:
    missing = {"validation"} if not timeline.validations else set()
    missing |= {"save", "commit"} if not timeline.saves else set()
    while True:
        yield from (aim for aim in _ROUND if aim not in missing)


def _draw(aim: str, left: int, timeline: Timeline, generator: random.Random) -> KillPoint:
    spans = {
        "save": statistics.median(timeline.saves or [0.0]),
        "commit": _COMMIT_S,
        "validation": statistics.median(timeline.validations or [0.0]),
        "evaluation": timeline.total_s - timeline.train_s,
        "start": timeline.start_s,
    }
    # The first of so many moments that are uniform over what is left; those after it are drawn likewise.
    share = 1.0 - generator.random() ** (1.0 / left) if left and aim != "start" else 0.0
    return KillPoint(aim, share, spans.get(aim, 0.0) * generator.random())
