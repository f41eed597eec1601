"""Writes docs/commands.md from the commands' own arguments: `python docs/generate_commands.py`."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path

from mltrain.cli.main import COMMANDS

TARGET = Path(__file__).with_name("commands.md")
HEAD = """# Commands

`mltrain VERB ...` runs a command; `mltrain --config FILE` is short for `mltrain train --config FILE`. `ml-split` and
`ml-train` are other names of `mltrain split` and `mltrain train`. A flag may be written with `-` in place of `_` where
both forms are listed.

Every command takes `--help`, and `--debug`, which shows the traceback of an error. Written by
`docs/generate_commands.py`.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a defect of mltrain or of a plugin |
| 2 | something that you can mend: the message says what, where and how |
| 75 | another process of the run was lost: what was saved is whole, and the same with `--resume` goes on |
| 130, 143 | interrupted by Ctrl-C or SIGTERM; a run that was training is saved |
"""


def reference() -> str:
    """Return the page."""
    return "\n".join([HEAD, *(line for verb in COMMANDS for line in _command(verb))]).rstrip() + "\n"


def _command(verb: str) -> Iterator[str]:
    module = importlib.import_module(COMMANDS[verb][0])
    parser = argparse.ArgumentParser(prog=f"mltrain {verb}", add_help=False)
    module.add_arguments(parser)
    yield f"## {verb}\n"
    yield from _description(module.__doc__ or "")
    if parser._actions:
        yield "| argument | default | what |\n|---|---|---|"
        yield from (_row(action) for action in parser._actions)
        yield ""


def _description(text: str) -> Iterator[str]:
    """Yield a docstring's paragraphs; indented ones are examples."""
    for paragraph in text.strip().split("\n\n"):
        lines = paragraph.strip("\n").splitlines()
        if all(line.startswith(("  ", "mltrain ", "ml-")) for line in lines):
            yield "\n".join(["```text", *(line.strip() for line in lines), "```\n"])
        else:
            yield "\n".join(line.strip() for line in lines) + "\n"


def _row(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    value = "" if action.nargs == 0 else f"`{_value(action)}`"
    argument = " ".join(filter(None, [names, value]))
    optional = action.default is not None and action.default is not False and action.default not in ([], ())
    shown = _shown(action.default)
    default = "required" if action.required and action.nargs != "*" else f"`{shown}`" if optional else ""
    what = " ".join((action.help or "").split()).removesuffix(f" (default: {shown})")
    what = what.replace("%%", "%").replace("|", "\\|").replace("<", "\\<")
    return f"| {argument} | {default} | {what} |"


def _shown(default: object) -> str:
    """Return a default as it would be typed."""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _value(action: argparse.Action) -> str:
    if action.choices is not None:
        return ",".join(map(str, action.choices))
    metavar = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    words = " ".join(metavar) if isinstance(metavar, tuple) else metavar
    return f"{words} ..." if action.nargs in ("*", "+") else words


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
