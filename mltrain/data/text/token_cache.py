"""Token ids of texts, computed once and memory-mapped: from the user's cache folder where there is one.

A file holds int32 numbers: how many texts there are, how many of them were cut, the number of tokens of each, all ids
one after the other, and behind them, where texts are pairs, as many token types. Its name says what it was made from
and what it holds, so a file that is torn, damaged or of other texts is never taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from mltrain.core.cache_folder import cache_folder
from mltrain.core.files import fsync_path
from mltrain.core.logging import log
from mltrain.data.text.encoding import Texts, TokenSettings, encoded
from mltrain.data.text.tokenizers import tokenizer_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["TokenArrays", "token_arrays"]

_FORMAT = 1
_TEXTS_AT_A_TIME = 4096
_HEADER = 2

Numbers = NDArray[np.int32]


@dataclass(frozen=True)
class TokenArrays:
    """The tokens of some texts.

    Attributes:
        lengths: tokens of each text, shape (n,).
        num_cut: how many texts were longer than they may be.
    """

    lengths: Numbers
    num_cut: int
    _starts: NDArray[np.int64]
    _ids: Numbers
    _types: Numbers | None

    @classmethod
    def of(cls, numbers: Numbers) -> TokenArrays:
        """Return the tokens in the numbers of a file.

        Raises:
            ValueError: they are something else.
        """
        count, num_cut = int(numbers[0]), int(numbers[1])
        lengths = numbers[_HEADER : _HEADER + count]
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        content = numbers[_HEADER + count :]
        total = int(starts[-1])
        if len(lengths) != count or len(content) not in (total, 2 * total):
            raise ValueError("not as many tokens as it says")
        return cls(lengths, num_cut, starts, content[:total], content[total:] if len(content) > total else None)

    def __len__(self) -> int:
        return len(self.lengths)

    def ids(self, index: int) -> Numbers:
        """Return the ids of a text's tokens."""
        return self._ids[self._starts[index] : self._starts[index + 1]]

    def types(self, index: int) -> Numbers | None:
        """Return which of a pair each token of a text belongs to; None: the texts are no pairs."""
        return None if self._types is None else self._types[self._starts[index] : self._starts[index + 1]]


def token_arrays(texts: Texts, tokenizer: PreTrainedTokenizerFast, settings: TokenSettings) -> TokenArrays:
    """Return the tokens of texts: from the cache, or computed and kept there.

    Any number of processes may ask at once; one of them computes. A cache that cannot be used is done without.

    Raises:
        DataError: a text cannot be cut as the settings say.
    """
    folder = cache_folder()
    if folder is None:
        return TokenArrays.of(_computed(texts, tokenizer, settings))
    folder = folder / "tokens"
    key = _key(texts, tokenizer, settings)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (found := _found(folder, key)) is not None:
            return found
        with _alone(folder):
            found = _found(folder, key)  # of the process that was waited for
            if found is None:
                numbers = _computed(texts, tokenizer, settings)
                _keep(folder, key, numbers)
                found = TokenArrays.of(numbers)
    except OSError as error:
        log.warning("Tokens are not kept in %s (%s).", folder, error)
        return TokenArrays.of(_computed(texts, tokenizer, settings))
    return found


def _key(texts: Texts, tokenizer: PreTrainedTokenizerFast, settings: TokenSettings) -> str:
    """Return the digest of all that the tokens follow from."""
    import tokenizers

    digest = hashlib.blake2b(digest_size=20)
    said = (_FORMAT, tokenizers.__version__, tokenizer_digest(tokenizer), settings, texts.pairs is not None, len(texts))
    digest.update(repr(said).encode())
    for column in texts.columns:
        for text in column:
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
    return digest.hexdigest()


def _found(folder: Path, key: str) -> TokenArrays | None:
    """Return what a sound file of this key holds; a damaged one is deleted."""
    for path in folder.glob(f"{key}-*.npy"):
        try:
            numbers = np.load(path, mmap_mode="r")
            if _digest(numbers) == path.stem.rpartition("-")[2]:
                return TokenArrays.of(numbers)
        except (OSError, ValueError, EOFError, IndexError):
            pass
        log.warning("%s was damaged and is made anew.", path)
        with contextlib.suppress(OSError):
            path.unlink()
    return None


def _keep(folder: Path, key: str, numbers: Numbers) -> None:
    path = folder / f"{key}-{_digest(numbers)}.npy"
    staging = folder / f".{key}.{os.getpid()}.tmp"
    try:
        with staging.open("wb") as stream:
            np.save(stream, numbers)
        fsync_path(staging)
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


def _digest(numbers: Numbers) -> str:
    return hashlib.blake2b(numbers.data, digest_size=20).hexdigest()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time into the block, where files can be locked."""
    lock = FileLock(folder / "making.lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("Waiting for the tokens that another process is making.")
            lock.acquire()
    except NotImplementedError as error:
        log.debug("%s cannot be locked (%s).", lock.lock_file, error)
    try:
        yield
    finally:
        lock.release()


def _computed(texts: Texts, tokenizer: PreTrainedTokenizerFast, settings: TokenSettings) -> Numbers:
    lengths: list[int] = []
    ids: list[Numbers] = []
    types: list[Numbers] = []
    num_cut = 0
    for start in range(0, len(texts), _TEXTS_AT_A_TIME):
        for tokens in encoded(texts.part(start, start + _TEXTS_AT_A_TIME), tokenizer, settings):
            lengths.append(len(tokens.ids))
            num_cut += tokens.cut
            ids.append(np.asarray(tokens.ids, dtype=np.int32))
            if texts.pairs is not None:
                types.append(np.asarray(tokens.types, dtype=np.int32))
    head = np.asarray([len(lengths), num_cut, *lengths], dtype=np.int32)
    return np.concatenate([head, *ids, *types])
