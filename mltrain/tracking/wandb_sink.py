"""One W&B run, continued under the same ID however often the training process is stopped."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import wandb

from mltrain.core.run_folder import RunFolder
from mltrain.tracking.metrics_log import NOT_VALUES
from mltrain.tracking.run_facts import read_facts, read_privacy
from mltrain.tracking.sink import Sink
from mltrain.tracking.wandb_address import read_address, write_address

__all__ = ["WandbRun", "open_sink"]

_INIT_TIMEOUT_S = 15.0
_LONGEST_TAG = 64
_GOOD_ENDS = ("completed", "early_stopped")


class WandbRun(Sink):
    """A run that is begun when there is something to send, so that looking again sends nothing.

    W&B's own step must only grow, whereas a resumed run goes back: so a row is numbered as it is sent, and the run's
    step is a value of it and the axis of the charts. What was sent is kept in the run folder, since files for
    `wandb sync` cannot be asked.

    Args:
        folder: the run folder.
        settings: `project`, `entity` and `mode`.
    """

    def __init__(self, folder: RunFolder, settings: Mapping[str, Any]) -> None:
        self._folder, self._settings = folder, settings
        self._address = {"id": secrets.token_hex(8), **read_address(folder)}
        self.name = f"W&B run {self._address['id']}"
        sent = self._address.setdefault(str(settings["mode"]), {"rows": 0, "last_steps": {}, "end": None})
        self._sent: dict[str, Any] = sent
        self._held = dict(sent["last_steps"])
        self._run: wandb.Run | None = None

    def points(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return one row, without values of steps that were sent before."""
        step = record["step"]
        values = {
            name: value
            for name, value in record.items()
            if name not in NOT_VALUES and isinstance(value, int | float) and step > self._held.get(name, -1)
        }
        about = {"step": step, "epoch": record["epoch"], "_timestamp": record["time"]}
        return [{**about, **values}] if values else []

    def send(self, points: Sequence[dict[str, Any]]) -> None:
        """Hand rows to W&B's own process, which waits for nothing."""
        run = self._begun()
        for row in points:
            run.log(row, step=self._sent["rows"])
            self._sent["rows"] += 1
            self._sent["last_steps"] |= {name: row["step"] for name in row if name not in (*NOT_VALUES, "_timestamp")}
        write_address(self._folder, self._address)

    def start_over(self) -> None:
        """Leave out what was sent by now."""
        self._held = dict(self._sent["last_steps"])

    def end(self, folder: RunFolder, status: str, *, ended_at: float) -> None:
        """Log the figures, say how the run ended, and wait until W&B has everything."""
        if self._run is None and self._sent["end"] == status:
            return
        run = self._begun()
        figures = {f"reports/{path.stem}": wandb.Image(str(path)) for path in sorted(folder.reports.glob("*.png"))}
        if figures:
            run.log(figures, step=self._sent["rows"])
            self._sent["rows"] += 1
        run.summary.update({"status": status, **read_privacy(folder)})
        run.finish(exit_code=0 if status in _GOOD_ENDS else 1)
        self._run, self._sent["end"] = None, status
        write_address(folder, self._address)

    def _begun(self) -> wandb.Run:
        if self._run is not None:
            return self._run
        write_address(self._folder, self._address)  # first: the server may know the run though it fails to say so
        try:
            run = self._run = self._init()
        except Exception:
            wandb.teardown()  # its process takes the run for begun, and would refuse to begin it again
            raise
        run.define_metric("step", hidden=True)
        run.define_metric("*", step_metric="step")
        self._sent["rows"] = max(self._sent["rows"], run.step)
        if self._settings["mode"] == "online":
            self._address["url"] = run.url
            write_address(self._folder, self._address)
        return run

    def _init(self) -> wandb.Run:
        facts = read_facts(self._folder)
        return wandb.init(
            id=self._address["id"],
            resume="allow",
            name=facts.name,
            project=self._settings.get("project") or facts.project,
            entity=self._settings.get("entity"),
            mode=self._settings["mode"],
            dir=str(self._folder.tracking),
            notes="\n\n".join(filter(None, [facts.description, facts.notice])) or None,
            tags=[f"{name}:{text}"[:_LONGEST_TAG] for name, text in facts.tags.items()],
            config={**facts.config, "made_with": facts.circumstances},
            allow_val_change=True,
            settings=wandb.Settings(
                console="off", silent=True, disable_code=True, disable_git=True, x_disable_meta=True,
                x_disable_stats=True, init_timeout=_INIT_TIMEOUT_S,
            ),
        )  # fmt: skip


def open_sink(folder: RunFolder, settings: Mapping[str, Any]) -> Sink:
    """Open the W&B run of this folder."""
    return WandbRun(folder, settings)
