"""What may be asked of a launch, and what Accelerate's files say to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mltrain.core.errors import ConfigError
from mltrain.workflows.launch_plan import plan_launch

FSDP = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
num_machines: 1
num_processes: 2
mixed_precision: bf16
use_cpu: true
fsdp_config: {fsdp_version: 2, fsdp_auto_wrap_policy: NO_WRAP}
"""


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def test_one_process_needs_no_launcher() -> None:
    assert plan_launch({"num_processes": None, "max_restarts": None}) is None
    assert plan_launch({"num_processes": "1"}) is None


def test_processes_are_those_of_all_machines() -> None:
    several = {"num_machines": 2, "machine_rank": 1, "main_process_ip": "10.0.0.1", "main_process_port": 29500}
    plan = plan_launch({"num_processes": "8", **several})
    assert plan is not None
    assert (plan.num_processes, plan.local_processes, plan.machine_rank) == (8, 4, 1)


@pytest.mark.parametrize(("devices", "count"), [(0, 1), (3, 3)])
def test_auto_is_the_number_of_gpus(monkeypatch: pytest.MonkeyPatch, devices: int, count: int) -> None:
    monkeypatch.setattr("torch.accelerator.device_count", lambda: devices)
    plan = plan_launch({"num_processes": "auto"})
    assert (1 if plan is None else plan.num_processes) == count


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"num_processes": "two"}, "--num_processes: is 'two'"),
        ({"num_processes": "2.5"}, "--num_processes: is '2.5'. Give a whole number, or auto."),
        ({"num_processes": "0"}, "--num_processes: is 0"),
        ({"num_processes": "-1"}, "--num_processes: is -1. Use 1 or more."),
        ({"num_processes": "auto", "num_machines": 0}, "--num_machines: is 0"),
        ({"num_processes": "3", "num_machines": 2}, "--num_processes: 3 processes cannot be shared evenly"),
        ({"num_machines": 2}, "--num_processes: 1 process cannot be shared evenly"),
        ({"machine_rank": 1}, "--machine_rank: is 1, but --num_machines is 1. Give --num_machines as well"),
        ({"machine_rank": -1}, "--machine_rank: is -1. Use 0 or more."),
        (
            {"num_machines": 2, "machine_rank": 2},
            "--machine_rank: is 2, of 2 machines. Number them from 0 to 1.",
        ),
        ({"num_processes": "2", "num_machines": 2}, "--main_process_ip: is missing"),
        ({"num_processes": "2", "num_machines": 2, "main_process_ip": "h"}, "--main_process_port: is missing"),
        ({"num_processes": "2", "main_process_port": 70000}, "--main_process_port: is 70000"),
        ({"num_processes": "2", "max_restarts": -1}, "--max_restarts: is -1"),
        ({"num_processes": "2", "rendezvous_timeout_s": 0.0}, "--rendezvous_timeout: is 0"),
        ({"max_restarts": 2}, "--max_restarts: starts the processes of a launch again"),
        ({"accelerate_config": "nowhere.yaml"}, "--accelerate_config nowhere.yaml: is no file"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(given: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}"):
        plan_launch(given)


def test_a_process_of_a_launcher_launches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="a launcher has started this process already, as one of 4"):
        plan_launch({"num_processes": "2"})


def test_accelerates_file_speaks_to_the_ranks_and_flags_beat_it(tmp_path: Path) -> None:
    file = tmp_path / "fsdp.yaml"
    file.write_text(FSDP)
    plan = plan_launch({"accelerate_config": str(file), "num_processes": "4", "max_restarts": 1})
    assert plan is not None
    assert (plan.num_processes, plan.num_machines, plan.max_restarts) == (4, 1, 1)
    told = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "ACCELERATE_MIXED_PRECISION": "bf16"}
    assert told.items() <= plan.environment.items()
    assert plan.environment["ACCELERATE_USE_CPU"] == "true"
    assert plan.words == ("training.device=cpu",)
    assert not {"OMP_NUM_THREADS", "PATH"} & plan.environment.keys()


CPU = "distributed_type: MULTI_CPU\n"
BAD = {
    "": "{file}: must hold keys and values. Start from a file of accelerate_configs/.",
    "- a\n- b\n": "{file}: must hold keys and values.",
    "a: [": "{file}:1: not valid YAML",
    b"a: 1\nb: \xff": "{file}:2: is not a UTF-8 text.",
    "num_processes: 2": "{file}: distributed_type is missing.",
    "distributed_type: NO": "{file}:1, distributed_type: is read as false. Put the word in quotes.",
    "distributed_type: MULTI_CUP": "{file}:1, distributed_type: is 'MULTI_CUP'. Did you mean MULTI_CPU?",
    "distributed_type: XLA": "{file}:1, distributed_type: XLA is not launched by torch's processes.",
    "compute_environment: AMAZON_SAGEMAKER\ndistributed_type: DATA_PARALLEL\nregion: r\n": (
        "{file}:1, compute_environment: is AMAZON_SAGEMAKER, and mltrain launches the processes of this machine only."
    ),
    f"{CPU}num_process: 1": "{file}:2, num_process: Accelerate knows no such key. Did you mean num_processes?",
    f"{CPU}num_processes: two": "{file}:2, num_processes: must be a whole number, is 'two'. Mend it there.",
    f"{CPU}num_processes: -3": "{file}:2, num_processes: is -3. Use 1 or more.",
    f"{CPU}num_processes: true": "{file}:2, num_processes: must be a whole number, is True.",
    f"{CPU}machine_rank: 1": "{file}:2, machine_rank: is 1, but --num_machines is 1.",
    f"{CPU}main_process_port: x": "{file}:2, main_process_port: must be a whole number, is 'x'.",
    f"{CPU}num_processes: 3\nnum_machines: 2": "{file}:2, num_processes: 3 processes cannot be shared evenly",
    f"{CPU}mixed_precision: no": "{file}:2, mixed_precision: is read as false. Put the word in quotes.",
    f"{CPU}mixed_precision: bf17": "{file}:2, mixed_precision: is 'bf17'. Known: 'no', 'fp8', 'fp16', 'bf16'.",
    f"{CPU}fsdp_config: [1]": "{file}:2, fsdp_config: must be keys and values, is [1].",
    "distributed_type: FSDP\nfsdp_config: {fsdp_version: two}": (
        "{file}:2, fsdp_config.fsdp_version: must be a whole number, is 'two'."
    ),
    "distributed_type: FSDP\nfsdp_config:\n  fsdp_versoin: 2": (
        "{file}:3, fsdp_config.fsdp_versoin: Accelerate knows no such key. Did you mean fsdp_version?"
    ),
}


@pytest.mark.parametrize(("content", "line"), BAD.items())
def test_a_file_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, content: str | bytes, line: str) -> None:
    file = tmp_path / "it.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as raised:
        plan_launch({"accelerate_config": str(file)})
    assert str(raised.value).startswith(line.format(file=file))
    assert len(raised.value.problems) == 1
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [("{", "{file}:1: not valid JSON"), ("[1]", "{file}: must"), (b"\xff", "{file}: cannot be read")],
)
def test_a_file_of_json_too(tmp_path: Path, content: str | bytes, line: str) -> None:
    file = tmp_path / "it.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as raised:
        plan_launch({"accelerate_config": str(file)})
    assert str(raised.value).startswith(line.replace("{file}", str(file)))
    file.write_text('{"distributed_type": "MULTI_CPU", "num_processes": 3}')
    plan = plan_launch({"accelerate_config": str(file)})
    assert plan is not None
    assert plan.num_processes == 3


def test_a_flag_that_beats_the_file_is_blamed_itself(tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text(f"{CPU}num_processes: 2")
    with pytest.raises(ConfigError, match=r"^--num_processes: is -1"):
        plan_launch({"accelerate_config": str(tmp_path / "it.yaml"), "num_processes": "-1"})
