"""Arrays in files, memory-mapped in whatever process reads them; each is known by the digest of its content."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import DataError
from mltrain.core.logging import log
from mltrain.data.file_cache import FileCache, FileStamp

__all__ = ["ArrayFile", "first_flaw", "open_arrays", "read_array"]

_CHECKER = "finite-2"  # what the cache calls the check below: a new number where it checks something else
_YOUNG_NS = 2 * 10**9  # a later change of so young a file may leave its stamp as it is
_CHUNK_BYTES = 1 << 24
_START = b"\x93NUMPY"


class ArrayFile:
    """A `.npy` file whose first axis is time.

    A copy in another process, such as a loader's, maps the file for itself.

    Args:
        path: the file.

    Attributes:
        digest: of its content, blake2b (160 bits, hexadecimal); "" before `open_arrays` has read it.

    Raises:
        DataError: there is no such file, or it is no array of numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.digest = path.absolute(), ""
        self._stamp: FileStamp | None = None
        self._array: NDArray[Any] | None = None
        array = self.values
        if array.ndim < 2 or array.size == 0 or array.dtype.kind not in "fiu":
            raise DataError(
                f"holds {array.dtype} of shape {array.shape}",
                where=str(path),
                fix="It must be numbers with time as the first of at least two axes, none of them empty.",
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}

    @property
    def values(self) -> NDArray[Any]:
        """The array, read as it is asked for."""
        if self._array is None:
            self._array = read_array(self.path, mapped=True)
        return self._array

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.values.shape[1:])

    def chunks(self, times: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the times in pieces whose values fit into memory with ease."""
        sample = max(1, self.values[:1].nbytes)
        pieces = max(1, -(-len(times) * sample // _CHUNK_BYTES))
        return [piece for piece in np.array_split(times, pieces) if len(piece)]

    def refuse_changed(self) -> None:
        """Raise DataError where the file is not what it was when the run began; a look at its stamp, as a rule."""
        try:
            stamp = _stamp(self.path)
        except OSError:
            raise DataError(
                "the array was there when the run began, now it is gone",
                where=str(self.path),
                fix="Put it back and go on with --resume.",
            ) from None
        if stamp == self._stamp:
            return
        if _digest(self.path) != self.digest:
            raise DataError(
                "the array has changed since the run began",
                where=str(self.path),
                fix="Put the old file back and go on with --resume, or start a new run.",
            )
        self._stamp = stamp

    def settle(self, digest: str, stamp: FileStamp) -> None:
        """Take note of what the file holds."""
        self.digest, self._stamp = digest, stamp

    def flaw(self) -> str:
        """Return where the first value stands that is no number of float32, in words; "" where all are."""
        flaws = (
            first_flaw(self.values[times[0] : times[-1] + 1], int(times[0]))
            for times in self.chunks(np.arange(len(self)))
        )
        return next(filter(None, flaws), "")


def read_array(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """Return the array of a `.npy` file.

    Args:
        path: the file.
        mapped: leave it in the file, read as it is asked for.

    Raises:
        DataError: there is no such file, or it holds something else.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(len(_START))
        if start != _START:  # numpy would take other files for pickles, and advise to trust them
            raise ValueError("it is no .npy file" if start else "the file is empty")
        array: NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except FileNotFoundError:
        raise DataError("there is no such file", where=str(path), fix="Put it there, or leave out its name.") from None
    except (OSError, ValueError, TypeError, EOFError, TokenError) as error:  # numpy parses the header as Python
        raise DataError(
            f"is no array that can be read ({error})", where=str(path), fix="Save it with numpy.save."
        ) from None
    return array


def first_flaw(values: NDArray[Any], first: int = 0) -> str:
    """Return where the first value stands that is no number of float32, in words; "" where all are.

    Args:
        values: (T, ...).
        first: the time of the first of them.
    """
    if values.dtype.kind != "f":
        return ""
    with np.errstate(over="ignore"):
        sound = np.isfinite(values.astype(np.float32, copy=False)).all(axis=tuple(range(1, values.ndim)))
    if sound.all():
        return ""
    place = int(np.argmin(sound))
    what = "a number beyond those of float32" if np.isfinite(values[place]).all() else "NaN or infinity"
    return f"has {what} at time {first + place}"


def open_arrays(folder: Path, names: Sequence[str]) -> dict[str, ArrayFile]:
    """Return name -> array of the files `<name>.npy`, each read once for its digest and for what is no number.

    What was found out is kept in the user's cache, as for images.

    Raises:
        DataError: a file is missing, is no array, or has NaN, infinity or what is infinity in float32.
    """
    arrays = {name: ArrayFile(folder / f"{name}.npy") for name in names}
    cache = FileCache.of_user()
    try:
        flaws = {name: _known_flaw(array, cache) for name, array in arrays.items()}
        if None in flaws.values():
            with cache.alone("Another process is reading arrays: waiting for what it finds."):
                for name, array in arrays.items():
                    known = _known_flaw(array, cache)
                    flaws[name] = _read(array, cache) if known is None else known
    finally:
        cache.close()
    for name, flaw in flaws.items():
        if flaw:
            raise DataError(
                flaw, where=str(arrays[name].path), fix="Interpolate or cut such samples, in all arrays alike."
            )
    return arrays


def _known_flaw(array: ArrayFile, cache: FileCache) -> str | None:
    """Return what the cache knows of an array that is as it was: its flaw; None: nothing."""
    path, stamp = os.fspath(array.path), _stamp(array.path)
    digest = cache.files([path]).get(path, (None, ""))
    if digest[0] != stamp:
        return None
    array.settle(digest[1], stamp)
    return cache.verdicts([digest[1]], _CHECKER).get(digest[1])


def _read(array: ArrayFile, cache: FileCache) -> str:
    """Read an array in full and keep its digest and its flaw; returns the flaw."""
    log.debug("Reading %s once, to know its content.", array.path)
    now, stamp = time.time_ns(), _stamp(array.path)
    digest, flaw = _digest(array.path), array.flaw()
    settled = stamp == _stamp(array.path) and now - stamp.mtime_ns > _YOUNG_NS
    cache.keep({os.fspath(array.path): (stamp, digest)} if settled else {}, {digest: flaw}, _CHECKER)
    array.settle(digest, stamp)
    return flaw


def _stamp(path: Path) -> FileStamp:
    return FileStamp.of(path.stat())


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=20)
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
