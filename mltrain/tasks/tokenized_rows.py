"""The texts of a divided table as tokens, by the tokenizer of the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from mltrain.core.logging import log
from mltrain.data.tables.row_splits import RowSplits
from mltrain.data.text.encoding import Texts, TokenSettings
from mltrain.data.text.token_cache import TokenArrays, token_arrays
from mltrain.tasks.run_tokenizer import RunTokenizer
from mltrain.tasks.text_sections import TextModelSection

__all__ = ["TokenizedRows"]


class TokenizedRows:
    """The texts of all splits, tokenised when they are first asked for.

    Args:
        rows: the table.
        columns: its column of texts, and where they are pairs that of the second texts.
        settings: how texts become tokens.
        model: names the tokenizer.
    """

    def __init__(
        self, rows: RowSplits, columns: Sequence[str], settings: TokenSettings, model: TextModelSection
    ) -> None:
        self._rows, self._columns, self._settings = rows, list(columns), settings
        self.tokenizer = RunTokenizer(model, self._training_texts)

    @cached_property
    def tokens(self) -> dict[str, TokenArrays]:
        """The tokens of each split; the user is told how many texts were cut."""
        made = {
            split: token_arrays(self._texts(split), self.tokenizer.tokenizer, self._settings)
            for split in self._rows.splits
        }
        cut, total = sum(part.num_cut for part in made.values()), sum(map(len, made.values()))
        if cut:
            limit = self._settings.max_length
            log.warning("%d of %d texts are cut to data.max_length = %d tokens.", cut, total, limit)
        return made

    @cached_property
    def pad_id(self) -> int:
        """The token that fills shorter texts up."""
        return int(self.tokenizer.tokenizer.pad_token_id)

    def _texts(self, split: str) -> Texts:
        rows = self._rows.splits[split].tolist()
        return Texts(*[_Picked(self._rows.values(name), rows) for name in self._columns])

    def _training_texts(self) -> Iterable[str]:
        for column in self._texts("train").columns:
            yield from column


class _Picked(Sequence[str]):
    """Some values of a column, read when they are asked for."""

    def __init__(self, values: Sequence[str], rows: Sequence[int]) -> None:
        self._values, self._rows = values, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._values[row] for row in self._rows[index]]
        return self._values[self._rows[index]]
