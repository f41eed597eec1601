"""Workers, prefetching and pinned memory follow from cores, shared memory and device, and never change a result."""

from __future__ import annotations

import logging
import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from mltrain.config.section import DataSection
from mltrain.core import hardware
from mltrain.core.shared_memory import free_shared_memory
from mltrain.trainers import loader_settings
from mltrain.trainers.devices import seed_everything
from mltrain.trainers.loader_settings import choose_loader_settings, local_process_count

CPU = torch.device("cpu")
MIB = 2**20


def choose(monkeypatch: pytest.MonkeyPatch, free: int | None, batch: int, processes: int = 1, **wishes: Any) -> Any:
    monkeypatch.setattr(loader_settings, "free_shared_memory", lambda: free)
    monkeypatch.setattr(hardware, "usable_cores", lambda: 8)
    section = DataSection(data_dir="data", **wishes)
    return choose_loader_settings(section, CPU, batch_bytes=batch, local_processes=processes)


def test_a_roomy_machine_gives_what_the_cores_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = choose(monkeypatch, 2**34, MIB)
    assert (settings.num_workers, settings.prefetch_factor, settings.pin_memory) == (8, 2, False)
    assert choose(monkeypatch, 2**34, MIB, processes=4).num_workers == 2


@pytest.mark.parametrize(
    ("free", "workers", "prefetch"),
    [(64 * MIB, 8, 2), (63 * MIB, 8, 1), (32 * MIB, 8, 1), (31 * MIB, 7, 1), (4 * MIB, 1, 1), (3 * MIB, 0, 2)],
)
def test_a_small_shared_memory_is_not_overrun(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, free: int, workers: int, prefetch: int
) -> None:
    with caplog.at_level(logging.WARNING, logger="mltrain"):
        settings = choose(monkeypatch, free, MIB)
    assert (settings.num_workers, settings.prefetch_factor) == (workers, prefetch)
    assert 2 * settings.num_workers * settings.prefetch_factor * MIB <= free / 2
    assert ("would not fit" in caplog.text) == (workers < 8)


def test_a_system_without_such_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(monkeypatch, None, 2**40).num_workers == 8


def test_wishes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = choose(monkeypatch, 2**34, MIB, num_workers=3, prefetch_factor=7)
    assert (settings.num_workers, settings.prefetch_factor) == (3, 7)


def test_this_machine_tells_its_shared_memory() -> None:
    free = free_shared_memory()
    assert free is None or free >= 0


def test_the_launcher_tells_how_many_processes_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert local_process_count(8) == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert local_process_count(8) == 4


def test_more_workers_than_cores_are_told_once(train_vectors: Any, caplog: pytest.LogCaptureFixture) -> None:
    many = hardware.usable_cores() + 1
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING, logger="mltrain"):
        warnings.simplefilter("error")
        train_vectors({"data.num_workers": many, "training.num_epochs": 1})
    assert caplog.text.count("loading may be slower") == 1


def test_a_warm_up_that_never_ends_is_told(train_vectors: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mltrain"):
        train_vectors({"scheduler.warmup_epochs": 3, "training.num_epochs": 1})
    assert "the learning rate never reaches optimizer.lr" in caplog.text


def test_all_global_generators_are_seeded() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    seed_everything(2**63 + 5)
    first = draws()
    assert draws() != first
    seed_everything(2**63 + 5)
    assert draws() == first


def test_a_run_without_validation_is_told(train_vectors: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mltrain"):
        train_vectors({"data.val_size": 0, "training.num_epochs": 1})
    assert "There is no validation split" in caplog.text
