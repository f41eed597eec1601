"""A user's callback sees every event of the loop, in the order of the pseudocode in `callbacks/base.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mltrain.callbacks import base
from mltrain.callbacks.base import Callback
from mltrain.core.errors import ConfigError

PLUGIN = '''
"""Writes down each event, where the loop stands, and unfreezes the first layer from an epoch on."""
import json
from pathlib import Path

from mltrain.callbacks.base import Callback, register_callback


@register_callback("diary")
class Diary(Callback):
    def __init__(self, file, stop_at=None):
        self.file, self.stop_at = Path(file), stop_at

    def note(self, event, loop, *more):
        position = [loop.position.epoch, loop.position.window, loop.position.step]
        with self.file.open("a") as file:
            file.write(json.dumps([event, position, *more]) + "\\n")

    def on_fit_start(self, loop): self.note("on_fit_start", loop)
    def on_epoch_start(self, loop):
        self.note("on_epoch_start", loop)
        loop.plain_model[0].requires_grad_(loop.position.epoch >= 1)
    def on_step_start(self, loop): self.note("on_step_start", loop)
    def on_step_end(self, loop):
        self.note("on_step_end", loop)
        if loop.position.step == self.stop_at:
            loop.stop.request("interrupted", "as the test asked")
    def on_validation_start(self, loop): self.note("on_validation_start", loop)
    def on_epoch_end(self, loop, epoch, values): self.note("on_epoch_end", loop, epoch, sorted(values)[:1])
    def on_checkpoint(self, loop, name):
        assert (loop.checkpoints.folder / name / "MANIFEST.json").is_file()
        self.note("on_checkpoint", loop, name)
    def on_fit_end(self, loop): self.note("on_fit_end", loop)
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "diary.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def run(plugin: Path, train_vectors: Any, vectors: dict[str, Any]) -> Any:
    return lambda **settings: _run(plugin, train_vectors, vectors, **settings)


def _run(plugin: Path, train_vectors: Any, vectors: dict[str, Any], **settings: Any) -> list[Any]:
    diary = Path("diary.jsonl")
    diary.unlink(missing_ok=True)
    resume = settings.pop("resume", None)
    common = {
        "plugins": [*vectors["plugins"], str(plugin)],
        "callbacks": {"diary": {"file": str(diary), **settings.pop("diary", {})}},
        "data.train_size": 16,
        "training.batch_size": 8,
        "training.num_epochs": 2,
        **settings,
    }
    result = train_vectors(common) if resume is None else train_vectors(common, config=None, resume=resume)
    return [result, [json.loads(line) for line in diary.read_text().splitlines()]]


def test_every_event_comes_in_its_place(run: Any) -> None:
    _, events = run()
    steps = ["on_step_start", "on_step_end"] * 2
    epoch = ["on_epoch_start", *steps, "on_validation_start", "on_epoch_end"]
    names = [event[0] for event in events]
    assert [name for name in names if name != "on_checkpoint"] == ["on_fit_start", *epoch, *epoch, "on_fit_end"]
    # When a commit is done depends on the disk: at the latest at the next save, or at the end.
    assert [event[2] for event in events if event[0] == "on_checkpoint"] == ["step-00000002", "step-00000004"]
    assert names.index("on_epoch_end") < names.index("on_checkpoint")
    assert names[-2:] == ["on_checkpoint", "on_fit_end"]
    assert [event[1] for event in events if event[0] == "on_step_start"] == [[0, 0, 0], [0, 1, 1], [1, 0, 2], [1, 1, 3]]
    assert [event[1:] for event in events if event[0] == "on_epoch_end"] == [
        [[1, 0, 2], 0, ["train/accuracy"]],
        [[2, 0, 4], 1, ["train/accuracy"]],
    ]


def test_the_pseudocode_names_exactly_the_events_there_are() -> None:
    events = {name for name in vars(Callback) if name.startswith("on_")}
    assert base.__doc__ is not None
    listed = base.__doc__.partition("What a callback may do")[0]
    assert {word for word in listed.replace(",", " ").split() if word.startswith("on_")} == events


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [1, 3])
def test_a_change_that_follows_the_position_survives_an_interruption(run: Any, stop_at: int) -> None:
    straight, _ = run()
    stopped, events = run(diary={"stop_at": stop_at})
    assert stopped.summary["status"] == "interrupted"
    assert events[-1][0] == "on_fit_end"
    resumed, events = run(resume=stopped.folder)
    assert [event[0] for event in events[:2]] == ["on_fit_start", "on_epoch_start"]
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]


def test_a_run_ends_in_a_known_way() -> None:
    with pytest.raises(ValueError, match="a run cannot end as 'bored'"):
        base.Stop().request("bored", "no reason")


def test_a_state_that_cannot_be_kept_names_its_callback(train_vectors: Any) -> None:
    base.CALLBACKS.register("with_odd_state")(WithOddState)
    with pytest.raises(ConfigError, match=r"WithOddState\.state: gives a state that cannot be kept"):
        train_vectors({"callbacks": {"with_odd_state": {}}})


class WithOddState(Callback):
    def state(self) -> dict[str, Any]:
        return {"now": object()}


def test_a_run_folder_may_lie_in_the_home_folder(
    train_vectors: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run = train_vectors({"run.dir": "~/runs", "training.num_epochs": 1})
    assert run.folder.parent == tmp_path / "home" / "runs"
    assert not Path("~").exists()
