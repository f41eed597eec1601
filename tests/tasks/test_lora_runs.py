"""Runs with adapters: each trainer, a stop and a resume, the package, and what a second run makes of its weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from images import paint_classes
from runs import largest_difference, weights
from safetensors.torch import save_file
from warm_commands import ranks

import mltrain
from mltrain.core.errors import ConfigError
from mltrain.core.files import read_json
from mltrain.models.lora import has_lora, merge_lora
from mltrain.models.registry import logits_of
from mltrain.workflows.train import train

VIT = {"patch_size": 4, "num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 48}
LORA = {"rank": 2, "alpha": 4.0, "targets": ["q_proj", "*.mlp.*"], "train": ["*norm*"]}
LEARNED = (".lora_", "norm", "classifier")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("painted")
    paint_classes(folder, ("blue", "green", "red"), 9)
    mltrain.split_folder(folder / "raw", folds=3, test_ratio=0.2)
    return {
        "task": "image_classification",
        "data": {"data_dir": str(folder), "image_size": 8, "num_workers": 0},
        "model": {"architecture": "vit_tiny", "options": VIT, "lora": LORA},
        "training": {"num_epochs": 3, "batch_size": 4, "ema": {"enabled": True, "decay": 0.5}},
        "optimizer": {"lr": 0.02},
        "checkpointing": {"selection": "last"},
        "tracking": {"mlflow": {"enabled": False}, "system_metrics": {"enabled": False}},
        "reproducibility": {"num_threads": 1},
        "run": {"dir": str(folder / "runs")},
    }


@pytest.fixture(scope="module")
def straight(config: dict[str, Any]) -> Any:
    return train(config, {"run.name": "straight"}, verbose=False)


def test_adapters_head_and_named_parameters_learn_and_nothing_else(straight: Any, config: dict[str, Any]) -> None:
    begun = train(config, {"run.name": "begun", "optimizer.lr": 1e-12, "training.num_epochs": 1}, verbose=False)
    before, after = weights(begun.folder), weights(straight.folder)
    changed = {name for name in after if not torch.allclose(before[name], after[name], rtol=0, atol=1e-9)}
    assert changed == {name for name in after if any(part in name for part in LEARNED)}


def test_stopped_and_resumed_equals_straight(straight: Any, config: dict[str, Any]) -> None:
    stopped = train(config, {"run.name": "stopped", "callbacks": {"stop_at": {"step": 5}}}, verbose=False)
    assert stopped.summary["status"] == "interrupted"
    resumed = train(None, {"callbacks": {}}, resume=stopped.folder, verbose=False)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]


@pytest.mark.parametrize(
    "settings",
    [
        {"training.trainer_type": "mixed_precision"},
        {"training.trainer_type": "dp", "training.dp": {"noise_multiplier": 1.0, "accountant": "rdp"}},
        {"training.gradient_checkpointing": True},
        pytest.param({"training.trainer_type": "accelerate", "optimizer.layer_decay": 0.7}, marks=pytest.mark.slow),
    ],
    ids=["mixed_precision", "dp", "gradient_checkpointing", "accelerate"],
)
def test_every_trainer_trains_it(
    settings: dict[str, Any], straight: Any, config: dict[str, Any], quick_reports: None
) -> None:
    result = train(config, {**settings, "run.name": "other"}, verbose=False)
    found, expected = weights(result.folder), weights(straight.folder)
    frozen = [name for name in expected if not any(part in name for part in LEARNED)]
    assert frozen
    assert all(torch.equal(found[name], expected[name]) for name in frozen)
    same = result.summary["model_digest"] == straight.summary["model_digest"]
    assert same == ("training.gradient_checkpointing" in settings)
    shutil.rmtree(result.folder)


def test_the_package_builds_the_adapters_again(straight: Any, tmp_path: Path) -> None:
    packed = mltrain.load_model(straight.folder)
    assert has_lora(packed.module)
    assert packed.facts["lora"] == {**LORA, "dropout": 0.0}
    assert not (straight.folder / "model" / "config.json").exists()
    data = Path(straight.folder).parent.parent
    rows = packed.predict(sorted((data / "raw").glob("*/*.png")))
    assert len(rows) == 27


def test_merged_it_is_a_model_of_transformers(straight: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    model, pixels = mltrain.load_model(straight.folder).module, torch.randn(4, 3, 8, 8)
    expected = logits_of(model(pixels))
    merge_lora(model).save_pretrained(tmp_path / "merged")
    read, told = AutoModelForImageClassification.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(told.values()), told
    torch.testing.assert_close(logits_of(read.eval()(pixels)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lora", [None, pytest.param({"rank": 3}, marks=pytest.mark.slow)])
def test_a_second_run_begins_with_the_merged_weights(straight: Any, config: dict[str, Any], lora: Any) -> None:
    settings = {"model.weights": str(straight.folder), "model.lora": lora, "run.name": f"second_{lora is None}"}
    second = train(config, {**settings, "optimizer.lr": 1e-12, "training.num_epochs": 1}, verbose=False)
    one, two = (mltrain.load_model(folder).module for folder in (straight.folder, second.folder))
    pixels = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(logits_of(two(pixels)), logits_of(one(pixels)), rtol=1e-4, atol=1e-5)


def test_weights_without_what_they_count_are_refused(straight: Any, config: dict[str, Any], tmp_path: Path) -> None:
    save_file(weights(straight.folder), tmp_path / "alone.safetensors")
    with pytest.raises(ConfigError, match=r"model\.weights: alone\.safetensors has adapters \(LoRA\), and not what"):
        train(config, {"model.weights": str(tmp_path / "alone.safetensors")}, verbose=False)


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [False, True])
def test_two_processes_equal_one(straight: Any, config: dict[str, Any], tmp_path: Path, fsdp: bool) -> None:
    name = f"two_{fsdp}"
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(config))
    words = ["--config", "two.yaml", "--trainer", "accelerate", "--run_name", name, "--batch_size", "2"]
    blocks = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}
    ended = [each.end() for each in ranks(["mltrain", *words], tmp_path, blocks if fsdp else {})]
    assert [each.returncode for each in ended] == [0, 0], ended[0].stderr + ended[1].stderr
    two = Path(config["run"]["dir"]) / name
    assert largest_difference(weights(straight.folder), weights(two)) < 1e-4
    assert mltrain.load_model(two).facts["model_digest"] == read_json(two / "summary.json")["model_digest"]
