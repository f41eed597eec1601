"""A disk that fills up while a run logs: one line, no pages of traceback, and the run continues when there is room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT
from runs import history
from warm_commands import WarmCommand, need_mounts

from mltrain.core.files import read_json
from mltrain.workflows.train import train

CONFIG = f"""task: acting_vectors
plugins: [{ROOT}/tests/support/acting_task.py]
data: {{num_workers: 0}}
model: {{}}
training: {{num_epochs: 2, batch_size: 1}}
callbacks: {{acting: {{}}}}
tracking: {{log_every_n_steps: 1, mlflow: {{enabled: false}}, tensorboard: {{enabled: true}}}}
reproducibility: {{num_threads: 1}}
"""
# The mount is seen by this process alone, so it does all: train, make room, continue.
PROGRAM = """
import shutil, sys
from pathlib import Path
from mltrain.cli.main import main

codes = [main(["train", "--config", "it.yaml", "--run_name", "it"])]
print("FREED", file=sys.stderr)
Path("runs/filler").unlink()
codes.append(main(["train", "--resume", "runs/it"]))
shutil.copytree("runs/it", "copy")
sys.exit(0 if codes == [2, 0] else f"exit codes {codes}")
"""


def test_a_disk_that_fills_up_ends_the_run_with_one_line(tmp_path: Path) -> None:
    need_mounts()
    (tmp_path / "it.yaml").write_text(CONFIG)
    (tmp_path / "runs").mkdir()
    acts: list[dict[str, Any]] = [{"place": "on_step_end", "at": 60, "do": ["fill disk"]}]
    mounts = [["-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path / "runs")]]
    result = WarmCommand(["python", "-c", PROGRAM], tmp_path, {"ACT": json.dumps(acts)}, mounts).end()
    assert result.returncode == 0, result.stderr
    shown = result.stderr.split("FREED")[0]
    run = tmp_path / "runs" / "it"
    (line,) = [line for line in shown.splitlines() if line.startswith("error:")]
    assert line == (
        f"error: {run}/metrics.jsonl: cannot be written (No space left on device). "
        "Free some space, then continue with --resume: what was saved is whole."
    )
    assert "Traceback" not in shown

    straight = train(yaml.safe_load(CONFIG), {"run.dir": str(tmp_path / "straight")}, verbose=False)
    assert read_json(tmp_path / "copy" / "summary.json")["model_digest"] == straight.summary["model_digest"]
    assert history(tmp_path / "copy") == history(straight.folder)
