"""What the flags of commands have in common: two spellings of each name, and lists of numbers."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_flag", "counts"]


def add_flag(parser: argparse.ArgumentParser, name: str, **settings: Any) -> None:
    """Declare `--a_name`, which may be spelt `--a-name` too.

    Args:
        parser: of the command.
        name: with underscores; the attribute of the parsed arguments as well.
        settings: as `ArgumentParser.add_argument` takes them.
    """
    names = dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"])
    parser.add_argument(*names, dest=name, **settings)


def counts(text: str) -> tuple[int, ...]:
    """Return the numbers of `1,8,64`; raises the parser's error for anything else."""
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not (word.isdecimal() and int(word)):
            what = f"{word!r} is not a whole number of 1 or more; write one, or several with commas between: 1,8,64"
            raise argparse.ArgumentTypeError(what)
    return tuple(int(word) for word in words)
