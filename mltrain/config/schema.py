"""The whole configuration. `Config` is its base; a task's own `data` and `model` sections take their places in it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, create_model

from mltrain.config.section import DataSection, ModelSection, Section
from mltrain.config.training import (
    CheckpointingSection,
    EarlyStoppingSection,
    OptimizerSection,
    ReproducibilitySection,
    SchedulerSection,
    TrainingSection,
)

__all__ = ["Config", "MLflowSection", "RunSection", "TrackingSection", "config_class"]


class MLflowSection(Section):
    """MLflow."""

    enabled: bool = Field(True, description="Send the run to MLflow.")
    experiment: str | None = Field(None, description="Experiment. Default: the data set's name.")
    tracking_uri: str | None = Field(None, description="Store. Default: `mlflow.db` (SQLite) in the working folder.")
    finish_timeout_s: float = Field(60.0, ge=0.0, description="Seconds to wait for MLflow at the end of the run.")


class TrackingSection(Section):
    """What is logged, how often and where to."""

    log_every_n_steps: int = Field(50, ge=1, description="Steps between two log points.")
    mlflow: MLflowSection = MLflowSection()
    others: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Trackers of plugins: name and settings."
    )


class RunSection(Section):
    """The run folder and what people call the run."""

    dir: str = Field("runs", description="Folder of all runs.")
    name: str | None = Field(None, description="Name of the run. Default: data set, what was set by hand, fold.")
    description: str = Field("", description="Free text.")
    tags: dict[str, str] = Field(default_factory=dict, description="Free labels.")


class Config(Section):
    """A resolved configuration."""

    task: str = Field(description="What is learned: a registered task.")
    seed: int = Field(42, ge=0, lt=2**63, description="Seed of initial weights, sample order and augmentation.")
    data: DataSection
    model: ModelSection
    training: TrainingSection = TrainingSection()
    optimizer: OptimizerSection = OptimizerSection()
    scheduler: SchedulerSection = SchedulerSection()
    early_stopping: EarlyStoppingSection = EarlyStoppingSection()
    checkpointing: CheckpointingSection = CheckpointingSection()
    tracking: TrackingSection = TrackingSection()
    reproducibility: ReproducibilitySection = ReproducibilitySection()
    run: RunSection = RunSection()
    plugins: list[str] = Field(
        default_factory=list, description="Python files that register tasks, trainers, callbacks."
    )
    callbacks: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Callbacks of plugins: name and arguments."
    )


def config_class(data: type[DataSection], model: type[ModelSection]) -> type[Config]:
    """Return the configuration class of a task that has these `data` and `model` sections."""
    return create_model("Config", __base__=Config, data=(data, ...), model=(model, ...))
