"""A loss or gradient that is not finite never reaches the weights, and what follows is exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import VECTORS_PLUGIN
from runs import history
from steps import watched_steps

from mltrain.core.plugins import load_plugins
from mltrain.data.plan import ShuffledPlan
from mltrain.tasks.base import TASKS, Losses, register_task
from mltrain.trainers.buffer_guard import BufferGuard
from mltrain.trainers.ema import EMA, averaged_copy
from mltrain.trainers.finite import FiniteWatch
from mltrain.trainers.nonfinite import NonFiniteLossError

# 50 samples in windows of 8: seven steps an epoch.
BAD = {"data.bad_sample": 13, "training.num_epochs": 2, "model.batch_norm": True}
EVERY_TWO = {"checkpointing.every_n_steps": 2, "checkpointing.every_n_epochs": None}


def bad_steps(epochs: int, sample: int = 13) -> list[int]:
    """Return the steps (from 0) whose window holds the sample."""
    plan = ShuffledPlan(50, 8, 42)
    places = [(epoch, index) for epoch in range(epochs) for index in range(7)]
    return [epoch * 7 + index for epoch, index in places if sample in plan.window(epoch, index)]


@pytest.mark.parametrize("accumulation", [1, 4])
def test_skipping_leaves_weights_buffers_and_optimizer_as_they_were(
    train_vectors: Any, caplog: pytest.LogCaptureFixture, accumulation: int
) -> None:
    callbacks, digests = watched_steps()
    cut = {"training.batch_size": 8 // accumulation, "training.gradient_accumulation_steps": accumulation}
    run = train_vectors({**BAD, **cut, "training.on_nonfinite": "skip", "callbacks": callbacks})
    unchanged = [step for step in range(14) if digests[step + 1] == digests[step]]
    assert unchanged == bad_steps(2)
    assert run.status == "completed"
    assert all(value is not None for record in history(run.folder) for value in record.values())
    told = [record.getMessage() for record in caplog.records if "is skipped" in record.getMessage()]
    first = bad_steps(2)[0]
    assert len(told) == 2
    assert told[0].startswith(f"The loss is not finite in step {first + 1} (epoch 1, window {first + 1}) on train/")
    # Batch norm spreads it over the microbatch.
    assert told[0].count("train/") == 8 // accumulation
    assert "train/13" in told[0]


@pytest.mark.parametrize("policy", ["skip", "rollback"])
@pytest.mark.parametrize("stop", [pytest.param(1, marks=pytest.mark.slow), -1], ids=["after", "before"])
def test_a_run_that_met_bad_losses_continues_to_the_same_bits(train_vectors: Any, policy: str, stop: int) -> None:
    """Stopped a step before or after the bad one, between two checkpoints that are due: going back must not depend on
    the checkpoint that the stop has left."""
    settings = {**BAD, "checkpointing.every_n_steps": 3, "training.on_nonfinite": policy, "run.name": "it"}
    settings |= {"training.ema": {"enabled": True, "decay": 0.9}}
    straight = train_vectors({**settings, "run.name": "straight"})
    place = {"stop_at": {"step": bad_steps(2)[1] + (stop if stop < 0 else 1)}}
    stopped = train_vectors({**settings, "callbacks": place})
    assert stopped.status == "interrupted"
    resumed = train_vectors({"callbacks": {}}, config=None, resume=stopped.folder)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert history(resumed.folder) == history(straight.folder)


def test_rolling_back_takes_the_last_checkpoint_that_was_due(
    train_vectors: Any, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks, digests = watched_steps()
    train_vectors({**BAD, **EVERY_TWO, "training.on_nonfinite": "rollback", "callbacks": callbacks})
    step = bad_steps(1)[0]
    anchor = step - step % 2
    assert digests[step + 1] == digests[anchor]
    assert f"taken back to step-{anchor:08d}; training goes on with the next window" in caplog.text


def test_rolling_back_before_the_first_checkpoint_takes_the_initial_weights(train_vectors: Any) -> None:
    callbacks, digests = watched_steps()
    train_vectors({**BAD, "training.on_nonfinite": "rollback", "callbacks": callbacks})
    assert digests[bad_steps(1)[0] + 1] == digests[0]


def test_a_gradient_that_is_not_finite_is_met_alike(train_vectors: Any, caplog: pytest.LogCaptureFixture) -> None:
    load_plugins([str(VECTORS_PLUGIN)])

    class Rooted(TASKS.get("vectors")):  # type: ignore[misc]
        def losses(self, model: Any, batch: Any) -> Losses:
            found = super().losses(model, batch)
            # The root's slope at 0 is infinite: 0 * inf is not a number, while the loss itself stays as it is.
            return Losses(found.values + (0 * found.values).sqrt(), found.outputs, found.parts)

    register_task("rooted_vectors")(Rooted)
    settings = {"task": "rooted_vectors", "training.max_grad_norm": None}
    with pytest.raises(NonFiniteLossError, match=r"the gradient is not finite in step 1 .*, though the losses are"):
        train_vectors(settings)
    with pytest.raises(NonFiniteLossError, match="as in the 9 steps before it"):
        train_vectors({**settings, "training.on_nonfinite": "skip"})


def test_losses_that_stay_bad_stop_the_run_after_ten_in_a_row(train_vectors: Any) -> None:
    settings = {"optimizer.lr": 1e38, "optimizer.name": "sgd", "training.max_grad_norm": None}
    with pytest.raises(NonFiniteLossError, match=r"as in the 9 steps before it.*optimizer\.lr"):
        train_vectors({**settings, "training.on_nonfinite": "skip"})


def test_steps_that_are_read_late_are_named_exactly() -> None:
    watch = FiniteWatch(torch.device("cpu"), immediate=False, num_steps=4)
    good, bad = torch.ones(3), torch.tensor([1.0, float("nan"), 2.0])
    for step in range(4):
        assert not watch.watch(good, step=step, microbatch=0)
    assert watch.first_bad_step(4) is None
    for step in range(4, 7):
        for microbatch, values in enumerate([good, bad if step >= 5 else good]):
            assert not watch.watch(values, step=step, microbatch=microbatch)
    assert watch.first_bad_step(7) == 5
    assert watch.first_bad_step(7) is None


def test_the_count_in_a_row_survives_a_stop(train_vectors: Any) -> None:
    settings = {"optimizer.lr": 1e38, "optimizer.name": "sgd", "training.max_grad_norm": None}
    settings |= {"training.on_nonfinite": "skip"}
    stopped = train_vectors({**settings, "callbacks": {"stop_at": {"step": 6}}})
    assert stopped.status == "interrupted"
    with pytest.raises(NonFiniteLossError, match=r"step 1\d .*as in the 9 steps before it"):
        train_vectors({"callbacks": {}, "training.num_epochs": 4}, config=None, resume=stopped.folder)
    with pytest.raises(NonFiniteLossError) as straight:
        train_vectors({**settings, "training.num_epochs": 4})
    assert "as in the 9 steps before it" in str(straight.value)


def test_an_infinite_part_of_a_finite_loss_does_not_keep_the_run_from_being_saved(train_vectors: Any) -> None:
    load_plugins([str(VECTORS_PLUGIN)])

    class WithPart(TASKS.get("vectors")):  # type: ignore[misc]
        def losses(self, model: Any, batch: Any) -> Losses:
            found = super().losses(model, batch)
            return Losses(found.values, found.outputs, {"odd": found.values.detach() * float("inf")})

        def metric_names(self) -> tuple[str, ...]:
            return (*super().metric_names(), "odd")

    register_task("vectors_with_part")(WithPart)
    settings = {"task": "vectors_with_part", "checkpointing.every_n_steps": 1}
    straight = train_vectors(settings)
    stopped = train_vectors({**settings, "callbacks": {"stop_at": {"step": 10}}})
    resumed = train_vectors({"callbacks": {}}, config=None, resume=stopped.folder)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert history(resumed.folder) == history(straight.folder)


class Assigning(torch.nn.Module):
    """Puts a new tensor in its buffer's place."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.mean = 0.5 * self.mean + 0.5 * inputs.mean(dim=0)
        return inputs * self.weight


def test_a_buffer_that_is_assigned_is_put_back_and_followed() -> None:
    model = torch.nn.Sequential(Assigning())
    average, guard = EMA(averaged_copy(model), model, 0.9), BufferGuard(model)
    model(torch.full((2, 3), 4.0))
    guard.keep()
    average.update()
    assert torch.equal(average.model[0].mean, torch.full((3,), 2.0))
    model(torch.full((2, 3), float("nan")))
    guard.put_back()
    assert torch.equal(model[0].mean, torch.full((3,), 2.0))
