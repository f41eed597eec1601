"""What the contents of image files are: their digests, and whether they decode. Each is found out once.

`Image.verify` passes truncated files: only to decode a content in full says that it can be. That costs as much as an
epoch, so the verdict is kept with the digest of the content, and the digest with the stamp of the file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mltrain.core.errors import DataError
from mltrain.core.files import content_digest
from mltrain.core.hardware import usable_cores
from mltrain.core.logging import log
from mltrain.data.file_cache import FileCache, FileStamp
from mltrain.data.image_decoding import decoder_identity, find_flaw
from mltrain.data.image_files import printable

__all__ = ["ImageContent", "examine_images"]

# A file system's clock may tick every two seconds: a later change of so young a file may leave its stamp as it is.
_YOUNG_NS = 2 * 10**9
_FILES_A_ROUND = 256
_KEEP_EVERY_S = 5
_TELL_AFTER_S, _TELL_EVERY_S = 3, 15


class ImageContent(NamedTuple):
    """What a file holds.

    digest: blake2b of the content (160 bits, hexadecimal).
    stamp: of the file, when it was read.
    settled: as long as the file has this stamp, it has this content.
    flaw: why it cannot be decoded; None: it can.
    """

    digest: str
    stamp: FileStamp
    settled: bool
    flaw: str | None


def examine_images(root: Path, paths: Iterable[str]) -> dict[str, ImageContent]:
    """Return path -> content of files, from the user's cache as far as it knows them; paths are relative to `root`.

    What is not known is read, and decoded in full unless that content was before; it is known from then on. Of
    several processes one reads, and the others wait for it.

    Raises:
        DataError: a file cannot be read.
    """
    cache = FileCache.of_user()
    examination = _Examination(root, sorted(set(paths)), cache)
    try:
        examination.look_up()
        if examination.unknown():
            with cache.alone("Another process is checking images: waiting for what it finds."):
                examination.look_up()
                examination.read()
        return examination.found
    except OSError as error:
        raise DataError(
            f"the image cannot be read ({error.strerror})",
            where=printable(str(error.filename or root)),
            fix="Restore the file or its permissions.",
        ) from None
    finally:
        cache.close()


class _Examination:
    """Takes what the cache knows, and finds out the rest."""

    def __init__(self, root: Path, paths: Sequence[str], cache: FileCache) -> None:
        self.found: dict[str, ImageContent] = {}
        self._paths, self._cache, self._decoder = paths, cache, decoder_identity()
        base = os.path.abspath(root)  # noqa: PTH100 (a path of any bytes, links as they are)
        self._files = {path: f"{base}/{path}" for path in paths}
        self._flaws: dict[str, str] = {}
        self._unsaved: dict[str, ImageContent] = {}

    def unknown(self) -> list[str]:
        """Return the paths of which something is still to be found out."""
        return [path for path in self._paths if path not in self.found]

    def look_up(self) -> None:
        """Take what the cache knows of files that are as they were."""
        stamps = {path: FileStamp.of(os.stat(self._files[path])) for path in self.unknown()}  # noqa: PTH116 (speed)
        known = self._cache.files([self._files[path] for path in stamps])
        digests = {
            path: known[file][1]
            for path, stamp in stamps.items()
            if (file := self._files[path]) in known and known[file][0] == stamp
        }
        self._flaws |= self._cache.verdicts(set(digests.values()), self._decoder)
        for path, digest in digests.items():
            if digest in self._flaws:
                self.found[path] = ImageContent(digest, stamps[path], True, self._flaws[digest] or None)

    def read(self) -> None:
        """Read and judge all that is unknown, and keep what was found out even if that is cut short."""
        unknown = self.unknown()
        progress, kept = _Progress(len(unknown)), time.monotonic()
        pool = ThreadPoolExecutor(min(16, max(4, usable_cores())))
        try:
            for start in range(0, len(unknown), _FILES_A_ROUND):
                some = unknown[start : start + _FILES_A_ROUND]
                for path, content in zip(some, pool.map(self._content, some), strict=True):
                    self.found[path] = self._unsaved[path] = content
                    self._flaws[content.digest] = content.flaw or ""
                    progress.advance()
                if time.monotonic() - kept > _KEEP_EVERY_S:
                    self._keep()
                    kept = time.monotonic()
        finally:
            pool.shutdown(cancel_futures=True)
            self._keep()
        log.debug("%d of %d images were not known and have been read.", len(unknown), len(self._paths))

    def _content(self, path: str) -> ImageContent:
        now = time.time_ns()
        with open(self._files[path], "rb", buffering=0) as stream:  # noqa: PTH123 (a path of any bytes)
            before = FileStamp.of(os.fstat(stream.fileno()))
            content = stream.read()
            stamp = FileStamp.of(os.fstat(stream.fileno()))
        digest = content_digest(content)
        flaw = self._flaws.get(digest)
        if flaw is None:
            flaw = self._cache.verdicts([digest], self._decoder).get(digest)
        if flaw is None:
            flaw = find_flaw(content) or ""
        return ImageContent(digest, stamp, stamp == before and now - stamp.mtime_ns > _YOUNG_NS, flaw or None)

    def _keep(self) -> None:
        files = {
            self._files[path]: (content.stamp, content.digest)
            for path, content in self._unsaved.items()
            if content.settled
        }
        verdicts = {content.digest: content.flaw or "" for content in self._unsaved.values()}
        self._cache.keep(files, verdicts, self._decoder)
        self._unsaved.clear()


class _Progress:
    """Says how far a long check is."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._began = time.monotonic()
        self._due = self._began + _TELL_AFTER_S

    def advance(self) -> None:
        """Count one more."""
        self._done += 1
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _TELL_EVERY_S
        rest = (now - self._began) / self._done * (self._total - self._done)
        log.info(
            "Checking that images decode, once for all runs: %d of %d, %.0f s to go.", self._done, self._total, rest
        )
