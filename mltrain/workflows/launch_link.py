"""A connection to the launchers' common store that a dead link cannot hold up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

__all__ = ["Link", "UnreachableError", "serve"]

T = TypeVar("T")


class UnreachableError(Exception):
    """The store did not answer in time."""


def serve(address: str, port: int) -> TCPStore:
    """Return a store that listens on one address only; torch's own way of making one is to listen on all of them.

    Raises:
        OSError: the address is none of this machine, or the port is taken.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    family, _, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    listening = socket.create_server(place[:2], family=family, backlog=4096)  # type: ignore[arg-type]
    port = listening.getsockname()[1]
    return TCPStore(
        address,
        port,
        None,
        True,
        timedelta(seconds=30),
        wait_for_workers=False,
        master_listen_fd=listening.detach(),
    )


class Link:
    """Reads and writes texts by key.

    torch waits for an answer for as long as the kernel does, which is a quarter of an hour or for ever when a cable is
    cut. So each exchange runs in a thread of its own; one that does not answer is left behind with its connection.

    Args:
        address, port: of the store.
        answer_s: seconds that an exchange may take, connecting included.
    """

    def __init__(self, address: str, port: int, *, answer_s: float = 5.0) -> None:
        self._address, self._port, self._answer_s = address, port, answer_s
        self._store: TCPStore | None = None

    def put(self, key: str, text: str) -> str:
        """Set a key that is not there yet, and return what it then holds.

        Raises:
            UnreachableError: it may be set all the same.
        """
        return self._exchange(lambda store: bytes(store.compare_set(key, "", text)).decode())

    def read(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Return the texts of those keys that are there."""

        def read(store: TCPStore) -> dict[str, str]:
            return {key: store.get(key).decode() for key in keys if store.check([key])}

        return self._exchange(read)

    def _exchange(self, work: Callable[[TCPStore], T]) -> T:
        results: list[T] = []
        errors: list[Exception] = []

        def exchange() -> None:
            try:
                store = self._store or self._connect()
                results.append(work(store))
                self._store = store
            except (OSError, RuntimeError, ValueError) as error:
                errors.append(error)

        thread = threading.Thread(target=exchange, daemon=True)
        thread.start()
        thread.join(self._answer_s)
        if results:
            return results[0]
        self._store = None
        raise UnreachableError(str(errors[0]) if errors else "no answer")

    def _connect(self) -> TCPStore:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        # Asked first, since torch repeats what fails, and writes of each time to the terminal.
        socket.create_connection((self._address, self._port), timeout=self._answer_s).close()
        wait = timedelta(seconds=self._answer_s)
        return TCPStore(self._address, self._port, None, False, wait, wait_for_workers=False)
