"""What an unknown key was probably meant to be: a key that other tools use, one in another section, one misspelt."""

from __future__ import annotations

import typing
from collections.abc import Iterator

from pydantic import BaseModel

from mltrain.core.registry import nearest

__all__ = ["known_keys", "section_of", "suggestion"]

# Keys of other tools (transformers, Lightning, timm, Accelerate, plain habit) and ours.
_FOREIGN = {
    "accumulate_grad_batches": "training.gradient_accumulation_steps",
    "accumulation_steps": "training.gradient_accumulation_steps",
    "amp": "training.trainer_type: mixed_precision",
    "bf16": "training.trainer_type: mixed_precision with training.amp_dtype: bfloat16",
    "clip_grad": "training.max_grad_norm",
    "clip_grad_norm": "training.max_grad_norm",
    "early_stopping_patience": "early_stopping.patience",
    "epochs": "training.num_epochs",
    "experiment_name": "tracking.mlflow.experiment",
    "fp16": "training.trainer_type: mixed_precision with training.amp_dtype: float16",
    "grad_accum_steps": "training.gradient_accumulation_steps",
    "gradient_clip": "training.max_grad_norm",
    "gradient_clip_val": "training.max_grad_norm",
    "learning_rate": "optimizer.lr",
    "logging_steps": "tracking.log_every_n_steps",
    "log_every": "tracking.log_every_n_steps",
    "lr_scheduler": "scheduler.name",
    "lr_scheduler_type": "scheduler.name",
    "max_epochs": "training.num_epochs",
    "mixed_precision": "training.trainer_type: mixed_precision with training.amp_dtype",
    "model_name": "model.architecture",
    "n_epochs": "training.num_epochs",
    "num_train_epochs": "training.num_epochs",
    "opt": "optimizer.name",
    "optim": "optimizer.name",
    "output_dir": "run.dir",
    "per_device_eval_batch_size": "training.eval_batch_size",
    "per_device_train_batch_size": "training.batch_size",
    "precision": "training.trainer_type: mixed_precision with training.amp_dtype",
    "random_seed": "seed",
    "run_name": "run.name",
    "sched": "scheduler.name",
    "save_steps": "checkpointing.every_n_steps",
    "save_total_limit": "checkpointing.keep_last",
    "smoothing": "training.label_smoothing",
    "trainer": "training.trainer_type",
    "wd": "optimizer.weight_decay",
    "workers": "data.num_workers",
}


def section_of(annotation: object) -> type[BaseModel] | None:
    """Return the section class that a field holds, or None when it holds a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in typing.get_args(annotation):
        if (found := section_of(argument)) is not None:
            return found
    return None


def known_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every key below a section, dotted: `training.batch_size`."""
    for name, field in section.model_fields.items():
        yield prefix + name
        inner = section_of(field.annotation)
        if inner is not None:
            yield from known_keys(inner, f"{prefix}{name}.")


def suggestion(root: type[BaseModel], section: type[BaseModel], prefix: str, key: str) -> str:
    """Return an instruction for an unknown `key` met in `section`; `prefix` is its dotted place ("training.")."""
    foreign = _FOREIGN.get(key)
    close = nearest(key, list(section.model_fields))
    if foreign is not None:
        return f"Here it is called {foreign}."
    if close is not None:
        return f"Did you mean {prefix}{close}?"
    elsewhere = {path.rsplit(".", 1)[-1]: path for path in known_keys(root)}
    if key in elsewhere:
        return f"Did you mean {elsewhere[key]}?"
    far = nearest(key, list(elsewhere))
    if far is not None:
        return f"Did you mean {elsewhere[far]}?"
    return f"Known here: {', '.join(section.model_fields)}."
