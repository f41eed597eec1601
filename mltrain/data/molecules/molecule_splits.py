"""Which geometries are train, val and test: a pure function of their content and a seed, molecule by molecule."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import ConfigError, DataError
from mltrain.core.registry import nearest
from mltrain.data.data_files import DataFile
from mltrain.data.fold_assignment import LabelledFile, assign_k_folds, refuse_two_classes
from mltrain.data.molecules.elements import ELEMENTS
from mltrain.data.molecules.molecule_file import Molecules

__all__ = ["MoleculeSplits", "divide_molecules"]


@dataclass(frozen=True)
class MoleculeSplits:
    """Geometries in three splits.

    Attributes:
        molecules: all of them.
        splits: "train", "val" and "test": numbers of geometries, in the order of their contents, so that the order of
            the file does not matter.
        digests: of each geometry's content.
    """

    molecules: Molecules
    splits: dict[str, NDArray[np.int64]]
    digests: list[str]

    @property
    def elements(self) -> list[int]:
        """The atomic numbers of the training split, sorted."""
        numbers = np.unique(self.molecules.elements[self.splits["train"]])
        return [int(number) for number in numbers if number]

    def facts(self) -> dict[str, Any]:
        """Return the digest of all contents with their splits, and how many geometries each molecule has in each."""
        names = self.molecules.names
        content = {
            split: sorted((self.digests[index], names[index]) for index in part) for split, part in self.splits.items()
        }
        return {
            "digest": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
            "counts": {
                split: dict(sorted(Counter(names[index] for index in part).items()))
                for split, part in self.splits.items()
            },
        }

    def files(self) -> Iterator[DataFile]:
        """Yield every geometry with its split, digest and molecule, under the file's name and its number in it."""
        for split, part in self.splits.items():
            for index in part:
                name = f"{self.molecules.file.name}[{index}]"
                yield DataFile(split, self.digests[index], name, self.molecules.names[index])


def divide_molecules(
    molecules: Molecules, *, fold: int, folds: int, test_ratio: float, seed: int, hold_out: Sequence[str] = ()
) -> MoleculeSplits:
    """Divide geometries so that every molecule is in each split, in its share; equal geometries stay together.

    Args:
        molecules: checked.
        fold: which of the folds is val.
        folds: parts that what is not test is cut into.
        test_ratio: share of the geometries that is test.
        seed: of the division.
        hold_out: molecules that are test as a whole, and then nothing else is.

    Raises:
        ConfigError: there is no such fold or molecule.
        DataError: a molecule has too few geometries, one geometry has two names, or training lacks an element.
    """
    if fold >= folds:
        raise ConfigError(f"is {fold}, but data.folds is {folds}", where="data.fold", fix=f"Name 0 to {folds - 1}.")
    _refuse_unknown(hold_out, molecules)
    digests = molecules.geometry_digests()
    listed = [
        LabelledFile(f"{molecules.file.name}[{index}]", name, digest)
        for index, (name, digest) in enumerate(zip(molecules.names, digests, strict=True))
        if name not in hold_out
    ]
    refuse_two_classes(listed)
    ratio = 0.0 if hold_out else test_ratio
    _refuse_few(listed, molecules, folds, ratio)
    assigned = assign_k_folds(listed, folds=folds, test_ratio=ratio, seed=seed)
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for index, digest in enumerate(digests):
        if molecules.names[index] in hold_out or digest in assigned.test:
            parts["test"].append(index)
        else:
            parts["val" if digest in assigned.validation[fold] else "train"].append(index)
    contents = molecules.content_digests()
    splits = {split: np.array(sorted(part, key=contents.__getitem__), dtype=np.int64) for split, part in parts.items()}
    divided = MoleculeSplits(molecules, splits, contents)
    _refuse_new_elements(divided)
    return divided


def _refuse_unknown(hold_out: Sequence[str], molecules: Molecules) -> None:
    names = sorted(set(molecules.names))
    for name in hold_out:
        if name not in names:
            close = nearest(name, names)
            raise ConfigError(
                f"there is no molecule {name!r}",
                where="data.hold_out_molecules",
                fix=f"Did you mean {close}?" if close else f"There are {', '.join(names[:10])}.",
            )
    if set(hold_out) == set(names):
        raise ConfigError("holds out every molecule", where="data.hold_out_molecules", fix="Leave some for training.")


def _refuse_few(listed: Sequence[LabelledFile], molecules: Molecules, folds: int, test_ratio: float) -> None:
    contents: defaultdict[str, set[str]] = defaultdict(set)
    sizes = Counter(file.class_name for file in listed)
    for file in listed:
        contents[file.class_name].add(file.digest)
    for name, different in sorted(contents.items()):
        test = max(1, math.ceil(test_ratio * sizes[name])) if test_ratio else 0
        if len(different) - test < folds:
            raise DataError(
                f"{name} has {len(different)} different geometries: too few for {folds} folds"
                + (f" beside a test split of {test}" if test else ""),
                where=str(molecules.file),
                fix="Add geometries, or lower data.folds.",
            )


def _refuse_new_elements(divided: MoleculeSplits) -> None:
    known = [0, *divided.elements]
    for split in ("val", "test"):
        for index in divided.splits[split]:
            strange = sorted(set(divided.molecules.elements[index].tolist()) - set(known))
            if strange:
                raise DataError(
                    f"{divided.molecules.names[index]} of {split} has an element that training lacks: "
                    f"{ELEMENTS[strange[0]].symbol}",
                    where=str(divided.molecules.file),
                    fix="Hold out other molecules, or add some of this element.",
                )
