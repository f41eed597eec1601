"""Our schedules are functions of the step; torch's count calls. They must draw the same curves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as torch_schedules

from mltrain.config.training import SchedulerSection
from mltrain.trainers.schedules import Schedule

STEPS_PER_EPOCH, EPOCHS, BASE = 7, 6, 0.1


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)


def ours(**settings: Any) -> list[float]:
    mine = optimizer()
    schedule = Schedule(SchedulerSection(**settings), mine, steps_per_epoch=STEPS_PER_EPOCH, num_epochs=EPOCHS)
    rates = []
    for step in range(STEPS_PER_EPOCH * EPOCHS):
        schedule.set(step)
        rates.append(mine.param_groups[0]["lr"])
    return rates


def theirs(name: str, warmup: int, **settings: Any) -> list[float]:
    """torch's main schedule after torch's linear warm-up, stepped after each optimizer step."""
    opt = optimizer()
    total = STEPS_PER_EPOCH * EPOCHS - warmup
    if name == "cosine":
        main: Any = torch_schedules.CosineAnnealingLR(opt, T_max=total, eta_min=settings["min_lr"])
    elif name == "linear":
        main = torch_schedules.LinearLR(opt, 1.0, settings["min_lr"] / BASE, total_iters=total)
    elif name == "step":
        main = torch_schedules.StepLR(opt, settings["step_size"] * STEPS_PER_EPOCH, settings["gamma"])
    elif name == "exponential":
        main = torch_schedules.LambdaLR(opt, lambda step: settings["gamma"] ** (step // STEPS_PER_EPOCH))
    else:
        main = torch_schedules.ConstantLR(opt, factor=1.0)
    schedule = main
    if warmup:
        rise = torch_schedules.LinearLR(opt, start_factor=1 / (warmup + 1), end_factor=1.0, total_iters=warmup)
        schedule = torch_schedules.SequentialLR(opt, [rise, main], milestones=[warmup])
    rates = []
    for _ in range(STEPS_PER_EPOCH * EPOCHS):
        rates.append(opt.param_groups[0]["lr"])
        opt.step()
        schedule.step()
    return rates


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("warmup", [{}, {"warmup_steps": 5}, {"warmup_epochs": 2.0}])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cosine", {"min_lr": 0.01}),
        ("linear", {"min_lr": 0.01}),
        ("step", {"step_size": 2, "gamma": 0.3}),
        ("exponential", {"gamma": 0.8}),
        ("none", {}),
    ],
)
def test_curve_equals_torch(name: str, settings: dict[str, Any], warmup: dict[str, Any]) -> None:
    steps = warmup.get("warmup_steps", int(warmup.get("warmup_epochs", 0) * STEPS_PER_EPOCH))
    assert ours(name=name, **settings, **warmup) == pytest.approx(theirs(name, steps, **settings), rel=1e-9)


def test_exponential_is_torchs_exponential_stepped_once_an_epoch() -> None:
    opt = optimizer()
    reference = torch_schedules.ExponentialLR(opt, gamma=0.8)
    expected = []
    for _ in range(EPOCHS):
        expected += [opt.param_groups[0]["lr"]] * STEPS_PER_EPOCH
        opt.step()
        reference.step()
    assert ours(name="exponential", gamma=0.8) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("patience", [0, 2])
def test_plateau_equals_torch(mode: str, patience: int) -> None:
    values = [1.0, 0.9, 0.9, 0.89995, 0.9, 0.9, 0.5, 0.6, 0.6, 0.6, 0.6, 0.7, 0.4, 0.4, 0.4, 0.4]
    values = values if mode == "min" else [-value for value in values]
    opt, mine = optimizer(), optimizer()
    reference = torch_schedules.ReduceLROnPlateau(opt, mode, factor=0.5, patience=patience, min_lr=0.01)
    section = SchedulerSection(name="plateau", gamma=0.5, patience=patience, mode=mode, min_lr=0.01, monitor="val_loss")
    schedule = Schedule(section, mine, steps_per_epoch=1, num_epochs=len(values))
    for epoch, value in enumerate(values):
        reference.step(value)
        schedule.epoch_end({"val/loss": value})
        schedule = reloaded(schedule, section, len(values))
        assert schedule.rate(BASE, epoch + 1) == pytest.approx(opt.param_groups[0]["lr"], rel=1e-12), epoch


def reloaded(schedule: Schedule, section: SchedulerSection, epochs: int) -> Schedule:
    """A schedule that went through a checkpoint."""
    fresh = Schedule(section, optimizer(), steps_per_epoch=1, num_epochs=epochs)
    fresh.load(schedule.state())
    return fresh


def test_each_group_keeps_its_own_base_rate() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 0.01)]
    opt = torch.optim.SGD(groups)
    schedule = Schedule(SchedulerSection(name="cosine"), opt, steps_per_epoch=10, num_epochs=2)
    schedule.set(10)
    assert [group["lr"] for group in opt.param_groups] == pytest.approx([0.05, 0.005])
