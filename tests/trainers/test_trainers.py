"""The trainers: what each refuses, and what the loop does under each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import history, largest_difference, weights
from safetensors.torch import load_file

from mltrain.core.errors import ConfigError, HardwareError
from mltrain.core.files import read_json
from mltrain.trainers.nonfinite import NonFiniteLossError
from mltrain.trainers.registry import TRAINERS


def test_three_trainers_are_registered() -> None:
    assert {"standard", "mixed_precision", "accelerate"} <= set(TRAINERS.names())


def test_bfloat16_trains_on_a_cpu_and_differs_from_float32(train_vectors: Any) -> None:
    full = train_vectors({"optimizer.lr": 0.01})
    mixed = train_vectors({"optimizer.lr": 0.01, "training.trainer_type": "mixed_precision"})
    assert mixed.summary["model_digest"] != full.summary["model_digest"]
    assert largest_difference(weights(mixed.folder), weights(full.folder)) < 0.05
    assert all(tensor.dtype == torch.float32 for tensor in weights(mixed.folder).values())


@pytest.mark.parametrize("trainer", ["standard", "mixed_precision"])
def test_one_process_trainers_refuse_a_launch_of_two(
    train_vectors: Any, monkeypatch: pytest.MonkeyPatch, trainer: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(HardwareError, match=r"2 were launched.*--trainer accelerate"):
        train_vectors({"training.trainer_type": trainer})


def test_clipping_logs_the_norm_before_it(train_vectors: Any) -> None:
    clipped = train_vectors({"training.max_grad_norm": 1e-4, "optimizer.name": "sgd", "optimizer.lr": 1.0})
    start = train_vectors({"optimizer.lr": 1e-12, "scheduler.name": "none", "optimizer.name": "sgd"})
    norms = [record["train/grad_norm"] for record in history(clipped.folder) if "train/grad_norm" in record]
    assert min(norms) > 1e-2
    # 21 steps of a clipped gradient of norm 1e-4 cannot move further than that.
    assert largest_difference(weights(clipped.folder), weights(start.folder)) < 21 * 1e-4


@pytest.mark.parametrize("name", ["adam", "sgd", "rmsprop", "adagrad", "nadam", "radam", "adamax", "adadelta"])
def test_optimizers_of_torch_train(train_vectors: Any, name: str) -> None:
    assert train_vectors({"optimizer.name": name, "training.num_epochs": 1}).summary["status"] == "completed"


def test_an_argument_that_the_optimizer_lacks_is_refused(train_vectors: Any) -> None:
    with pytest.raises(ConfigError, match=r"sgd has no argument 'betas'.*momentum"):
        train_vectors({"optimizer.name": "sgd", "optimizer.betas": [0.9, 0.99]})


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loss_that_is_not_finite_stops_before_it_reaches_the_weights(train_vectors: Any, workers: int) -> None:
    with pytest.raises(NonFiniteLossError, match=r"not finite in step \d+ .* on train/13\. .*on_nonfinite=skip"):
        train_vectors({"data.bad_sample": 13, "data.num_workers": workers, "checkpointing.every_n_steps": 1})
    (run,) = Path("runs").iterdir()
    assert read_json(run / "summary.json")["status"] == "failed"
    for checkpoint in (run / "checkpoints").glob("step-*"):
        assert all(tensor.isfinite().all() for tensor in load_file(checkpoint / "model.safetensors").values())


def test_two_runs_in_one_process_with_other_precision(train_vectors: Any) -> None:
    """Accelerate's process-wide state of one run must not reach the next."""
    first = train_vectors({"training.trainer_type": "mixed_precision"})
    second = train_vectors({"training.trainer_type": "standard"})
    third = train_vectors({"training.trainer_type": "mixed_precision"})
    assert first.summary["model_digest"] == third.summary["model_digest"] != second.summary["model_digest"]
