import json
import os
import subprocess
import sys

import psutil
import pytest

from mltrain.callbacks.system_metrics import SystemMetrics
from mltrain.config.schema import SystemMetricsSection
from mltrain.core.hardware import usable_cores
from mltrain.data.plan import Position

NAMES = {"system/cpu_percent", "system/memory_percent", "system/process_memory_gib"}
SPIN = "import sys\nprint(flush=True)\nwhile True: pass"


class FakeLoop:
    """The position and the log of a loop."""

    def __init__(self, *, is_main: bool = True) -> None:
        self.is_main, self.position, self.logged = is_main, Position(), []

    def log(self, values):
        self.logged.append((self.position.step, dict(values)))


def walk(callback, loop, *, steps):
    """Take steps of one epoch, and end it."""
    callback.on_fit_start(loop)
    for _ in range(steps):
        loop.position = loop.position.after_step()
        callback.on_step_end(loop)
    callback.on_epoch_end(loop, 0, {})
    return [step for step, _ in loop.logged]


def test_an_interval_that_has_not_passed_logs_at_the_end_of_the_epoch_alone():
    loop = FakeLoop()
    assert walk(SystemMetrics(SystemMetricsSection(interval_s=3600.0)), loop, steps=5) == [5]
    assert loop.logged[0][1].keys() >= NAMES


def test_no_step_is_logged_twice():
    assert walk(SystemMetrics(SystemMetricsSection(interval_s=0.0)), FakeLoop(), steps=3) == [1, 2, 3]


def test_other_processes_than_the_main_one_log_nothing():
    assert walk(SystemMetrics(SystemMetricsSection(interval_s=0.0)), FakeLoop(is_main=False), steps=3) == []


def test_children_count_and_more_than_all_cores_cannot_be_used():
    loop = FakeLoop()
    callback = SystemMetrics(SystemMetricsSection(interval_s=0.0))
    child = subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        callback.on_fit_start(loop)
        worked = psutil.Process(child.pid)
        before = worked.cpu_times().user
        while worked.cpu_times().user < before + 0.5:
            os.sched_yield()
        callback.on_step_end(loop)
        with_child = loop.logged[0][1]
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    callback.on_step_end(loop)
    without = loop.logged[1][1]
    assert 0.1 < with_child["system/cpu_percent"] <= 100.0 * os.cpu_count() / usable_cores() + 5.0
    assert with_child["system/process_memory_gib"] > without["system/process_memory_gib"] > 0.0
    assert 0.0 < without["system/memory_percent"] <= 100.0


def test_memory_is_that_of_the_process():
    loop = FakeLoop()
    callback = SystemMetrics(SystemMetricsSection(interval_s=0.0))
    callback.on_fit_start(loop)
    callback.on_step_end(loop)
    ballast = bytearray(os.urandom(1 << 20)) * 256
    callback.on_step_end(loop)
    small, large = (values["system/process_memory_gib"] for _, values in loop.logged)
    assert large - small == pytest.approx(len(ballast) / 2**30, abs=0.05)


def test_a_run_logs_them_and_can_be_told_not_to(train_vectors):
    def logged(**settings):
        overrides = {f"tracking.system_metrics.{key}": value for key, value in settings.items()}
        folder = train_vectors(overrides).folder
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [record["step"] for record in records if record.keys() >= NAMES], records

    steps, records = logged()
    assert steps == [7, 14, 21]
    assert all(record.keys() <= {*NAMES, "step", "epoch", "time"} for record in records if NAMES & record.keys())
    assert logged(enabled=False)[0] == []


def test_gpus_that_this_machine_does_not_have_are_not_logged():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    loop = FakeLoop()
    walk(SystemMetrics(SystemMetricsSection()), loop, steps=1)
    assert loop.logged[0][1].keys() == NAMES
