"""Which interface the processes of several machines use."""

from __future__ import annotations

import os
import socket

import psutil
import pytest

from mltrain.core.network import choose_interface


def chosen(monkeypatch: pytest.MonkeyPatch, main: str) -> str | None:
    environment = {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4", "MASTER_ADDR": main}
    monkeypatch.setattr(os, "environ", environment)
    choose_interface()
    return environment.get("GLOO_SOCKET_IFNAME")


def test_it_is_the_one_that_has_the_address_of_the_first_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, addresses in psutil.net_if_addrs().items():
        for found in addresses:
            if found.family == socket.AF_INET:
                assert chosen(monkeypatch, found.address) == name


@pytest.mark.parametrize("main", ["", "no.such.host.invalid"])
def test_none_where_there_is_no_way(monkeypatch: pytest.MonkeyPatch, main: str) -> None:
    assert chosen(monkeypatch, main) is None
