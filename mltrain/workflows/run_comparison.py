"""Two runs, value by value: equal to the bit, or where they part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mltrain.tracking.metrics_log import NOT_VALUES, is_measured

__all__ = ["Comparison", "compare_runs"]


@dataclass(frozen=True)
class Comparison:
    """What became of the comparison.

    Attributes:
        same: nothing differs.
        verdict: one line for people.
        unmatched: metrics that only one of the runs logs; they are not compared.
    """

    same: bool
    verdict: str
    unmatched: tuple[str, ...]


def compare_runs(
    then: Sequence[Mapping[str, Any]],
    now: Sequence[Mapping[str, Any]],
    *,
    digest_then: str | None,
    digest_now: str | None,
) -> Comparison:
    """Compare the logged values in the order of the first run, then the models. What measures the machine is left out.

    Args:
        then, now: the records of both `metrics.jsonl`.
        digest_then: the first run's `model_digest`; None: it did not come to its end, and only its values count.
        digest_now: the second run's.
    """
    first, second = _values(then), _values(now)
    metrics_then, metrics_now = ({name for name, _, _ in values} for values in (first, second))
    common = metrics_then & metrics_now
    unmatched = tuple(sorted(metrics_then - metrics_now))
    if digest_then is not None:
        unmatched += tuple(sorted(metrics_now - metrics_then))
    places = [place for place in first if place[0] in common]
    if digest_then is not None:
        places += [place for place in second if place[0] in common and place not in first]
    for place in places:
        was, is_now = (values.get(place, "missing") for values in (first, second))
        if was != is_now:
            name, step, _ = place
            return Comparison(False, f"Different: {name} at step {step} was {was!r}, is {is_now!r}.", unmatched)
    count = f"{len(places):,} values of {len(common)} metrics"
    if digest_then is None:
        last = max((step for _, step, _ in places), default=0)
        verdict = f"Same bits as far as the run goes: {count}, up to step {last}. It has no final model to compare."
        return Comparison(True, verdict, unmatched)
    if digest_then != digest_now:
        verdict = f"Different: the model was {digest_then}, is {digest_now}, though {count} are equal."
        return Comparison(False, verdict, unmatched)
    return Comparison(True, f"Same bits: the model ({digest_then[:16]}...) and {count}.", unmatched)


def _values(records: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int, int], Any]:
    """Return (metric, step, how often before at this step) -> value."""
    values: dict[tuple[str, int, int], Any] = {}
    seen = Counter[tuple[str, int]]()
    for record in records:
        for name, value in record.items():
            if name in NOT_VALUES or is_measured(name):
                continue
            place = (name, int(record["step"]))
            values[*place, seen[place]] = value
            seen[place] += 1
    return values
