"""Sockets of processes that work together: on one machine they stay on its loopback interface."""

from __future__ import annotations

import os
import socket

import psutil

__all__ = ["stay_on_this_machine"]

# gloo and NCCL listen on the first interface they find unless these name one.
_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def stay_on_this_machine() -> None:
    """Bind the sockets of gloo and NCCL to the loopback interface, where a launcher started all processes here.

    What the environment says already stays. Must run before the processes join their group. The launcher's own store,
    through which they find each other, is not reached by this: torch opens it on every interface.
    """
    here, everywhere = os.environ.get("LOCAL_WORLD_SIZE"), os.environ.get("WORLD_SIZE", "1")
    loopback = _loopback()
    if here == everywhere != "1" and loopback is not None:
        for name in _VARIABLES:
            os.environ.setdefault(name, loopback)


def _loopback() -> str | None:
    """Return the name of the interface that has 127.0.0.1."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(found.family == socket.AF_INET and found.address == "127.0.0.1" for found in addresses):
            return str(name)
    return None
