"""DeepSpeed ZeRO in two processes on CPUs: the same training, the same checkpoints, and refusals in one line."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs import largest_difference, weights
from warm_commands import ranks

from mltrain.core.files import read_json

HAS_DEEPSPEED = importlib.util.find_spec("deepspeed") is not None
needs_deepspeed = pytest.mark.skipif(
    not HAS_DEEPSPEED, reason="NOT TESTED: DeepSpeed is not installed (DS_BUILD_OPS=0 pip install deepspeed)"
)
PLUGIN = """
import torch

from mltrain.tasks.base import TASKS, register_task


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        layers = torch.nn.Linear(8, 5, bias=False), torch.nn.Tanh(), torch.nn.Linear(5, 3, bias=False)
        self.inner = torch.nn.Sequential(*layers)
        self.scale = torch.nn.Parameter(torch.tensor([1.5]))

    def forward(self, vectors):
        return self.scale * self.inner(vectors)[:, :2]


@register_task("scaled_vectors")
class ScaledVectors(TASKS.get("vectors")):
    def build_model(self):
        return Scaled()
"""
EMA = {"training.ema": {"enabled": True, "decay": 0.9}}
# Of 49 samples the last window has one, and one process none of it.
SETTINGS: dict[str, Any] = {
    "data.train_size": 49,
    "data.val_size": 3,
    "training.num_epochs": 2,
    "training.max_grad_norm": 0.5,
    "optimizer.weight_decay": 0.05,
    "scheduler.name": "none",
}
ONE = {"training.batch_size": 8, "training.gradient_accumulation_steps": 1}
TWO = {"training.batch_size": 2, "training.gradient_accumulation_steps": 2, "training.trainer_type": "accelerate"}


def run_pair(vectors: dict[str, Any], folder: Path, stage: int, words: dict[str, Any], **more: str) -> list[Any]:
    """Train in two processes, from a new run or from `resume`."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(vectors))
    environment = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage), **more}
    start = [] if "resume" in words else ["--config", str(config)]
    rest = [f"--resume={value}" if key == "resume" else f"{key}={yaml_text(value)}" for key, value in words.items()]
    return [command.end() for command in ranks(["mltrain", *start, *rest], folder, environment)]


def yaml_text(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def trained(results: list[Any], folder: Path) -> Path:
    assert [result.returncode for result in results] == [0, 0], results[0].stderr[-2000:]
    last = folder / "checkpoints" / (folder / "checkpoints" / "last").read_text().strip()
    # Of what is whole on each process, as under DDP, one of them writes all.
    assert (last / "optimizer-00002-of-00002.safetensors").exists()
    return folder


def error_line(results: list[Any]) -> str:
    assert {result.returncode for result in results} == {2}, results[0].stderr[-2000:]
    (line,) = [line for line in results[0].stderr.splitlines() if line.startswith("error:")]
    assert "Traceback" not in results[0].stderr
    return str(line)


def moved(run: Path, config: dict[str, Any], folder: Path, stages: list[int]) -> None:
    """Continue a run of one epoch in two processes, for an epoch under each stage."""
    for epochs, stage in enumerate(stages, 2):
        words = {"resume": str(run), **TWO, "training.num_epochs": epochs}
        trained(run_pair(config, folder, stage, words), run)


def assert_continues_as_one(run: Path, config: dict[str, Any], train_vectors: Any) -> None:
    """Continue a run in one process, and assert that it ends as one that was never moved."""
    straight = train_vectors({**SETTINGS, **ONE, "training.num_epochs": 4, "run.name": "straight"}, config=config)
    back = {**ONE, "training.num_epochs": 4, "training.trainer_type": "standard"}
    train_vectors(back, config=None, resume=run)
    assert largest_difference(weights(straight.folder), weights(run)) < 1e-5


@pytest.mark.skipif(HAS_DEEPSPEED, reason="DeepSpeed is installed")
def test_it_is_refused_where_it_is_not_installed(vectors: dict[str, Any], tmp_path: Path) -> None:
    line = error_line(run_pair(vectors, tmp_path, 2, TWO))
    assert "not installed" in line
    assert "mltrain[deepspeed]" in line


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_two_processes_equal_one(stage: int, vectors: dict[str, Any], train_vectors: Any, tmp_path: Path) -> None:
    average = EMA if stage < 3 else {}
    one = train_vectors({**SETTINGS, **ONE, **average, "run.name": "one"})
    results = run_pair(vectors, tmp_path, stage, {**SETTINGS, **TWO, **average, "run.name": "two"})
    two = trained(results, tmp_path / "runs" / "two")
    assert largest_difference(weights(one.folder), weights(two)) < 1e-5
    summary = read_json(two / "summary.json")
    assert summary["num_processes"] == 2
    for split in ("train", "val", "test"):
        assert summary[split] == pytest.approx(one.summary[split], rel=1e-4)


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_a_run_moves_to_deepspeed_and_back(
    stage: int, vectors: dict[str, Any], train_vectors: Any, tmp_path: Path
) -> None:
    """One process, then two under DeepSpeed, then two under another stage of it, then one again."""
    began = train_vectors({**SETTINGS, **ONE, "training.num_epochs": 1, "run.name": "moved"}).folder
    moved(began, vectors, tmp_path, [stage, 5 - stage])
    assert_continues_as_one(began, vectors, train_vectors)


@pytest.fixture(scope="module")
def scaled(vectors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    plugin = tmp_path_factory.mktemp("scaled") / "scaled.py"
    plugin.write_text(PLUGIN)
    return {**vectors, "task": "scaled_vectors", "plugins": [*vectors["plugins"], str(plugin)]}


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_parameters_that_cannot_be_divided_evenly(
    stage: int, scaled: dict[str, Any], train_vectors: Any, tmp_path: Path
) -> None:
    """15 and 40 elements, and a group of a single one, of which a process has nothing but padding."""
    results = run_pair(scaled, tmp_path, stage, {**SETTINGS, **TWO, "training.num_epochs": 1, "run.name": "moved"})
    began = trained(results, tmp_path / "runs" / "moved")
    moved(began, scaled, tmp_path, [stage, stage])
    assert_continues_as_one(began, scaled, train_vectors)


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_a_window_that_is_not_finite_is_skipped(
    stage: int, vectors: dict[str, Any], train_vectors: Any, tmp_path: Path
) -> None:
    bad = {**SETTINGS, "data.bad_sample": 7, "training.on_nonfinite": "skip"}
    one = train_vectors({**bad, **ONE, "run.name": "one"})
    two = trained(run_pair(vectors, tmp_path, stage, {**bad, **TWO, "run.name": "two"}), tmp_path / "runs" / "two")
    assert largest_difference(weights(one.folder), weights(two)) < 1e-5


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_bfloat16_is_that_of_mixed_precision(
    stage: int, vectors: dict[str, Any], train_vectors: Any, tmp_path: Path
) -> None:
    """Full weights and half-precision passes, as in one process; sums in bfloat16 depend on the cut."""
    own = {**SETTINGS, "training.amp_dtype": "bfloat16", "training.max_grad_norm": None}
    one = train_vectors({**own, **ONE, "training.trainer_type": "mixed_precision", "run.name": "one"})
    full = train_vectors({**own, **ONE, "run.name": "full"})
    results = run_pair(vectors, tmp_path, stage, {**own, **TWO, "run.name": "two"}, ACCELERATE_MIXED_PRECISION="bf16")
    two = trained(results, tmp_path / "runs" / "two")
    from_one = largest_difference(weights(one.folder), weights(two))
    assert 0 < from_one < 5e-3
    assert largest_difference(weights(full.folder), weights(two)) > 0


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "words", "more", "reason"),
    [
        (3, EMA, {}, "average of the weights"),
        (2, {"optimizer.name": "adafactor"}, {}, "adafactor cannot train"),
        (2, {}, {"ACCELERATE_MIXED_PRECISION": "fp16"}, "fp16"),
        (2, {}, {"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, "offload_optimizer"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    stage: int, words: dict[str, Any], more: dict[str, str], reason: str, vectors: dict[str, Any], tmp_path: Path
) -> None:
    assert reason in error_line(run_pair(vectors, tmp_path, stage, {**TWO, **words}, **more))
