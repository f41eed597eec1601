"""Loader processes that are killed at the worst moments: an error for the training process, never an endless wait."""

from __future__ import annotations

from pathlib import Path

import pytest
from warm_process import run_warm

PROGRAM = """
import gc, multiprocessing.synchronize, os, random, signal, sys, time

import torch

from mltrain.data.loader import LoaderSettings, TrainingStream
from mltrain.data.plan import Cut, Position, ShuffledPlan


class Numbers:
    def __len__(self):
        return 64

    def sample_id(self, index):
        return str(index)

    def load(self, index, generator):
        if LOADER_DIES and index == 5:
            # Where a kill may find it: it asks whether it is to stop.
            for found in gc.get_objects():
                if isinstance(found, multiprocessing.synchronize.Event):
                    found._cond.acquire()
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.full((8,), index)


def stream():
    return TrainingStream(
        Numbers(), lambda items: {"rows": torch.stack(items)}, ShuffledPlan(64, 8, seed=1), Cut(0, 1, 4), seed=1,
        settings=LoaderSettings(num_workers=2), start=Position(), num_epochs=1000,
    )


def error_of(running, step_to_kill=-1):
    try:
        for step in range(8000):
            list(running.next_window().batches)
            if step == step_to_kill:
                os.kill(running._batches._workers[0].pid, signal.SIGKILL)
    except (RuntimeError, OSError, EOFError) as error:
        return error
    finally:
        running.close()


signal.alarm(100)
"""

AT_ITS_WORST = """
LOADER_DIES = True
assert error_of(stream()) is not None
"""

BY_ITSELF = """
LOADER_DIES = False
Numbers.load = lambda self, index, generator: sys.exit(5) if index == 5 else torch.full((8,), index)
for _ in range(20):
    assert "exited unexpectedly with exit code 5" in str(error_of(stream()))
"""

AT_RANDOM = """
LOADER_DIES = False
draws = random.Random(3)
for _ in range(25):
    assert error_of(stream(), draws.randrange(40)) is not None
"""


@pytest.mark.parametrize(
    "kills", [AT_ITS_WORST, AT_RANDOM, BY_ITSELF], ids=["while it asks whether to stop", "at random", "by itself"]
)
def test_a_lost_loader_process_is_an_error_and_no_hang(kills: str, tmp_path: Path) -> None:
    result = run_warm(["python", "-c", PROGRAM + kills], tmp_path)
    assert result.returncode == 0, result.stderr
