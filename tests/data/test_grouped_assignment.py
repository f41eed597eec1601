"""Properties of the assignment of files that belong together."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Mapping

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mltrain.core.errors import DataError
from mltrain.data.fold_assignment import Assignment, LabelledFile
from mltrain.data.grouped_assignment import assign_grouped_folds, assign_grouped_hold_out

Grouped = tuple[list[LabelledFile], dict[str, str]]


def grouped(members: Mapping[str, Mapping[str, int]], copies: int = 1) -> Grouped:
    """Return files for group -> class -> number of different contents, each `copies` times, and their groups."""
    files, groups = [], {}
    for group, classes in members.items():
        for name, count in classes.items():
            for content in range(count):
                digest = hashlib.sha1(f"{group} {name} {content}".encode()).hexdigest()
                for copy in range(copies):
                    path = f"{group}/{name}{content}-{copy}.jpg"
                    files.append(LabelledFile(path, name, digest))
                    groups[path] = group
    return files, groups


# 20 groups or more, each of one or both classes: enough for four folds and a test set most of the time.
group_sizes = st.lists(
    st.dictionaries(st.sampled_from("ab"), st.integers(1, 6), min_size=1), min_size=20, max_size=50
).map(lambda members: {f"g{number}": classes for number, classes in enumerate(members)})
seeds = st.integers(-(2**40), 2**70)


def folds_of(data: Grouped, **arguments: object) -> Assignment:
    wanted = {"folds": 4, "test_ratio": 0.15, "seed": 0, **arguments}
    return assign_grouped_folds(*data, **wanted)  # type: ignore[arg-type]


def enough(members: Mapping[str, Mapping[str, int]]) -> bool:
    return all(sum(name in classes for classes in members.values()) >= 8 for name in "ab")


@given(members=group_sizes, copies=st.integers(1, 2), folds=st.integers(2, 4), seed=seeds)
@settings(max_examples=100, deadline=None)
def test_no_group_is_on_two_sides_and_every_content_is_somewhere(
    members: dict[str, dict[str, int]], copies: int, folds: int, seed: int
) -> None:
    assume(enough(members))
    files, groups = data = grouped(members, copies)
    result = folds_of(data, folds=folds, seed=seed)
    parts = [result.test, *result.validation]
    assert Counter(digest for part in parts for digest in part) == Counter({file.digest for file in files})
    sides = defaultdict(set)
    for file in files:
        sides[groups[file.path]].update(number for number, part in enumerate(parts) if file.digest in part)
    assert all(len(side) == 1 for side in sides.values())
    for part in result.validation:
        training = {file.class_name for file in files if file.digest not in part | result.test}
        assert training == {"a", "b"}
    assert {file.class_name for file in files if file.digest in result.test} == {"a", "b"}


@given(members=group_sizes, seed=seeds)
@settings(max_examples=60, deadline=None)
def test_hold_outs_keep_groups_together_too(members: dict[str, dict[str, int]], seed: int) -> None:
    assume(enough(members))
    files, groups = grouped(members)
    result = assign_grouped_hold_out(files, groups, folds=2, test_ratio=0.2, validation_ratio=0.2, seed=seed)
    for validation in result.validation:
        side = {file.path: (file.digest in result.test, file.digest in validation) for file in files}
        assert len({(groups[path], where) for path, where in side.items()}) == len(set(groups.values()))
        assert set(side.values()) == {(True, False), (False, True), (False, False)}


@given(members=group_sizes, seed=seeds, order=st.integers(0, 2**32), hold_out=st.booleans())
@settings(max_examples=60, deadline=None)
def test_names_and_order_do_not_matter(
    members: dict[str, dict[str, int]], seed: int, order: int, hold_out: bool
) -> None:
    assume(enough(members))
    shuffle = random.Random(order)

    def assign(files: list[LabelledFile], groups: dict[str, str]) -> Assignment:
        if hold_out:
            return assign_grouped_hold_out(files, groups, folds=2, test_ratio=0.15, validation_ratio=0.2, seed=seed)
        return folds_of((files, groups), seed=seed)

    files, groups = grouped(members, copies=2)
    classes = dict(zip("ab", shuffle.sample("ab", 2), strict=True))
    names = {group: f"{shuffle.random()}" for group in members}
    paths = {file.path: f"{shuffle.random()}" for file in files}
    renamed = [LabelledFile(paths[file.path], classes[file.class_name], file.digest) for file in files]
    shuffle.shuffle(renamed)
    renamed_groups = {paths[path]: names[group] for path, group in groups.items()}
    assert assign(renamed, renamed_groups) == assign(files, groups)


@given(groups_a=st.integers(10, 60), groups_b=st.integers(10, 60), size=st.integers(1, 4), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_equal_groups_of_one_class_are_dealt_evenly(groups_a: int, groups_b: int, size: int, seed: int) -> None:
    members = {f"a{i}": {"a": size} for i in range(groups_a)} | {f"b{i}": {"b": size} for i in range(groups_b)}
    files, groups = grouped(members)
    result = assign_grouped_folds(files, groups, folds=4, test_ratio=0.2, seed=seed)
    for name, number in (("a", groups_a), ("b", groups_b)):
        held = [sum(f.class_name == name and f.digest in part for f in files) for part in result.validation]
        assert max(held) - min(held) <= size
        tested = sum(f.class_name == name and f.digest in result.test for f in files)
        assert tested == size or abs(tested - 0.2 * number * size) <= size / 2 + 1e-9


def test_copies_join_their_groups() -> None:
    files, groups = grouped({f"g{i}": {"a": 2, "b": 2} for i in range(20)})
    for one, two in ((0, 4), (4, 8)):  # a content of groups 0 and 1, another of groups 1 and 2
        path = f"copy{one}.jpg"
        files.append(LabelledFile(path, files[two].class_name, files[one].digest))
        groups[path] = groups[files[two].path]
    for seed in range(10):
        result = folds_of((files, groups), seed=seed)
        parts = [result.test, *result.validation]
        joined = {file.digest for file in files if groups[file.path] in {"g0", "g1", "g2"}}
        assert sum(bool(joined & part) for part in parts) == 1


def test_the_seed_changes_the_result() -> None:
    data = grouped({f"g{i}": {"a": 2, "b": 1} for i in range(40)})
    results = [folds_of(data, seed=seed) for seed in range(10)]
    assert len({result.test for result in results}) == 10
    assert len({result.validation for result in results}) == 10


def test_a_class_in_too_few_groups_is_refused_with_the_numbers() -> None:
    members = {f"a{i}": {"a": 3} for i in range(20)} | {f"b{i}": {"b": 9} for i in range(4)}
    with pytest.raises(DataError) as raised:
        folds_of(grouped(members))
    assert str(raised.value) == (
        "class 'b' is in 4 separate groups only; 4 folds and a test set need 5. Add groups to the class or leave it "
        "out, or ask for --folds 3 or --test_ratio 0."
    )
    assert folds_of(grouped(members), test_ratio=0).test == frozenset()


@pytest.mark.parametrize(
    ("groups", "test_ratio", "advice"),
    [
        (4, 0.2, ", or ask for --folds 3 or --test_ratio 0."),
        (3, 0.2, ", or ask for --folds 2."),
        (2, 0.2, ", or ask for --test_ratio 0 --folds 2."),
        (2, 0.0, ", or ask for --folds 2."),
        (1, 0.2, "leave it out."),
    ],
)
def test_advice_for_a_class_in_too_few_groups(groups: int, test_ratio: float, advice: str) -> None:
    with pytest.raises(DataError) as raised:
        folds_of(grouped({f"g{i}": {"a": 1, "b": 1} for i in range(groups)}), test_ratio=test_ratio)
    assert str(raised.value).endswith(advice)


def test_groups_that_copies_join_into_one_are_refused() -> None:
    files, groups = grouped({f"g{i}": {"a": 1, "b": 1} for i in range(10)})
    for group in range(10):
        path = f"logo{group}.jpg"
        files.append(LabelledFile(path, "a", "0" * 40))
        groups[path] = f"g{group}"
    with pytest.raises(DataError, match="is in 1 separate group only"):
        folds_of((files, groups))


def test_one_content_under_two_classes_is_refused() -> None:
    files, groups = grouped({f"g{i}": {"a": 1, "b": 1} for i in range(10)})
    files.append(LabelledFile("copy.jpg", "b", files[0].digest))
    with pytest.raises(DataError, match=r"two classes \(1 pair\): copy\.jpg = g0/a0-0\.jpg"):
        folds_of((files, {**groups, "copy.jpg": "g0"}))


def test_golden_assignment() -> None:
    """Splits that users have must be made again by every later version."""
    files, groups = grouped({f"g{i}": {"a": 1 + i % 3, "b": 1} for i in range(12)})
    result = folds_of((files, groups), folds=3, test_ratio=0.2, seed=42)
    parts = [
        sorted({groups[file.path] for file in files if file.digest in part})
        for part in (result.test, *result.validation)
    ]
    assert [" ".join(part) for part in parts] == GOLDEN


GOLDEN = ["g2 g6", "g0 g11 g7", "g10 g4 g5", "g1 g3 g8 g9"]
