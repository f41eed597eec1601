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
        ({"num_processes": "0"}, "--num_processes: is 0"),
        ({"num_processes": "3", "num_machines": 2}, "--num_processes: 3 processes cannot be shared evenly"),
        ({"num_processes": "2", "machine_rank": 1}, "--machine_rank: is 1, of 1 machines"),
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


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: [", "cannot be used"),
        ("num_processes: 2", "cannot be used \\(ValueError: A `distributed_type`"),
        ("{distributed_type: FSDP, nonsense: 1}", "cannot be used \\(ValueError: .*nonsense"),
        ("{distributed_type: XLA, num_processes: 8}", "XLA is not launched by torch's processes"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "it.yaml").write_text(text)
    with pytest.raises(ConfigError, match=what) as raised:
        plan_launch({"accelerate_config": str(tmp_path / "it.yaml")})
    assert "\n" not in str(raised.value)
