"""Compiled models and gradient checkpointing on two processes: exchanged, divided and accumulated as without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, VECTORS_PLUGIN
from runs import history, largest_difference, weights
from warm_commands import ranks

from mltrain.core.files import read_json

# As `accelerate launch` leaves it for accelerate_configs/fsdp2.yaml, with the blocks of the model below as units.
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "ViTLayer",
}
LAYOUTS: dict[str, dict[str, str]] = {"ddp": {}, "fsdp2": FSDP2}
PLUGIN = """
import torch.nn.functional as F
from transformers import ViTConfig, ViTForImageClassification

from mltrain.tasks.base import TASKS, Losses, register_task


@register_task("patches")
class Patches(TASKS.get("vectors")):
    def build_model(self):
        drop = self.config.model.dropout
        shape = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, num_labels=2)
        image = dict(image_size=2, patch_size=1, num_channels=2)
        drops = dict(hidden_dropout_prob=drop, attention_probs_dropout_prob=drop)
        return ViTForImageClassification(ViTConfig(**shape, **image, **drops))

    def losses(self, model, batch):
        logits = model(batch["vectors"].view(-1, 2, 2, 2)).logits
        values = F.cross_entropy(logits, batch["labels"], reduction="none")
        return Losses(values, logits, {"margin": logits[:, 0].abs()})
"""
# Traced, split for DDP and called as with inductor, and computed by torch's own operations, which takes no compiler.
COMPILED = ["training.compile.enabled=true", "training.compile.backend=eager"]
TRACED = [COMPILED[0], "training.compile.backend=aot_eager"]


@pytest.fixture(scope="module")
def config(vectors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """49 samples, so that the last window has one, and one rank nothing of its own."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "patches.py").write_text(PLUGIN)
    content = {
        **vectors,
        "task": "patches",
        "plugins": [str(VECTORS_PLUGIN), str(folder / "patches.py"), str(ROOT / "tests" / "support" / "runs.py")],
        "data": {**vectors["data"], "train_size": 49, "val_size": 3},
        # Without the moments of adamw, which turn rounding of a gradient that is nearly 0 into a step.
        "optimizer": {"name": "sgd", "lr": 0.1, "fused": False},
        "training": {"num_epochs": 2, "batch_size": 2, "gradient_accumulation_steps": 2, "eval_batch_size": 5},
        "run": {"dir": str(folder / "runs")},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def plain(config: Path, train_vectors: Any) -> Path:
    """The run of the transformer in one process, neither compiled nor checkpointed."""
    return train_in_one(config, train_vectors, "plain", "patches")


def train_in_two(config: Path, name: str, *words: str, code: int = 0, **environment: str) -> Path:
    command = ["mltrain", "--config", str(config), "--trainer", "accelerate", "--run_name", name, *words]
    results = [each.end() for each in ranks(command, config.parent, environment)]
    assert [result.returncode for result in results] == [code, code], results[0].stderr + results[1].stderr
    assert results[0].stderr.count("The model is compiled") == (COMPILED[0] in words)
    assert "Nothing of the model" not in results[0].stderr
    return config.parent / "runs" / name


def train_in_one(config: Path, train_vectors: Any, name: str, task: str) -> Path:
    settings = {"training.batch_size": 8, "training.gradient_accumulation_steps": 1, "run.name": name, "task": task}
    return Path(train_vectors(settings, config=config).folder)


def digest(run: Path) -> str:
    return str(read_json(run / "summary.json")["model_digest"])


@pytest.mark.slow
def test_compiled_ranks_equal_one_plain_process(config: Path, train_vectors: Any) -> None:
    one = train_in_one(config, train_vectors, "one", "vectors")
    two = train_in_two(config, "two", "task=vectors", *COMPILED)
    assert largest_difference(weights(one), weights(two)) < 1e-6
    for mine, theirs in zip(history(one), history(two), strict=True):
        assert theirs == pytest.approx(mine, rel=1e-4, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_checkpointing_gives_the_same_bits_on_two(config: Path, layout: str) -> None:
    words, environment = ["model.dropout=0.2"], LAYOUTS[layout]
    kept = train_in_two(config, f"kept-{layout}", *words, **environment)
    words.append("training.gradient_checkpointing=true")
    computed_again = train_in_two(config, f"again-{layout}", *words, **environment)
    assert digest(kept) == digest(computed_again)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_all_together_resume_to_the_same_bits(config: Path, plain: Path, layout: str, checkpointing: str) -> None:
    """Compiled, accumulated and checkpointed; stopped in mid-epoch, where other shapes come first."""
    name, environment = f"{layout}-{checkpointing}", LAYOUTS[layout]
    words = [*TRACED, f"training.gradient_checkpointing={checkpointing}"]
    straight = train_in_two(config, f"straight-{name}", *words, **environment)
    assert largest_difference(weights(plain), weights(straight)) < 1e-6
    words.append("training.ema.enabled=true")
    straight = train_in_two(config, f"averaged-{name}", *words, **environment)
    stop = "callbacks={stop_at: {step: 10}}"
    stopped = train_in_two(config, f"stopped-{name}", *words, stop, code=143, **environment)
    assert read_json(stopped / "summary.json")["status"] == "interrupted"
    train_in_two(config, f"stopped-{name}", *words, "--resume", str(stopped), **environment)
    assert digest(straight) == digest(stopped)
