"""Reads W&B's offline files: records of `wandb_internal.proto` in the log format of LevelDB."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEADER = 32768, 7
_WHOLE, _FIRST, _LAST = 1, 2, 4


def read_records(path: Path) -> Iterator[Any]:
    """Yield the records of a `.wandb` file. Torn ends raise."""
    from wandb.proto import wandb_internal_pb2

    content = path.read_bytes()
    assert content[:4] == b":W&B"
    offset, parts = 7, []
    while offset < len(content):
        left = _BLOCK - offset % _BLOCK
        if left < _HEADER:
            offset += left
            continue
        _, length, kind = struct.unpack("<IHB", content[offset : offset + _HEADER])
        offset += _HEADER
        parts = [] if kind in (_WHOLE, _FIRST) else parts
        parts.append(content[offset : offset + length])
        offset += length
        if kind in (_WHOLE, _LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            yield record


def rows(records: list[Any]) -> list[dict[str, Any]]:
    """Return the history: one dict a row."""
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
