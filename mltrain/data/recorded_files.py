"""Files that a run reads again and again, and that must stay what they were when it began."""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

from mltrain.core.errors import DataError
from mltrain.core.files import content_digest
from mltrain.data.file_cache import FileStamp
from mltrain.data.image_contents import ImageContent
from mltrain.data.image_files import printable

__all__ = ["RecordedFiles"]

_DIGEST_BYTES = 20
_UNKNOWN = -1  # no hash of a tuple is -1


class RecordedFiles:
    """Reads files by number, and raises where one is not what it was.

    A file whose stamp is the recorded one is taken for unchanged; of another the content is compared. Small enough to
    be sent to loader processes: 28 bytes a file beside its path.

    Args:
        root: the data folder.
        paths: the files, relative to `root`.
        contents: path -> what it held when the run began.
    """

    def __init__(self, root: Path, paths: Sequence[str], contents: Mapping[str, ImageContent]) -> None:
        self._root, self.paths = os.fspath(root), list(paths)
        recorded = [contents[path] for path in self.paths]
        self._stamps = array("q", (hash(content.stamp) if content.settled else _UNKNOWN for content in recorded))
        self._digests = b"".join(bytes.fromhex(content.digest) for content in recorded)

    def file(self, number: int) -> str:
        """Return the path of a file."""
        return f"{self._root}/{self.paths[number]}"

    def read(self, number: int) -> bytes:
        """Return the content of a file.

        Raises:
            DataError: it is gone, cannot be read, or holds something else.
        """
        path = self.file(number)
        try:
            with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 (Path.open takes three times as long)
                content = stream.read()
                stamp = hash(FileStamp.of(os.fstat(stream.fileno())))  # after reading: a change in between shows
        except FileNotFoundError:
            raise DataError(
                "the image was there when the run began, now it is gone",
                where=printable(path),
                fix="Put it back and go on with --resume.",
            ) from None
        except OSError as error:
            raise DataError(
                f"the image cannot be read ({error.strerror})",
                where=printable(path),
                fix="Mend that and go on with --resume.",
            ) from None
        if stamp != self._stamps[number]:
            self._compare(number, path, content)
            self._stamps[number] = stamp
        return content

    def _compare(self, number: int, path: str, content: bytes) -> None:
        start = number * _DIGEST_BYTES
        if bytes.fromhex(content_digest(content)) != self._digests[start : start + _DIGEST_BYTES]:
            raise DataError(
                "the image has changed since the run began",
                where=printable(path),
                fix="Put the old file back and go on with --resume, or start a new run.",
            )
