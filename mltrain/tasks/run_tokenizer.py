"""The tokenizer of a run: trained or read when it is first needed, or the one that a continued run has kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltrain.core.logging import log
from mltrain.data.text.tokenizers import (
    load_tokenizer,
    tokenizer_digest,
    tokenizer_from_json,
    tokenizer_to_json,
    train_wordpiece,
)
from mltrain.models.text_models import TEXT_MODELS
from mltrain.tasks.text_sections import TextModelSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["RunTokenizer"]

_WORDPIECE, _KEPT = "wordpiece", "tokenizer"


class RunTokenizer:
    """Makes the tokenizer that a configuration names.

    Args:
        section: the model's section.
        training_texts: gives the texts of the training split, which a new tokenizer is trained on.
    """

    def __init__(self, section: TextModelSection, training_texts: Callable[[], Iterable[str]]) -> None:
        self._section, self._training_texts = section, training_texts
        self._kept: Mapping[str, Any] | None = None

    @property
    def is_trained(self) -> bool:
        """Whether it is trained on the training texts."""
        return self._wish == _WORDPIECE

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer.

        Raises:
            ConfigError: there is none where the configuration says.
            DataError: the training texts have no words.
        """
        if self._kept is not None:
            return tokenizer_from_json(self._kept)
        if not self.is_trained:
            if self._section.tokenizer:
                return load_tokenizer(self._wish)
            if not re.search(r"[/\\]", self._wish) and not Path(self._wish).is_dir():
                TEXT_MODELS.get(self._wish)  # neither a folder nor owner/name: it says which models there are
            return load_tokenizer(self._wish, "model.architecture")
        section = self._section
        made = train_wordpiece(
            self._training_texts(),
            section.vocab_size,
            lowercase=section.lowercase,
            single_digits=section.single_digits,
        )
        log.debug("The tokenizer has %d entries, from the training texts.", len(made))
        return made

    @cached_property
    def digest(self) -> str:
        """What identifies the tokenizer."""
        return tokenizer_digest(self.tokenizer)

    @cached_property
    def as_json(self) -> dict[str, Any]:
        """The tokenizer as JSON values."""
        return tokenizer_to_json(self.tokenizer)

    def fitted(self) -> dict[str, Any]:
        """Return what a run keeps of it, see `Task.fitted`: nothing of one that was not trained on its texts."""
        return {_KEPT: self.as_json} if self.is_trained else {}

    def take(self, fitted: Mapping[str, Any]) -> None:
        """Be the tokenizer that a run has kept; nothing where it kept none. Before it is used for the first time."""
        self._kept = fitted.get(_KEPT)

    @property
    def _wish(self) -> str:
        section = self._section
        return section.tokenizer or (
            _WORDPIECE if section.architecture in TEXT_MODELS.names() else section.architecture
        )
