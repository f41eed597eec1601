"""Each file of accelerate_configs/ means what its head says; those that CPUs can run are run."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate import FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, DistributedType
from conftest import ROOT
from runs import largest_difference, weights
from torch.distributed.fsdp import CPUOffloadPolicy
from warm_commands import ranks

from mltrain.cli.launch_flags import launch_plan
from mltrain.cli.train import add_arguments, given_keys
from mltrain.config.load import load_config
from mltrain.core.errors import ConfigError
from mltrain.core.files import read_json
from mltrain.tasks.base import task_config_class
from mltrain.workflows.accelerate_file import read_accelerate_file

FOLDER = ROOT / "accelerate_configs"
KINDS = {
    "cpu_ddp": DistributedType.MULTI_CPU,
    "multi_gpu_ddp": DistributedType.MULTI_GPU,
    "multi_node_ddp": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "deepspeed_zero2": DistributedType.DEEPSPEED,
    "deepspeed_zero3": DistributedType.DEEPSPEED,
    "tpu": DistributedType.XLA,
}
MEANS: Mapping[str, Mapping[str, str]] = {
    "cpu_ddp": {"ACCELERATE_USE_CPU": "true"},
    "multi_gpu_ddp": {},
    "multi_node_ddp": {},
    "fsdp2": {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP",
        "FSDP_MIN_NUM_PARAMS": "1000000",
    },
    "deepspeed_zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "deepspeed_zero3": {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
        "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false",
    },
}
ON_CPU = {"fsdp2": [], "deepspeed_zero2": ["deepspeed"], "deepspeed_zero3": ["deepspeed"], "cpu_ddp": []}


def head(name: str) -> str:
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("#"))


def launch_lines(name: str, program: str) -> list[list[str]]:
    """Return the command lines in the head of a file that start a program."""
    lines = (line.removeprefix("#").strip() for line in head(name).splitlines())
    return [shlex.split(line) for line in lines if line.startswith(f"{program} ")]


def parsed_by_mltrain(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    add_arguments(parser)
    return parser.parse_intermixed_args(words)


def check_training(arguments: argparse.Namespace) -> None:
    """See that the configuration of a line exists, and that the line sets what it must."""
    config = load_config(ROOT / arguments.config, given_keys(arguments), task_config_class).config
    assert config.training.trainer_type == "accelerate"


def test_there_are_these_files() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_knows_every_key(name: str) -> None:
    file = FOLDER / f"{name}.yaml"
    settings = load_config_from_file(str(file))  # which refuses unknown keys, but not those inside of others
    assert isinstance(settings, ClusterConfig)
    assert settings.distributed_type == KINDS[name]
    assert settings.mixed_precision == "no"
    known = {action.dest for action in launch_command_parser()._actions}
    inner = [key for value in yaml.safe_load(file.read_text()).values() if isinstance(value, dict) for key in value]
    assert not set(inner) - known


@pytest.mark.parametrize("name", MEANS)
def test_what_it_says_to_the_processes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_accelerate_file(FOLDER / f"{name}.yaml")
    assert found.asked["num_processes"] == 2
    assert {key: found.environment.get(key) for key in MEANS[name]} == MEANS[name]
    assert ("training.device=cpu" in found.words) == (name == "cpu_ddp")
    for key, value in found.environment.items():
        monkeypatch.setenv(key, value)
    if name == "fsdp2":
        plugin = FullyShardedDataParallelPlugin()
        assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.min_num_params) == (2, True, 1_000_000)
        assert not isinstance(plugin.cpu_offload, CPUOffloadPolicy)
    if name.startswith("deepspeed"):
        given = DeepSpeedPlugin().deepspeed_config["zero_optimization"]
        assert given["stage"] == int(name[-1])
        assert given["offload_optimizer"]["device"] == given["offload_param"]["device"] == "none"


@pytest.mark.parametrize("name", MEANS)
def test_the_lines_of_ml_train(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = launch_lines(name, "ml-train")
    assert len(lines) == (2 if name == "multi_node_ddp" else 1)
    for rank, words in enumerate(lines):
        arguments = parsed_by_mltrain(words[1:])
        assert arguments.accelerate_config == f"accelerate_configs/{name}.yaml"
        check_training(arguments)
        plan = launch_plan(arguments)
        assert plan is not None
        assert (plan.num_processes, plan.num_machines, plan.machine_rank) == (2, len(lines), rank)


@pytest.mark.parametrize("name", KINDS)
def test_the_lines_of_accelerate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (words,) = launch_lines(name, "accelerate")
    assert words[1] == "launch"
    given = launch_command_parser().parse_args(words[2:])
    assert given.config_file == f"accelerate_configs/{name}.yaml"
    assert (given.module, given.training_script) == (True, "mltrain")
    check_training(parsed_by_mltrain(given.training_script_args))
    arguments, _, _ = _validate_launch_command(given)
    # Only these launchers of Accelerate start as many processes as were asked for.
    assert [arguments.multi_gpu, arguments.use_fsdp, arguments.use_deepspeed, arguments.tpu].count(True) == 1
    assert arguments.num_processes == (1 if name == "tpu" else 2)


def test_a_tpu_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="XLA"):
        read_accelerate_file(FOLDER / "tpu.yaml")
    assert "CANNOT RUN" in head("tpu")


# ---- runs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(vectors: dict[str, Any], train_vectors: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run in one process, and the same job as a file for two."""
    folder = tmp_path_factory.mktemp("alone")
    # To be deterministic, torch imports for seconds in each process.
    short = {"reproducibility.deterministic": False, "training.num_epochs": 1}
    one = train_vectors({**short, "run.dir": str(folder), "run.name": "one"}).folder
    content = yaml.safe_load((one / "config.yaml").read_text())
    content["run"] |= {"dir": "runs", "name": "two"}
    content["training"] |= {"batch_size": 4, "trainer_type": "accelerate"}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(content))
    return one, config


def started(words: list[str], folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def ml_train(*words: str) -> list[str]:
    return [str(Path(sys.executable).parent / "ml-train"), *words]


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def need(name: str) -> None:
    """Skip the test, loudly, where a package is missing that a file needs."""
    for package in ON_CPU[name]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"NOT TESTED: {package} is not installed")


def check_equal(processes: list[subprocess.Popen[str]], one: Path, folder: Path, *, writers: int = 1) -> None:
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-2000:]
    check_run(one, folder, writers=writers)


def check_run(one: Path, folder: Path, *, writers: int = 1) -> None:
    two = folder / "runs" / "two"
    assert read_json(two / "summary.json")["num_processes"] == 2
    # Where the file divides what is trained, each process writes its part.
    parts = {path.name for path in two.glob("checkpoints/*/optimizer*.safetensors")}
    assert len(parts) == writers
    assert largest_difference(weights(one), weights(two)) < 1e-5


def test_two_processes_that_are_told_what_cpu_ddp_says(alone: tuple[Path, Path], tmp_path: Path) -> None:
    one, config = alone
    found = read_accelerate_file(FOLDER / "cpu_ddp.yaml")
    for command in ranks(["mltrain", "--config", str(config), *found.words], tmp_path, found.environment):
        result = command.end()
        assert result.returncode == 0, result.stderr[-2000:]
    check_run(one, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_CPU)
def test_two_processes_of_ml_train(name: str, alone: tuple[Path, Path], tmp_path: Path) -> None:
    need(name)
    one, config = alone
    file = str(FOLDER / f"{name}.yaml")
    words = ["--accelerate_config", file, "--num_processes", "2", "--config", str(config), "--device", "cpu"]
    check_equal([started(ml_train(*words), tmp_path)], one, tmp_path, writers=1 if name == "cpu_ddp" else 2)


@pytest.mark.slow
def test_two_machines(alone: tuple[Path, Path], tmp_path: Path) -> None:
    """Two launchers that meet at a port, as those of two machines do."""
    one, config = alone
    words = ["--accelerate_config", str(FOLDER / "multi_node_ddp.yaml"), "--main_process_port", free_port()]
    words += ["--config", str(config), "--device", "cpu"]
    machines = [started(ml_train(*words, "--machine_rank", str(rank)), tmp_path) for rank in range(2)]
    check_equal(machines, one, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_CPU)
def test_two_processes_of_accelerate(name: str, alone: tuple[Path, Path], tmp_path: Path) -> None:
    need(name)
    one, config = alone
    words = ["--config_file", str(FOLDER / f"{name}.yaml"), "--num_processes", "2", "--main_process_port", "0"]
    words += ["--multi_gpu"] if name == "cpu_ddp" else []
    words += ["-m", "mltrain", "--config", str(config), "--device", "cpu"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    check_equal([started([*launcher, *words], tmp_path)], one, tmp_path, writers=1 if name == "cpu_ddp" else 2)
