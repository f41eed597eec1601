"""Which files are test and which are validation where some belong together: a pure function of content and a seed.

Files of one group (a patient, a camera), and files of equal content, are never divided; what is joined by either, also
over several steps, is a unit. A unit may hold files of several classes, so shares are met as well as units allow:
the squared deviations of each class from its share, relative to the size of the class, are kept small greedily.
Neither the names of files, groups and classes nor their order matter.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mltrain.core.errors import DataError
from mltrain.data.fold_assignment import Assignment, ContentOrder, LabelledFile, refuse_two_classes
from mltrain.data.image_files import printable

__all__ = ["assign_grouped_folds", "assign_grouped_hold_out"]


@dataclass(frozen=True)
class _Unit:
    """Files that stay together. counts: number of files of each class, in the order of the classes."""

    digests: frozenset[str]
    name: str
    counts: tuple[int, ...]

    @property
    def size(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class _Units:
    """All units, or what is left of them."""

    classes: list[str]
    members: list[_Unit]

    def totals(self) -> list[int]:
        return [sum(unit.counts[c] for unit in self.members) for c in range(len(self.classes))]

    def units_of(self, c: int) -> int:
        return sum(unit.counts[c] > 0 for unit in self.members)

    def without(self, digests: frozenset[str]) -> _Units:
        return _Units(self.classes, [unit for unit in self.members if not unit.digests & digests])


def assign_grouped_folds(
    files: Iterable[LabelledFile], groups: Mapping[str, str], *, folds: int, test_ratio: float, seed: int
) -> Assignment:
    """Hold out a test set and cut the rest into `folds` validation sets, without dividing a group.

    Args:
        files: every file of the data set, in any order.
        groups: path -> group, of every file.
        folds: at least 2.
        test_ratio: share of the files that is test, 0 <= ratio < 1. Unless it is 0, each class gives some.
        seed: any integer.

    Raises:
        DataError: one content under two classes, a class in too few groups, or groups that cannot be dealt out so that
            each fold has files and each of its training sets all classes.
    """
    units = _make_units(files, groups)
    _refuse_small(units, folds, test=test_ratio > 0, purpose=f"{folds} folds")
    test = _draw(units, test_ratio, ContentOrder(seed, "test"), keep=folds)
    return Assignment(test, _deal(units.without(test), folds, ContentOrder(seed, "folds")))


def assign_grouped_hold_out(
    files: Iterable[LabelledFile],
    groups: Mapping[str, str],
    *,
    folds: int,
    test_ratio: float,
    validation_ratio: float,
    seed: int,
) -> Assignment:
    """Hold out a test set, then draw a validation set anew for each fold, without dividing a group.

    Args:
        files: every file of the data set, in any order.
        groups: path -> group, of every file.
        folds: number of draws, at least 1.
        test_ratio: share of all files that is test.
        validation_ratio: share of all files that is validation, > 0; with `test_ratio` below 1.
        seed: any integer.

    Raises:
        DataError: one content under two classes, or a class in too few groups.
    """
    units = _make_units(files, groups)
    _refuse_small(units, 2, test=test_ratio > 0, purpose="training and validation")
    test = _draw(units, test_ratio, ContentOrder(seed, "test"), keep=2)
    rest, share = units.without(test), validation_ratio / (1 - test_ratio)
    return Assignment(
        test, tuple(_draw(rest, share, ContentOrder(seed, f"hold-out {fold}"), keep=1) for fold in range(folds))
    )


def _make_units(files: Iterable[LabelledFile], groups: Mapping[str, str]) -> _Units:
    files = sorted(files)
    refuse_two_classes(files)
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while (above := parent.setdefault(node, node)) != node:
            parent[node] = node = parent[above]
        return node

    for file in files:
        parent[root(("content", file.digest))] = root(("group", groups[file.path]))
    members: dict[tuple[str, str], list[LabelledFile]] = {}
    for file in files:
        members.setdefault(root(("content", file.digest)), []).append(file)
    first: dict[str, str] = {}
    for file in files:  # a class is placed by its smallest digest: its name must change nothing
        first[file.class_name] = min(first.get(file.class_name, file.digest), file.digest)
    classes = sorted(first, key=lambda name: first[name])
    units = [_unit(together, classes) for together in members.values()]
    return _Units(classes, sorted(units, key=lambda unit: unit.name))


def _unit(files: Sequence[LabelledFile], classes: Sequence[str]) -> _Unit:
    digests = sorted({file.digest for file in files})
    counts = Counter(file.class_name for file in files)
    name = hashlib.blake2b("\n".join(digests).encode(), digest_size=20).hexdigest()
    return _Unit(frozenset(digests), name, tuple(counts[label] for label in classes))


def _draw(units: _Units, share: float, order: ContentOrder, *, keep: int) -> frozenset[str]:
    """Return the digests of units that make up about `share` of each class, and leave `keep` units of each."""
    if share == 0:
        return frozenset()
    totals = units.totals()
    taken, drawn = [0] * len(totals), list[_Unit]()
    left = [units.units_of(c) for c in range(len(totals))]
    ordered = sorted(units.members, key=lambda unit: order.key(unit.name))

    def allowed(unit: _Unit) -> bool:
        return all(n > keep for n, count in zip(left, unit.counts, strict=True) if count)

    def change(unit: _Unit) -> float:
        """Return by how much the squared deviation grows when the unit is taken."""
        parts = zip(unit.counts, taken, totals, strict=True)
        return sum(u * (2 * (t - share * total) + u) / total**2 for u, t, total in parts)

    def take(unit: _Unit) -> None:
        drawn.append(unit)
        ordered.remove(unit)
        for c, count in enumerate(unit.counts):
            taken[c] += count
            left[c] -= count > 0

    for c in sorted(range(len(totals)), key=lambda c: left[c]):
        if taken[c] == 0:
            candidates = [unit for unit in ordered if unit.counts[c] and allowed(unit)]
            if not candidates:
                raise _impossible(units.classes[c])
            take(next((unit for unit in candidates if change(unit) < 0), min(candidates, key=change)))
    for unit in list(ordered):
        if allowed(unit) and change(unit) < 0:
            take(unit)
    return frozenset().union(*(unit.digests for unit in drawn))


def _deal(units: _Units, folds: int, order: ContentOrder) -> tuple[frozenset[str], ...]:
    """Deal out the units, those with most of a class first, each to the fold that has least of its classes."""
    totals = units.totals()
    dealt: list[list[_Unit]] = [[] for _ in range(folds)]
    held = [[0] * len(totals) for _ in range(folds)]

    def weight(unit: _Unit) -> tuple[float, bytes]:
        return -max(count / total for count, total in zip(unit.counts, totals, strict=True)), order.key(unit.name)

    for unit in sorted(units.members, key=weight):
        costs = [
            (sum(h * u / total**2 for h, u, total in zip(fold, unit.counts, totals, strict=True)), sum(fold))
            for fold in held
        ]
        chosen = costs.index(min(costs))
        dealt[chosen].append(unit)
        held[chosen] = [h + u for h, u in zip(held[chosen], unit.counts, strict=True)]
    for fold in held:
        for c, count in enumerate(fold):
            if count == totals[c] or not sum(fold):
                raise _impossible(units.classes[c])
    return tuple(frozenset().union(*(unit.digests for unit in part)) for part in dealt)


def _refuse_small(units: _Units, parts: int, *, test: bool, purpose: str) -> None:
    """Raise DataError for classes in fewer groups than there are parts, and a test set one more."""
    needed = parts + test
    small = [c for c in range(len(units.classes)) if units.units_of(c) < needed]
    if not small:
        return
    number, fewest = units.units_of(small[0]), min(map(units.units_of, small))
    groups, others = "group" if number == 1 else "groups", len(small) - 1
    more = f" ({others} more {'class is' if others == 1 else 'classes are'} in too few as well)" if others else ""
    raise DataError(
        f"class '{printable(units.classes[small[0]])}' is in {number} separate {groups} only; "
        f"{purpose}{' and a test set' if test else ''} need {needed}{more}",
        fix=f"Add groups to the class or leave it out{_advice(fewest, parts, test=test)}.",
    )


def _advice(fewest: int, parts: int, *, test: bool) -> str:
    options = [f"--folds {fewest - test}"] if parts > fewest - test > 1 else []
    if test and fewest >= parts:
        options.append("--test_ratio 0")
    elif test and fewest == 2:
        options.append("--test_ratio 0 --folds 2")
    return f", or ask for {' or '.join(options)}" if options else ""


def _impossible(label: str) -> DataError:
    return DataError(
        f"the groups cannot be dealt out so that class '{printable(label)}' is on every side that needs it",
        fix="Ask for fewer folds or a smaller test set, or try another --seed.",
    )
