"""What `mltrain doctor` advises for made-up machines, and what it finds wrong with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltrain.core.machine import (
    Device,
    Disk,
    Host,
    Machine,
    Memory,
    Nvidia,
    Package,
    Processor,
    SharedMemory,
    TorchBuild,
)
from mltrain.workflows import doctor
from mltrain.workflows.doctor import Diagnosis, judge
from mltrain.workflows.doctor_config import examine_config
from mltrain.workflows.machine_advice import advise, command_line
from mltrain.workflows.machine_flaws import find_flaws

GIB = 2**30
H100 = {"memory": 80 * GIB, "free_memory": 79 * GIB, "capability": (9, 0), "bf16": True, "fp16": True, "tf32": True}
CUDA = TorchBuild(
    "2.13.0+cu130", cuda="13.0", architectures=("sm_75", "sm_80", "sm_90"), backends=("gloo", "nccl"), threads=64
)
CPU = TorchBuild("2.13.0+cpu", backends=("gloo",))
HOST = Host("Linux", "3.11.7", open_files=(65536, 65536), compiler="/usr/bin/g++", python_headers=True)


def cuda(index: int, name: str = "H100", **facts: Any) -> Device:
    return Device("cuda", index, name, **{**H100, **facts})


NODE = Machine(
    host=HOST,
    processor=Processor("Xeon", "x86_64", 224, 208, instruction_set="AVX512", bf16=True),
    memory=Memory(2048 * GIB, 2000 * GIB),
    shared_memory=SharedMemory("/dev/shm", 1024 * GIB, 1000 * GIB),
    disks=(Disk("run.dir", "/data/runs", 10000 * GIB, 5000 * GIB, True),),
    torch=CUDA,
    devices=tuple(cuda(index) for index in range(8)),
    nvidia=Nvidia(8, "580.65.06"),
    packages=(Package("mltrain", "0.1.0"), Package("torch", "2.13.0", ">=2.10")),
)
LAPTOP = replace(
    NODE,
    processor=Processor("Apple M3", "arm64", 8, 8, instruction_set="DEFAULT", bf16=True),
    memory=Memory(16 * GIB, 6 * GIB),
    shared_memory=None,
    torch=CPU,
    devices=(Device("mps", 0, "Apple GPU", 11 * GIB, bf16=True, fp16=True),),
    nvidia=Nvidia(),
)
PASCAL = replace(
    NODE,
    processor=Processor("Core i5", "x86_64", 4, 4, instruction_set="AVX2", bf16=False),
    torch=replace(CUDA, cuda="12.6", architectures=("sm_60", "sm_90")),
    devices=(cuda(0, "GTX 1080", memory=8 * GIB, capability=(6, 1), bf16=False, fp16=False, tf32=False),),
    nvidia=Nvidia(1, "535.104.05"),
)
CONTAINER = replace(
    NODE,
    host=replace(HOST, container="docker", open_files=(256, 1048576)),
    processor=Processor("EPYC", "x86_64", 64, 1, 1.0, "AVX2", bf16=False),
    memory=Memory(256 * GIB, 200 * GIB, GIB),
    shared_memory=SharedMemory("/dev/shm", 64 * 2**20, 64 * 2**20),
    torch=CPU,
    devices=(),
    nvidia=Nvidia(),
)
WRONG_BUILD = replace(CONTAINER, host=HOST, memory=NODE.memory, nvidia=Nvidia(2, "580.65.06"))


def values(machine: Machine, processes: int | None = None, **more: Any) -> dict[str, Any]:
    found = judge(machine, processes)
    return {advice.key: advice.value for advice in found.advice} | {"command": found.command} | more


def told(machine: Machine, processes: int = 1) -> list[str]:
    return [flaw.what for flaw in find_flaws(machine, processes)]


# ---- what to set ---------------------------------------------------------------------------------------------------


def test_a_node_of_eight_gpus() -> None:
    assert values(NODE) == {
        "--num_processes": 8,
        "training.trainer_type": "accelerate",
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "reproducibility.tf32": True,
        "data.num_workers": 8,
        "command": "ACCELERATE_MIXED_PRECISION=bf16 ml-train --num_processes 8 --config FILE --trainer accelerate "
        "reproducibility.tf32=true data.num_workers=8",
    }
    assert told(NODE, 8) == []


def test_one_gpu_of_the_node() -> None:
    found = values(NODE, 1)
    assert (found["training.trainer_type"], found["training.amp_dtype"]) == ("mixed_precision", "bfloat16")
    settings = "reproducibility.tf32=true data.num_workers=8"
    assert found["command"] == f"ml-train --config FILE --trainer mixed_precision {settings}"


def test_a_laptop_with_mps() -> None:
    found = values(LAPTOP)
    assert (found["--num_processes"], found["training.trainer_type"]) == (1, "standard")
    assert (found["reproducibility.tf32"], found["data.num_workers"]) == (None, 8)
    assert found["command"] == "ml-train --config FILE data.num_workers=8"
    assert told(LAPTOP) == []


def test_a_gpu_from_before_bf16() -> None:
    assert values(PASCAL)["training.trainer_type"] == "standard"
    assert values(PASCAL)["reproducibility.tf32"] is None
    turing = replace(PASCAL, devices=(replace(PASCAL.devices[0], name="T4", capability=(7, 5), fp16=True),))
    found = values(turing)
    assert (found["training.trainer_type"], found["training.amp_dtype"]) == ("mixed_precision", "float16")
    settings = "training.amp_dtype=float16 data.num_workers=4"
    assert found["command"] == f"ml-train --config FILE --trainer mixed_precision {settings}"
    assert told(PASCAL) == []


def test_a_container_of_one_core() -> None:
    found = values(CONTAINER)
    assert (found["data.num_workers"], found["reproducibility.num_threads"]) == (0, 1)
    assert found["command"] == "ml-train --config FILE reproducibility.num_threads=1 data.num_workers=0"
    what = told(CONTAINER)
    assert what == [
        "this processor emulates bfloat16: passes in it would be slower than in float32",
        "this process may use 1 GiB of memory",
        "a process may hold 256 files open, and loader workers take many",
    ]
    assert find_flaws(CONTAINER, 1)[2].fix == "Run ulimit -n 4096 before training."


def test_cpus_with_bf16_and_two_processes() -> None:
    machine = replace(NODE, devices=(), nvidia=Nvidia(), torch=CPU)
    assert values(machine)["training.trainer_type"] == "mixed_precision"
    found = values(machine, 2)
    assert (found["training.trainer_type"], found["reproducibility.num_threads"]) == ("accelerate", 104)


def test_a_trainer_that_is_chosen_for_what_it_promises_stays() -> None:
    advice = advise(NODE, 8, trainer="dp")
    assert [each.key for each in advice] == ["--num_processes", "training.trainer_type", "data.num_workers"]
    configured = {"training.trainer_type": "dp", "training.amp_dtype": "bfloat16", "data.num_workers": "8"}
    assert command_line(advice, "a b.yaml", configured=configured) == "ml-train --num_processes 8 --config 'a b.yaml'"


def test_the_command_keeps_what_was_set_by_hand_unless_something_else_is_advised() -> None:
    configured = {"training.trainer_type": "accelerate", "reproducibility.tf32": "null", "data.num_workers": "0"}
    given = {"training.trainer_type": "accelerate", "data.num_workers": 0, "early_stopping.enabled": True}
    command = command_line(advise(LAPTOP, 1), "x.yaml", configured=configured, overrides=given)
    assert command == "ml-train --config x.yaml --trainer standard data.num_workers=8 early_stopping.enabled=true"


@given(
    cores=st.integers(1, 512),
    processes=st.integers(1, 64),
    free=st.one_of(st.none(), st.integers(0, 2**40)),
    batch=st.integers(1, 2**34),
)
def test_any_machine_is_answered_and_workers_fit(cores: int, processes: int, free: int | None, batch: int) -> None:
    shared = None if free is None else SharedMemory("/dev/shm", free, free)
    machine = replace(NODE, processor=replace(NODE.processor, usable=cores), shared_memory=shared)
    workers = {advice.key: advice.value for advice in advise(machine, processes, batch_bytes=batch)}["data.num_workers"]
    assert isinstance(workers, int)
    assert 0 <= workers <= min(8, cores // processes)
    if free is not None:
        assert 2 * processes * workers * batch <= free / 2
    assert all(flaw.what and flaw.fix for flaw in find_flaws(machine, processes, batch_bytes=batch))


# ---- what is wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "what"),
    [
        (WRONG_BUILD, "there are 2 NVIDIA GPUs, but this torch (2.13.0+cpu) is built without CUDA"),
        (
            replace(WRONG_BUILD, torch=CUDA, nvidia=Nvidia(1, "550.54.15")),
            "there is 1 NVIDIA GPU, but the driver (550.54.15) is too old for CUDA 13.0, which needs 580",
        ),
        (replace(WRONG_BUILD, torch=CUDA, nvidia=Nvidia(1)), "there is 1 NVIDIA GPU, but no driver is loaded"),
        (
            replace(WRONG_BUILD, torch=CUDA, host=replace(HOST, visible_devices="-1")),
            "there are 2 NVIDIA GPUs, but CUDA_VISIBLE_DEVICES='-1' hides them",
        ),
        (
            replace(WRONG_BUILD, torch=replace(CUDA, problem="CUDA unknown error")),
            "there are 2 NVIDIA GPUs, but torch cannot use them: CUDA unknown error",
        ),
        (
            replace(PASCAL, devices=(replace(PASCAL.devices[0], supported=False),)),
            "this torch has no code for cuda:0 (GTX 1080), of compute capability 6.1",
        ),
        (
            replace(NODE, devices=(cuda(0, free_memory=3 * GIB),)),
            "cuda:0 (H100) has 3 GiB of 80 GiB free: others use it",
        ),
        (
            replace(NODE, devices=(cuda(0), cuda(1, "A100"))),
            "the GPUs differ (A100, H100): in step with each other all go at the pace of the slowest",
        ),
        (
            replace(NODE, shared_memory=CONTAINER.shared_memory),
            "/dev/shm has 64 MiB free; 8 loader workers for each of 1 process, with batches of 32 images of "
            "224 x 224, take 1.1 GiB: 0 would be used",
        ),
        (
            replace(NODE, disks=(Disk("run.dir", "/r", 100 * GIB, 4 * GIB, True),)),
            "run.dir (/r) is nearly full: 4 GiB of 100 GiB free",
        ),
        (
            replace(NODE, host=replace(HOST, compiler=None)),
            "no C++ compiler is found, which torch.compile needs",
        ),
        (
            replace(NODE, packages=(Package("torchvision", "0.1", purpose="timm", problem="cannot be imported (x)"),)),
            "torchvision cannot be imported (x); it is used by timm",
        ),
        (
            replace(NODE, packages=(Package("numpy", "1.9", ">=2.0", problem="is 1.9, and mltrain needs >=2.0"),)),
            "numpy is 1.9, and mltrain needs >=2.0",
        ),
    ],
)  # fmt: skip
def test_what_is_told(machine: Machine, what: str) -> None:
    found = find_flaws(machine, 1)
    assert what in [flaw.what for flaw in found]
    assert not any(flaw.fatal for flaw in found)


@pytest.mark.parametrize(
    ("machine", "processes", "what"),
    [
        (replace(CONTAINER, torch=TorchBuild(problem="Error: x")), 2, "torch cannot be imported (Error: x)"),
        (replace(NODE, packages=(Package("numpy", None, ">=2.0", problem="is not installed"),)), 1, "numpy is not"),
        (replace(NODE, disks=(Disk("run.dir", "/r", 9 * GIB, GIB, False),)), 1, "run.dir (/r) cannot be written to"),
        (replace(NODE, disks=(Disk("run.dir", "/r", 9 * GIB, 0, True),)), 1, "run.dir (/r) is full: 0 B free"),
        (NODE, 9, "9 processes need 9 GPUs, and there are 8"),
        (replace(LAPTOP, torch=replace(CPU, backends=()), devices=()), 2, "this torch has no gloo"),
    ],
)  # fmt: skip
def test_what_makes_training_impossible(machine: Machine, processes: int, what: str) -> None:
    first = find_flaws(machine, processes)[0]
    assert first.fatal
    assert first.what.startswith(what)
    assert not judge(machine, processes).can_train


def test_a_full_cache_stops_nothing() -> None:
    (flaw,) = find_flaws(replace(NODE, disks=(Disk("cache", "/c", 9 * GIB, 0, True),)), 1)
    assert not flaw.fatal


# ---- a configuration -----------------------------------------------------------------------------------------------


def diagnosed(vectors: dict[str, Any], machine: Machine, processes: int | None = None, **overrides: Any) -> Diagnosis:
    report = examine_config(vectors, overrides, processes or 1, by_hand="overrides")
    return judge(machine, processes, report, overrides=overrides)


def test_what_a_configuration_would_use(vectors: dict[str, Any]) -> None:
    found = diagnosed(vectors, LAPTOP, **{"training.device": "cpu", "data.num_workers": 2})
    assert found.can_train
    assert found.config is not None
    assert found.config.uses == {
        "trainer": "standard", "precision": "float32", "processes": 1, "window_size": 8, "device": "cpu",
        "training_samples": 50, "batch_bytes": 8 * (8 * 4 + 8), "num_workers": 2, "prefetch_factor": 2,
        "pin_memory": False, "parameters": 178, "trained_parameters": 178, "training_bytes": 4 * 4 * 178,
        "checkpoint_bytes": 3 * 4 * 178, "checkpoints_kept": 4,
    }  # fmt: skip
    settings = "training.device=cpu data.num_workers=8 reproducibility.num_threads=8"
    assert found.command == f"ml-train --config FILE --trainer mixed_precision {settings}"


@pytest.mark.parametrize(
    ("trainer", "launched", "precision"),
    [
        ("standard", "bf16", "float32"),
        ("mixed_precision", None, "bfloat16"),
        ("accelerate", None, "float32"),
        ("accelerate", "bf16", "bfloat16"),
    ],
)
def test_slow_bf16_is_told_to_those_who_would_use_it(
    vectors: dict[str, Any], monkeypatch: pytest.MonkeyPatch, trainer: str, launched: str | None, precision: str
) -> None:
    if launched is not None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    found = diagnosed(vectors, CONTAINER, **{"training.device": "cpu", "training.trainer_type": trainer})
    assert found.config is not None
    assert found.config.uses["precision"] == precision
    assert any("bfloat16" in flaw.what for flaw in found.flaws) == (precision == "bfloat16")


def test_the_command_sets_what_is_recommended_and_the_configuration_does_not(vectors: dict[str, Any]) -> None:
    found = diagnosed(vectors, CONTAINER, **{"training.device": "cpu", "reproducibility.num_threads": 1})
    words = found.command.split()
    for advice in found.advice:
        if "." in advice.key and advice.key != "training.trainer_type" and advice.value is not None:
            is_set = f"{advice.key}={advice.value}" in words
            is_configured = found.config is not None and found.config.configured[advice.key] == str(advice.value)
            assert is_set or is_configured, advice.key
    assert "reproducibility.num_threads=1" in words


@pytest.mark.parametrize(
    ("overrides", "processes", "lines"),
    [
        ({"training.batchsize": 4}, 1, ["training.batchsize"]),
        ({"training.device": "xpu:3"}, 1, ["training.device: 'xpu:3' was asked for"]),
        ({}, 2, ["training.trainer_type: standard trains in one process, but 2 were launched"]),
        (
            {"training.trainer_type": "mixed_precision", "training.amp_dtype": "float16", "training.device": "cpu",
             "checkpointing.monitor": "val_accuracey", "checkpointing.mode": "max"},
            1,
            ["training.amp_dtype: float16 needs a GPU", "checkpointing.monitor: no metric 'val_accuracey'"],
        ),
        ({"task": "nothing_such"}, 1, ["task: "]),
    ],
)  # fmt: skip
def test_what_a_check_refuses_is_fatal(
    vectors: dict[str, Any], overrides: dict[str, Any], processes: int, lines: list[str]
) -> None:
    found = diagnosed(vectors, LAPTOP, processes, **overrides)
    assert not found.can_train
    fatal = [flaw.what for flaw in found.flaws if flaw.fatal]
    assert len(fatal) == len(lines)
    assert all(line in what for line, what in zip(lines, fatal, strict=True)), fatal
    json.dumps(found.as_json())


def test_a_model_that_is_too_large_for_memory_and_disk(vectors: dict[str, Any]) -> None:
    machine = replace(CONTAINER, memory=Memory(2048, 2048), disks=(Disk("run.dir", "/r", GIB, 8000, True),))
    what = [flaw.what for flaw in diagnosed(vectors, machine, **{"training.device": "cpu"}).flaws]
    assert "weights, gradients and the optimizer's state take 2.8 KiB, and this machine's memory has 2 KiB" in what
    assert "4 checkpoints take 8.3 KiB, and run.dir has 7.8 KiB free" in what


def test_this_machine(vectors: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTRAIN_CACHE", str(tmp_path / "cache"))
    found = doctor.diagnose({**vectors, "run": {"dir": str(tmp_path / "runs")}}, num_processes=1)
    assert found.can_train, found.flaws
    facts = json.loads(json.dumps(found.as_json()))["facts"]
    assert {disk["purpose"]: disk["path"] for disk in facts["disks"]}["run.dir"] == str(tmp_path / "runs")
    assert facts["torch"]["version"]
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "cache").exists()
