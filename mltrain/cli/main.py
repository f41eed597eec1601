"""The table of commands, and the one place where an error becomes a line and an exit code.

`mltrain <verb> ...` and `ml-<verb> ...` are the same; `mltrain --config ...` means `mltrain train --config ...`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mltrain.core.errors import ConfigError, MltrainError

__all__ = ["COMMANDS", "main"]

# verb -> (module with `add_arguments` and `run`, one line of help)
COMMANDS = {
    "make-data": ("mltrain.cli.make_data", "write a small data set to try things with"),
    "split": ("mltrain.cli.split", "divide a folder of images into folds and a test set"),
    "train": ("mltrain.cli.train", "train on one fold, from a YAML file"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0; 2 for what the user can mend; 1 for a defect; 128 + n for a signal."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    called = Path(sys.argv[0]).name.removesuffix(".exe")
    verb = called.removeprefix("ml-") if arguments is None and called.startswith("ml-") else None
    if verb is None and words and words[0] in COMMANDS:
        verb = words.pop(0)
    elif verb is None and words and words[0].startswith("-") and words[0] not in ("-h", "--help", "--version"):
        verb = "train"
    if verb is None:
        return _overview(words)
    module = importlib.import_module(COMMANDS[verb][0])
    program = f"ml-{verb}" if called.startswith("ml-") else f"mltrain {verb}"
    parser = argparse.ArgumentParser(
        prog=program,
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    module.add_arguments(parser)
    parsed = parser.parse_intermixed_args(words)
    return _guarded(module.run, parsed)


def _guarded(run: object, parsed: argparse.Namespace) -> int:
    assert callable(run)
    try:
        return int(run(parsed))
    except MltrainError as error:
        if parsed.debug:
            raise
        # Every process of a launch meets the same error; one line is enough.
        if os.environ.get("RANK", "0") == "0":
            for line in error.problems if isinstance(error, ConfigError) else [str(error)]:
                print(f"error: {line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        if parsed.debug:
            raise
        print(
            f"error: {type(error).__name__}: {error} (a defect of mltrain; --debug shows where)".replace("\n", " "),
            file=sys.stderr,
        )
        return 1


def _overview(words: Sequence[str]) -> int:
    """Answer a call without a verb."""
    if "--version" in words:
        from mltrain.core.version import __version__

        print(f"mltrain {__version__}")
        return 0
    lines = [f"  {verb:<10} {text}" for verb, (_, text) in COMMANDS.items()]
    text = "\n".join(["usage: mltrain <command> ...", "", *lines, "", "mltrain <command> --help says more."])
    if not words or words[0] in ("-h", "--help"):
        print(text)
        return 0
    from mltrain.core.registry import nearest

    close = nearest(words[0], list(COMMANDS))
    hint = f"Did you mean {close}?" if close else f"Known: {', '.join(COMMANDS)}."
    print(f"error: unknown command {words[0]!r}. {hint}", file=sys.stderr)
    return 2
