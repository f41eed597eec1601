"""What has changed in a data set, in words: the sizes of its splits and classes, and the first few files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mltrain.data.data_files import DataFile
from mltrain.data.image_files import first_few, printable

__all__ = ["data_changes"]

_SHOWN = 3


def data_changes(
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    files_then: Iterable[DataFile] | None = None,
    files_now: Iterable[DataFile] = (),
) -> str:
    """Return the difference as one sentence without a full stop.

    Args:
        then, now: what `Task.data_facts` says of the data: `digest`, `counts`, split -> number, or split -> class ->
            number, and `fitted`, name -> digest.
        files_then: the files as they were listed. None: they were not.
        files_now: the files as they are.
    """
    parts = [*_counts(then.get("counts") or {}, now.get("counts") or {})]
    if files_then is not None:
        parts += _files({file.path: file for file in files_then}, {file.path: file for file in files_now})
    parts += _fitted(then.get("fitted") or {}, now.get("fitted") or {})
    digests = f"their digest was {str(then.get('digest'))[:12]}, here it is {str(now.get('digest'))[:12]}"
    return "; ".join(parts) or f"contents differ ({digests})"


def _counts(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for split in dict.fromkeys([*then, *now]):
        was, is_now = then.get(split, 0), now.get(split, 0)
        if was == is_now:
            continue
        text = f"{split} has {_total(is_now)} instead of {_total(was)}"
        if isinstance(was, Mapping) or isinstance(is_now, Mapping):
            text += f" ({_few(list(_classes(was or {}, is_now or {})))})"
        yield text


def _classes(then: Mapping[str, int], now: Mapping[str, int]) -> Iterator[str]:
    for name in sorted({*then, *now}):
        if then.get(name, 0) != now.get(name, 0):
            yield f"{printable(name)} {now.get(name, 0)} instead of {then.get(name, 0)}"


def _fitted(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            yield f"the {name} is another (its digest was {str(then.get(name))[:12]}, here {str(now.get(name))[:12]})"


def _total(counts: Any) -> int:
    return sum(counts.values()) if isinstance(counts, Mapping) else int(counts)


def _files(then: Mapping[str, DataFile], now: Mapping[str, DataFile]) -> Iterator[str]:
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted({*then, *now}):
        if (kind := _change(then.get(path), now.get(path))) is not None:
            kinds[kind].append(path)
    for kind, paths in kinds.items():
        yield f"{len(paths)} {kind}: {first_few(paths, _SHOWN)}"


def _change(then: DataFile | None, now: DataFile | None) -> str | None:
    if then is None or now is None:
        return (
            f"added to {now.split}" if now is not None else f"removed from {then.split}" if then is not None else None
        )
    if then.split != now.split:
        return f"moved from {then.split} to {now.split}"
    if not now.digest.startswith(then.digest):
        return f"of {now.split} with other content"
    return f"of {now.split} under another class" if then.label != now.label else None


def _few(texts: list[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")
