"""What every test may use: one thread, no network, runs below a temporary folder."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", MLFLOW_DISABLE_TELEMETRY="true", NO_COLOR="1")

# Never the user's own cache; one for all tests, their processes too.
_CACHE = tempfile.TemporaryDirectory(prefix="mltrain-cache-")
os.environ["MLTRAIN_CACHE"] = _CACHE.name

ROOT = Path(__file__).resolve().parent.parent
VECTORS_PLUGIN = ROOT / "tests" / "support" / "vectors_task.py"
SHARED_DATA = ROOT.parent / "shared" / "data"

sys.path.insert(0, str(ROOT / "tests" / "support"))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in a folder of its own, so that runs/ and mlflow.db of one never meet another's."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """A command that a test runs in this process opens the console's log for good; the next test begins without."""
    yield
    log = logging.getLogger("mltrain")
    for handler in [handler for handler in log.handlers if handler.get_name() == "console"]:
        log.removeHandler(handler)
    log.propagate = True


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    """The configuration of a run that takes a fraction of a second: see tests/support/vectors_task.py."""
    return {
        "task": "vectors",
        "plugins": [str(VECTORS_PLUGIN)],
        "data": {"num_workers": 0},
        "model": {},
        "training": {"num_epochs": 3, "batch_size": 8},
        "tracking": {"log_every_n_steps": 2, "mlflow": {"enabled": False}},
        "reproducibility": {"num_threads": 1},
    }


@pytest.fixture(scope="session")
def train_vectors(vectors: dict[str, Any]) -> Callable[..., Any]:
    """Run `mltrain.train` on the vectors with overrides given as a dict of dotted keys."""
    import runs  # noqa: F401 (registers the callback `stop_at`)

    from mltrain.workflows.train import train

    def run(overrides: dict[str, Any] | None = None, **arguments: Any) -> Any:
        return train(arguments.pop("config", vectors), overrides or {}, **{"verbose": False, **arguments})

    return run


@pytest.fixture
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of a short private run: another accountant, and pictures."""
    from mltrain.privacy import statement
    from mltrain.workflows import session

    monkeypatch.setattr(statement, "pld_epsilon", lambda **_: None)
    monkeypatch.setattr(session, "draw_curves", lambda *_, **__: None)


@pytest.fixture
def hymenoptera() -> Path:
    """The folder of real photographs; the test is skipped, and says so, where it is not there."""
    folder = SHARED_DATA / "hymenoptera"
    if not folder.is_dir():
        pytest.skip(f"real photographs are not at {folder}")
    return folder
