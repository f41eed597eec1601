"""A mistake in a user's own file is told with that file and line, not as a defect of mltrain."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import VECTORS_PLUGIN
from image_commands import CONFIG, raw_images

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
    text = text.replace("mine_NAME", f"mine_{name}")
    # The names of its tasks, which other tests have registered.
    text = re.sub(r'register_task\("(\w*?)vectors"\)', rf'register_task("\1{name}")', text)
    Path(f"{name}_task.py").write_text(text)
    callbacks = {f"mine_{name}": {}} if name == "call" else {}
    config = {**vectors, "task": name, "plugins": [f"{name}_task.py"], "callbacks": callbacks}
    Path("it.yaml").write_text(yaml.safe_dump({**config, "data": {"num_workers": workers}}))
    assert main(["train", "--config", "it.yaml"]) in (1, 2)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: {name}_task.py:")
    assert said.replace("NAME", name) in line
    assert "defect" not in line


MODEL = """
from torch import nn

from mltrain.models.registry import register_image_model


@register_image_model("mine")
def mine(num_classes, channels, image_size, width=8):
    layers = [nn.Flatten()]
    return MISTAKE
"""


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ("nn.Linear(1)", "mine cannot be built (TypeError: "),
        ("layers.nothing", "mine cannot be built (AttributeError: 'list' object has no attribute 'nothing')"),
        ("[][0]", "mine cannot be built (IndexError: list index out of range)"),
    ],
)
def test_a_mistake_in_a_model_is_told_with_its_line(
    mistake: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw_images(tmp_path)
    assert main(["split", "--raw_data", "data/raw", "--folds", "2"]) == 0
    name = f"model_{len(mistake)}.py"
    Path(name).write_text(MODEL.replace("MISTAKE", mistake).replace('"mine"', f'"mine_{len(mistake)}"'))
    Path("it.yaml").write_text(CONFIG.replace("tiny_net", f"mine_{len(mistake)}") + f"plugins: [{name}]\n")
    capsys.readouterr()
    assert main(["train", "--config", "it.yaml"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: {name}:10: {told}".replace("mine", f"mine_{len(mistake)}")), line
    assert "model.options" in line
