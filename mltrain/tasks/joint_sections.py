"""The sections `data` and `model` of `joint`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mltrain.config.section import Section
from mltrain.data.tables.columns import Column
from mltrain.tasks.span_sections import SpanDataSection
from mltrain.tasks.text_sections import TextModelSection

__all__ = ["JointDataSection", "JointModelSection", "LossWeightsSection"]


class JointDataSection(SpanDataSection):
    """Texts with a class each, and the part of the text that answers a question, or none."""

    label_column: str = Field("label", description="Column of the classes, taken as texts.")
    positive_class: str | None = Field(
        None, description="Of two classes, the one that precision, recall and F1 are of. Default: the last by name."
    )

    def columns(self) -> list[Column]:
        """Return what is read of a row: see `SpanDataSection.columns`."""
        return [*super().columns(), Column(self.label_column, "data.label_column", "label")]


class LossWeightsSection(Section):
    """Fixed weights of the two losses in their sum."""

    classification: float = Field(1.0, ge=0.0, description="Weight of the loss of the classes.")
    span: float = Field(1.0, ge=0.0, description="Weight of the loss of the answers.")


class JointModelSection(TextModelSection):
    """A text classifier and a model of spans in one."""

    shared_encoder: bool = Field(
        True, description="One encoder with two heads. false: a classifier and a model of spans side by side."
    )
    head_dropout: float = Field(
        0.1,
        ge=0.0,
        lt=1.0,
        description="Dropout before the heads on a shared encoder. Two models have their own.",
    )
    loss_weights: Literal["uncertainty"] | LossWeightsSection = Field(
        LossWeightsSection(),
        description="classification and span: fixed weights of the losses; or uncertainty: learned with the model.",
    )
    score_weights: dict[str, float] = Field(
        default_factory=lambda: {"classification_f1_macro": 0.5, "span_f1": 0.5},
        min_length=1,
        description="Metrics of both tasks and their weights: their weighted mean is the metric `score`.",
    )
