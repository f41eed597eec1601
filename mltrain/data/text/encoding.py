"""From texts, or pairs of texts, to token ids: cut to a length, with the tokens that a model expects around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from mltrain.core.errors import DataError, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Texts", "TokenSettings", "Tokens", "Truncation", "encoded"]

Truncation = Literal["longest_first", "only_first", "only_second"]


@dataclass(frozen=True)
class TokenSettings:
    """How texts become tokens.

    max_length: most tokens of a text or pair, those that the tokenizer adds among them.
    truncation: what of a pair is cut, a token at a time from its end: the longer text, or always the first or the
        second.
    """

    max_length: int
    truncation: Truncation = "longest_first"


@dataclass(frozen=True)
class Texts:
    """Some texts, or pairs of them.

    firsts: the texts, or the first of each pair.
    pairs: the second of each pair, as many; None: there are no pairs.
    """

    firsts: Sequence[str]
    pairs: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.firsts)

    @property
    def columns(self) -> list[Sequence[str]]:
        """The texts, and where there are pairs their second texts."""
        return [self.firsts] if self.pairs is None else [self.firsts, self.pairs]

    def part(self, start: int, end: int) -> Texts:
        """Return some neighbours of them."""
        end = min(end, len(self))
        return Texts(*[[column[index] for index in range(start, end)] for column in self.columns])


class Tokens(NamedTuple):
    """The tokens of a text or pair.

    ids: their numbers.
    types: which of a pair each belongs to.
    cut: whether some were cut off.
    """

    ids: list[int]
    types: list[int]
    cut: bool


def encoded(texts: Texts, tokenizer: PreTrainedTokenizerFast, settings: TokenSettings) -> Iterator[Tokens]:
    """Yield the tokens of each text.

    Raises:
        DataError: a text cannot be cut as the settings say.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    side = tokenizer.truncation_side
    backend.enable_truncation(settings.max_length, strategy=settings.truncation, direction=side)
    firsts, pairs = texts.firsts, texts.pairs
    given = list(firsts) if pairs is None else list(zip(firsts, pairs, strict=True))
    try:
        found = backend.encode_batch(given)
    except Exception as error:  # the library's own, of no class of its own
        raise DataError(
            f"a pair cannot be cut to {settings.max_length} tokens in this way ({one_line(error)})",
            where="data.truncation",
            fix="Set it to longest_first, or raise data.max_length.",
        ) from None
    finally:
        backend.no_truncation()
    for encoding in found:
        yield Tokens(encoding.ids, encoding.type_ids, bool(encoding.overflowing))
