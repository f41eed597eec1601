"""`tracking/wandb.json`: which W&B run this folder is, and what was handed to it. Imports no wandb."""

from __future__ import annotations

import re
from typing import Any

from mltrain.core.files import read_record, write_json
from mltrain.core.run_folder import RunFolder

__all__ = ["read_address", "write_address"]

_FILE_NAME = "wandb.json"
_ID = re.compile(r"[\w-]{1,128}")


def read_address(folder: RunFolder) -> dict[str, Any]:
    """Return the run's `id` and `url`, and for each mode what was handed over; empty when there is none yet.

    The ID becomes a part of file names: one that W&B cannot have given is no ID.
    """
    address = read_record(folder.tracking / _FILE_NAME)
    name = address.get("id")
    return address if isinstance(name, str) and _ID.fullmatch(name) else {}


def write_address(folder: RunFolder, address: dict[str, Any]) -> None:
    """Keep it."""
    write_json(folder.tracking / _FILE_NAME, address)
