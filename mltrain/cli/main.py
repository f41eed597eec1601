"""The table of commands.

`mltrain <verb> ...` and `ml-<verb> ...` are the same; `mltrain --config ...` means `mltrain train --config ...`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mltrain.cli.failures import guarded
from mltrain.core.registry import nearest
from mltrain.core.version import __version__

__all__ = ["COMMANDS", "main"]

# verb -> (module with `add_arguments` and `run`, one line of help)
COMMANDS = {
    "make-data": ("mltrain.cli.make_data", "write a small data set to try things with"),
    "split": ("mltrain.cli.split", "divide the images of a folder or a table into folds and a test set"),
    "show-data": ("mltrain.cli.show_data", "draw what the model will see of the data, augmented"),
    "train": ("mltrain.cli.train", "train on one fold, from a YAML file"),
    "privacy": ("mltrain.cli.privacy", "say what privacy a configuration gives, before training"),
    "scaling": ("mltrain.cli.scaling", "say what a model takes on one device to a thousand"),
    "doctor": ("mltrain.cli.doctor", "say what this machine can do, and what to set for it"),
    "rerun": ("mltrain.cli.rerun", "train a run again and compare the results to the bit"),
    "verify-resume": ("mltrain.cli.verify_resume", "kill runs and see that they continue to the same bits"),
    "audit-privacy": ("mltrain.cli.audit_privacy", "attack the private step with canaries and compare with the claim"),
    "sync": ("mltrain.cli.sync", "send what the trackers of earlier runs missed"),
    "list": ("mltrain.cli.list_runs", "show runs as a table"),
    "ui": ("mltrain.cli.ui", "show runs in the browser, in MLflow's UI"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0; 2 for what the user can mend; 1 for a defect; 128 + n for a signal."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    called = Path(sys.argv[0]).name.removesuffix(".exe") if arguments is None else "mltrain"
    verb = called.removeprefix("ml-") if called.startswith("ml-") else None
    if verb is None:
        verb = _take_verb(words)
    if verb not in COMMANDS:
        return guarded(_overview, words, debug="--debug" in words)
    module = importlib.import_module(COMMANDS[verb][0])
    parser = _Parser(
        prog=called if called.startswith("ml-") else f"mltrain {verb}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"mltrain {__version__}", help="show the version")
    module.add_arguments(parser)
    parsed = parser.parse_intermixed_args(words)
    return guarded(module.run, parsed, debug=parsed.debug)


class _Parser(argparse.ArgumentParser):
    """Meets a mistake with one line and, for a flag that does not exist, with the nearest one that does."""

    def error(self, message: str) -> NoReturn:
        hints = []
        if message.startswith("unrecognized arguments: "):
            known = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
            for word in message.removeprefix("unrecognized arguments: ").split():
                close = nearest(word.partition("=")[0], known) if word.startswith("--") else None
                hints += [f"Did you mean {close}?"] if close else []
        hints = hints or [f"See {self.prog} --help."]
        self.exit(2, f"error: {message.rstrip('.')}. {' '.join(hints)}\n")


def _take_verb(words: list[str]) -> str | None:
    """Remove the verb from the words and return it; None: there is none."""
    place = 1 if words[:1] == ["--debug"] and words[1:] else 0
    if words[place:] and words[place] in COMMANDS:
        return words.pop(place)
    if words and words[0].startswith("-") and words[0] not in ("-h", "--help", "--version"):
        return "train"
    return None


def _overview(words: Sequence[str]) -> int:
    """Answer a call without a verb."""
    if words[:1] == ["--version"]:
        print(f"mltrain {__version__}")
        return 0
    lines = [f"  {verb:<13} {text}" for verb, (_, text) in COMMANDS.items()]
    text = "\n".join(["usage: mltrain <command> ...", "", *lines, "", "mltrain <command> --help says more."])
    if not words or words[0] in ("-h", "--help"):
        print(text)
        return 0
    close = nearest(words[0], list(COMMANDS))
    hint = f"Did you mean {close}?" if close else f"Known: {', '.join(COMMANDS)}."
    print(f"error: unknown command {words[0]!r}. {hint}", file=sys.stderr)
    return 2
