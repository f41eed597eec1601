"""The whole configuration. `Config` is its base; a task's own `data` and `model` sections take their places in it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, create_model

from mltrain.config.section import DataSection, ModelSection, Section
from mltrain.config.training import (
    CheckpointingSection,
    EarlyStoppingSection,
    EvaluationSection,
    OptimizerSection,
    ReproducibilitySection,
    SchedulerSection,
    TrainingSection,
)

__all__ = [
    "Config",
    "MLflowSection",
    "RunSection",
    "SystemMetricsSection",
    "TensorBoardSection",
    "TrackerSection",
    "TrackingSection",
    "WandbSection",
    "config_class",
]


class TrackerSection(Section):
    """A tracker that comes with mltrain. Its section is called as the tracker is registered."""

    enabled: bool = Field(False, description="Send the run there.")


class MLflowSection(TrackerSection):
    """MLflow."""

    enabled: bool = Field(True, description="Send the run to MLflow.")
    experiment: str | None = Field(None, description="Experiment. Default: the data set's name.")
    tracking_uri: str | None = Field(None, description="Store. Default: `mlflow.db` (SQLite) in the working folder.")
    finish_timeout_s: float = Field(60.0, ge=0.0, description="Seconds to wait for MLflow at the end of the run.")


class TensorBoardSection(TrackerSection):
    """TensorBoard."""

    enabled: bool = Field(False, description="Write `tensorboard/` in the run folder, for TensorBoard.")
    finish_timeout_s: float = Field(30.0, ge=0.0, description="Seconds to wait for its files at the end of the run.")


class WandbSection(TrackerSection):
    """Weights & Biases."""

    enabled: bool = Field(False, description='Send the run to W&B. Needs `pip install "mltrain[wandb]"`.')
    project: str | None = Field(None, description="Project. Default: the data set's name.")
    entity: str | None = Field(None, description="User or team. Default: that of the API key.")
    mode: Literal["online", "offline"] | None = Field(
        None,
        description="`offline` writes files in the run folder, for `wandb sync`. Default: WANDB_MODE, else `online`.",
    )
    finish_timeout_s: float = Field(60.0, ge=0.0, description="Seconds to wait for W&B at the end of the run.")


class SystemMetricsSection(Section):
    """Load of the machine: processor, memory, GPUs."""

    enabled: bool = Field(True, description="Log them, as `system/...`.")
    interval_s: float = Field(10.0, ge=0.0, description="Seconds between two readings; there is one an epoch as well.")


class TrackingSection(Section):
    """What is logged, how often and where to."""

    log_every_n_steps: int = Field(50, ge=1, description="Steps between two log points.")
    system_metrics: SystemMetricsSection = SystemMetricsSection()
    mlflow: MLflowSection = MLflowSection()
    tensorboard: TensorBoardSection = TensorBoardSection()
    wandb: WandbSection = WandbSection()
    others: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Trackers of plugins: name and settings."
    )

    def settings(self, *names: str) -> dict[str, dict[str, Any]]:
        """Return the settings of each tracker by its name: of those named, or else of all that are enabled."""
        sections = {name: value for name, value in self if isinstance(value, TrackerSection)}
        known = self.others | {name: section.model_dump() for name, section in sections.items()}
        enabled = [name for name in known if name not in sections or sections[name].enabled]
        return {name: dict(known[name]) for name in names or enabled if name in known}


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
    evaluation: EvaluationSection = EvaluationSection()
    tracking: TrackingSection = TrackingSection()
    reproducibility: ReproducibilitySection = ReproducibilitySection()
    run: RunSection = RunSection()
    plugins: list[str] = Field(
        default_factory=list, description="Python files that register tasks, trainers, callbacks."
    )
    callbacks: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Callbacks of plugins: name and arguments."
    )

    def __reduce__(self) -> tuple[Any, ...]:
        """Name the sections of the task: its configuration class is made on the spot and cannot be imported.

        Loader workers get it so where processes are spawned instead of forked.
        """
        fields = type(self).model_fields
        return _restored, (fields["data"].annotation, fields["model"].annotation, self.model_dump())


def config_class(data: type[DataSection], model: type[ModelSection]) -> type[Config]:
    """Return the configuration class of a task that has these `data` and `model` sections."""
    return create_model("Config", __base__=Config, data=(data, ...), model=(model, ...))


def _restored(data: type[DataSection], model: type[ModelSection], values: dict[str, Any]) -> Config:
    return config_class(data, model).model_validate(values)
