"""Runs that move between numbers of processes in mid-epoch end as those that stay, with the same windows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from double_runs import WINDOW, assert_equal_runs, begin, continued
from private_runs import private_config
from rank_environment import rank_environments
from runs import history
from warm_commands import WarmCommand

from mltrain.core.files import read_json
from mltrain.privacy.ledger import Ledger

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).parent.parent / "support"
TENTH = {"data.train_size": 53, "training.num_epochs": 10}


@pytest.mark.parametrize(
    ("task", "first", "others"),
    [
        ("weighted_double_vectors", (2, 3, 2), [1, 2]),
        ("weighted_double_vectors", (2, 3, 2), [3, 4, 1]),
        ("paired_double_vectors", (1, WINDOW, 1), [2, 3, 1]),
        ("paired_double_vectors", (3, 2, 2), [1, 2]),
    ],
    ids=str,
)
def test_moving_changes_nothing(
    vectors: dict[str, Any], tmp_path: Path, task: str, first: tuple[int, int, int], others: list[int]
) -> None:
    settings = {**TENTH, "task": task}
    straight = begin(vectors, tmp_path, "straight", (1, WINDOW, 1), settings)
    stops = [7, 13, 29][: len(others)]
    run = begin(vectors, tmp_path, "moved", first, settings, stop_at=stops[0])
    for processes, stop_at in zip(others, [*stops[1:], None], strict=True):
        continued(run, processes, stop_at=stop_at)
    assert_equal_runs(straight, run, samples=53, steps=50)
    own = yaml.safe_load((run / "config.yaml").read_text())["training"]
    assert (own["batch_size"], own["gradient_accumulation_steps"]) == first[1:]
    assert [len(segment["ranks"]) for segment in read_json(run / "metadata.json")["segments"]] == [first[0], *others]


def test_groups_are_not_separated(vectors: dict[str, Any], tmp_path: Path) -> None:
    """Windows of six pairs: four processes would cut one in two."""
    settings = {**TENTH, "task": "paired_double_vectors"}
    run = begin(vectors, tmp_path, "it", (1, WINDOW, 1), settings, stop_at=7)
    first, *rest = train(["--resume", str(run)], tmp_path, 4)
    assert [result.returncode for result in (first, *rest)] == [2] * 4
    (line,) = [line for line in first.stderr.splitlines() if line.startswith("error:")]
    assert "windows of 12 samples in groups of 2 cannot be shared evenly by 4 processes" in line
    assert line.endswith("Continue it with 1, 2, 3 or 6 processes.")


def test_the_same_command_continues_on_what_there_is(vectors: dict[str, Any], tmp_path: Path) -> None:
    """As a queue starts it: with the same words each time. A finished run is left alone, whatever the number."""
    config = tmp_path / "config.yaml"
    plugins = [str(SUPPORT / name) for name in ("vectors_task.py", "acting_task.py")]
    config.write_text(yaml.safe_dump({**vectors, "plugins": plugins, "callbacks": {"acting": {}}}))
    words = ["--config", str(config), "--trainer", "accelerate", "--batch_size", "8", "--run_name", "it"]
    words += ["--resume", "auto"]
    for processes, stop_at, code in ((1, 5, 143), (2, 10, 143), (4, None, 0), (2, None, 0)):
        results = train(words, tmp_path, processes, stop_at=stop_at)
        assert [result.returncode for result in results] == [code] * processes, results
    run = tmp_path / "runs" / "it"
    cuts = [segment.get("changes") for segment in read_json(run / "metadata.json")["segments"]]
    assert cuts == [None, {"training.batch_size": [8, 4]}, {"training.batch_size": [8, 2]}]
    straight = train([*words[:-4], "--run_name", "straight"], tmp_path, 1)
    assert straight[0].returncode == 0
    for mine, theirs in zip(history(run), history(tmp_path / "runs" / "straight"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_a_private_run_moves_and_spends_as_one_that_stays(vectors: dict[str, Any], tmp_path: Path) -> None:
    config = private_config(vectors, {"noise_multiplier": 1.0, "target_delta": 1e-3})
    config |= {"plugins": [*config["plugins"], str(SUPPORT / "acting_task.py")], "callbacks": {"acting": {}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    words = ["--config", "config.yaml", "--run_name", "it", "--resume", "auto"]
    for processes, stop_at, code in ((1, 5, 143), (2, 10, 143), (1, None, 0)):
        results = train(words, tmp_path, processes, stop_at=stop_at)
        assert [result.returncode for result in results] == [code] * processes, results
    straight = train(["--config", "config.yaml", "--run_name", "straight"], tmp_path, 1)
    assert straight[0].returncode == 0, straight
    run, stayed = tmp_path / "runs" / "it", tmp_path / "runs" / "straight"
    name = "privacy_ledger.jsonl"
    assert Ledger.mechanism_of(run / name) == Ledger.mechanism_of(stayed / name)
    spent, expected = (read_json(folder / "summary.json") for folder in (run, stayed))
    assert spent["steps"] == expected["steps"] == 21
    assert spent["privacy"]["epsilon"] == expected["privacy"]["epsilon"]
    ledger = [json.loads(line) for line in (run / name).read_text().splitlines()]
    assert [line["processes"] for line in ledger if "processes" in line] == [1, 2, 1]


def train(words: list[str], folder: Path, processes: int, *, stop_at: int | None = None) -> list[Any]:
    """Run the command in so many processes, the last of which gets SIGTERM after a step; returns how they ended."""
    acts = [{"place": "on_step_end", "at": stop_at, "rank": processes - 1, "do": ["SIGTERM"]}]
    environment = {"ACT": json.dumps([] if stop_at is None else acts)}
    ranks = rank_environments(processes)
    commands = [WarmCommand(["mltrain", *words], folder, {**environment, **variables}) for variables in ranks]
    return [command.end() for command in commands]
