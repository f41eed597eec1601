"""No change of a committed checkpoint goes unseen."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import torch

from mltrain.checkpoints.manifest import MANIFEST, verify_manifest, write_manifest
from mltrain.checkpoints.optimizer_state import optimizer_state
from mltrain.checkpoints.tensors import save_tensors
from mltrain.core.errors import CheckpointError
from mltrain.core.files import write_json


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "step-00000001"
    folder.mkdir()
    module = torch.nn.Linear(4, 2)
    save_tensors(folder / "model.safetensors", module.state_dict())
    tensors, values = optimizer_state(torch.optim.Adagrad(module.parameters()))
    save_tensors(folder / "optimizer.safetensors", tensors)
    write_json(folder / "optimizer.json", values)
    write_json(folder / "state.json", {"position": {"epoch": 1}, "name": "Zürich"})
    (folder / "empty.json").touch()
    write_manifest(folder)
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        verify_manifest(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder}: damaged checkpoint")
    assert "\n" not in message
    return message


def test_a_sound_checkpoint_passes_wherever_it_is_moved(checkpoint: Path, tmp_path: Path) -> None:
    verify_manifest(checkpoint)
    shutil.copytree(checkpoint, tmp_path / "copy")
    verify_manifest(tmp_path / "copy")


def test_any_flipped_bit_of_any_file_is_found(checkpoint: Path) -> None:
    generator = random.Random(7)
    for path in sorted(checkpoint.iterdir()):
        content = path.read_bytes()
        # The manifest itself is text, in which many changes still make sense: all its bytes are tried.
        places = range(len(content)) if path.name == MANIFEST else generator.choices(range(len(content) or 1), k=60)
        for place in places if content else ():
            changed = bytearray(content)
            changed[place] ^= 1 << generator.randrange(8)
            path.write_bytes(changed)
            refused(checkpoint)
        path.write_bytes(content)
    verify_manifest(checkpoint)


def test_a_manifest_that_reads_the_same_but_is_written_otherwise_is_found(checkpoint: Path) -> None:
    text = (checkpoint / MANIFEST).read_text()
    for old, new in [("  ", "\n "), ('"format": 1', '"format": 3'), ("\n", "\r\n"), ("ü", "u")]:
        if old in text:
            (checkpoint / MANIFEST).write_bytes(text.replace(old, new, 1).encode())
            assert f"content of {MANIFEST} has changed" in refused(checkpoint)


def test_every_truncation_and_extension_is_found(checkpoint: Path) -> None:
    for path in sorted(checkpoint.iterdir()):
        content = path.read_bytes()
        for length in range(0, len(content), 1 if len(content) < 300 else 7):
            path.write_bytes(content[:length])
            refused(checkpoint)
        path.write_bytes(content + b"\n")
        refused(checkpoint)
        path.write_bytes(content)
    verify_manifest(checkpoint)


def test_missing_added_and_exchanged_files_are_named(checkpoint: Path) -> None:
    (checkpoint / "custom_checkpoint_0.pkl").write_bytes(b"\x80\x04.")
    assert "custom_checkpoint_0.pkl" in refused(checkpoint)
    (checkpoint / "custom_checkpoint_0.pkl").unlink()
    content = (checkpoint / "state.json").read_bytes()
    (checkpoint / "state.json").unlink()
    assert "not those of its manifest (state.json)" in refused(checkpoint)
    (checkpoint / "state.json").mkdir()
    assert "state.json" in refused(checkpoint)
    (checkpoint / "state.json").rmdir()
    (checkpoint / "state.json").write_bytes(content[::-1])
    assert "the content of state.json has changed" in refused(checkpoint)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "{}", '{"files": null}', '{"files": ["empty"]}', '{"files": {"empty": 3}}',
        '{"format": 1, "files": {"empty": {"size": 0}}}', "\x00\x01", '{"files": {"a": NaN}}',
    ],
)  # fmt: skip
def test_a_manifest_that_cannot_be_read_is_told(checkpoint: Path, text: str) -> None:
    (checkpoint / MANIFEST).write_text(text)
    assert MANIFEST in refused(checkpoint)


def test_a_manifest_of_other_facts_in_our_own_writing_is_told(checkpoint: Path) -> None:
    for files in ({}, {"empty": {}}, dict.fromkeys((path.name for path in checkpoint.iterdir()), 3)):
        files.pop(MANIFEST, None)
        write_json(checkpoint / MANIFEST, {"format": 1, "files": files})
        refused(checkpoint)


def test_a_file_that_cannot_be_read_is_told(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("mltrain.checkpoints.manifest.file_sha256", fail)
    assert "Input/output error" in refused(checkpoint)


def test_no_manifest_no_folder(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / MANIFEST).unlink()
    assert "missing or cannot be read" in refused(checkpoint)
    assert "missing or cannot be read" in refused(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "missing or cannot be read" in refused(tmp_path / "file")
