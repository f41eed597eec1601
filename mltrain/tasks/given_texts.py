"""What a model of texts is given to predict from: a text or a pair of texts, or a sequence of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mltrain.core.errors import DataError

__all__ = ["given_texts"]

_WHERE = "predict"


def given_texts(given: Any, *, pairs: bool) -> list[Any]:
    """Return a list of texts, or of pairs of texts; one alone gives a list of one.

    Raises:
        DataError: something else was given, or a text holds half of a surrogate pair, which no tokenizer reads.
    """
    is_one = _is_pair if pairs else _is_text
    rows = [given] if is_one(given) else given
    if hasattr(rows, "tolist"):  # an array of NumPy, or a column of pandas
        rows = rows.tolist()
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes | bytearray) or not all(map(is_one, rows)):
        raise _wrong_kind(rows, pairs)
    for number, row in enumerate(rows):
        for text in row if pairs else (row,):
            _check_unicode(text, number)
    return list(rows)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_text, value))


def _check_unicode(text: str, number: int) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = f"U+{ord(text[error.start]):04X}"
        raise DataError(
            f"text {number} has {code} at character {error.start}, which is half of a character",
            where=_WHERE,
            fix="Read the text again from its bytes, in their own encoding.",
        ) from None


def _wrong_kind(rows: Any, pairs: bool) -> DataError:
    wrong = rows
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes | bytearray):
        wrong = next(one for one in rows if not (_is_pair(one) if pairs else _is_text(one)))
    return DataError(
        f"cannot predict from a value of type {type(wrong).__name__}; the model reads "
        f"{'pairs of texts' if pairs else 'texts'}",
        where=_WHERE,
        fix='Give ("criterion", "text"), or a list of such pairs.' if pairs else "Give a text, or a list of them.",
    )
