"""One piece of work at a time beside the main thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["BackgroundWork"]


class BackgroundWork:
    """A thread that works while the main one goes on. Work must be settled before more is started.

    Args:
        name: of the thread, for profilers and debuggers.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._work: Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin a piece of work."""
        if self._work is not None:
            raise RuntimeError("the work before was not settled")
        self._work = self._pool.submit(work)

    def settle(self, *, wait: bool) -> bool:
        """Return whether a piece of work has come to its end since the last call; raises what it raised.

        Args:
            wait: for the work in progress, if there is some.
        """
        work = self._work
        if work is None or not (wait or work.done()):
            return False
        try:
            work.result()
        finally:
            if work.done():
                self._work = None
        return True

    def close(self) -> None:
        """End the thread when it is done with its work."""
        self._pool.shutdown()
