"""Labelled images in three splits: what every layout of a data set is read into, and what is checked of all alike."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mltrain.core.errors import DataError
from mltrain.data.class_names import alike_classes
from mltrain.data.data_files import DataFile
from mltrain.data.image_contents import ImageContent
from mltrain.data.image_files import first_few, printable
from mltrain.data.split_files import FileRecord

__all__ = ["SPLITS", "LabelledPaths", "LabelledSplits", "split_called"]

SPLITS = ("train", "val", "test")
_CALLED = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "val"
)


def split_called(name: str) -> str | None:
    """Return "train", "val" or "test" for the names that people give them, in any case; None for others."""
    return _CALLED.get(name.lower())


@dataclass(frozen=True)
class LabelledPaths:
    """Images of one split: paths relative to the data folder, and the class of each."""

    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LabelledSplits:
    """A data set of images of known class, divided.

    root: the folder that paths are relative to.
    splits: "train", "val" and "test"; the last two may hold nothing.
    records: path -> digest and size, as recorded when the data was split; empty where nobody did.
    labels_in_paths: a path says the class, so that paths and contents alone identify the data.
    remarks: what the user should know of the data, a sentence each.
    split_again: gives the command that divides the data anew; None where nobody recorded how it was divided.
    contents: path -> what the file holds; nothing before `sound_images` has looked.
    flaws: path -> why it cannot be decoded, of the images that are left out.
    """

    root: Path
    splits: dict[str, LabelledPaths]
    records: dict[str, FileRecord]
    labels_in_paths: bool
    remarks: tuple[str, ...] = ()
    split_again: Callable[[], str] | None = None
    contents: Mapping[str, ImageContent] = field(default_factory=dict)
    flaws: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def classes(self) -> list[str]:
        """The classes, sorted: those of the training split."""
        return sorted(set(self.splits["train"].labels))

    @cached_property
    def digests(self) -> dict[str, str]:
        """The content digest of each file."""
        return {path: content.digest for path, content in self.contents.items()}

    def facts(self) -> dict[str, Any]:
        """Return the digest of all files with their splits, the classes and their counts; and what is left out."""
        content = {split: sorted(self._identities(part)) for split, part in self.splits.items()}
        counts = {split: dict(sorted(Counter(part.labels).items())) for split, part in self.splits.items()}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        facts = {"digest": digest, "classes": self.classes, "counts": counts}
        return {**facts, "left_out": dict(self.flaws)} if self.flaws else facts

    def files(self) -> Iterator[DataFile]:
        """Yield every file with its split, its digest and, where the path does not say it, its class."""
        for split, part in self.splits.items():
            for path, label in zip(part.paths, part.labels, strict=True):
                yield DataFile(split, self.digests[path], path, "" if self.labels_in_paths else label)

    def refuse_unusable(self) -> None:
        """Raise DataError for a single class, and for classes that training lacks."""
        place = printable(str(self.root))
        if len(self.classes) < 2:
            raise DataError(
                f"training has a single class, {first_few(self.classes)}; at least two are needed",
                where=place,
                fix="Add images of other classes.",
            )
        for split, part in self.splits.items():
            strange = sorted(set(part.labels) - set(self.classes))
            if strange:
                raise DataError(
                    f"{split} has classes that have no training files: {first_few(strange)}",
                    where=place,
                    fix="Rename them as in train, add training files, or take them out.",
                )

    def notices(self) -> list[str]:
        """Return the remarks, and what is to be known of copies: in several splits, or under several classes."""
        copies: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for split, part in self.splits.items():
            for path, label in zip(part.paths, part.labels, strict=True):
                copies[self.digests[path]].append((split, label, path))
        shared = [(group[0][2], path) for group in copies.values() for split, _, path in group if split != group[0][0]]
        mixed = [(group[0][2], path) for group in copies.values() for _, label, path in group if label != group[0][1]]
        return [
            *self.remarks,
            *self._absent_classes(),
            *alike_classes(self.classes),
            *_told(self.root, shared, "an exact copy in another split, so scores are too good"),
            *_told(self.root, mixed, "an exact copy under another class"),
        ]

    def _absent_classes(self) -> list[str]:
        absent = {split: sorted(set(self.classes) - set(part.labels)) for split, part in self.splits.items()}
        return [
            f"{printable(str(self.root))}: {split} has no image of {first_few(classes)}, so its figures say nothing of "
            "them. Add some if they matter."
            for split, classes in absent.items()
            if classes and self.splits[split].paths
        ]

    def _identities(self, part: LabelledPaths) -> list[tuple[str, ...]]:
        identities: list[tuple[str, ...]] = [(path, self.digests[path]) for path in part.paths]
        if self.labels_in_paths:
            return identities
        return [(*identity, label) for identity, label in zip(identities, part.labels, strict=True)]


def _told(root: Path, pairs: list[tuple[str, str]], what: str) -> list[str]:
    if not pairs:
        return []
    one, other = (printable(str(root / path)) for path in pairs[0])
    files = "1 file has" if len(pairs) == 1 else f"{len(pairs)} files have"
    return [f"{files} {what}: {other} is {one}{'' if len(pairs) == 1 else ', and so on'}. Remove one of each pair."]
