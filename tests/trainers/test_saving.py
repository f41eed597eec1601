"""Saving goes on while training does, and a save that fails costs nothing that was saved before."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from mltrain.callbacks.base import CALLBACKS, Callback, Loop, register_callback
from mltrain.checkpoints import store as store_module
from mltrain.checkpoints.manifest import verify_manifest, write_manifest
from mltrain.checkpoints.store import CheckpointStore
from mltrain.checkpoints.tensors import load_tensors
from mltrain.core.digest import model_digest
from mltrain.core.errors import CheckpointError
from mltrain.core.files import read_json
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.metrics_log import read_metrics

TWO_A_RUN = {"training.num_epochs": 1, "checkpointing.every_n_steps": 2, "tracking.log_every_n_steps": 1}
release = threading.Event()


class Witness(Callback):
    """Notes the weights of step 2, lets the disk go on at step 3, and notes when it is told of checkpoints."""

    def __init__(self) -> None:
        Witness.latest = self
        self.digest, self.committed = "", list[tuple[int, str]]()

    def on_step_end(self, loop: Loop) -> None:
        if loop.position.step == 2:
            self.digest = model_digest(loop.plain_model.state_dict())
        if loop.position.step == 3:
            assert loop.checkpoints.list() == [], "the disk is stuck"
            release.set()

    def on_checkpoint(self, loop: Loop, name: str) -> None:
        verify_manifest(loop.checkpoints.folder / name)
        self.committed.append((loop.position.step, name))


if "saving_witness" not in CALLBACKS.names():
    register_callback("saving_witness")(Witness)


def test_training_goes_on_while_the_disk_is_slow(train_vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    release.clear()

    def write_slowly(folder: Path, known: Any) -> None:
        assert release.wait(60), "training waits for the disk"
        write_manifest(folder, known)

    monkeypatch.setattr(store_module, "write_manifest", write_slowly)
    run = train_vectors({**TWO_A_RUN, "checkpointing.keep_last": 9, "callbacks": {"saving_witness": {}}})
    witness = Witness.latest
    assert [name for _, name in witness.committed] == [f"step-{step:08d}" for step in (2, 4, 6, 7)]
    assert witness.committed[0][0] >= 3
    saved = load_tensors(run.folder / "checkpoints" / "step-00000002" / "model.safetensors")
    assert model_digest(saved) == witness.digest, "what is saved is the state of its step"


def test_a_save_that_fails_stops_the_run_in_one_line_and_the_run_continues(
    train_vectors: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    straight = train_vectors({**TWO_A_RUN, "run.name": "straight"})
    written = 0

    def write_twice(folder: Path, known: Any) -> None:
        nonlocal written
        written += 1
        if written > 2:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        write_manifest(folder, known)

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_manifest", write_twice)
        with pytest.raises(CheckpointError, match=r"cannot be saved here \(Disk quota exceeded\)\. Free some space"):
            train_vectors({**TWO_A_RUN, "run.name": "it"})
    folder = RunFolder(tmp_path / "runs" / "it")
    assert read_json(folder.summary)["status"] == "failed"
    left = CheckpointStore(folder.checkpoints)
    assert [path.name for path in left.list()] == ["step-00000004", "step-00000002"]
    assert left.newest_sound() == left.pointed("last") == folder.checkpoints / "step-00000004"
    assert not [path for path in folder.checkpoints.iterdir() if path.name.startswith(".tmp-")]
    resumed = train_vectors({}, config=None, resume=folder.path)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    steps = [record["step"] for record in read_metrics(folder.metrics) if "train/step_loss" in record]
    assert steps == list(range(1, 8))


def test_no_room_is_seen_before_anything_is_written(
    train_vectors: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store_module, "_SLACK_BYTES", 10**21)
    with pytest.raises(CheckpointError, match=r"cannot be saved here \(it needs .* MB, and .* MB are free\)"):
        train_vectors({**TWO_A_RUN, "run.name": "it"})
    assert list((tmp_path / "runs" / "it" / "checkpoints").iterdir()) == []


def test_a_save_in_progress_is_finished_when_the_run_fails(train_vectors: Any, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="not finite"):
        train_vectors({**TWO_A_RUN, "checkpointing.every_n_steps": 1, "data.bad_sample": 13, "run.name": "it"})
    store = CheckpointStore(tmp_path / "runs" / "it" / "checkpoints")
    newest = store.list()[0]
    assert store.newest_sound() == newest
    assert read_json(newest / "state.json")["position"]["step"] == read_json(tmp_path / "runs/it/summary.json")["steps"]
