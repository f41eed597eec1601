"""The variables by which the processes of a run find each other, as a launcher sets them."""

from __future__ import annotations

import socket

__all__ = ["rank_environments"]


def rank_environments(count: int) -> list[dict[str, str]]:
    """Return the variables of each of `count` processes on this machine; of a single one there are none."""
    if count == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    common["MASTER_PORT"] = str(port)
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
