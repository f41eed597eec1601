"""JSON lines: one object a line, streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from mltrain.core.errors import DataError
from mltrain.data.image_files import printable
from mltrain.data.tables.row_batches import ROWS_A_BATCH, BadRows, RowBatch, text_table

__all__ = ["JsonLinesTable"]


class JsonLinesTable:
    """See `row_batches.TableReader`. Its columns are the keys of all its objects, in the order of their first use.

    A number is the text that it is written as; true and false are True and False, as pandas writes them into CSV; null
    and NaN are missing values; lists and objects are their JSON. A line that is no object is bad; empty lines are
    passed over.

    Raises:
        DataError: the file is empty, cannot be read, or holds one array.
    """

    unit: Literal["line", "row"] = "line"

    def __init__(self, file: Path) -> None:
        self._file = file
        self.bad = BadRows()
        names: dict[str, None] = {}
        for _, row in self._objects():
            names.update(dict.fromkeys(row))
        if not names and self.bad.first:
            flaw = self.bad.first[0]
            raise DataError(f"no line can be read; {flaw.what}", where=f"{printable(str(file))}:{flaw.place}")
        if not names:
            raise DataError(
                "the table is empty", where=printable(str(file)), fix="Write one JSON object with values a line."
            )
        self.columns = list(names)

    def batches(self) -> Iterator[RowBatch]:
        """Yield all rows."""
        self.bad = BadRows()
        places: list[int] = []
        rows: list[list[str | None]] = []
        for line, row in self._objects():
            places.append(line)
            rows.append([_text(row.get(name)) for name in self.columns])
            if len(rows) == ROWS_A_BATCH:
                yield RowBatch(text_table(self.columns, rows), places)
                places, rows = [], []
        if rows:
            yield RowBatch(text_table(self.columns, rows), places)

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            with self._file.open("rb") as stream:
                for line, content in enumerate(stream, start=1):
                    if line == 1:
                        content = content.removeprefix(b"\xef\xbb\xbf")
                        self._refuse_array(content)
                    if content.strip() and (row := self._object(line, content)) is not None:
                        yield line, row
        except OSError as error:
            raise DataError(
                f"the table cannot be read ({error.strerror})",
                where=printable(str(self._file)),
                fix="Give the path of a table that may be read.",
            ) from None

    def _object(self, line: int, content: bytes) -> dict[str, Any] | None:
        try:
            text = content.decode()
            row = _parsed(text)
        except (ValueError, RecursionError) as error:
            cause = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
            self.bad.add(line, f"the line is {cause}. Write one JSON object a line, in UTF-8.")
            return None
        if not isinstance(row, dict):
            self.bad.add(line, "the line is no JSON object. Write one with a key for each column.")
            return None
        if "\\u" in text and (code := _half_character(row)) is not None:
            self.bad.add(line, f"the line holds {code}, which is half of a character. Write the text again, in UTF-8.")
            return None
        return row

    def _refuse_array(self, content: bytes) -> None:
        if content.lstrip().startswith(b"["):
            raise DataError(
                "the file begins with a JSON array; JSON lines are read",
                where=f"{printable(str(self._file))}:1",
                fix="Write one object a line, without brackets and commas around them.",
            )


def _parsed(line: str) -> Any:
    """Return the value of a line; numbers that are values of its object are the texts that they are written as."""
    value = json.loads(line, parse_float=str, parse_int=str, parse_constant=lambda _: None)
    if isinstance(value, dict) and any(isinstance(one, list | dict) for one in value.values()):
        plain = json.loads(line)
        value.update({name: plain[name] for name, one in value.items() if isinstance(one, list | dict)})
    return value


def _half_character(row: Any) -> str | None:
    """Return the code of a surrogate without its other half, which an escape can stand for and no file can hold."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return f"U+{ord(error.object[error.start]):04X}"
    return None


def _text(value: Any) -> str | None:
    """Return a value of JSON, whose numbers are texts already, as text; None for null and NaN."""
    if value is None or isinstance(value, str):
        return value
    return str(value) if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)
