"""Which files are test and which are the validation of each fold: a pure function of their content and a seed.

Files of equal content form a group, which is never divided. Within a class groups are ordered by a hash of the seed
and their content, so neither names nor the order of listing matter.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mltrain.core.errors import DataError
from mltrain.data.image_files import first_few, printable

__all__ = [
    "Assignment",
    "ContentOrder",
    "LabelledFile",
    "assign_hold_out",
    "assign_k_folds",
    "refuse_two_classes",
]


class LabelledFile(NamedTuple):
    """A file to assign: its path (for messages alone), its class and the digest of its content."""

    path: str
    class_name: str
    digest: str


@dataclass(frozen=True)
class Assignment:
    """The digests of the test files, and of the validation files of each fold; the others of a fold are training's."""

    test: frozenset[str]
    validation: tuple[frozenset[str], ...]


class _Group(NamedTuple):
    digest: str
    size: int


@dataclass(frozen=True)
class _ClassGroups:
    """The groups of a class, or what is left of them."""

    name: str
    groups: list[_Group]

    @property
    def size(self) -> int:
        return sum(group.size for group in self.groups)

    def without(self, digests: frozenset[str]) -> _ClassGroups:
        return _ClassGroups(self.name, [group for group in self.groups if group.digest not in digests])


def assign_k_folds(
    files: Iterable[LabelledFile], *, folds: int, test_ratio: float, seed: int, of: str = "image"
) -> Assignment:
    """Hold out a test set and cut the rest into `folds` validation sets: each file is in exactly one.

    Per class, and over all classes, the validation sets differ by at most one file where no file has copies.

    Args:
        files: every file of the data set, in any order.
        folds: at least 2.
        test_ratio: share of the files that is test, 0 <= ratio < 1. The total is rounded and dealt out to the classes
            in proportion; unless it is 0, each class gives at least one.
        seed: any integer.
        of: what the files are, for messages: "image", "row".

    Raises:
        DataError: one content under two classes, or a class with too few different files for so many folds.
    """
    classes = _group_by_class(files)
    test = _draw(classes, test_ratio, ContentOrder(seed, "test"))
    remaining = [members.without(test) for members in classes]
    _refuse_small(classes, remaining, folds, f"{folds} folds", _ask_for_fewer_folds, of)
    return Assignment(test, _deal(remaining, folds, ContentOrder(seed, "folds")))


def assign_hold_out(
    files: Iterable[LabelledFile],
    *,
    folds: int,
    test_ratio: float,
    validation_ratio: float,
    seed: int,
    of: str = "image",
) -> Assignment:
    """Hold out the test set of `assign_k_folds`, then draw a validation set anew for each fold.

    Args:
        files: every file of the data set, in any order.
        folds: number of draws, at least 1.
        test_ratio: share of all files that is test.
        validation_ratio: share of all files that is validation, > 0; with `test_ratio` below 1. At least one file of
            each class is validation, and one training.
        seed: any integer.
        of: what the files are, for messages.

    Raises:
        DataError: as for `assign_k_folds`.
    """
    classes = _group_by_class(files)
    test = _draw(classes, test_ratio, ContentOrder(seed, "test"))
    remaining = [members.without(test) for members in classes]
    _refuse_small(classes, remaining, 2, "training and validation, which need 2", _ask_for_a_smaller_test_set, of)
    share = validation_ratio / (1 - test_ratio)
    return Assignment(
        test, tuple(_draw(remaining, share, ContentOrder(seed, f"hold-out {fold}"), keep=1) for fold in range(folds))
    )


class ContentOrder:
    """An order of contents that looks random: by a hash of the seed, of what is drawn, and of the content."""

    def __init__(self, seed: int, purpose: str) -> None:
        self._prefix = f"{seed}\0{purpose}\0".encode()

    def key(self, digest: str) -> bytes:
        """Return the place of a content in the order."""
        return hashlib.blake2b(self._prefix + digest.encode(), digest_size=16).digest()

    def groups(self, groups: Sequence[_Group]) -> list[_Group]:
        """Return groups in order."""
        return sorted(groups, key=lambda group: self.key(group.digest))

    def classes(self, classes: Sequence[_ClassGroups]) -> list[_ClassGroups]:
        """Return classes in the order of their first contents. Not by name: renaming a class must change nothing."""
        return sorted(classes, key=lambda members: min(self.key(group.digest) for group in members.groups))


def refuse_two_classes(files: Iterable[LabelledFile]) -> None:
    """Raise DataError where one content has two classes."""
    first: dict[str, LabelledFile] = {}
    clashes: list[tuple[str, str]] = []
    for file in sorted(files):
        other = first.setdefault(file.digest, file)
        if other.class_name != file.class_name:
            clashes.append((other.path, file.path))
    if clashes:
        pairs = [f"{one} = {two}" for one, two in clashes]
        raise DataError(
            f"the same content under two classes ({len(clashes)} {'pair' if len(clashes) == 1 else 'pairs'}): "
            f"{first_few(pairs)}",
            fix="Remove the copies that are labelled wrongly.",
        )


def _group_by_class(files: Iterable[LabelledFile]) -> list[_ClassGroups]:
    files = sorted(files)
    refuse_two_classes(files)
    sizes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for file in files:
        sizes[file.class_name][file.digest] += 1
    return [_ClassGroups(name, [_Group(*item) for item in counts.items()]) for name, counts in sizes.items()]


def _draw(classes: Sequence[_ClassGroups], share: float, order: ContentOrder, keep: int = 0) -> frozenset[str]:
    """Return the digests of about `share` of the files of each class, of which at least `keep` groups are left."""
    if share == 0:
        return frozenset()
    ordered = order.classes(classes)
    drawn: list[str] = []
    for members, wanted in zip(ordered, _apportion([members.size for members in ordered], share), strict=True):
        groups = order.groups(members.groups)
        drawn += _fill(groups, wanted, most=len(groups) - keep)
    return frozenset(drawn)


def _apportion(sizes: Sequence[int], share: float) -> list[int]:
    """Return how many files of each class make up `share` of all: in proportion, by largest remainder, at least 1."""
    quotas = [share * size for size in sizes]
    counts = [max(1, int(quota)) for quota in quotas]
    missing = round(share * sum(sizes)) - sum(counts)
    by_remainder = sorted(range(len(sizes)), key=lambda i: counts[i] - quotas[i])
    for i in by_remainder[: max(0, missing)]:
        counts[i] += 1
    return counts


def _fill(groups: Sequence[_Group], wanted: int, most: int) -> list[str]:
    """Take groups in order while they fit into `wanted` files; where none fits, the smallest."""
    taken: list[str] = []
    for group in groups:
        if group.size <= wanted and len(taken) < most:
            taken.append(group.digest)
            wanted -= group.size
    return taken or [min(groups, key=lambda group: group.size).digest]


def _deal(classes: Sequence[_ClassGroups], folds: int, order: ContentOrder) -> tuple[frozenset[str], ...]:
    """Deal out each class's groups, the largest first, to the fold that has least of the class, then least in all."""
    dealt: list[list[str]] = [[] for _ in range(folds)]
    totals = [0] * folds
    for members in order.classes(classes):
        of_class = [0] * folds
        for group in sorted(order.groups(members.groups), key=lambda group: -group.size):
            fold = min(range(folds), key=lambda k: (of_class[k], totals[k]))
            dealt[fold].append(group.digest)
            of_class[fold] += group.size
            totals[fold] += group.size
    return tuple(frozenset(digests) for digests in dealt)


def _describe(members: _ClassGroups, rest: _ClassGroups, of: str) -> str:
    """Return the numbers of a class: "class 'ants' has 6 different images; the test set takes 2, which leaves 4"."""
    text = f"class '{printable(members.name)}' has {_count(len(members.groups), f'different {of}')}"
    if copies := members.size - len(members.groups):
        text += f" (and {_count(copies, 'exact copy', 'exact copies')})"
    taken = len(members.groups) - len(rest.groups)
    return f"{text}; the test set takes {taken}, which leaves {len(rest.groups)}" if taken else text


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def _refuse_small(
    classes: Sequence[_ClassGroups],
    remaining: Sequence[_ClassGroups],
    needed: int,
    purpose: str,
    advice: Callable[[int, int, int], str],
    of: str,
) -> None:
    """Raise DataError for classes of which fewer than `needed` contents are left.

    `advice` takes the numbers of contents in the smallest of them, before and after the test set, and `needed`.
    """
    pairs: list[tuple[_ClassGroups, _ClassGroups]] = list(zip(classes, remaining, strict=True))
    small = [(members, rest) for members, rest in pairs if len(rest.groups) < needed]
    if not small:
        return
    all_of_it, left = (min(len(members.groups) for members in side) for side in zip(*small, strict=True))
    others = len(small) - 1
    more = f" ({_count(others, 'more class has', 'more classes have')} too few as well)" if others else ""
    raise DataError(
        f"{_describe(*small[0], of)}: too few for {purpose}{more}",
        fix=f"Add {of}s to the class or leave it out{advice(all_of_it, left, needed)}.",
    )


def _ask_for_fewer_folds(all_of_it: int, left: int, needed: int) -> str:
    if left > 1:
        return f", or ask for --folds {left}{' or a smaller test set' if all_of_it > left else ''}"
    return f", or ask for --test_ratio 0 --folds {min(all_of_it, needed)}" if all_of_it > 1 else ""


def _ask_for_a_smaller_test_set(all_of_it: int, left: int, needed: int) -> str:
    return ", or ask for a smaller test set" if all_of_it >= needed > left else ""
