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
    "arch": "model.architecture",
    "backbone": "model.architecture",
    "bf16": "training.trainer_type: mixed_precision, with training.amp_dtype: bfloat16",
    "clip_grad": "training.max_grad_norm",
    "clip_grad_norm": "training.max_grad_norm",
    "color_jitter": "data.transforms.train.color_jitter",
    "csv_file": "data.table",
    "cutmix_alpha": "data.transforms.train.cutmix",
    "data_path": "data.data_dir",
    "data_root": "data.data_dir",
    "dataloader_num_workers": "data.num_workers",
    "early_stopping_patience": "early_stopping.patience",
    "ema_decay": "training.ema.decay",
    "epochs": "training.num_epochs",
    "eta_min": "scheduler.min_lr",
    "experiment_name": "tracking.mlflow.experiment",
    "fp16": "training.trainer_type: mixed_precision, with training.amp_dtype: float16",
    "freeze_backbone": "model.freeze: backbone",
    "grad_accum_steps": "training.gradient_accumulation_steps",
    "grad_clip": "training.max_grad_norm",
    "gradient_clip": "training.max_grad_norm",
    "gradient_clip_val": "training.max_grad_norm",
    "gradient_clipping": "training.max_grad_norm",
    "img_size": "data.image_size",
    "layer_wise_lr_decay": "optimizer.layer_decay",
    "learning_rate": "optimizer.lr",
    "load_best_model_at_end": "checkpointing.selection",
    "log_every": "tracking.log_every_n_steps",
    "logging_steps": "tracking.log_every_n_steps",
    "lr_scheduler": "scheduler.name",
    "lr_scheduler_type": "scheduler.name",
    "max_epochs": "training.num_epochs",
    "metric_for_best_model": "checkpointing.monitor",
    "mixed_precision": "training.trainer_type: mixed_precision, with training.amp_dtype",
    "mixup_alpha": "data.transforms.train.mixup",
    "model_name": "model.architecture",
    "n_epochs": "training.num_epochs",
    "num_labels": "model.num_classes",
    "num_train_epochs": "training.num_epochs",
    "num_warmup_steps": "scheduler.warmup_steps",
    "opt": "optimizer.name",
    "optim": "optimizer.name",
    "output_dir": "run.dir",
    "per_device_eval_batch_size": "training.eval_batch_size",
    "per_device_train_batch_size": "training.batch_size",
    "precision": "training.trainer_type: mixed_precision, with training.amp_dtype",
    "pretrained": "model.weights: DEFAULT",
    "random_seed": "seed",
    "report_to": "tracking",
    "run_name": "run.name",
    "save_steps": "checkpointing.every_n_steps",
    "save_total_limit": "checkpointing.keep_last",
    "sched": "scheduler.name",
    "smoothing": "training.label_smoothing",
    "trainer": "training.trainer_type",
    "use_ema": "training.ema.enabled",
    "wandb_project": "tracking.wandb.project",
    "wd": "optimizer.weight_decay",
    "workers": "data.num_workers",
}


# Of all keys of a configuration one is always a little like the word that was written.
_ELSEWHERE = 0.8


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
    word, known = key.lower().replace("-", "_"), list(known_keys(root))
    foreign = _FOREIGN.get(word)
    if foreign is not None and foreign.partition(":")[0] in known:
        return f"Here it is called {foreign}."
    elsewhere = [path for path in known if path.rsplit(".", 1)[-1] == word]
    if prefix + word in elsewhere:
        return f"Did you mean {prefix}{word}?"
    if elsewhere:
        return f"Did you mean {_either(elsewhere)}?"
    if (close := nearest(word, list(section.model_fields))) is not None:
        return f"Did you mean {prefix}{close}?"
    if (close := nearest(word, [path.rsplit(".", 1)[-1] for path in known], cutoff=_ELSEWHERE)) is not None:
        return f"Did you mean {_either([path for path in known if path.rsplit('.', 1)[-1] == close])}?"
    further = f"; arguments of its own stand in {prefix}options" if "options" in section.model_fields else ""
    return f"Known here: {', '.join(section.model_fields)}{further}."


def _either(keys: list[str]) -> str:
    return " or ".join(keys[:3])
