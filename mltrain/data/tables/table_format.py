"""How a table file is to be read, as far as the file does not say it itself."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mltrain.core.errors import ConfigError, DataError
from mltrain.data.image_files import printable

__all__ = ["Quoting", "TableFormat", "TableKind", "kind_of"]

Quoting = Literal["csv", "none"]
TableKind = Literal["delimited", "json", "parquet"]

_KINDS: dict[str, TableKind] = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".tab": "delimited",
    ".txt": "delimited",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}


@dataclass(frozen=True)
class TableFormat:
    """The format of a file of separated values; the others say their own.

    column_names: names of the columns where the first line is a row already. None: the first line names them.
    quoting: "csv": a value with a delimiter, a quote or a line break stands in double quotes. "none": a quote is a
        character like any other, and a line break ends the row.
    """

    column_names: tuple[str, ...] | None = None
    quoting: Quoting = "csv"

    def arguments(self) -> list[str]:
        """Return the arguments of `ml-split` that say the same."""
        words = ["--column_names", *self.column_names] if self.column_names is not None else []
        return words + (["--quoting", self.quoting] if self.quoting != "csv" else [])

    def refuse_needless(self, file: Path) -> None:
        """Raise ConfigError where the file says itself what is set here."""
        if kind_of(file) == "delimited" or self == TableFormat():
            return
        key = "column_names" if self.column_names is not None else "quoting"
        raise ConfigError(
            f"is for files of separated values, not for {printable(file.name)}",
            where=f"data.{key}",
            fix=f"Leave it out (--{key} in ml-split).",
        )


def kind_of(file: Path) -> TableKind:
    """Return what a file is, by its suffix.

    Raises:
        DataError: it is none of the kinds that are read.
    """
    kind = _KINDS.get(file.suffix.lower())
    if kind is None:
        called = f"a file of kind {printable(file.suffix)}" if file.suffix else "a file without a suffix"
        raise DataError(
            f"{called} is not read as a table",
            where=printable(str(file)),
            fix=f"Save it as CSV in UTF-8, or as one of {shlex.join(_KINDS)}.",
        )
    return kind
