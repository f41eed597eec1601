"""A small file system that is full: what was saved before is whole, and the run continues when there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import VECTORS_PLUGIN
from faults import check
from runs import history
from warm_process import run_warm

from mltrain.checkpoints.manifest import verify_manifest
from mltrain.checkpoints.store import CheckpointStore
from mltrain.core.files import read_json

SPACE = 8 << 20
INODES = 120
FILL_AT = 5

# Leaves less than a checkpoint needs, or no inodes, in the middle of the run.
PLUGIN = """
from pathlib import Path

from mltrain.callbacks.base import Callback, register_callback


class Fill(Callback):
    def on_step_end(self, loop):
        if loop.position.step == STEP:
            loop.settle_checkpoint(wait=True)
            self.fill(Path(loop.folder.path).parent / "filler")


@register_callback("fill_space")
class FillSpace(Fill):
    def fill(self, filler):
        filler.mkdir()
        import shutil
        (filler / "0").write_bytes(bytes(shutil.disk_usage(filler).free - 400_000))


@register_callback("fill_inodes")
class FillInodes(Fill):
    def fill(self, filler):
        filler.mkdir()
        import os
        for number in range(os.statvfs(filler).f_favail - 5):
            (filler / str(number)).touch()

""".replace("STEP", str(FILL_AT))


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of its own, of a few megabytes and few inodes."""
    folder = tmp_path_factory.mktemp("disk")
    options = f"size={SPACE},nr_inodes={INODES}"
    tried = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"NOT TESTED: no small file system can be mounted here ({tried.stderr.strip()}); run as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="module")
def straight(train_vectors: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train_vectors({"checkpointing.every_n_steps": 2, "run.dir": str(tmp_path_factory.mktemp("straight"))})


@pytest.mark.parametrize(
    ("case", "callback"), [pytest.param("space", "fill_space", marks=pytest.mark.slow), ("full", "fill_inodes")]
)
def test_fault_35_a_full_disk_costs_nothing_that_was_saved(
    vectors: dict[str, Any],
    straight: Any,
    train_vectors: Any,
    disk: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    case: str,
    callback: str,
) -> None:
    plugin = tmp_path_factory.getbasetemp() / "fill.py"  # one file for all: a plugin has a place
    plugin.write_text(PLUGIN)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**vectors, "plugins": [str(VECTORS_PLUGIN), str(plugin)]}))
    words = ["mltrain", "--config", str(config), f"run.dir={disk}", "--run_name", case, f"callbacks.{callback}={{}}"]
    result = run_warm([*words, "checkpointing.every_n_steps=2"], tmp_path)
    run = disk / case
    check(35, result, case, folder=run / "checkpoints")
    assert read_json(run / "summary.json")["status"] == "failed"
    store = CheckpointStore(run / "checkpoints")
    assert [path.name for path in store.list()] == ["step-00000004", "step-00000002"]
    for path in store.list():
        verify_manifest(path)
    assert not list(store.folder.glob(".tmp-*"))

    for path in (disk / "filler").glob("*"):
        path.unlink()
    if (disk / "filler").exists():
        (disk / "filler").rmdir()
    resumed = train_vectors({"callbacks": {}}, config=None, resume=run)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert history(run) == history(straight.folder)
