"""A mistake in a user's own file is told with that file and line, not as a defect of mltrain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import VECTORS_PLUGIN

from mltrain.cli.main import main

CALLBACK = """
from mltrain.callbacks.base import register_callback, Callback
@register_callback("mine_NAME")
class Mine(Callback):
    def on_epoch_end(self, loop):
        pass
"""
COLLATED = 'return {"vectors": torch.stack(vectors), "labels": torch.tensor(labels)}'
# name: (text of the task, its replacement, workers, what is said)
MISTAKES: dict[str, tuple[str, str, int, str]] = {
    "abstract": ("    def predictions(", "    def other(", 0, "VectorTask: task 'NAME' lacks predictions. Add it"),
    "scalar": ('reduction="none"', 'reduction="mean"', 0, "VectorTask.losses: the losses of a batch are a tensor"),
    "wide": ('reduction="none")', 'reduction="none")[:, None]', 0, "are a tensor of shape (8, 1); there must be"),
    "tuple": (COLLATED, "return torch.stack(vectors), torch.tensor(labels)", 0, "VectorTask.collate: gave a tuple"),
    "names": (COLLATED, 'return {"vectors": torch.stack(vectors), "labels": labels}', 2, "gave a dict of Tensor"),
    "worker": ("        if index == self.bad", '        assert index, "odd"\n        if index == self.bad', 2, "odd"),
    "call": ("", CALLBACK, 0, "Mine.on_epoch_end() takes 2 positional arguments but 4 were given (raised in a plugin"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_the_file_is_named(name: str, vectors: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    old, new, workers, said = MISTAKES[name]
    text = VECTORS_PLUGIN.read_text()
    text = text.replace(old, new) if old else text + new
    text = text.replace('"vectors")', f'"{name}")').replace("mine_NAME", f"mine_{name}")
    Path(f"{name}_task.py").write_text(text.replace('"weighted_vectors"', f'"weighted_{name}"'))
    callbacks = {f"mine_{name}": {}} if name == "call" else {}
    config = {**vectors, "task": name, "plugins": [f"{name}_task.py"], "callbacks": callbacks}
    Path("it.yaml").write_text(yaml.safe_dump({**config, "data": {"num_workers": workers}}))
    assert main(["train", "--config", "it.yaml"]) in (1, 2)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: {name}_task.py:")
    assert said.replace("NAME", name) in line
    assert "defect" not in line
