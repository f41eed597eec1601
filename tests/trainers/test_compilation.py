"""`torch.compile`: the same numbers, names and bits after a stop; one program for a shape, whatever came before it."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import history, largest_difference, weights
from torch import nn
from warm_process import run_warm

import mltrain
from mltrain.config.training import CompileSection
from mltrain.core.errors import ConfigError, HardwareError
from mltrain.core.files import read_json
from mltrain.trainers.compilation import Compilation
from mltrain.trainers.failures import explained

# Traced as for inductor, and computed by torch's own operations, which takes no compiler.
TRACED = {"training.compile.enabled": True, "training.compile.backend": "eager"}
SETTINGS: dict[str, Any] = {
    "data.train_size": 18,
    "data.val_size": 3,
    "training.num_epochs": 2,
    "training.ema": {"enabled": True, "decay": 0.9},
    "training.batch_size": 4,
    "training.gradient_accumulation_steps": 2,
    "training.eval_batch_size": 6,
    "checkpointing.every_n_steps": 3,
}


@pytest.fixture
def programs() -> Iterator[list[list[Any]]]:
    """The inputs' sizes of each graph that the backend `noting` was given, batch size last."""
    import torch._dynamo

    seen: list[list[Any]] = []

    def noting(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        seen.append([size for value in inputs if isinstance(value, torch.Tensor) for size in value.shape])
        return graph.forward

    torch._dynamo.register_backend(noting, "noting")
    yield seen
    torch._dynamo.backends.registry._COMPILER_FNS.pop("noting")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 2))


def test_a_program_follows_from_its_shape_alone(
    programs: list[list[Any]], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch's own settings the third size is compiled for all sizes, and after the eighth program nothing is."""
    monkeypatch.setattr(logging.getLogger("mltrain"), "propagate", True)
    model, plain = network(), network()
    monkeypatch.setattr("mltrain.trainers.compilation._MANY", 9)
    sizes = [8, 3, 8, 5, 3, 2, 4, 6, 7, 9, 10, 11, 12, 8, 1]
    with Compilation(CompileSection(enabled=True, backend="noting")) as compilation:
        compilation.compile(model)
        for size in sizes:
            vectors = torch.randn(size, 8)
            assert torch.equal(model(vectors), plain(vectors))
    assert len(programs) == len(set(sizes))
    assert all(type(size) is int for sizes in programs for size in sizes)
    told = [record.getMessage() for record in caplog.records if "kinds of batches" in record.getMessage()]
    assert len(told) == 1
    assert "more than 9" in told[0]


def test_training_and_evaluation_have_programs_of_their_own(programs: list[list[Any]]) -> None:
    model = network()
    with Compilation(CompileSection(enabled=True, backend="noting")) as compilation:
        compilation.compile(model)
        for _ in range(2):
            model.train()(torch.randn(4, 8)).sum().backward()
            with torch.inference_mode():
                model.eval()(torch.randn(4, 8))
    assert len(programs) == 2


def test_names_copies_and_the_time_after_are_those_of_the_plain_model(programs: list[list[Any]]) -> None:
    model, average = network(), network()
    names = list(model.state_dict())
    with Compilation(CompileSection(enabled=True, backend="noting")) as compilation:
        compilation.compile(model, average, model)
        copied = copy.deepcopy(model)
        copied(torch.randn(4, 8))
        with compilation.paused():
            model(torch.randn(4, 8))
        assert programs == []
        model(torch.randn(4, 8))
        average(torch.randn(4, 8))
        assert len(programs) > 0
        assert list(model.state_dict()) == names
    programs.clear()
    model(torch.randn(3, 8))
    assert programs == []


def test_what_torch_cannot_follow_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("mltrain"), "propagate", True)

    class Opaque(nn.Module):
        @torch.compiler.disable
        def forward(self, vectors: torch.Tensor) -> torch.Tensor:
            return 2 * vectors

    with Compilation(CompileSection(enabled=True, backend="eager")) as compilation:
        model = Opaque()
        compilation.compile(model)
        for _ in range(3):
            model(torch.ones(2))
    assert [record.getMessage()[:16] for record in caplog.records if record.levelname == "WARNING"] == [
        "Nothing of the m"
    ]


@pytest.mark.slow
def test_a_compiled_run_resumes_to_the_same_bits(train_vectors: Any) -> None:
    """Ragged windows, other sizes in evaluation; stopped in mid-epoch, so that other shapes come first."""
    settings = {**SETTINGS, **TRACED, "model.dropout": 0.3}
    straight = train_vectors(settings)
    stopped = train_vectors({**settings, "callbacks": {"stop_at": {"step": 4}}})
    resumed = train_vectors({"callbacks": {}}, config=None, resume=stopped.folder)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert history(resumed.folder) == history(straight.folder)


def test_a_module_of_a_script_is_given_back_as_it_came(programs: list[list[Any]], vectors: dict[str, Any]) -> None:
    model = network()
    data = torch.utils.data.TensorDataset(torch.randn(16, 8), torch.randint(0, 2, (16,)))
    compiled = {"num_epochs": 1, "batch_size": 8, "compile": {"enabled": True, "backend": "noting"}}
    sections = ("data", "tracking", "reproducibility")
    config = {**{section: vectors[section] for section in sections}, "training": compiled}
    mltrain.Trainer(model, data, config=config).fit(verbose=False)
    assert len(programs) == 3  # the check, training, and evaluation at the end
    model(torch.randn(3, 8))
    assert len(programs) == 3


@pytest.mark.parametrize(
    ("settings", "where", "told"),
    [
        ({"training.compile.backend": "nonsense"}, "training.compile.backend", "Use one of cudagraphs, inductor"),
        ({"training.compile.mode": "max-autotune-no-cudagraphs"}, "training.compile.mode", "deterministic: false"),
        (
            {"training.compile.mode": "max-autotune-no-cudagraphs", "training.compile.backend": "aot_eager"},
            "training.compile.mode",
            "aot_eager does not have",
        ),
        (
            {"training.trainer_type": "dp", "training.dp": {"target_epsilon": 3.0}},
            "training.compile.enabled",
            "dp watches each layer",
        ),
    ],
    ids=["backend", "mode", "mode of inductor", "dp"],
)
def test_what_cannot_be_is_refused_before_the_run(
    train_vectors: Any, settings: dict[str, Any], where: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        train_vectors({"training.compile.enabled": True, **settings})
    assert where in str(caught.value)
    assert not Path("runs").exists()


def test_a_machine_without_a_compiler_is_told_in_one_line(
    train_vectors: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch._inductor.config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(HardwareError, match=r"training\.compile\.enabled: inductor cannot compile .*C\+\+") as caught:
        train_vectors({"training.compile.enabled": True, "training.device": "cpu"})
    assert "\n" not in str(caught.value)
    assert not Path("runs").exists()


def test_a_model_in_pieces_is_told_in_one_line_where_it_must_be_one() -> None:
    class InPieces(nn.Module):
        def forward(self, vectors: torch.Tensor) -> torch.Tensor:
            print("between two pieces")
            return 2 * vectors

    model = InPieces()
    with Compilation(CompileSection(enabled=True, backend="eager", fullgraph=True)) as compilation:
        compilation.compile(model)
        with pytest.raises(RuntimeError) as caught:
            model(torch.ones(2))
    plain = explained(caught.value)
    assert plain is not None
    assert str(plain).startswith("training.compile.fullgraph: the model does not compile as one piece (Failed to trace")


PROGRAM = """
import os, sys
os.environ["TORCHINDUCTOR_CACHE_DIR"] = {cache!r}
sys.path[:0] = {path!r}
import runs
from mltrain.workflows.train import train
train({config!r}, {{"callbacks": {{}}}} if {resume!r} else {overrides!r}, resume={resume!r}, verbose=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["standard", "mixed_precision"])
def test_inductor_equals_plain_and_resumes_to_the_same_bits_with_an_empty_cache(
    vectors: dict[str, Any], tmp_path: Path, trainer: str
) -> None:
    """The process that continues has compiled nothing before, and finds nothing that others have."""
    overrides = {**SETTINGS, "training.trainer_type": trainer}
    compiled = {**overrides, "training.compile.enabled": True}
    dropping = {**compiled, "model.dropout": 0.3}

    def run(name: str, overrides: dict[str, Any], resume: Path | None = None) -> Path:
        named = {**overrides, "run.name": name}
        config = None if resume else vectors
        given = {"path": sys.path, "config": config, "overrides": named, "resume": resume and str(resume)}
        given["cache"] = str(tmp_path / ("cache" if resume is None else "empty_cache"))
        result = run_warm(["python", "-c", PROGRAM.format(**given)], tmp_path)
        assert result.returncode == 0, result.stderr
        return tmp_path / "runs" / name

    programs = tmp_path / "cache"
    plain = run("plain", overrides)
    assert not list(programs.rglob("*.so"))
    same = run("same", compiled)
    # Whether the bits differ is the processor's matter, so the programs themselves show that they were compiled.
    assert list(programs.rglob("*.so"))
    # bfloat16 has 8 bits; the programs keep more of them between operations.
    assert largest_difference(weights(plain), weights(same)) < (1e-6 if trainer == "standard" else 1e-3)
    straight = run("straight", dropping)
    stopped = run("stopped", {**dropping, "callbacks": {"stop_at": {"step": 4}}})
    assert read_json(stopped / "summary.json")["status"] == "interrupted"
    run("stopped", {}, resume=stopped)
    assert list((tmp_path / "empty_cache").rglob("*.so"))
    digests = [read_json(folder / "summary.json")["model_digest"] for folder in (straight, stopped)]
    assert digests[0] == digests[1] is not None
    assert history(stopped) == history(straight)
