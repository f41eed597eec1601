"""`mltrain rerun`: the same bits from a run folder, and what keeps a run from being compared."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs import history

from mltrain.cli.main import main
from mltrain.core.errors import ConfigError, DataError, RunFolderError
from mltrain.workflows.rerun import rerun


@pytest.fixture(scope="module")
def made(train_vectors: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    parent = tmp_path_factory.mktemp("made") / "runs"
    return Path(train_vectors({"run.dir": str(parent), "run.name": "it", "model.dropout": 0.3}).folder)


@pytest.fixture
def run(made: Path) -> Path:
    """A copy of it in runs/, as if it had been made here."""
    folder = Path("runs/it")
    shutil.copytree(made, folder)
    edit_config(folder, run={"dir": "runs", "name": "it", "tags": {"team": "red"}})
    return folder


def edit_config(folder: Path, **sections: dict[str, Any]) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for name, values in sections.items():
        config[name] |= values
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def edit_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_rerun_gives_the_same_bits_in_a_numbered_folder_beside(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    shutil.copytree(run, "runs/it_rerun")
    assert main(["rerun", str(run)]) == 0
    printed = capsys.readouterr()
    assert re.fullmatch(r"Same bits: the model \(\w{16}\.\.\.\) and \d+ values of \d+ metrics\.\n", printed.out)
    assert sorted(path.name for path in Path("runs").iterdir()) == ["it", "it_rerun", "it_rerun_2"]
    config = yaml.safe_load(Path("runs/it_rerun_2/config.yaml").read_text())
    assert config["run"] == {
        "dir": "runs",
        "name": "it_rerun_2",
        "description": "",
        "tags": {"team": "red", "rerun_of": "it"},
    }
    digests = {json.loads((folder / "summary.json").read_text())["model_digest"] for folder in Path("runs").iterdir()}
    assert len(digests) == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_another_result_names_the_first_value_and_exits_with_1(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_config(run, optimizer={"lr": 0.002})
    assert main(["rerun", str(run), "--run_name", "again"]) == 1
    assert re.fullmatch(r"Different: train/\w+ at step 2 was [\d.e-]+, is [\d.e-]+\.\n", capsys.readouterr().out)
    assert Path("runs/again/summary.json").is_file()


def test_threads_are_those_of_the_run_and_what_it_changed_without_effect_is_borne(run: Path) -> None:
    edit_config(run, reproducibility={"num_threads": None})
    hardware = json.loads((run / "metadata.json").read_text())["hardware"]
    harmless = {"data.num_workers": [0, 1], "tracking.mlflow.enabled": [True, False]}
    edit_json(run / "metadata.json", segments=[{"hardware": hardware, "changes": change} for change in ({}, harmless)])
    result = rerun(run)
    assert result.comparison is not None
    assert result.comparison.same
    config = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert config["reproducibility"]["num_threads"] == hardware["threads"]


def test_what_differs_is_told_before_it_trains(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = json.loads((run / "metadata.json").read_text())
    metadata["hardware"] |= {"instruction_set": "AVX9", "threads": 1}
    metadata["segments"][0]["hardware"] = metadata["hardware"]
    edit_json(run / "metadata.json", **metadata | {"git": {"commit": "0" * 40, "dirty": True}, "python": "3.1.4"})
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub("^  gamma: .*\n", "", config, flags=re.MULTILINE))
    text = (run / "requirements.txt").read_text()
    (run / "requirements.txt").write_text(re.sub("^torch==.*$", "torch==1.0", text, flags=re.MULTILINE) + "gone==1\n")
    assert main(["rerun", str(run)]) == 0
    told = capsys.readouterr().err
    for line in (
        "Differs: python was 3.1.4, here it is 3.",
        "Differs: the git commit was 000000000000, here it is ",
        "Differs: the run was made with changes that were not committed to git.",
        "lacks settings and gets the defaults of this one: scheduler.gamma.",
        "Differs: torch was 1.0, here it is ",
        "Differs: other packages have other versions, or are missing: gone.",
        "Differs: instruction_set was AVX9, here it is ",
    ):
        assert line in told
    assert "threads was" not in told


def test_other_data_is_refused_before_it_trains(run: Path) -> None:
    edit_config(run, data={"noise": 0.2})
    with pytest.raises(DataError, match=r"contents differ \(their digest was"):
        rerun(run)
    assert [path.name for path in Path("runs").iterdir()] == ["it"]


def test_a_run_resumed_with_other_settings_is_refused(run: Path) -> None:
    hardware = json.loads((run / "metadata.json").read_text())["hardware"]
    changes = ({}, {"tracking.log_every_n_steps": [2, 3]}, {"optimizer.lr": [0.1, 0.2]})
    edit_json(run / "metadata.json", segments=[{"hardware": hardware, "changes": change} for change in changes])
    with pytest.raises(ConfigError, match=r"resumed with other settings \(.*; optimizer.lr from 0.1 to 0.2\)"):
        rerun(run)


@pytest.mark.slow
def test_an_interrupted_run_is_compared_as_far_as_it_goes(
    train_vectors: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_vectors({"run.name": "it", "callbacks": {"stop_at": {"step": 10}}}).folder
    edit_config(folder, callbacks={"stop_at": {"step": 10_000}})
    assert main(["rerun", str(folder)]) == 0
    last = history(folder)[-1]["step"]
    assert f"up to step {last}. It has no final model to compare." in capsys.readouterr().out


def test_a_rerun_that_is_interrupted_compares_nothing(run: Path) -> None:
    edit_config(run, callbacks={"stop_at": {"step": 3}})
    result = rerun(run)
    assert (result.comparison, result.signal) == (None, 15)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda run: (run / "metadata.json").unlink(), "metadata.json: cannot be read"),
        (lambda run: (run / "metrics.jsonl").write_text(""), "this run has logged nothing to compare with"),
        (lambda run: (run / "summary.json").write_text("{"), "summary.json: cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_refused(run: Path, spoil: Any, told: str) -> None:
    spoil(run)
    with pytest.raises(RunFolderError, match=told):
        rerun(run)
    assert [path.name for path in Path("runs").iterdir()] == ["it"]


def test_another_number_of_processes_is_refused_with_the_command(run: Path) -> None:
    edit_json(run / "metadata.json", window_size=16)
    with pytest.raises(ConfigError, match="accelerate launch --num_processes 2 -m mltrain rerun runs/it"):
        rerun(run)


def test_from_another_folder_it_says_where_the_run_was_made(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Path.cwd()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert main(["rerun", "../runs/it"]) == 0
    told = capsys.readouterr().err
    assert f"the run was made in {home}; its relative paths are taken from here, {home / 'elsewhere'}" in told
    assert (home / "runs" / "it_rerun" / "summary.json").is_file()
