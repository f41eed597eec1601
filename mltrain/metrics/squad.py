"""Exact match and F1 of answers in a text, as SQuAD's published evaluation scripts define them.

Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016 (v1.1), and Know What You Don't
Know: Unanswerable Questions for SQuAD, 2018 (v2.0). Figures are shares from 0 to 1; the scripts print them times 100.
"""

from __future__ import annotations

import collections
import re
import string
from collections.abc import Sequence
from typing import Any

__all__ = ["exact_match", "f1", "normalize_answer", "squad_figures", "squad_metric"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Return a text in lower case, without ASCII punctuation and English articles, words one space apart."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 where the prediction equals one of the answers after normalisation, else 0.

    Args:
        prediction: a text; "" says that there is no answer.
        answers: all right ones; none, or only such as are empty after normalisation: there is no answer.
    """
    return float(_words(prediction) in _readings(answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the harmonic mean of precision and recall of the words in common with the nearest answer.

    Words count as often as they occur. Where either has no words, 1 if both have none, else 0.

    Args:
        prediction: as in `exact_match`.
        answers: as in `exact_match`.
    """
    words = _words(prediction)
    return max(_overlap(words, answer) for answer in _readings(answers))


def squad_figures(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the means of `exact_match` and `f1` over N predictions and N lists of answers; NaN for N = 0.

    They are computed by the module of `squad_metric`, which is fed once.
    """
    figures: dict[str, float] = squad_metric().compute(predictions=list(predictions), references=list(answers))
    return figures


def squad_metric() -> Any:
    """Return an `evaluate.Metric`: predictions are texts, references lists of texts."""
    from mltrain.metrics.squad_module import Squad

    return Squad()


def _words(text: str) -> list[str]:
    return normalize_answer(text).split()


def _readings(answers: Sequence[str]) -> list[list[str]]:
    # As in v2.0: answers that are empty after normalisation are left out, and none left is an answer of its own.
    return [words for answer in answers if (words := _words(answer))] or [[]]


def _overlap(words: list[str], answer: list[str]) -> float:
    if not words or not answer:
        return float(words == answer)
    common = sum((collections.Counter(words) & collections.Counter(answer)).values())
    return 2 * common / (len(words) + len(answer))
