"""Every command, file and program that README and docs show is run, page by page, as a reader would.

A reader has gone through `get-started.md` first: each other page begins in a copy of the folder that it leaves, without
MLflow. README's commands run as a shell runs them, those of the other pages in processes that have imported torch. A
block of commands that fail is followed by a block of text: the errors they print, one a line, with `...` for what
differs. Blocks called slow are run by `make test-slow`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from warm_process import run_warm

BLOCK = re.compile(r"^ *```(bash|python|yaml|text)([^\n]*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)[^)]*\)")
# Installing, and what installs first, is tested by tests/acceptance/test_demo.py.
INSTALLS = ("pip install .", "make demo")
DOCS = ROOT / "docs"
START = DOCS / "get-started.md"
README = ROOT / "README.md"
SLOW_PAGES = [DOCS / f"{name}.md" for name in ("privacy", "resuming", "scaling", "training")]
# Ten seconds and more each, as the README; get started is read first.
LONG_PAGES = [
    DOCS / f"{name}.md"
    for name in (
        "callbacks", "distributed-charges", "extending", "fine-tuning", "joint", "metrics", "multimodal-autoencoder",
        "python", "resuming", "run-folder", "span-extraction", "tables", "tabular", "text-classification", "tracking",
        "training",
    )
]  # fmt: skip
PAGES = [README, *sorted(DOCS.glob("*.md"))]


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )


Runner = Callable[[list[str], Path], subprocess.CompletedProcess[str]]


def follow(page: Path, folder: Path, runner: Runner, *, slow: bool = False) -> None:
    """Do in a folder what a page tells its reader to do, and compare what it prints."""
    errors: list[str] = []
    for kind, info, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if slow != ("slow" in info):
            continue
        if kind == "text":
            check_errors(text, errors)
        elif target := re.search(r"file=(\S+)", info):
            (folder / target[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / target[1]).write_text(text, encoding="utf-8")
        elif kind == "python":
            result = runner(["python", "-c", text], folder)
            assert result.returncode == 0, result.stderr[-1500:]
        elif kind == "bash":
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            ends = [
                follow_command(line, folder, runner, fails="fails" in info) for line in lines if line not in INSTALLS
            ]
            errors = ends if "fails" in info else []


def follow_command(line: str, folder: Path, runner: Runner, *, fails: bool) -> str:
    """Run one command and return the line that it ends with on standard error."""
    command = shlex.split(line)
    result = (run if command[0] == "accelerate" else runner)(command, folder)
    assert result.returncode == (2 if fails else 0), f"{line}\n{result.stderr[-1500:]}"
    assert "Traceback" not in result.stderr
    return (result.stderr.splitlines() or [""])[-1]


def check_errors(text: str, errors: list[str]) -> None:
    """Hold the errors that a page shows against those of the commands before; other texts are of no concern."""
    if errors:
        shown = text.splitlines()
        assert len(shown) == len(errors)
        for pattern, error in zip(shown, errors, strict=True):
            assert re.fullmatch(re.escape(pattern).replace(r"\.\.\.", ".*"), error), f"{pattern}\n{error}"
        errors.clear()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader who has followed get-started, from a clone."""
    folder = tmp_path_factory.mktemp("started")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "docs").symlink_to(ROOT / "docs")
    (folder / "accelerate_configs").symlink_to(ROOT / "accelerate_configs")
    follow(START, folder, run_warm)
    (folder / "configs").unlink()
    shutil.copytree(ROOT / "configs", folder / "configs")
    for path in (folder / "configs").glob("*.yaml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content.setdefault("tracking", {})["mlflow"] = {"enabled": False}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow) if page in (README, *LONG_PAGES) else page for page in PAGES],
    ids=lambda page: page.name,
)
def test_what_a_page_shows_works(page: Path, started: Path, tmp_path: Path) -> None:
    if page != START and BLOCK.search(page.read_text(encoding="utf-8")):
        folder = tmp_path / "reader"
        shutil.copytree(started, folder, symlinks=True)
        follow(page, folder, run if page == README else run_warm)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW_PAGES, ids=lambda page: page.name)
def test_what_takes_longer_works(page: Path, started: Path, tmp_path: Path) -> None:
    assert "```bash slow" in page.read_text(encoding="utf-8")
    folder = tmp_path / "reader"
    shutil.copytree(started, folder, symlinks=True)
    follow(page, folder, run, slow=True)


def test_every_page_with_slow_commands_has_its_test() -> None:
    slow = [page for page in PAGES if "```bash slow" in page.read_text(encoding="utf-8")]
    assert slow == SLOW_PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_configuration_page_is_what_the_schema_says() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    from generate_configuration import TARGET, reference

    assert TARGET.read_text(encoding="utf-8") == reference()
