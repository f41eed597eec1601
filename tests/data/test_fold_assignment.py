"""Properties of the assignment of files to test and validation, and one golden value."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.core.errors import DataError
from mltrain.data.fold_assignment import Assignment, LabelledFile, assign_hold_out, assign_k_folds


def files_of(sizes: dict[str, list[int]]) -> list[LabelledFile]:
    """Return files for class -> number of copies of each different content."""
    return [
        LabelledFile(f"{name}/{content}-{copy}.jpg", name, hashlib.sha1(f"{name} {content}".encode()).hexdigest())
        for name, copies in sizes.items()
        for content, count in enumerate(copies)
        for copy in range(count)
    ]


def class_counts(files: Iterable[LabelledFile], digests: frozenset[str]) -> Counter[str]:
    return Counter(file.class_name for file in files if file.digest in digests)


def class_sizes(files: Iterable[LabelledFile]) -> Counter[str]:
    return Counter(file.class_name for file in files)


folds_of = st.integers(2, 6)
ratios = st.sampled_from([0.0, 0.05, 0.15, 0.3])
seeds = st.integers(-(2**40), 2**70)
# 12 different files leave 6 for the folds after a test set of 30 % (at most 5 files).
distinct = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(12, 60), min_size=1, max_size=6).map(
    lambda sizes: {name: [1] * size for name, size in sizes.items()}
)
copied = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.lists(st.integers(1, 5), min_size=40, max_size=60),
    min_size=1,
    max_size=4,
)


@given(sizes=st.one_of(distinct, copied), folds=folds_of, test_ratio=ratios, seed=seeds)
@settings(max_examples=100, deadline=None)
def test_every_content_is_test_or_in_exactly_one_validation_fold(
    sizes: dict[str, list[int]], folds: int, test_ratio: float, seed: int
) -> None:
    files = files_of(sizes)
    assignment = assign_k_folds(files, folds=folds, test_ratio=test_ratio, seed=seed)
    parts = [*assignment.test, *(digest for part in assignment.validation for digest in part)]
    assert Counter(parts) == Counter({file.digest for file in files})
    assert len(assignment.validation) == folds


@given(sizes=distinct, folds=folds_of, test_ratio=ratios, seed=seeds)
@settings(max_examples=100, deadline=None)
def test_folds_of_distinct_files_differ_by_at_most_one_per_class_and_in_all(
    sizes: dict[str, list[int]], folds: int, test_ratio: float, seed: int
) -> None:
    files = files_of(sizes)
    assignment = assign_k_folds(files, folds=folds, test_ratio=test_ratio, seed=seed)
    totals = [len(part) for part in assignment.validation]
    assert max(totals) - min(totals) <= 1
    counts = [class_counts(files, part) for part in assignment.validation]
    for name in sizes:
        of_class = [count[name] for count in counts]
        assert max(of_class) - min(of_class) <= 1


@given(sizes=copied, folds=folds_of, seed=seeds)
@settings(max_examples=50, deadline=None)
def test_folds_of_copied_files_differ_by_at_most_the_largest_group(
    sizes: dict[str, list[int]], folds: int, seed: int
) -> None:
    files = files_of(sizes)
    counts = [
        class_counts(files, part) for part in assign_k_folds(files, folds=folds, test_ratio=0, seed=seed).validation
    ]
    for name, copies in sizes.items():
        of_class = [count[name] for count in counts]
        assert max(of_class) - min(of_class) <= max(copies)


@given(sizes=distinct, test_ratio=st.floats(0.01, 0.3), seed=seeds)
@settings(max_examples=100, deadline=None)
def test_the_test_set_is_stratified(sizes: dict[str, list[int]], test_ratio: float, seed: int) -> None:
    files = files_of(sizes)
    test = assign_k_folds(files, folds=2, test_ratio=test_ratio, seed=seed).test
    counts, quotas = class_counts(files, test), {name: test_ratio * len(copies) for name, copies in sizes.items()}
    for name, quota in quotas.items():
        assert counts[name] >= 1
        assert counts[name] == 1 or abs(counts[name] - quota) < 1
    if min(quotas.values()) >= 1:
        assert len(test) == round(test_ratio * len(files))


@given(sizes=copied, test_ratio=st.floats(0.05, 0.3), seed=seeds)
@settings(max_examples=50, deadline=None)
def test_with_copies_the_test_set_is_never_larger_than_asked_and_hardly_smaller(
    sizes: dict[str, list[int]], test_ratio: float, seed: int
) -> None:
    files = files_of(sizes)
    counts = class_counts(files, assign_k_folds(files, folds=2, test_ratio=test_ratio, seed=seed).test)
    for name, copies in sizes.items():
        quota = test_ratio * sum(copies)
        assert quota - 1 - max(copies) < counts[name] < max(quota + 1, max(copies) + 1)


@given(sizes=st.one_of(distinct, copied), seed=seeds, hold_out=st.booleans(), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_names_and_order_do_not_matter(
    sizes: dict[str, list[int]], seed: int, hold_out: bool, shuffle: random.Random
) -> None:
    def assign(files: list[LabelledFile]) -> Assignment:
        if hold_out:
            return assign_hold_out(files, folds=3, test_ratio=0.15, validation_ratio=0.2, seed=seed)
        return assign_k_folds(files, folds=3, test_ratio=0.15, seed=seed)

    files = files_of(sizes)
    expected = assign(files)
    class_names = list(sizes)
    shuffle.shuffle(class_names)
    renamed_class = dict(zip(sizes, class_names, strict=True))
    renamed = [LabelledFile(f"{shuffle.random()}", renamed_class[file.class_name], file.digest) for file in files]
    shuffle.shuffle(renamed)
    assert assign(renamed) == expected


@given(sizes=distinct, seed=seeds)
@settings(max_examples=30, deadline=None)
def test_the_test_set_depends_neither_on_the_folds_nor_on_the_method(sizes: dict[str, list[int]], seed: int) -> None:
    files = files_of(sizes)
    test = assign_k_folds(files, folds=2, test_ratio=0.15, seed=seed).test
    assert assign_k_folds(files, folds=5, test_ratio=0.15, seed=seed).test == test
    assert assign_hold_out(files, folds=2, test_ratio=0.15, validation_ratio=0.1, seed=seed).test == test


def test_the_seed_changes_the_result() -> None:
    files = files_of({"a": [1] * 40, "b": [1] * 40})
    results = [assign_k_folds(files, folds=4, test_ratio=0.2, seed=seed) for seed in range(20)]
    assert len({result.test for result in results}) == 20
    assert len({result.validation for result in results}) == 20
    chosen = Counter(digest for result in results for digest in result.test)
    assert max(chosen.values()) < 13  # of 20 draws with probability 0.2


@given(sizes=distinct, validation_ratio=st.floats(0.05, 0.6), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_hold_outs_have_the_share_that_was_asked_for(
    sizes: dict[str, list[int]], validation_ratio: float, seed: int
) -> None:
    files = files_of(sizes)
    assignment = assign_hold_out(files, folds=3, test_ratio=0.15, validation_ratio=validation_ratio, seed=seed)
    tested, every = class_counts(files, assignment.test), class_sizes(files)
    for validation in assignment.validation:
        assert not validation & assignment.test
        counts = class_counts(files, validation)
        for name in sizes:
            rest = every[name] - tested[name]
            quota = rest * validation_ratio / 0.85
            assert 1 <= counts[name] < rest
            assert counts[name] == 1 or abs(counts[name] - quota) < 1 + 1e-6


def test_hold_outs_differ_from_fold_to_fold() -> None:
    files = files_of({"a": [1] * 30, "b": [1] * 30})
    folds = assign_hold_out(files, folds=4, test_ratio=0.1, validation_ratio=0.3, seed=1).validation
    assert len(set(folds)) == 4


def test_a_hold_out_leaves_a_file_for_training() -> None:
    files = files_of({"a": [1, 1], "b": [1] * 20})
    (validation,) = assign_hold_out(files, folds=1, test_ratio=0, validation_ratio=0.9, seed=1).validation
    assert class_counts(files, validation) == {"a": 1, "b": 18}


def test_many_small_classes_together_give_the_share_that_was_asked_for() -> None:
    files = files_of({f"class {number}": [1] * 10 for number in range(100)})
    assert len(assign_k_folds(files, folds=5, test_ratio=0.15, seed=0).test) == 150


def test_the_one_file_that_a_small_class_gives_counts_towards_the_total() -> None:
    sizes = {f"small {number}": [1] * 3 for number in range(10)} | {"big": [1] * 70, "bigger": [1] * 90}
    files = files_of(sizes)
    counts = class_counts(files, assign_k_folds(files, folds=2, test_ratio=0.15, seed=0).test)
    assert counts == Counter({f"small {number}": 1 for number in range(10)} | {"big": 10, "bigger": 13})


def test_a_large_group_of_copies_is_balanced_by_many_single_files() -> None:
    files = files_of({"a": [1] * 8 + [8], "b": [5] + [1] * 5})
    for seed in range(10):
        folds = assign_k_folds(files, folds=2, test_ratio=0, seed=seed).validation
        assert [class_counts(files, part) for part in folds] == [{"a": 8, "b": 5}] * 2


def test_one_content_under_two_classes_is_refused_with_the_pairs() -> None:
    files = files_of({"a": [1] * 20, "b": [1] * 20})
    files += [LabelledFile(f"b/copy{i}.jpg", "b", files[i].digest) for i in range(5)]
    with pytest.raises(DataError, match=r"two classes \(5 pairs\): a/0-0\.jpg = b/copy0\.jpg, .* and 2 more"):
        assign_k_folds(files, folds=2, test_ratio=0.1, seed=0)


def test_a_class_too_small_for_the_folds_is_refused_with_the_numbers() -> None:
    files = files_of({"a": [1] * 20, "b": [1, 1, 1, 1, 3]})
    with pytest.raises(DataError) as raised:
        assign_k_folds(files, folds=5, test_ratio=0.15, seed=0)
    assert str(raised.value) == (
        "class 'b' has 5 different images (and 2 exact copies); the test set takes 1, which leaves 4: too few for 5 "
        "folds. Add images to the class or leave it out, or ask for --folds 4 or a smaller test set."
    )
    assign_k_folds(files, folds=4, test_ratio=0.15, seed=0)


@pytest.mark.parametrize(
    ("size", "test_ratio", "advice"),
    [
        (4, 0.0, ", or ask for --folds 4."),
        (4, 0.3, ", or ask for --folds 3 or a smaller test set."),
        (9, 0.9, ", or ask for --test_ratio 0 --folds 5."),
        (2, 0.2, ", or ask for --test_ratio 0 --folds 2."),
        (1, 0.0, "leave it out."),
    ],
)
def test_advice_for_a_class_that_is_too_small(size: int, test_ratio: float, advice: str) -> None:
    files = files_of({"a": [1] * size, "b": [1] * size})
    with pytest.raises(DataError) as raised:
        assign_k_folds(files, folds=5, test_ratio=test_ratio, seed=0)
    assert str(raised.value).endswith(advice)
    folds, test = re.search(r"--folds (\d)", advice), 0.0 if "--test_ratio 0" in advice else test_ratio
    if folds:
        assign_k_folds(files, folds=int(folds[1]), test_ratio=test, seed=0)


def test_all_classes_too_small_are_counted() -> None:
    with pytest.raises(DataError, match=r"3 folds \(2 more classes have too few as well\)"):
        assign_k_folds(files_of({"a": [1], "b": [2], "c": [1]}), folds=3, test_ratio=0, seed=0)


def test_a_class_of_one_file_is_refused_for_a_hold_out() -> None:
    with pytest.raises(DataError, match="class 'a' has 1 different image: too few for training and validation"):
        assign_hold_out(files_of({"a": [1], "b": [1] * 9}), folds=1, test_ratio=0, validation_ratio=0.2, seed=0)


def test_golden_assignment() -> None:
    """Splits that users have must be made again by every later version."""
    digests = {f"{name}{i}": hashlib.sha256(f"{name}{i}".encode()).hexdigest() for name in "ab" for i in range(7)}
    names = {digest: name for name, digest in digests.items()}
    files = [LabelledFile(name, name[0], digest) for name, digest in digests.items()]
    files += [LabelledFile("copy of b6", "b", digests["b6"])] * 2

    def named(parts: Iterable[frozenset[str]]) -> list[str]:
        return [" ".join(sorted(names[digest] for digest in part)) for part in parts]

    folds = assign_k_folds(files, folds=3, test_ratio=0.2, seed=42)
    hold_outs = assign_hold_out(files, folds=2, test_ratio=0.2, validation_ratio=0.3, seed=42)
    assert named([folds.test, *folds.validation]) == GOLDEN_FOLDS
    assert named([hold_outs.test, *hold_outs.validation]) == GOLDEN_HOLD_OUTS


GOLDEN_FOLDS = ["a1 b1 b5", "a4 a6 b6", "a0 a5 b2 b3", "a2 a3 b0 b4"]
GOLDEN_HOLD_OUTS = ["a1 b1 b5", "a2 a5 b0 b2 b3", "a4 a6 b0 b2 b3"]
