"""The sections that say how a model is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mltrain.config.duration import Duration
from mltrain.config.section import Section

__all__ = [
    "CheckpointingSection",
    "CompileSection",
    "DPSection",
    "EMASection",
    "EarlyStoppingSection",
    "EvaluationSection",
    "OptimizerSection",
    "ReproducibilitySection",
    "SchedulerSection",
    "TrainingSection",
    "metric_name",
]

Mode = Literal["min", "max"]


def metric_name(monitor: str) -> str:
    """Return a metric's name as it is logged: `val_loss` and `val/loss` both mean `val/loss`."""
    for split in ("train", "val", "test"):
        if monitor.startswith(f"{split}_"):
            return f"{split}/{monitor[len(split) + 1 :]}"
    return monitor


class EMASection(Section):
    """Exponential moving average of the weights; validated and chosen in place of the raw weights."""

    enabled: bool = Field(False, description="Keep an average of the weights and use it for evaluation.")
    decay: float = Field(0.999, ge=0.0, lt=1.0, description="Share of the old average kept each step.")


class CompileSection(Section):
    """`torch.compile`: the model as generated code, which is made for each batch shape when it first comes."""

    enabled: bool = Field(False, description="Compile the model, in place. Not with `dp`.")
    backend: str = Field("inductor", min_length=1, description="What generates the code: a backend that torch knows.")
    mode: Literal["default", "max-autotune-no-cudagraphs"] = Field(
        "default",
        description="`max-autotune-no-cudagraphs` (inductor) chooses kernels by trial; needs deterministic: false.",
    )
    dynamic: bool = Field(
        False,
        description="One program for all sizes, where inputs have many. A resumed run may then differ in last bits.",
    )
    fullgraph: bool = Field(False, description="Refuse models that do not compile as one piece.")


class DPSection(Section):
    """Differential privacy, of the trainer `dp`. Give the noise, or the epsilon that it is calibrated to, or both."""

    noise_multiplier: float | None = Field(
        None,
        ge=0.0,
        description="Standard deviation of the noise, over max_grad_norm. null: the least that keeps target_epsilon "
        "for all of num_epochs.",
    )
    max_grad_norm: float = Field(1.0, gt=0.0, description="Clip the gradient of each example to this 2-norm.")
    target_epsilon: float | None = Field(
        None,
        gt=0.0,
        description="Most privacy loss: training stops before the step that would pass it. null: no limit.",
    )
    target_delta: float | None = Field(
        None, gt=0.0, lt=1.0, description="Must be under 1/N, of N training examples. Default: N to the power of -1.1."
    )
    accountant: Literal["prv", "rdp"] = Field(
        "prv", description="How epsilon is computed: prv is tight, rdp is quicker and larger."
    )
    max_physical_batch_size: int | None = Field(
        None,
        ge=1,
        description="Most examples computed at a time, on each process. Default: enough for nearly all draws.",
    )
    grad_sample_mode: Literal["auto", "ghost", "hooks"] = Field(
        "auto",
        description="How gradients of examples are clipped: hooks keeps them, ghost their norms. auto: the quicker.",
    )
    accept_selection_leak: bool = Field(
        False, description="Let private data choose weights or when to stop, which epsilon does not cover."
    )
    accept_fitted_leak: bool = Field(
        False,
        description="Let what is computed from the training data before training (a vocabulary, means) be used as it "
        "is: epsilon does not cover it.",
    )
    reproducible: bool = Field(
        False, description="For tests: samples and noise follow from the seed, so that there is no privacy at all."
    )


class TrainingSection(Section):
    """The loop."""

    trainer_type: str = Field(
        "standard", description="standard, mixed_precision, accelerate, dp, or a trainer of a plugin."
    )
    num_epochs: int = Field(10, ge=1, description="Passes over the training split.")
    batch_size: int = Field(32, ge=1, description="Examples of a microbatch, on each process.")
    eval_batch_size: int | None = Field(None, ge=1, description="Examples of an evaluation batch. Default: batch_size.")
    gradient_accumulation_steps: int = Field(1, ge=1, description="Microbatches of a window, on each process.")
    max_grad_norm: float | None = Field(
        1.0,
        gt=0.0,
        description="Clip the gradient to this 2-norm. null: no clipping. `dp` clips each example instead: "
        "dp.max_grad_norm.",
    )
    on_nonfinite: Literal["stop", "skip", "rollback"] = Field(
        "stop",
        description="What a loss or gradient that is NaN or infinite does: stop the run, skip the step, or go "
        "back to the last checkpoint's weights and on with the next window.",
    )
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="Share of each target spread over all classes.")
    amp_dtype: Literal["bfloat16", "float16"] = Field(
        "bfloat16", description="Type that `mixed_precision` computes in."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|(cuda|xpu)(:[0-9]{1,4})?)$",
        examples=["auto", "cpu", "cuda", "cuda:1", "mps", "xpu"],
        description="auto, cpu, cuda, cuda:1, mps.",
    )
    max_time: Duration | None = Field(
        None,
        examples=["30m", "5h30m", "1d", "90s", "01:30:00"],
        description="Save and stop after this time, as after a signal, for queues. A number means seconds.",
    )
    collective_timeout_s: float = Field(
        1800.0, gt=0.0, le=864000.0, description="Seconds after which a process that waits for another one gives up."
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Keep the inputs of each block alone and compute the rest again in the backward pass: less memory, "
        "the same bits. For models of transformers that have it, such as vit_tiny; not with `dp`.",
    )
    compile: CompileSection = CompileSection()
    ema: EMASection = EMASection()
    dp: DPSection = DPSection()


class OptimizerSection(Section):
    """The optimizer. A key left out keeps torch's own default; one that the optimizer lacks is refused."""

    name: str = Field(
        "adamw", description="adamw, adam, sgd, rmsprop, or another that torch.optim ships, in lower case."
    )
    lr: float = Field(1e-3, gt=0.0, description="Learning rate after warm-up.")
    weight_decay: float | None = Field(None, ge=0.0, description="Weight decay.")
    momentum: float | None = Field(None, ge=0.0, lt=1.0, description="Momentum (sgd, rmsprop).")
    betas: list[Annotated[float, Field(ge=0.0, lt=1.0)]] | None = Field(
        None, min_length=2, max_length=2, description="Decay rates of the moments (adam's kin)."
    )
    eps: float | None = Field(None, gt=0.0, description="Term that keeps denominators from zero.")
    fused: bool | None = Field(
        None, description="One kernel for the whole step. null: where torch has it for the device."
    )
    layer_decay: float | None = Field(
        None, gt=0.0, le=1.0, description="Factor of the learning rate from each layer to the one below it. null: 1."
    )
    decay_norms_and_biases: bool = Field(
        False, description="Apply weight decay to biases and to the scales of norms as well."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of torch's optimizer, by name."
    )


class SchedulerSection(Section):
    """The learning rate over the run. Warm-up rises linearly to `optimizer.lr`; the schedule starts where it ends."""

    name: Literal["cosine", "linear", "step", "exponential", "plateau", "none"] = Field(
        "cosine", description="cosine and linear fall each step, to min_lr; step and exponential each epoch."
    )
    warmup_steps: int | None = Field(None, ge=0, description="Length of the warm-up in steps.")
    warmup_epochs: float | None = Field(None, ge=0.0, description="Length of the warm-up in epochs.")
    min_lr: float = Field(0.0, ge=0.0, description="Lowest learning rate.")
    step_size: int = Field(10, ge=1, description="step: epochs between two falls.")
    gamma: float = Field(0.1, gt=0.0, le=1.0, description="step, exponential, plateau: factor of one fall.")
    patience: int = Field(10, ge=0, description="plateau: epochs without improvement that are borne.")
    monitor: str = Field("val_loss", description="plateau: the metric watched.")
    mode: Mode = Field("min", description="plateau: whether less or more is better.")


class EarlyStoppingSection(Section):
    """Stop when a metric no longer improves."""

    enabled: bool = Field(False, description="Stop early.")
    monitor: str = Field("val_loss", description="The metric watched.")
    mode: Mode = Field("min", description="Whether less or more is better.")
    patience: int = Field(10, ge=1, description="Epochs without improvement that are borne.")
    min_delta: float = Field(0.0, ge=0.0, description="Least change that counts as an improvement.")


class CheckpointingSection(Section):
    """When the run is saved, and which of its weights are chosen at the end."""

    every_n_epochs: int | None = Field(1, ge=1, description="Save after every n-th epoch. null: only best and last.")
    every_n_steps: int | None = Field(None, ge=1, description="Save after every n-th step.")
    monitor: str | None = Field(None, description="Metric that makes a checkpoint the best. Default: the task's own.")
    mode: Mode | None = Field(None, description="Whether less or more is better. Default: the task's own.")
    also_best: dict[str, Mode] = Field(
        default_factory=dict, description="Further metrics whose best checkpoints are kept: metric: min or max."
    )
    keep_top_k: int = Field(1, ge=1, description="How many of the best checkpoints are kept, by each metric.")
    keep_last: int = Field(2, ge=2, description="How many of the newest checkpoints are kept.")
    selection: Literal["best", "last"] | None = Field(
        None, description="Weights that are evaluated and packed at the end. Default: best; of `dp`, last."
    )


class EvaluationSection(Section):
    """What is computed of predictions, beside the figures of the task."""

    metrics: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        examples=[["./agreement", "matthews_correlation"]],
        description="evaluate modules: folders of yours, such as ./agreement, or names on the Hugging Face hub. "
        "Their code is run.",
    )


class ReproducibilitySection(Section):
    """What is traded between equal bits and speed."""

    deterministic: bool = Field(True, description="Use only operations that give the same bits each time.")
    benchmark: bool = Field(False, description="Let cuDNN choose the fastest algorithm by trial (not deterministic).")
    tf32: bool | None = Field(
        None,
        description="float32 products in TF32 on GPUs: true, false, or null for torch's choice (convolutions only).",
    )
    num_threads: int | None = Field(
        None, ge=1, le=1024, description="Threads of a CPU operation. Part of the bits on a CPU."
    )
