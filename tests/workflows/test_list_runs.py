"""The rows of `mltrain list`, read from real and from damaged run folders."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mltrain.core.errors import RunFolderError
from mltrain.core.run_folder import RunFolder
from mltrain.workflows.list_runs import RunRow, list_runs


@pytest.fixture(scope="module")
def finished(train_vectors: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs."""
    parent = tmp_path_factory.mktemp("finished")
    return Path(train_vectors({"run.dir": str(parent), "run.name": "it"}).folder)


def copy_of(finished: Path, name: str, **summary: Any) -> Path:
    """Copy the run into runs/, its summary changed."""
    folder = Path("runs") / name
    shutil.copytree(finished, folder)
    content = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(content | summary))
    return folder


def rows(**arguments: Any) -> dict[str, RunRow]:
    return {row.path.name: row for row in list_runs(Path("runs"), **arguments)}


def test_a_finished_run_says_what_its_summary_says(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    (row,) = list_runs(finished)
    assert (row.path, row.status, row.trainer) == (finished, "completed", "standard")
    assert (row.epochs, row.num_epochs) == (3, 3)
    assert row.best is not None
    assert row.test is not None
    assert (row.best.metric, row.best.value, row.best.epoch) == (
        summary["best"]["metric"],
        summary["best"]["value"],
        summary["best"]["epoch"],
    )
    assert (row.test.metric, row.test.value) == ("accuracy", summary["test"]["accuracy"])


def test_the_claim_of_privacy_that_a_run_ended_with(finished: Path) -> None:
    claim = {"epsilon": 2.5, "delta": 1e-5, "accountant": "prv", "steps": 7, "void": None, "statement": "x"}
    copy_of(finished, "private", privacy=claim)
    copy_of(finished, "void", privacy={**claim, "epsilon": None, "void": "no noise"})
    copy_of(finished, "plain")
    assert {name: row.privacy for name, row in rows().items()} == {
        "private": {"epsilon": 2.5, "delta": 1e-5, "void": False, "at_most": False},
        "void": {"epsilon": None, "delta": 1e-5, "void": True, "at_most": False},
        "plain": None,
    }


@pytest.mark.parametrize("privacy", [[1], {"epsilon": "x"}, {"epsilon": 1.0}])
def test_a_claim_that_cannot_be_read_is_damage(finished: Path, privacy: Any) -> None:
    copy_of(finished, "it", privacy=privacy)
    assert rows()["it"].status == "damaged"


def test_a_run_that_says_running_is_killed_unless_a_process_holds_it(finished: Path) -> None:
    folder = copy_of(finished, "it", status="running", epochs=0)
    records = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    second_epoch = [index for index, line in enumerate(records) if '"train/loss"' in line][1]
    (folder / "metrics.jsonl").write_text("".join(records[: second_epoch + 1]) + '{"step": 9, "ep')
    assert (rows()["it"].status, rows()["it"].epochs) == ("killed", 2)
    program = f"""
from pathlib import Path
from mltrain.core.run_folder import RunFolder
with RunFolder(Path({str(folder)!r})).lock():
    print("held", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert rows()["it"].status == "running"
        holder.communicate("\n")
    assert rows()["it"].status == "killed"


def test_looking_makes_no_file_and_keeps_no_run_from_its_lock(finished: Path) -> None:
    folder = copy_of(finished, "it", status="running")
    (folder / ".lock").unlink(missing_ok=True)
    before = sorted(Path("runs").rglob("*"))
    rows()
    assert sorted(Path("runs").rglob("*")) == before
    with RunFolder(folder).lock():
        assert rows()["it"].status == "running"


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.yaml", None, "config.yaml is missing"),
        ("config.yaml", b"a: [", "config.yaml cannot be read"),
        ("config.yaml", b"\xff\xfe", "config.yaml cannot be read"),
        ("config.yaml", b"task: x\n", "'training' is missing"),
        ("summary.json", b"{", "summary.json cannot be read"),
        ("summary.json", b"[]", "summary.json cannot be read"),
        ("summary.json", b'{"status": "completed"}', "'epochs' is missing"),
        ("metadata.json", b"", "metadata.json cannot be read"),
    ],
)
def test_a_damaged_run_is_listed_with_what_is_wrong(
    finished: Path, file: str, content: bytes | None, reason: str
) -> None:
    folder = copy_of(finished, "it")
    copy_of(finished, "sound")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    found = rows()
    assert (found["it"].status, found["it"].reason) == ("damaged", reason)
    assert found["sound"].status == "completed"


def test_what_is_no_run_is_passed_over(finished: Path) -> None:
    copy_of(finished, "it")
    Path("runs/notes").mkdir()
    Path("runs/readme.txt").write_text("x")
    assert list(rows()) == ["it"]


def test_runs_are_sorted_filtered_and_limited(finished: Path) -> None:
    best = {"metric": "val/accuracy", "epoch": 1, "step": 1, "checkpoint": "c"}
    values = {"a": 0.5, "b": 0.9, "c": 0.7}
    for number, (name, value) in enumerate(values.items()):
        folder = copy_of(finished, name, best={**best, "value": value}, test={"accuracy": 1 - value})
        metadata = json.loads((folder / "metadata.json").read_text())
        metadata["created"] = f"2026-01-0{number + 1}T00:00:00+00:00"
        (folder / "metadata.json").write_text(json.dumps(metadata))
    copy_of(finished, "failed", status="failed", best=None, test={})
    loss = copy_of(finished, "loss", best={**best, "metric": "val/loss", "value": 0.1})
    copy_of(finished, "worse loss", best={**best, "metric": "val/loss", "value": 0.2})
    assert list(rows(sort="best")) == ["b", "c", "a", "loss", "worse loss", "failed"]
    assert [name for name in rows(sort="test") if name in values] == ["a", "c", "b"]
    assert [name for name in rows(sort="age") if name in values] == ["c", "b", "a"]
    assert list(rows(status="failed")) == ["failed"]
    assert list(rows(sort="best", limit=2)) == ["b", "c"]
    config = (loss / "config.yaml").read_text()
    (loss / "config.yaml").write_text(config.replace("mode: null", "mode: max"))
    assert rows()["loss"].best.less_is_better is False  # type: ignore[union-attr]


def test_a_missing_folder_is_told() -> None:
    with pytest.raises(RunFolderError, match="nowhere: no such folder"):
        list_runs(Path("nowhere"))
