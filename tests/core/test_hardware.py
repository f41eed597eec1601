"""What the machine has, and the refusal of what it lacks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from mltrain.core import hardware
from mltrain.core.control_group import cpu_quota
from mltrain.core.errors import HardwareError
from mltrain.core.hardware import (
    check_device,
    describe_hardware,
    instruction_set,
    process_count,
    set_determinism,
    usable_cores,
    worker_count,
)


@pytest.mark.parametrize(
    ("cores", "processes", "workers"),
    [(1, 1, 0), (2, 1, 2), (4, 1, 4), (64, 1, 8), (64, 16, 4), (4, 4, 0), (4, 3, 0), (8, 0, 8)],
)
def test_auto_workers_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, workers: int
) -> None:
    monkeypatch.setattr(hardware, "usable_cores", lambda: cores)
    assert worker_count("auto", local_processes=processes) == workers


def test_a_number_of_workers_is_taken_as_it_is() -> None:
    assert [worker_count(number, local_processes=9) for number in (0, 3, 100)] == [0, 3, 100]


def test_cores_are_those_of_the_process() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert 1 <= usable_cores() <= len(allowed)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 1000", 16), ("4000 1000", 4), ("1500 1000", 1), ("500 1000", 1), ("99000 1000", 16), ("", 16)],
)
def test_cores_are_those_of_the_container(monkeypatch: pytest.MonkeyPatch, quota: str, cores: int) -> None:
    Path("sys/fs/cgroup").mkdir(parents=True)
    Path("sys/fs/cgroup/cpu.max").write_text(quota)
    monkeypatch.setattr(hardware, "cpu_quota", lambda: cpu_quota(Path()))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert usable_cores() == cores


def test_processes_of_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert process_count() == 1
    for value, count in {"4": 4, "": 1, "1": 1}.items():
        monkeypatch.setenv("WORLD_SIZE", value)
        assert process_count() == count
    for value in ("two", "0", "-1", "1.5"):
        monkeypatch.setenv("WORLD_SIZE", value)
        with pytest.raises(HardwareError, match=r"^WORLD_SIZE: .* is no number of processes"):
            process_count()


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many devices torch finds, by kind."""
    counts = {"cuda": 0, "xpu": 0, "mps": 0}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: counts["cuda"])
    monkeypatch.setattr(torch.xpu, "device_count", lambda: counts["xpu"])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(counts["mps"]))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: any(counts.values()))
    kind = lambda: torch.device(next(kind for kind, count in counts.items() if count))  # noqa: E731
    monkeypatch.setattr(torch.accelerator, "current_accelerator", kind)
    return counts


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1", "xpu", "mps", "tpu"])
def test_what_a_cpu_machine_lacks(devices: dict[str, int], name: str) -> None:
    with pytest.raises(HardwareError) as raised:
        check_device(name)
    kind = name.partition(":")[0].upper()
    assert str(raised.value) == (
        f"training.device: {name!r} was asked for, but this machine has no {kind} device that this torch can use. "
        "Use --device auto or --device cpu."
    )
    assert check_device("auto") == "cpu"
    assert check_device("cpu") == "cpu"


def test_what_a_machine_with_two_gpus_has(devices: dict[str, int]) -> None:
    devices["cuda"] = 2
    assert [check_device(name) for name in ("auto", "cuda", "cuda:0", "cuda:1", "cpu")] == [
        "cuda", "cuda", "cuda:0", "cuda:1", "cpu",
    ]  # fmt: skip
    with pytest.raises(HardwareError) as raised:
        check_device("cuda:2")
    assert "there are 2 such devices, numbered from 0. Use --device cuda:1 or less." in str(raised.value)


def test_other_accelerators(devices: dict[str, int]) -> None:
    devices["mps"] = 1
    assert [check_device(name) for name in ("auto", "mps")] == ["mps", "mps"]
    devices["mps"], devices["xpu"] = 0, 1
    assert [check_device(name) for name in ("auto", "xpu:0")] == ["xpu", "xpu:0"]


def test_switches_of_determinism(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    benchmark, cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    try:
        set_determinism(deterministic=True, benchmark=False, num_threads=2)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.utils.deterministic.fill_uninitialized_memory
        assert torch.get_num_threads() == 2
        set_determinism(deterministic=False, benchmark=True, num_threads=None)
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark
        assert torch.get_num_threads() == 2
        set_determinism(deterministic=False, benchmark=True, num_threads=None, tf32=True)
        assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == "tf32"
        set_determinism(deterministic=False, benchmark=True, num_threads=None, tf32=False)
        assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == "ieee"
    finally:
        torch.backends.cuda.matmul.fp32_precision = "none"
        torch.backends.cudnn.conv.fp32_precision = torch.backends.cudnn.rnn.fp32_precision = "tf32"
        set_determinism(deterministic=before, benchmark=benchmark, num_threads=threads)
        torch.backends.cudnn.deterministic = cudnn


def test_the_facts_are_json() -> None:
    facts = json.loads(json.dumps(describe_hardware(torch.device("cpu"))))
    assert facts["device"] == "cpu"
    assert facts["cores"] == usable_cores()
    assert facts["memory_gib"] > 0.1
    assert facts["instruction_set"] == instruction_set() != ""
    assert "gpu" not in facts
