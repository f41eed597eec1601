"""When is saved, what is kept, and which is the best."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltrain.callbacks.base import Stop
from mltrain.callbacks.checkpointing import Checkpointing
from mltrain.checkpoints.store import CheckpointStore
from mltrain.config.training import CheckpointingSection
from mltrain.core.logging import log
from mltrain.data.plan import Position


class FakeLoop:
    """Epochs of four steps; a checkpoint holds the callback's own state, as a run's does."""

    steps_per_epoch = 4
    is_main = True

    def __init__(self, folder: Path, num_epochs: int, **section: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.checkpoints, self.num_epochs = CheckpointStore(folder), num_epochs
        self.mode = section.pop("monitored", "max")
        self.callback = Checkpointing(CheckpointingSection(**section), "val/accuracy", self.mode)
        self.position, self.stop = Position(), Stop()
        self.saved: list[int] = []

    def save_checkpoint(self) -> str:
        state = json.dumps(self.callback.state(), allow_nan=False)
        self.saved.append(self.position.step)
        name = self.checkpoints.next_name(self.position.step)
        self.checkpoints.save(name, lambda folder: put(folder, state), self.checkpoints.retention)
        return name

    def run(self, values: list[float | None]) -> FakeLoop:
        self.callback.on_fit_start(self)  # type: ignore[arg-type]
        for value in values:
            epoch = self.position.epoch
            for _ in range(self.steps_per_epoch):
                self.position = self.position.after_step()
                self.callback.on_step_end(self)  # type: ignore[arg-type]
            self.position = self.position.next_epoch()
            self.callback.on_epoch_end(self, epoch, {} if value is None else {"val/accuracy": value})  # type: ignore[arg-type]
        return self

    def resume(self, step: int, **section: Any) -> FakeLoop:
        """Return a new run that continues from the checkpoint of a step."""
        folder = self.checkpoints.folder
        loop = FakeLoop(folder, self.num_epochs, monitored=self.mode, **section)
        loop.checkpoints.set_aside_after(folder / name(step))
        loop.callback.load(json.loads((folder / name(step) / "state.json").read_text()))
        loop.position = Position(epoch=step // 4, window=0, step=step)
        return loop

    @property
    def kept(self) -> list[int]:
        return sorted(int(path.name[5:]) for path in self.checkpoints.list())

    @property
    def best(self) -> tuple[float, int, int]:
        best = self.callback.best
        assert best is not None
        assert best["metric"] == "val/accuracy"
        assert self.checkpoints.pointed("best") == self.checkpoints.folder / best["checkpoint"]
        assert best["checkpoint"] == name(best["step"])
        return best["value"], best["epoch"], best["step"]


def put(folder: Path, state: str) -> None:
    (folder / "state.json").write_text(state)


def name(step: int) -> str:
    return f"step-{step:08d}"


@pytest.mark.parametrize(
    ("section", "saved"),
    [
        ({"every_n_epochs": 1}, [4, 8, 12, 16, 20]),
        ({"every_n_epochs": 2}, [4, 8, 16, 20]),
        ({"every_n_epochs": None}, [4, 20]),
        ({"every_n_epochs": None, "every_n_steps": 3}, [3, 4, 6, 9, 12, 15, 18, 20]),
        ({"every_n_epochs": None, "every_n_steps": 4}, [4, 8, 12, 16, 20]),
        ({"every_n_epochs": None, "every_n_steps": 8}, [4, 8, 16, 20]),
        ({"every_n_epochs": 5, "every_n_steps": 100}, [4, 20]),
        ({"every_n_epochs": None, "keep_top_k": 3}, [4, 8, 12, 20]),
    ],
    ids=str,
)
def test_when_it_is_saved(tmp_path: Path, section: dict[str, Any], saved: list[int]) -> None:
    loop = FakeLoop(tmp_path / "checkpoints", 5, **section).run([0.9, 0.8, 0.7, 0.6, 0.5])
    assert loop.saved == saved
    assert loop.best == (0.9, 1, 4)


def test_the_best_k_and_the_newest_are_kept(tmp_path: Path) -> None:
    loop = FakeLoop(tmp_path / "checkpoints", 7, keep_top_k=3, keep_last=2)
    loop.run([0.5, 0.9, 0.1, 0.8, 0.7, 0.2, 0.3])
    assert loop.kept == [8, 16, 20, 24, 28]
    assert [entry["value"] for entry in loop.callback.state()["rankings"]["val/accuracy"]] == [0.9, 0.8, 0.7]
    assert loop.best == (0.9, 2, 8)


def test_of_equal_values_the_first_stays_the_best(tmp_path: Path) -> None:
    loop = FakeLoop(tmp_path / "checkpoints", 5, keep_top_k=2).run([0.5, 0.9, 0.9, 0.9, 0.9])
    assert loop.best == (0.9, 2, 8)
    assert loop.kept == [8, 12, 16, 20]


def test_less_can_be_better(tmp_path: Path) -> None:
    loop = FakeLoop(tmp_path / "checkpoints", 4, monitored="min").run([0.5, 0.2, 0.2, 0.4])
    assert loop.best == (0.2, 2, 8)


def test_values_that_are_not_finite_or_missing_rank_nothing(tmp_path: Path) -> None:
    loop = FakeLoop(tmp_path / "checkpoints", 5, monitored="min", keep_top_k=3)
    loop.run([math.nan, math.inf, None, -math.inf, 2.0])
    assert loop.best == (2.0, 5, 20)
    assert len(loop.callback.state()["rankings"]["val/accuracy"]) == 1
    none = FakeLoop(tmp_path / "other", 2).run([math.nan, None])
    assert none.callback.best is None
    assert none.checkpoints.pointed("best") is None
    assert none.kept == [4, 8]


def test_a_wish_to_stop_is_left_to_the_loop(tmp_path: Path) -> None:
    """One process may know of it before the others: a save that all must take part in cannot depend on it."""
    loop = FakeLoop(tmp_path / "checkpoints", 9, every_n_epochs=None).run([0.9, 0.8])
    loop.stop.request("early_stopped", "the test asked for it")
    loop.run([0.7])
    assert loop.saved == [4]


def test_each_checkpoint_ranks_itself(tmp_path: Path) -> None:
    """The ranking in a checkpoint names that very checkpoint where it is the best: a resumed run knows it."""
    loop = FakeLoop(tmp_path / "checkpoints", 3, keep_last=3).run([0.1, 0.2, 0.3])
    for path in loop.checkpoints.list():
        assert json.loads((path / "state.json").read_text())["rankings"]["val/accuracy"][0]["checkpoint"] == path.name


def test_a_lost_pointer_is_renewed_on_resume(tmp_path: Path) -> None:
    loop = FakeLoop(tmp_path / "checkpoints", 3).run([0.9, 0.2])
    (loop.checkpoints.folder / "best").write_text("step-00000008\n")
    resumed = loop.resume(8).run([0.3])
    assert resumed.best == (0.9, 1, 4)
    assert resumed.kept == [4, 8, 12]


def test_a_ranked_epoch_whose_checkpoint_was_displaced_is_forgotten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fourth epoch displaced the first from the disk; a run that goes back before it can have neither."""
    monkeypatch.setattr(log, "propagate", True)
    loop = FakeLoop(tmp_path / "checkpoints", 6).run([0.5, 0.4, 0.3, 0.6])
    assert loop.kept == [12, 16]
    resumed = loop.resume(12)
    resumed.run([0.2, 0.1])
    assert "step-00000004, among the best, is there no longer" in caplog.text
    assert resumed.best == (0.2, 4, 16)


@given(
    values=st.lists(st.integers(0, 4).map(float), min_size=1, max_size=9),
    keep_top_k=st.integers(1, 3),
    mode=st.sampled_from(["min", "max"]),
)
def test_the_ranking_is_a_stable_sort(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], keep_top_k: int, mode: str
) -> None:
    folder = tmp_path_factory.mktemp("ranking") / "checkpoints"
    loop = FakeLoop(folder, len(values), keep_top_k=keep_top_k, monitored=mode)
    callback = loop.callback
    for epoch, value in enumerate(values):
        callback._rank("val/accuracy", value, epoch, loop)  # type: ignore[arg-type]
    order = sorted(range(len(values)), key=lambda epoch: values[epoch] * (1 if mode == "min" else -1))
    assert [entry["epoch"] - 1 for entry in callback.state()["rankings"]["val/accuracy"]] == order[:keep_top_k]


def test_the_best_by_several_metrics_are_kept_and_pointed_at(tmp_path: Path) -> None:
    loop = FakeLoop(
        tmp_path / "checkpoints", 9, every_n_epochs=None, also_best={"val_loss": "min", "train_loss": "min"}
    )
    loop.callback.on_fit_start(loop)  # type: ignore[arg-type]
    table = [(0.9, 0.5, 0.5), (0.1, 0.1, 0.6), (0.2, 0.2, 0.4), (0.3, 0.3, 0.7), (0.4, 0.4, 0.8), (0.5, 0.5, 0.9)]
    for epoch, values in enumerate(table):
        loop.position = Position(epoch=epoch + 1, window=0, step=4 * (epoch + 1))
        named = dict(zip(["val/accuracy", "val/loss", "train/loss"], values, strict=True))
        loop.callback.on_epoch_end(loop, epoch, named)  # type: ignore[arg-type]
    assert loop.saved == [4, 8, 12]
    assert loop.best == (0.9, 1, 4)
    assert loop.checkpoints.pointed("best-val_loss") == loop.checkpoints.folder / name(8)
    assert loop.checkpoints.pointed("best-train_loss") == loop.checkpoints.folder / name(12)


def test_rolling_back_needs_a_checkpoint_from_the_start_which_is_kept(tmp_path: Path) -> None:
    loop = FakeLoop(tmp_path / "checkpoints", 4, every_n_epochs=4, keep_last=2)
    loop.callback = Checkpointing(CheckpointingSection(every_n_epochs=4), "val/accuracy", "max", rolls_back=True)
    loop.run([None, None])
    assert loop.saved == [0]
    assert loop.checkpoints.anchor == name(0)
    for _ in range(3):  # as when the run is stopped and continued again and again
        loop.position = loop.position.after_step()
        loop.save_checkpoint()
    assert loop.kept == [0, 10, 11]
    assert loop.checkpoints.anchor == name(0)


def test_a_checkpoint_to_roll_back_to_that_is_gone_is_made_anew(tmp_path: Path) -> None:
    loop = FakeLoop(tmp_path / "checkpoints", 4, every_n_epochs=4)
    loop.callback = Checkpointing(CheckpointingSection(every_n_epochs=4), "val/accuracy", "max", rolls_back=True)
    loop.callback.load({"rankings": {}, "due": name(40)})
    loop.position = Position(epoch=0, window=3, step=3)
    loop.callback.on_fit_start(loop)  # type: ignore[arg-type]
    assert loop.checkpoints.anchor == name(3)
    assert loop.kept == [3]


def test_a_ranking_that_does_not_count_for_a_while_is_not_forgotten(tmp_path: Path) -> None:
    section = CheckpointingSection(also_best={"val_loss": "min"})
    first = Checkpointing(section, "val/accuracy", "max")
    ranking = {"val/accuracy": [], "val/loss": [{"value": 0.1, "epoch": 1, "step": 4, "checkpoint": name(4)}]}
    first.load({"rankings": ranking, "due": None})
    without = Checkpointing(CheckpointingSection(), "val/accuracy", "max")
    without.load(first.state())
    again = Checkpointing(section, "val/accuracy", "max")
    again.load(without.state())
    assert again.state()["rankings"] == ranking
