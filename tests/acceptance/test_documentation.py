"""Every command, file and program that README and docs show is run, page by page, as a reader would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

BLOCK = re.compile(r"^```(bash|python|yaml)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)[^)]*\)")
# Installing, and what installs first, is tested by tests/acceptance/test_demo.py.
INSTALLS = ("pip install .", "make demo")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )


def prepare(folder: Path) -> None:
    """Lay out what a clone has and the digits that get-started has made."""
    (folder / "configs").symlink_to(ROOT / "configs")
    assert run(["mltrain", "make-data", "digits"], folder).returncode == 0
    assert run(["ml-split", "--raw_data", "data/digits/raw", "--folds", "5"], folder).returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_works(page: Path, tmp_path: Path) -> None:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    if any(kind == "bash" or (kind == "python" and "file=" not in info) for kind, info, _ in blocks):
        prepare(tmp_path)
    for kind, info, text in blocks:
        if target := re.search(r"file=(\S+)", info):
            (tmp_path / target[1]).write_text(text, encoding="utf-8")
        elif kind == "python":
            result = run([sys.executable, "-c", text], tmp_path)
            assert result.returncode == 0, result.stderr[-1500:]
        elif kind == "bash":
            for line in [line for line in text.splitlines() if line.strip() and line not in INSTALLS]:
                result = run(shlex.split(line), tmp_path)
                assert result.returncode == (2 if "fails" in info else 0), f"{line}\n{result.stderr[-1500:]}"
                assert "Traceback" not in result.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_configuration_page_is_what_the_schema_says() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    from generate_configuration import TARGET, reference

    assert TARGET.read_text(encoding="utf-8") == reference()
