"""What must give the same bits does: the same run twice, other workers, another trainer, stopped and resumed."""

from __future__ import annotations

from typing import Any

import pytest
from runs import history

BASE = {"model.dropout": 0.3, "checkpointing.every_n_steps": 3, "training.ema": {"enabled": True, "decay": 0.9}}


@pytest.fixture(scope="module")
def straight(train_vectors: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that nothing disturbed: 3 epochs of 7 windows, the last of each ragged."""
    return train_vectors({**BASE, "run.dir": str(tmp_path_factory.mktemp("straight"))})


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"data.num_workers": 2},
        {"training.trainer_type": "accelerate"},
        {"training.eval_batch_size": 5},
        {"tracking.log_every_n_steps": 1},
    ],
    ids=["again", "2 workers", "accelerate", "other evaluation batches", "other log points"],
)
def test_same_digest(straight: Any, train_vectors: Any, other: dict[str, Any]) -> None:
    result = train_vectors({**BASE, **other})
    assert result.summary["model_digest"] == straight.summary["model_digest"]
    assert result.summary["test"] == pytest.approx(straight.summary["test"], rel=1e-6)


@pytest.mark.parametrize(
    "other", [{"seed": 43}, {"data.noise": 0.2}, {"training.ema.enabled": False}, {"model.dropout": 0.2}], ids=str
)
def test_digest_tells_runs_apart(straight: Any, train_vectors: Any, other: dict[str, Any]) -> None:
    assert train_vectors({**BASE, **other}).summary["model_digest"] != straight.summary["model_digest"]


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 2), (2, 0)], ids=["0-0", "0-2", "2-0"])
@pytest.mark.parametrize("step", [5, 7, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 9, 20))])
def test_stopped_and_resumed_equals_straight(
    straight: Any, train_vectors: Any, step: int, before: int, after: int
) -> None:
    """In mid-epoch, at the end of an epoch (7) and in the last window but one; with workers come and gone."""
    stopped = train_vectors({**BASE, "callbacks": {"stop_at": {"step": step}}, "data.num_workers": before})
    assert stopped.summary["status"] == "interrupted"
    assert stopped.summary["steps"] == step
    assert stopped.signal == 15

    resumed = train_vectors({"callbacks": {}, "data.num_workers": after}, config=None, resume=stopped.folder)
    assert resumed.folder == stopped.folder
    assert resumed.summary["status"] == "completed"
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert resumed.summary["samples_seen"] == straight.summary["samples_seen"] == 150
    assert resumed.summary["best"] == straight.summary["best"]
    assert history(resumed.folder) == history(straight.folder)


def test_resume_survives_many_stops(straight: Any, train_vectors: Any) -> None:
    folder = train_vectors({**BASE, "callbacks": {"stop_at": {"step": 2}}}).folder
    for step in (3, 7, 8, 14, 19):
        train_vectors({"callbacks": {"stop_at": {"step": step}}}, config=None, resume=folder)
    final = train_vectors({"callbacks": {}}, config=None, resume=folder)
    assert final.summary["model_digest"] == straight.summary["model_digest"]
    assert history(folder) == history(straight.folder)


def test_plateau_and_early_stopping_resume(train_vectors: Any) -> None:
    """State that is not a function of the step stands in the checkpoint."""
    settings = {
        "training.num_epochs": 30,
        "optimizer.lr": 0.02,
        "scheduler": {"name": "plateau", "patience": 0, "gamma": 0.5},
        "early_stopping": {"enabled": True, "patience": 3, "min_delta": 0.1},
    }
    straight = train_vectors(settings)
    assert straight.summary["status"] == "early_stopped"
    stopped = train_vectors({**settings, "callbacks": {"stop_at": {"step": 10}}})
    resumed = train_vectors({"callbacks": {}}, config=None, resume=stopped.folder)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert resumed.summary["epochs"] == straight.summary["epochs"]
    assert history(resumed.folder) == history(straight.folder)
    again = train_vectors({"callbacks": {}}, config=None, resume=straight.folder)
    assert again.summary["status"] == "early_stopped"
    assert again.summary["epochs"] == straight.summary["epochs"]
    assert again.summary["model_digest"] == straight.summary["model_digest"]


def test_a_stop_in_mid_epoch_by_a_callback_is_saved(straight: Any, train_vectors: Any) -> None:
    stopped = train_vectors({**BASE, "callbacks": {"stop_early_at": {"step": 11}}})
    assert stopped.summary["status"] == "early_stopped"
    assert (stopped.folder / "checkpoints" / "step-00000011" / "MANIFEST.json").exists()
    resumed = train_vectors({"callbacks": {}}, config=None, resume=stopped.folder)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
