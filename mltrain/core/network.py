"""Sockets of processes that work together: the interface that they use is the one that leads to all of them."""

from __future__ import annotations

import os
import socket

import psutil

__all__ = ["choose_interface"]

# gloo and NCCL listen on the first interface they find unless these name one.
_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def choose_interface() -> None:
    """Bind the sockets of gloo and NCCL to one interface: the loopback where a launcher started all processes here.

    With several machines it is the one that leads to the first: a machine's own name mostly means its loopback, where
    the others do not reach it. What the environment says already stays. Must run before the processes join their group.
    """
    here, everywhere = os.environ.get("LOCAL_WORLD_SIZE"), os.environ.get("WORLD_SIZE", "1")
    if here is None or everywhere == "1" or all(name in os.environ for name in _VARIABLES):
        return
    address = "127.0.0.1" if here == everywhere else _own_address(os.environ.get("MASTER_ADDR"))
    interface = _interface(address)
    if interface is not None:
        for name in _VARIABLES:
            os.environ.setdefault(name, interface)


def _own_address(other: str | None) -> str | None:
    """Return the address by which this machine talks to another one, which may be itself; None: there is no way."""
    if not other:
        return None
    try:
        family, _, _, _, place = socket.getaddrinfo(other, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(place)  # sends nothing: it only chooses the way
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _interface(address: str | None) -> str | None:
    """Return the name of the interface that has an address."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(found.address.partition("%")[0] == address for found in addresses):
            return str(name)
    return None
