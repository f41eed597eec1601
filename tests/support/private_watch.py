"""A plugin: the vectors task, whose private steps are noted outside of the run, and that dies at exact places of them.

WATCH names a file; each rank appends JSON lines to "WATCH.rank". DRAWS may name a plan of `private_plans`. DIE holds
[place, n]: SIGKILL when the process comes to a place for the n-th time. Places, in the order of a step: "counting" (the
ledger has half of its line), "counted", "noised", "stepping", "stepped", "step end"; and "saved".
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import private_plans
import torch
import vectors_task  # noqa: F401 (registers the task)

import mltrain.privacy.statement as statement
import mltrain.trainers.dp as dp
import mltrain.workflows.session as session
from mltrain.callbacks.base import Callback, Loop, register_callback
from mltrain.privacy.noise import NoiseSource

__all__ = ["PrivateWatch"]

_LEDGER = "privacy_ledger.jsonl"
_DEATH, _NUMBER = json.loads(os.environ.get("DIE", '["never", 0]'))
_passed = 0


def note(event: str, **values: Any) -> None:
    """Append a line to this rank's file, and come to the place that is called like the event."""
    line = json.dumps({"event": event, "process": os.getpid(), **values}) + "\n"
    with Path(f"{os.environ['WATCH']}.{os.environ.get('RANK', '0')}").open("ab", buffering=0) as stream:
        stream.write(line.encode())
    come_to(event)


def come_to(place: str) -> None:
    """Die here, if that is wished."""
    global _passed
    if place == _DEATH:
        _passed += 1
        if _passed == _NUMBER:
            os.kill(os.getpid(), signal.SIGKILL)


def digest(*tensors: torch.Tensor) -> str:
    """Return a digest of values."""
    return hashlib.sha256(b"".join(tensor.detach().contiguous().numpy().tobytes() for tensor in tensors)).hexdigest()


@register_callback("private_watch")
class PrivateWatch(Callback):
    """Notes what each step drew, added and learned."""

    def on_fit_start(self, loop: Any) -> None:
        """Note every step of the optimizer, from before it is taken."""
        self._parameters = [parameter for parameter in loop.plain_model.parameters() if parameter.requires_grad]
        loop.optimizer.register_step_pre_hook(lambda *_: self._stepping(loop))
        loop.optimizer.register_step_post_hook(lambda *_: come_to("stepped"))

    def _stepping(self, loop: Any) -> None:
        gradients = torch.cat([parameter.grad.flatten() for parameter in self._parameters])
        note(
            "stepping",
            position=loop.position.step,
            counted=loop.account.steps,
            epsilon=loop.account.epsilon(),
            drawn=loop.plan.window(loop.position.epoch, loop.position.window).tolist(),
            gradient=digest(gradients),
            squares=float(gradients.double().square().sum()),
            count=len(gradients),
        )

    def on_step_end(self, loop: Loop) -> None:
        """Note the weights."""
        weights = digest(*loop.plain_model.parameters())
        note("step end", weights=weights, rate=[group["lr"] for group in loop.optimizer.param_groups])

    def on_checkpoint(self, loop: Loop, name: str) -> None:
        """Note that the checkpoint is there."""
        note("saved", name=name)


def _watch_noise() -> None:
    draw = NoiseSource.draw

    def noted(self: NoiseSource, count: int) -> torch.Tensor:
        drawn = draw(self, count)
        note("noised", noise=digest(drawn))
        return drawn

    NoiseSource.draw = noted  # type: ignore[method-assign]


def _watch_ledger() -> None:
    write, sync = os.write, os.fdatasync

    def is_ledger(file: int) -> bool:
        return Path(f"/proc/self/fd/{file}").readlink().name == _LEDGER

    def noted_write(file: int, content: bytes) -> int:
        if _DEATH == "counting" and is_ledger(file):
            half = np.random.default_rng().integers(1, len(content))
            write(file, content[:half])
            come_to("counting")
            return half + write(file, content[half:])
        return write(file, content)

    def noted_sync(file: int) -> None:
        sync(file)
        if is_ledger(file):
            note("counted")

    os.write, os.fdatasync = noted_write, noted_sync


if "WATCH" in os.environ:
    # Seconds at the end of each run, for what other tests look at.
    session.draw_curves = lambda *_, **__: None  # type: ignore[assignment]
    statement._pld = lambda _: None
    _watch_noise()
    _watch_ledger()
    if "DRAWS" in os.environ:
        dp.PoissonPlan = getattr(private_plans, os.environ["DRAWS"])  # type: ignore[misc]
