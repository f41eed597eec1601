"""SQuAD's figures against cases worked out by hand from the published scripts (evaluate-v1.1.py, evaluate-v2.0.py)."""

from __future__ import annotations

import math

import pytest

from mltrain.metrics.squad import exact_match, f1, normalize_answer, squad_figures, squad_metric


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Cat", "cat"),
        ("a  an\tthe\n", ""),
        ("theatre Anne", "theatre anne"),  # articles are whole words
        ("Saint-Denis, France.", "saintdenis france"),  # punctuation goes, and joins
        ("(the) \u201cBroncos\u201d", "\u201cbroncos\u201d"),  # ASCII punctuation alone
        ("the-cat", "thecat"),  # punctuation goes before articles
        ("$1,200.50", "120050"),
        ("  two   words ", "two words"),
    ],
)
def test_normalisation(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "overlap"),
    [
        ("the Denver Broncos!", ["Denver Broncos"], 1, 1),
        ("Broncos", ["Denver Broncos"], 0, 2 / 3),  # precision 1, recall 1/2
        ("Denver Broncos of Colorado", ["Denver Broncos"], 0, 2 / 3),  # precision 2/4, recall 1
        ("Broncos", ["Carolina Panthers", "Denver Broncos"], 0, 2 / 3),  # the nearest answer
        ("Denver", ["Broncos", "Denver"], 1, 1),
        ("cat cat dog", ["cat dog dog"], 0, 2 / 3),  # cat once and dog once in common: 2/3, 2/3
        ("cat", ["dog"], 0, 0),
        ("", ["dog"], 0, 0),  # says that there is no answer, and there is one
        ("", [], 1, 1),
        ("", [""], 1, 1),
        ("dog", [], 0, 0),
        ("dog", [""], 0, 0),
        ("the", ["a"], 1, 1),  # nothing is left of either: no answer on both sides
        ("", ["", "dog"], 0, 0),  # an empty answer beside another is left out
    ],
)
def test_cases(prediction: str, answers: list[str], exact: float, overlap: float) -> None:
    assert exact_match(prediction, answers) == exact
    assert f1(prediction, answers) == pytest.approx(overlap)


def test_figures_are_means_by_an_evaluate_module() -> None:
    import evaluate

    predictions, answers = ["the cat", "a red dog", ""], [["cat"], ["dog", "red"], []]
    expected = {"exact_match": 2 / 3, "f1": pytest.approx((1 + 2 / 3 + 1) / 3)}
    assert squad_figures(predictions, answers) == expected
    assert evaluate.combine([squad_metric()]).compute(predictions=predictions, references=answers) == expected
    assert all(math.isnan(value) for value in squad_figures([], []).values())
