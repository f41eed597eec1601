"""The sections `data` and `model` of the task `tabular`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mltrain.config.section import ModelSection
from mltrain.tasks.table_section import TableDataSection

__all__ = ["TabularDataSection", "TabularModelSection"]


class TabularDataSection(TableDataSection):
    """Rows of numbers and categories, and what is to be predicted of them."""

    target: str = Field(min_length=1, description="Column that is to be predicted.")
    kind: Literal["auto", "classification", "regression"] = Field(
        "auto",
        description="What is learned. auto: regression where the target is numbers of more than 20 different values or "
        "with fractions.",
    )
    numeric: Literal["auto"] | list[str] = Field(
        "auto", description="Columns of numbers. auto: those of numbers that are named nowhere else."
    )
    categorical: Literal["auto"] | list[str] = Field(
        "auto", description="Columns of categories. auto: those of other values, but for free texts and IDs."
    )
    ignore: list[str] = Field(default_factory=list, description="Columns that the model does not see.")
    fitted_by: str | None = Field(
        None,
        min_length=1,
        description="Run, or model folder of one, whose columns, means, deviations and categories are used. Default: "
        "they are computed from the training rows.",
    )
    positive_class: str | None = Field(
        None, description="Of two classes, the one that precision, recall and F1 are of. Default: the last by name."
    )


class TabularModelSection(ModelSection):
    """A model of rows."""

    architecture: str = Field("mlp", description="mlp, tabular_transformer, or one of a plugin.")
