"""What each process computes on stands in metadata.json; a line says where they differ in what bears on the bits."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import VECTORS_PLUGIN
from rank_environment import rank_environments
from warm_commands import WarmCommand

from mltrain.core.hardware import describe_hardware
from mltrain.workflows.rank_facts import differences_between_ranks, rank_list

PLUGIN = """
import os

import torch

if os.environ.get("RANK") == "1":
    torch.set_num_threads(2)
"""


def test_two_processes_say_what_they_are(vectors: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "threads.py").write_text(PLUGIN)
    content = {**vectors, "plugins": [str(VECTORS_PLUGIN), "threads.py"], "reproducibility": {}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    words = ["mltrain", "--config", "config.yaml", "--trainer", "accelerate", "--run_name", "two"]
    words += ["training.num_epochs=1", "training.batch_size=4"]
    commands = [
        WarmCommand(words, tmp_path, {**variables, "OMP_NUM_THREADS": "1"}) for variables in rank_environments(2)
    ]
    results = [command.end() for command in commands]
    assert [result.returncode for result in results] == [0, 0], results

    metadata = json.loads((tmp_path / "runs/two/metadata.json").read_text())
    (segment,) = metadata["segments"]
    first, second = segment["ranks"]
    assert metadata["hardware"] == segment["hardware"] == first["hardware"]
    assert first["hardware"].keys() == describe_hardware(torch.device("cpu")).keys()
    for rank, facts in enumerate((first, second)):
        assert (facts["rank"], facts["local_rank"]) == (rank, rank)
        assert (facts["host"], facts["backend"], facts["torch"]) == (socket.gethostname(), "gloo", torch.__version__)
        assert facts["hardware"].pop("device").startswith("cpu")
    threads = first["hardware"]["threads"]
    assert second["hardware"] == first["hardware"] | {"threads": 2}
    told = "The processes are on 1 machine(s) and exchange tensors by gloo. The weights are whole on each."
    assert results[0].stderr.count(told) == 1
    told = f"bears on the bits of the result: threads: {threads} (rank 0), 2 (rank 1)."
    assert results[0].stderr.count(told) == (threads != 2)


def test_one_process_says_the_same_of_itself(train_vectors: Any) -> None:
    result = train_vectors({"training.num_epochs": 1})
    continued = train_vectors({"training.num_epochs": 2}, config=None, resume=result.folder)
    segments = json.loads((continued.folder / "metadata.json").read_text())["segments"]
    hardware = json.loads(json.dumps(describe_hardware(torch.device("cpu"))))
    alone = {"rank": 0, "local_rank": 0, "host": socket.gethostname(), "backend": None, "torch": torch.__version__}
    for segment in segments:
        assert segment["ranks"] == [{**alone, "hardware": hardware | {"threads": 1}}]
    assert len(segments) == 2
    assert "bears on the bits" not in (continued.folder / "logs/train.log").read_text()


def facts_of(rank: int, **hardware: Any) -> dict[str, Any]:
    common = {"device": f"cuda:{rank % 4}", "gpu": "A100", "threads": 8, "cores": 8, "instruction_set": "AVX512"}
    return {"rank": rank, "host": f"node{rank // 4}", "torch": "2.13.0", "hardware": common | hardware}


def test_what_differs_names_the_ranks() -> None:
    ranks = [facts_of(rank) for rank in range(8)]
    assert differences_between_ranks(ranks) == []
    ranks[5] = {**facts_of(5, threads=4, cores=2), "torch": "2.12.0"}
    ranks[7] = facts_of(7, gpu="H100", threads=4)
    assert differences_between_ranks(ranks) == [
        "gpu: A100 (ranks 0-6), H100 (rank 7)",
        "threads: 8 (ranks 0-4, 6), 4 (ranks 5, 7)",
        "torch: 2.13.0 (ranks 0-4, 6-7), 2.12.0 (rank 5)",
    ]
    assert differences_between_ranks([facts_of(0), facts_of(1, device="cpu")]) == [
        "device: cuda (rank 0), cpu (rank 1)"
    ]


@pytest.mark.parametrize(
    ("ranks", "text"),
    [([3], "rank 3"), ([0, 1, 2], "ranks 0-2"), ([0, 2], "ranks 0, 2"), ([0, 1, 5, 7, 8], "ranks 0-1, 5, 7-8")],
)
def test_ranks_as_people_write_them(ranks: list[int], text: str) -> None:
    assert rank_list(ranks) == text
