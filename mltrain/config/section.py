"""The base of every section of the configuration, and the sections that a task may extend."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["DataSection", "ModelSection", "Section"]


class Section(BaseModel):
    """A part of the configuration: immutable, typed strictly, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSection(Section):
    """What every task says of its data. A task extends it (`Task.data_section`)."""

    data_dir: str = Field(min_length=1, description="Folder of the data set; split files name paths relative to it.")
    dataset_name: str | None = Field(None, description="Name in run names and MLflow. Default: the folder's name.")
    splits_dir: str | None = Field(None, description="Folder of the split files. Default: `splits` in `data_dir`.")
    fold: int = Field(0, ge=0, description="Fold to train on.")
    validation_is_public: bool = Field(
        False, description="The validation split holds nobody's data: with `dp`, it may choose weights freely."
    )
    num_workers: Literal["auto"] | Annotated[int, Field(ge=0, le=1024)] = Field(
        "auto",
        description="Processes that load data. `auto`: from the number of cores. The result does not depend on it.",
    )
    prefetch_factor: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto", description="Batches that each worker reads ahead. `auto`: 2, or fewer where shared memory is small."
    )
    pin_memory: Literal["auto"] | bool = Field(
        "auto", description="Page-locked batches, which are copied to a GPU while it works. `auto`: on CUDA devices."
    )

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.dataset_name or self.data_dir.rstrip("/").rsplit("/", 1)[-1]


class ModelSection(Section):
    """What every task says of its model. A task extends it (`Task.model_section`)."""

    architecture: str = Field(description="Name of the model.")
    options: dict[str, Any] = Field(default_factory=dict, description="Arguments of the architecture, by name.")
