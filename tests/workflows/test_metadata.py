"""What a run was made with: command, commit, packages, time."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mltrain.core.version import __version__
from mltrain.workflows.metadata import command_line, git_facts, installed_packages, now, run_metadata


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, apart from any configuration of this machine."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "a.txt").write_text("1")
    git(folder, "init", "--quiet")
    git(folder, "add", "a.txt")
    git(folder, "-c", "user.name=n", "-c", "user.email=e@x", "commit", "--quiet", "--message", "one")
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", "-C", folder, *arguments], text=True).strip()


def test_the_commit_and_whether_files_differ_from_it(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert git_facts(repository) == {"commit": commit, "dirty": False}
    (repository / "new.txt").write_text("x")  # runs/ lies there as well
    assert git_facts(repository) == {"commit": commit, "dirty": False}
    (repository / "a.txt").write_text("2")
    assert git_facts(repository) == {"commit": commit, "dirty": True}
    (repository / "sub").mkdir()
    assert git_facts(repository / "sub") == {"commit": commit, "dirty": True}


def test_no_repository_no_commit_no_git(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_facts(tmp_path) is None
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "--quiet")
    assert git_facts(empty) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_facts(repository) is None


def test_the_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--config", "my file.yaml", "run.description=it's", "optimizer.betas=[0.9, 0.99]"]
    for program, start in {
        "/venv/bin/ml-train": ["ml-train"],
        "/lib/mltrain/__main__.py": ["python", "-m", "mltrain"],
        "": [""],
    }.items():
        monkeypatch.setattr(sys, "argv", [program, *words])
        assert shlex.split(command_line()) == [*start, *words]


def test_packages() -> None:
    packages = installed_packages()
    assert packages["mltrain"] == __version__
    assert {"torch", "accelerate", "numpy", "pyyaml"} <= set(packages)
    assert list(packages) == sorted(packages)
    assert all(name == name.lower() and version for name, version in packages.items())


@pytest.mark.parametrize("backport", [False, True])
def test_of_two_installations_the_one_that_is_imported_counts(
    backport: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Libraries such as MLflow import a backport that brings a finder of its own."""
    if backport:
        pytest.importorskip("importlib_metadata")
    for folder, version in (("first", "1.0"), ("second", "2.0")):
        info = tmp_path / folder / "some_package-x.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Some.Package\nVersion: {version}\n")
    for name in ("nameless-1.0", "empty-1.0"):
        (tmp_path / "first" / f"{name}.dist-info").mkdir()
    (tmp_path / "first" / "nameless-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    assert installed_packages() == {"some.package": "1.0"}


def test_the_time_is_utc_to_the_second() -> None:
    moment = datetime.datetime.fromisoformat(now())
    assert moment.utcoffset() == datetime.timedelta(0)
    assert moment.microsecond == 0
    assert abs(datetime.datetime.now(datetime.UTC) - moment) < datetime.timedelta(minutes=1)


def test_the_whole_is_json() -> None:
    metadata = run_metadata(hardware={"device": "cpu"}, data={"digest": "d"}, packages=installed_packages())
    assert json.loads(json.dumps(metadata)) == metadata
    assert metadata["python"] == platform.python_version()
    assert metadata["mltrain"] == __version__
    assert metadata["packages"]["torch"] == installed_packages()["torch"]
    assert (metadata["hardware"], metadata["data"]) == ({"device": "cpu"}, {"digest": "d"})
