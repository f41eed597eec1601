"""An error that is nobody's to mend: exit code 1, one line, the traceback in the run's log and with --debug."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mltrain.cli.main import main
from mltrain.core.files import read_json

# As a defect of ours would show itself: nothing of the plugin is on the way from the loop to the error.
BREAKS_THE_LOOP = """
from mltrain.callbacks.base import Callback, register_callback

@register_callback("breaks_the_loop")
class BreaksTheLoop(Callback):
    def on_step_end(self, loop):
        loop.meter = None
"""


def test_a_defect(vectors: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("breaks.py").write_text(BREAKS_THE_LOOP)
    config = {**vectors, "plugins": [*vectors["plugins"], "breaks.py"], "callbacks": {"breaks_the_loop": {}}}
    Path("it.yaml").write_text(yaml.safe_dump(config))
    for flags in ([], ["--debug"]):
        assert main(["train", "--config", "it.yaml", "--run_name", f"it{len(flags)}", *flags]) == 1
        shown, run = capsys.readouterr().err, Path("runs", f"it{len(flags)}")
        (line,) = [line for line in shown.splitlines() if line.startswith("error:")]
        assert line.startswith("error: AttributeError: 'NoneType' object has no attribute")
        assert line.endswith("(a defect of mltrain; --debug shows where)")
        assert ("Traceback (most recent call last):" in shown) == bool(flags)
        assert "Traceback (most recent call last):" in (run / "logs" / "train.log").read_text()
        summary = read_json(run / "summary.json")
        assert summary["status"] == "failed"
        assert summary["reason"].startswith("AttributeError")
