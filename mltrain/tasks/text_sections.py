"""The sections `data` and `model` of tasks on texts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mltrain.config.section import ModelSection
from mltrain.models.lora import LoraSection
from mltrain.tasks.table_section import TableDataSection

__all__ = ["TextClassificationSection", "TextDataSection", "TextModelSection"]


class TextDataSection(TableDataSection):
    """Texts in columns of a table, read as tokens."""

    max_length: int = Field(
        128, ge=4, le=65536, description="Most tokens of an input; what is longer is cut, or read in parts."
    )
    length_bucketing: bool = Field(
        False,
        description="Training windows of texts of similar length, which need less padding, in random order. "
        "With `dp`: microbatches of similar length.",
    )


class TextClassificationSection(TextDataSection):
    """Texts, or pairs of texts, and their classes."""

    text_column: str = Field("text", description="Column of the texts.")
    pair_column: str | None = Field(
        None, description="Column of a second text, read together with the first: a criterion and a text, say."
    )
    label_column: str = Field("label", description="Column of the classes, taken as texts.")
    truncation: Literal["longest_first", "only_first", "only_second"] = Field(
        "longest_first",
        description="What of a pair of more than `max_length` tokens is cut at its end: the longer text, or always the "
        "same.",
    )
    positive_class: str | None = Field(
        None, description="Of two classes, the one that precision, recall and F1 are of. Default: the last by name."
    )


class TextModelSection(ModelSection):
    """A text model and its tokenizer."""

    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="wordpiece (trained on the training texts), a folder or a hub name. Default: wordpiece for models "
        "known by name, else that of the model.",
    )
    vocab_size: int = Field(8000, ge=64, le=1_000_000, description="Most entries of a tokenizer that is trained.")
    lowercase: bool = Field(True, description="A tokenizer that is trained takes upper case and accents off.")
    single_digits: bool = Field(False, description="A tokenizer that is trained takes each digit as a token.")
    weights: str | None = Field(
        None,
        min_length=1,
        description="Initial weights: null (from the seed), DEFAULT (the model's own), or a folder or .safetensors "
        "file. The head is new where they have none.",
    )
    freeze: Literal["backbone"] | list[str] | None = Field(
        None,
        description="What is not trained: backbone (all but the head), or patterns of parameter names, of which `!` "
        "takes names out again.",
    )
    lora: LoraSection | None = Field(None, description="Train narrow products beside the weights, and the head.")
