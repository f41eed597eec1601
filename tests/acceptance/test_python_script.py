"""The notebook-like script of the docs, run as a reader would; and what importing the package costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


def python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.slow
def test_the_script_of_the_docs_runs(tmp_path: Path) -> None:
    result = python(str(ROOT / "docs" / "python_interface.py"), folder=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert {path.name for path in (tmp_path / "runs").iterdir()} >= {"Moons_fold_0", "Noisy_fold_0"}
    # verbose=False of the later runs holds; the first one showed its log.
    assert "Run digits_num_epochs-2_fold_1" in result.stderr
    assert "Run Moons" not in result.stderr


def test_importing_loads_no_heavy_library(tmp_path: Path) -> None:
    heavy = ("torch", "pandas", "transformers", "accelerate", "numpy", "mlflow", "PIL", "pydantic")
    program = f"import sys, mltrain; dir(mltrain); print([name for name in {heavy} if name in sys.modules])"
    assert python("-c", program, folder=tmp_path).stdout.strip() == "[]"


def test_every_name_of_the_package_is_there(tmp_path: Path) -> None:
    program = "import mltrain; print(all(getattr(mltrain, name) is not None for name in mltrain.__all__))"
    assert python("-c", program, folder=tmp_path).stdout.strip() == "True"
