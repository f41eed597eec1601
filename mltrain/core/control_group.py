"""What a container or a queue allows this process: the limits of its Linux control groups, version 1 or 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mltrain.core.files import read_words

__all__ = ["cpu_quota", "memory_limit"]

_ROOT = Path("/")
_NO_LIMIT = 2**60  # version 1 writes "none" as a number of about 2**63


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Return how many cores' time this process may use; None: no quota.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    found = []
    for folder in _folders(root, "cpu"):
        for files in ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"):
            words = " ".join(read_words(folder / name) for name in files).split()
            if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):
                found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def memory_limit(root: Path = _ROOT) -> int | None:
    """Return how many bytes of memory this process and its neighbours in the group may use; None: no limit.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    texts = [
        read_words(folder / name)
        for folder in _folders(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
    ]  # fmt: skip
    return min((int(text) for text in texts if text.isdecimal() and int(text) < _NO_LIMIT), default=None)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the groups that this process is in, up to the outermost: each may limit it."""
    base = root / "sys/fs/cgroup"
    yield base
    for line in read_words(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        for top in (base / controllers, base / "unified") if controllers else (base,):
            group = top / path.lstrip("/")
            yield from (group, *(parent for parent in group.parents if parent.is_relative_to(top)))
