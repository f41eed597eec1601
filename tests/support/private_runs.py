"""Private runs in processes of their own, watched and killed; what they took, whatever they say themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT
from rank_environment import rank_environments
from warm_commands import WarmCommand, wait_until

from mltrain.privacy.ledger import Ledger

__all__ = ["PrivateRun", "private_config"]

PLUGIN = ROOT / "tests" / "support" / "private_watch.py"


def private_config(vectors: Mapping[str, Any], dp: Mapping[str, Any], **sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a private run of the vectors that is watched."""
    config = {name: dict(value) if isinstance(value, dict) else value for name, value in vectors.items()}
    config |= {"plugins": [str(PLUGIN)], "callbacks": {"private_watch": {}}}
    config["training"] |= {"trainer_type": "dp", "dp": {"accountant": "rdp", "grad_sample_mode": "hooks", **dp}}
    config["tracking"]["system_metrics"] = {"enabled": False}
    for name, values in sections.items():
        config[name] = {**config.get(name, {}), **values}
    return config


class PrivateRun:
    """One run in a folder, in as many lives as it takes.

    Args:
        folder: where it lies, beside what is noted of it.
        config: of the run.
        processes: of each life.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], processes: int = 1) -> None:
        self.base, self.folder, self._processes = folder, folder / "runs" / "it", processes
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")

    def start(self, **environment: str) -> list[WarmCommand]:
        """Begin or continue the run."""
        words = ["mltrain", "--config", "config.yaml", "--run_name", "it", "--resume", "auto"]
        watch = {"WATCH": str(self.base / "watch"), **environment}
        ranks = rank_environments(self._processes)
        return [WarmCommand(words, self.base, {**watch, **variables}) for variables in ranks]

    def finish(self, **environment: str) -> None:
        """Begin or continue the run, and see it end well."""
        results = [command.end() for command in self.start(**environment)]
        assert [result.returncode for result in results] == [0] * self._processes, results

    def die_at(self, place: str, number: int, **environment: str) -> bool:
        """Begin or continue the run until it dies at a place; returns whether it did, or ended before."""
        commands = self.start(DIE=json.dumps([place, number]), **environment)
        wait_until(lambda: not all(command.is_alive for command in commands), "the run to die")
        results = []
        for command in commands:
            if len(commands) > 1:
                command.kill()  # it waits for the other one
            results.append(command.end())
        codes = [result.returncode for result in results]
        assert -9 in codes or codes == [0] * self._processes, results
        return -9 in codes

    def die_after(self, lines: int) -> bool:
        """Begin or continue the run and kill all of it when it has noted so many lines more."""
        goal = len(self.noted()) + lines
        commands = self.start()
        wait_until(lambda: len(self.noted()) >= goal or not commands[0].is_alive, "the run to get on")
        for command in commands:
            command.kill()
        return commands[0].end().returncode == -9

    def noted(self, event: str | None = None, rank: int = 0) -> list[dict[str, Any]]:
        """Return what was noted on a rank, over all lives."""
        path = self.base / f"watch.{rank}"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if event in (None, line["event"])]

    @property
    def ledger_steps(self) -> int:
        """Return the steps that the run's ledger counts, or would count if the run were continued."""
        path = self.folder / "privacy_ledger.jsonl"
        if not path.exists():
            return 0
        copy = Path(shutil.copy(path, self.base / "ledger copy"))
        ledger = Ledger(copy, Ledger.mechanism_of(copy))
        ledger.close()
        return ledger.steps

    def json(self, name: str) -> Any:
        """Return a JSON file of the run folder."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))
