"""Long contexts as windows of tokens that overlap, each token with its place in the original text."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Windows", "cut_windows"]

_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Windows:
    """The windows of R rows, one after the other; T tokens in all.

    Attributes:
        input_ids: token numbers, int32 (T,). A window begins with the tokenizer's first special token.
        type_ids: segment of each token, int8 (T,).
        offsets: characters [begin, end) of the context that a token stands for, int32 (T, 2); (0, 0) for a token of the
            question, a special one, or one that stands for no character.
        window_starts: where each window begins among the tokens, and where the last ends, int64.
        row_starts: which window each row begins with, and the number of windows, int64 (R + 1,).
    """

    input_ids: NDArray[np.int32]
    type_ids: NDArray[np.int8]
    offsets: NDArray[np.int32]
    window_starts: NDArray[np.int64]
    row_starts: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.row_starts) - 1

    def of_row(self, row: int) -> list[slice]:
        """Return where the tokens of each window of a row are."""
        first, end = int(self.row_starts[row]), int(self.row_starts[row + 1])
        starts = self.window_starts[first : end + 1].tolist()
        return [slice(begin, stop) for begin, stop in itertools.pairwise(starts)]

    def lengths(self) -> NDArray[np.int64]:
        """Return the number of tokens of each row, over all its windows."""
        return np.diff(self.window_starts[self.row_starts])


def cut_windows(
    tokenizer: PreTrainedTokenizerFast,
    contexts: Sequence[str],
    questions: Sequence[str] | None,
    *,
    max_length: int,
    stride: int,
    place: Callable[[int], str],
) -> Windows:
    """Return the windows of contexts, each with its whole question before it.

    Args:
        tokenizer: gives the special tokens around question and context, and between them.
        contexts: R texts; one without tokens has a window that holds none.
        questions: one for each context; None: the context stands alone.
        max_length: most tokens of a window, special ones and those of the question among them.
        stride: tokens of the context that two neighbouring windows share.
        place: row -> where it was read, for messages.

    Raises:
        ConfigError: no room is left for the context.
        DataError: a question is so long that none is.
    """
    _check_room(tokenizer, questions, max_length=max_length, stride=stride, place=place)
    parts: list[Windows] = []
    for start in range(0, max(1, len(contexts)), _ROWS_AT_ONCE):
        some = list(contexts[start : start + _ROWS_AT_ONCE])
        texts = (some,) if questions is None else (list(questions[start : start + _ROWS_AT_ONCE]), some)
        found = tokenizer(
            *texts,
            truncation=True if questions is None else "only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
        )
        counts = np.bincount(np.asarray(found["overflow_to_sample_mapping"], dtype=np.int64), minlength=len(some))
        parts.append(_of_encodings(found.encodings, counts, sequence=0 if questions is None else 1))
    return _joined(parts)


def _of_encodings(encodings: list[Any], counts: NDArray[np.int64], *, sequence: int) -> Windows:
    """Return windows as arrays.

    Args:
        encodings: of the tokenizers library, one a window.
        counts: windows of each row.
        sequence: which of the texts of a window is the context.
    """
    offsets = _flat([one.offsets for one in encodings], np.int32, 2)
    of_context = _flat([[number == sequence for number in one.sequence_ids] for one in encodings], np.bool_)
    offsets[~of_context | (offsets[:, 0] == offsets[:, 1])] = 0
    return Windows(
        input_ids=_flat([one.ids for one in encodings], np.int32),
        type_ids=_flat([one.type_ids for one in encodings], np.int8),
        offsets=offsets,
        window_starts=_ends([len(one.ids) for one in encodings]),
        row_starts=_ends(counts),
    )


def _flat(parts: Sequence[Any], dtype: Any, *shape: int) -> NDArray[Any]:
    return np.concatenate(
        [np.zeros((0, *shape), dtype), *(np.asarray(part, dtype).reshape(-1, *shape) for part in parts)]
    )


def _ends(lengths: Any) -> NDArray[np.int64]:
    """Return where parts of these lengths begin, one after the other, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _joined(parts: list[Windows]) -> Windows:
    if len(parts) == 1:
        return parts[0]
    window_lengths = np.concatenate([np.diff(part.window_starts) for part in parts])
    counts = np.concatenate([np.diff(part.row_starts) for part in parts])
    return Windows(
        input_ids=np.concatenate([part.input_ids for part in parts]),
        type_ids=np.concatenate([part.type_ids for part in parts]),
        offsets=np.concatenate([part.offsets for part in parts]),
        window_starts=_ends(window_lengths),
        row_starts=_ends(counts),
    )


def _check_room(
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[str] | None,
    *,
    max_length: int,
    stride: int,
    place: Callable[[int], str],
) -> None:
    """Raise an error where a window would not move on: it must hold more of the context than it shares."""
    room = max_length - tokenizer.num_special_tokens_to_add(pair=questions is not None)
    if room <= stride:
        raise ConfigError(
            f"is {stride}, and a window of {max_length} tokens has room for {room} of a text",
            where="data.stride",
            fix="Lower it, or raise data.max_length.",
        )
    lengths: dict[str, int] = {}
    for row, question in enumerate(questions or ()):
        if question not in lengths:
            lengths[question] = len(tokenizer(question, add_special_tokens=False)["input_ids"])
        if room - lengths[question] <= stride:
            raise DataError(
                f"the question has {lengths[question]} tokens; a window of {max_length} has no room for more than the "
                f"{stride} tokens of the context that it shares with the next",
                where=place(row),
                fix="Shorten it, or raise data.max_length.",
            )
