"""What `mltrain doctor` prints, and its exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mltrain.cli.main import main
from mltrain.core.byte_text import byte_text
from mltrain.core.machine import SharedMemory
from mltrain.workflows import doctor


@pytest.fixture
def config(vectors: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(vectors))
    return path


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = main(["doctor", *map(str, words)])
    return code, capsys.readouterr().out


def test_this_machine_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = printed(capsys, "--device", "cpu", "--config", "missing.yaml")
    assert code == 2
    assert "missing.yaml" in text
    code, text = printed(capsys)
    assert code == 0
    titles = [line for line in text.splitlines() if line and not line.startswith(" ")]
    expected = ["Versions", "Devices", "This machine", "Recommended", "To train so"]
    assert [title for title in titles if title != "Warnings"] == expected
    names = [line.split()[0] for line in text.splitlines() if line.startswith("  ") and line[2] != " "]
    for name in ("mltrain", "torch", "cpu", "cores", "memory", "shared", "disks", "data.num_workers"):
        assert name in names
    assert text.splitlines()[-1].startswith("  ml-train ")
    assert list(Path().iterdir()) == []


def test_a_configuration_in_words(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", config, "--device", "cpu", "--num-processes", 2, "--trainer", "accelerate"]
    code, text = printed(capsys, *words, "training.batch_size=4")
    assert code == 0
    assert "  trainer          accelerate on cpu in float32, 2 processes\n" in text
    assert "  loading          by the training process, batches of 160 B, not pinned\n" in text
    assert "  step             8 samples of 50 training samples\n" in text
    assert "  model            178 parameters, 178 of them trained\n" in text
    command = f"ml-train --num_processes 2 --config {config} --trainer accelerate"
    assert f"{command} training.device=cpu training.batch_size=4" in text
    assert not Path("runs").exists()


def test_what_cannot_be_trained_gives_code_2_and_says_where(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = printed(capsys, "--config", config, "--num_processes", 2)
    assert code == 2
    assert "To mend before anything can be trained\n  error            " in text
    assert "training.trainer_type: standard trains in one process, but 2 were launched." in text


def test_one_object_of_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = printed(capsys, "--json", "--config", config, "--device", "cpu")
    found = json.loads(text)
    assert code == 0
    assert found["can_train"] is True
    assert found["config"]["parameters"] == 178
    recommended = {each["key"]: each for each in found["recommendations"]}
    assert recommended["data.num_workers"]["configured"] == "0"
    assert {"host", "processor", "memory", "disks", "torch", "devices", "packages"} <= found["facts"].keys()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--num_processes", "0"], "error: --num_processes: is 0. Use 1 or more.\n"),
        (["--lr", "1"], "error: command line: there is no configuration to override. Add --config FILE.\n"),
    ],
)
def test_a_call_that_cannot_be_answered(capsys: pytest.CaptureFixture[str], words: list[str], line: str) -> None:
    assert main(["doctor", *words]) == 2
    assert capsys.readouterr().err == line


def test_odd_machines_are_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", None)
    monkeypatch.setattr(doctor, "shared_memory", lambda: None)
    monkeypatch.setattr(doctor, "cache_folder", lambda: None)
    code, text = printed(capsys, "--config", config)
    assert code == 2
    assert "  torch            cannot be imported\n" in text
    assert "  shared memory    no such limit\n" in text
    assert "error            torch cannot be imported (ModuleNotFoundError: " in text


def test_a_tiny_shared_memory_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "shared_memory", lambda: SharedMemory("/dev/shm", 2**20, 2**20))
    monkeypatch.setattr("mltrain.workflows.machine_flaws.automatic_workers", lambda cores, local_processes: 2)
    code, text = printed(capsys)
    assert code == 0
    assert "/dev/shm has 1 MiB free; 2 loader workers for each of 1 process" in text
    assert "--shm-size=1g" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (2**10, "1 KiB"), (1.5 * 2**20, "1.5 MiB"), (80 * 2**30, "80 GiB")],
)
def test_sizes(count: float, text: str) -> None:
    assert byte_text(count) == text
