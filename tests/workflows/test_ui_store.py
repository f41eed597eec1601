"""Which store `mltrain ui` shows; found without making one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mltrain.core.errors import ConfigError, RunFolderError
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.mlflow_address import write_address
from mltrain.workflows.ui_store import find_store


@pytest.fixture(autouse=True)
def _no_store_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def make_store(path: Path) -> str:
    """Make a database with the tables by which a store is known, and return its URI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE experiments (a)")
        database.execute("CREATE TABLE runs (a)")
    return f"sqlite:///{path.resolve()}"


def make_run(path: Path, *, sent_to: str | None = None, setting: str | None = None) -> Path:
    (path / "tracking").mkdir(parents=True)
    stated = "null" if setting is None else setting
    (path / "config.yaml").write_text(
        f"task: t\ntracking: {{mlflow: {{tracking_uri: '{stated}'}}}}\n".replace("'null'", "null")
    )
    if sent_to is not None:
        write_address(RunFolder(path), uri=sent_to, experiment_id="1", run_id="abc")
    return path


def test_without_a_target_it_is_the_store_of_the_working_folder() -> None:
    uri = make_store(Path("mlflow.db"))
    store = find_store(None, None)
    assert (store.uri, store.run) == (uri, None)


def test_without_a_target_the_environment_names_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(Path("mlflow.db"))
    uri = make_store(Path("other/x.db"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other/x.db")
    assert find_store(None, None).uri == uri


def test_no_store_yet_is_told_and_none_is_made() -> None:
    with pytest.raises(ConfigError, match=r"mlflow.db: no MLflow store here yet\. Train with"):
        find_store(None, None)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"SQLite", None])
def test_a_file_that_is_no_store_is_refused(content: bytes | None) -> None:
    if content is None:
        with closing(sqlite3.connect("mlflow.db")) as database:
            database.execute("CREATE TABLE experiments (a)")
    else:
        Path("mlflow.db").write_bytes(content)
    before = Path("mlflow.db").read_bytes()
    with pytest.raises(ConfigError, match=r"mlflow.db: is no MLflow store"):
        find_store(None, None)
    assert Path("mlflow.db").read_bytes() == before


def test_a_run_is_shown_in_the_store_it_was_sent_to(monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(Path("mlflow.db"))
    uri = make_store(Path("elsewhere/sent.db"))
    run = make_run(Path("runs/it"), sent_to=uri, setting="sqlite:///mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    store = find_store(run, None)
    assert store.uri == uri
    assert store.run is not None
    assert store.run.path == run.resolve()


def test_a_run_that_was_not_sent_is_looked_for_where_its_configuration_says() -> None:
    uri = make_store(Path("stated.db"))
    assert find_store(make_run(Path("runs/it"), setting="sqlite:///stated.db"), None).uri == uri


def test_a_run_of_a_project_that_was_moved_is_looked_for_here() -> None:
    uri = make_store(Path("mlflow.db"))
    run = make_run(Path("runs/it"), sent_to="sqlite:////gone/mlflow.db")
    assert find_store(run, None).uri == uri


def test_the_command_line_beats_the_run() -> None:
    make_store(Path("mlflow.db"))
    uri = make_store(Path("named.db"))
    run = make_run(Path("runs/it"), sent_to="sqlite:///mlflow.db")
    assert find_store(run, "sqlite:///named.db").uri == uri
    assert find_store(None, "sqlite:///named.db").uri == uri


@pytest.mark.parametrize("name", ["a project", "100%", "what?", "ünï"])
def test_a_folder_has_its_own_store_or_that_of_its_newest_run(name: str) -> None:
    uri = make_store(Path("sent.db"))
    make_run(Path(name) / "runs" / "it", sent_to=uri)
    assert find_store(Path(name) / "runs", None).uri == uri
    make_store(Path(name) / "mlflow.db")
    own = find_store(Path(name), None).uri
    from sqlalchemy.engine import make_url

    assert make_url(own).database == str((Path(name) / "mlflow.db").resolve())


@pytest.mark.parametrize(
    ("uri", "is_server"),
    [
        ("http://localhost:5000", True),
        ("https://mlflow.example/x", True),
        ("databricks", True),
        ("postgresql://me@host/db", False),
    ],
)
def test_a_store_elsewhere_is_taken_as_it_is(uri: str, is_server: bool) -> None:
    store = find_store(make_run(Path("runs/it"), sent_to=uri), None)
    assert (store.uri, store.is_server) == (uri, is_server)


def test_a_password_that_was_not_kept_is_asked_for() -> None:
    run = make_run(Path("runs/it"), sent_to="postgresql://me:secret@host/db")
    with pytest.raises(ConfigError, match=r"\*\*\*@host/db: the password of this store is not kept"):
        find_store(run, None)
    assert find_store(run, "postgresql://me:secret@host/db").uri == "postgresql://me:secret@host/db"


def test_a_folder_of_files_is_a_store_too() -> None:
    with pytest.raises(ConfigError, match="no MLflow store here yet"):
        find_store(None, "mlruns")
    Path("mlruns").mkdir()
    assert find_store(None, "./mlruns").uri == str(Path("mlruns").absolute())
    uri = Path("mlruns").absolute().as_uri()
    assert find_store(None, uri).uri == uri


def test_a_missing_folder_is_told() -> None:
    with pytest.raises(RunFolderError, match="nowhere: no such folder"):
        find_store(Path("nowhere"), None)
