"""Out of memory: the same window in smaller microbatches, with the same gradient."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from conftest import VECTORS_PLUGIN
from hypothesis import given
from hypothesis import strategies as st
from runs import history

from mltrain.callbacks.base import CALLBACKS, Callback, Loop, register_callback
from mltrain.core.errors import HardwareError
from mltrain.core.plugins import load_plugins
from mltrain.tasks.base import TASKS, Losses, register_task
from mltrain.trainers.memory import fits_memory
from mltrain.trainers.microbatches import Microbatches


class Hunger(torch.autograd.Function):
    """Passes values through; in the backward pass memory runs out."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("the test says so")


@pytest.fixture(scope="module", autouse=True)
def hungry_tasks() -> None:
    load_plugins([str(VECTORS_PLUGIN)])

    class Hungry(TASKS.get("vectors")):  # type: ignore[misc]
        """Memory suffices for four examples in training, from the third window on."""

        most, after = 4, 2

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.training_calls = 0

        def losses(self, model: Any, batch: Any) -> Losses:
            found = super().losses(model, batch)
            self.training_calls += model.training
            if model.training and len(found.values) > self.most and self.training_calls > self.after:
                self.run_out(found)
            return found

        def run_out(self, found: Losses) -> None:
            raise torch.OutOfMemoryError("the test says so")

    class HungryBackward(Hungry):
        def losses(self, model: Any, batch: Any) -> Losses:
            self.short = False
            found = super().losses(model, batch)
            return Losses(Hunger.apply(found.values), found.outputs, found.parts) if self.short else found

        def run_out(self, found: Losses) -> None:
            self.short = True

    class AtOnce(Hungry):
        after = 0

    class Insatiable(Hungry):
        most = 0

    class HostHungry(Hungry):
        def run_out(self, found: Losses) -> None:
            torch.empty(1 << 60)

    kinds = {"late": Hungry, "backward": HungryBackward, "first": AtOnce, "never": Insatiable, "host": HostHungry}
    for name, kind in kinds.items():
        if f"hungry_{name}" not in TASKS.names():
            register_task(f"hungry_{name}")(kind)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_the_run_equals_one_with_smaller_microbatches(
    train_vectors: Any, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    settings = {"training.num_epochs": 2, "model.batch_norm": True, "data.num_workers": workers}
    settings |= {"training.eval_batch_size": 8}
    smaller = {"training.batch_size": 4, "training.gradient_accumulation_steps": 2}
    reference = train_vectors({**settings, **smaller})
    run = train_vectors({**settings, "task": "hungry_first"})
    assert run.summary["model_digest"] == reference.summary["model_digest"]
    assert history(run.folder) == history(reference.folder)
    told = [record.getMessage() for record in caplog.records if "Out of memory" in record.getMessage()]
    assert told == ["Out of memory with microbatches of 8: going on with 4. The gradient of a window stays the same."]


@pytest.mark.parametrize(
    "task",
    ["hungry_late", *(pytest.param(name, marks=pytest.mark.slow) for name in ("hungry_backward", "hungry_host"))],
)
def test_wherever_memory_runs_out_every_example_counts_once(train_vectors: Any, task: str) -> None:
    """The third microbatch is the first of the second window: one of its window has been counted, and counts once."""
    settings = {"training.num_epochs": 1, "training.gradient_accumulation_steps": 2, "tracking.log_every_n_steps": 1}
    reference = train_vectors(settings)
    run = train_vectors({**settings, "task": task})
    mine, theirs = history(run.folder), history(reference.folder)
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    assert run.metrics == pytest.approx(reference.metrics, rel=1e-5)
    assert run.summary["samples_seen"] == 50


def test_the_size_that_fits_is_kept_by_a_resumed_run(train_vectors: Any, caplog: pytest.LogCaptureFixture) -> None:
    straight = train_vectors({"task": "hungry_late", "run.name": "straight"})
    stopped = train_vectors({"task": "hungry_late", "callbacks": {"stop_at": {"step": 10}}})
    caplog.clear()
    resumed = train_vectors({"callbacks": {}}, config=None, resume=stopped.folder)
    assert "Out of memory" not in caplog.text
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]


def test_a_single_example_that_does_not_fit_is_told(train_vectors: Any) -> None:
    with pytest.raises(HardwareError, match=r"training\.batch_size: out of memory, even with microbatches of 1\."):
        train_vectors({"task": "hungry_never"})


def test_other_errors_pass() -> None:
    def fail() -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        fits_memory(fail)


def sizes(batch_size: int, group_size: int) -> Iterator[int]:
    microbatches = Microbatches(0, 1, batch_size, group_size)
    yield microbatches.size
    while microbatches.make_smaller():
        yield microbatches.size


@given(groups=st.integers(1, 500), group_size=st.integers(1, 4))
def test_sizes_fall_to_one_group_and_each_divides_the_one_before(groups: int, group_size: int) -> None:
    found = list(sizes(groups * group_size, group_size))
    assert found[-1] == group_size
    assert all(larger % smaller == 0 and larger > smaller for larger, smaller in itertools.pairwise(found))
    assert all(size % group_size == 0 for size in found)


class Glutton(Callback):
    """Lets memory run out in the optimizer, where its state is half made."""

    def on_fit_start(self, loop: Loop) -> None:
        def step() -> None:
            loop.optimizer.state[next(loop.plain_model.parameters())]["step"] = torch.tensor(0.0)
            raise torch.OutOfMemoryError("the test says so")

        loop.optimizer.step = step


def test_in_the_optimizer_it_ends_the_run_in_one_line(train_vectors: Any) -> None:
    if "glutton" not in CALLBACKS.names():
        register_callback("glutton")(Glutton)
    with pytest.raises(HardwareError, match=r"optimizer\.name: out of memory in step 1, in the optimizer"):
        train_vectors({"callbacks": {"glutton": {}}})


@pytest.mark.parametrize(("most", "told"), [(3, "once more with 2"), (0, None)])
def test_an_evaluation_is_done_again_in_smaller_batches(
    train_vectors: Any, caplog: pytest.LogCaptureFixture, most: int, told: str | None
) -> None:
    class HungryEvaluation(TASKS.get("vectors")):  # type: ignore[misc]
        def losses(self, model: Any, batch: Any) -> Losses:
            if not model.training and len(batch["labels"]) > most:
                raise torch.OutOfMemoryError("the test says so")
            return super().losses(model, batch)

    register_task(f"hungry_evaluation_{most}")(HungryEvaluation)
    if told is None:
        with pytest.raises(
            HardwareError, match=r"training\.eval_batch_size: out of memory in an evaluation\. Lower it"
        ):
            train_vectors({"task": f"hungry_evaluation_{most}"})
        return
    reference = train_vectors({"training.eval_batch_size": 2})
    caplog.clear()
    run = train_vectors({"task": f"hungry_evaluation_{most}"})
    assert told in caplog.text
    assert run.metrics == reference.metrics
