from pathlib import Path

import pytest

from mltrain.core.masking import masked
from mltrain.core.run_folder import create_run_folder
from mltrain.tracking.mlflow_address import read_address, sqlite_path, store_uri, write_address


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return create_run_folder(tmp_path / "project" / "runs", "run", numbered=False)


def test_the_default_is_a_file_in_the_working_folder(folder):
    assert store_uri(folder, None) == f"sqlite:///{Path.cwd()}/mlflow.db"


def test_setting_beats_environment_beats_record_beats_default(folder, monkeypatch, tmp_path):
    earlier = tmp_path / "earlier.db"
    earlier.touch()
    write_address(folder, uri=f"sqlite:///{earlier}", experiment_id="1", run_id="a")
    assert store_uri(folder, None) == f"sqlite:///{earlier}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert store_uri(folder, None) == "http://environment"
    assert store_uri(folder, "http://setting") == "http://setting"


def test_a_recorded_file_that_is_gone_is_not_made_again(folder, tmp_path):
    write_address(folder, uri=f"sqlite:///{tmp_path}/gone.db", experiment_id="1", run_id="a")
    assert store_uri(folder, None) == f"sqlite:///{Path.cwd()}/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "file"),
    [("sqlite:///own.db", "own.db"), ("sqlite:///a/own.db?timeout=30", "a/own.db"), ("sqlite:///./own.db", "own.db")],
)
def test_a_relative_file_is_made_absolute(folder, uri, file):
    absolute = store_uri(folder, uri)
    assert sqlite_path(absolute) == Path.cwd() / file
    assert absolute.partition("?")[2] == uri.partition("?")[2]


@pytest.mark.parametrize("name", ["a b", "100%20", "what?", "hash#at@plus+", "ü"])
def test_any_folder_name_survives(folder, monkeypatch, name):
    Path(name).mkdir()
    monkeypatch.chdir(name)
    assert sqlite_path(store_uri(folder, None)) == Path.cwd() / "mlflow.db"
    assert sqlite_path(store_uri(folder, "sqlite:///x.db")) == Path.cwd() / "x.db"


def test_other_stores_are_no_files():
    assert sqlite_path("http://host:5000") is None
    assert sqlite_path("postgresql://me@host/db") is None
    assert sqlite_path("sqlite:///:memory:") is None


def test_no_password_is_kept(folder, monkeypatch):
    uri = "postgresql://me:secret@host:5432/db"
    assert masked(uri) == "postgresql://me:***@host:5432/db"
    assert masked("http://host:5000/a:b@c") == "http://host:5000/a:b@c"
    write_address(folder, uri=uri, experiment_id="1", run_id="a")
    assert "secret" not in (folder.tracking / "mlflow.json").read_text()
    assert store_uri(folder, None).startswith("sqlite:")


def test_a_damaged_record_is_no_record(folder):
    assert read_address(folder) == {}
    (folder.tracking / "mlflow.json").write_text('{"run_id"')
    assert read_address(folder) == {}
