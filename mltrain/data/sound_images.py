"""Labelled images before a run uses them: every one decodes, or is left out, and is what it was when it was split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mltrain.core.errors import DataError
from mltrain.data.image_contents import ImageContent, examine_images
from mltrain.data.image_files import first_few, printable
from mltrain.data.labelled_splits import LabelledPaths, LabelledSplits

__all__ = ["OnCorrupt", "corrupt_images", "left_out", "sound_images"]

OnCorrupt = Literal["stop", "skip"]

_SHOWN = 3
_LISTED = 50


def sound_images(splits: LabelledSplits, on_corrupt: OnCorrupt) -> LabelledSplits:
    """Return the images that decode, with their contents.

    Args:
        splits: the images as their folder, table or lists name them.
        on_corrupt: "stop" raises for images that do not decode, "skip" leaves them out and remarks on it.

    Raises:
        DataError: images that cannot be decoded or read; "skip" leaves a split, or a class of training, without any; or
            a file is not what it was when it was split.
    """
    contents = examine_images(splits.root, (path for part in splits.splits.values() for path in part.paths))
    flaws = {path: content.flaw for path, content in contents.items() if content.flaw is not None}
    if flaws and on_corrupt == "stop":
        raise corrupt_images(splits.root, flaws, "data.on_corrupt=skip")
    if flaws:
        splits = _without(splits, flaws)
    _refuse_changed(splits, contents)
    kept = {path: content for path, content in contents.items() if path not in flaws}
    return replace(splits, contents=kept, flaws=flaws, records={}, split_again=None)


def corrupt_images(root: Path, flaws: Mapping[str, str], skip: str) -> DataError:
    """Return the error for images that cannot be decoded: path below `root` -> why.

    Args:
        root, flaws: the images.
        skip: what leaves them out.
    """
    if len(flaws) == 1:
        ((path, flaw),) = flaws.items()
        fix = f"Replace it with a whole image, or leave it out with {skip}."
        return DataError(flaw, where=printable(str(root / path)), fix=fix)
    listed = [f"{printable(str(root / path))}: {flaw}." for path, flaw in list(flaws.items())[:_LISTED]]
    more = f" (the first {_LISTED} are listed)" if len(flaws) > _LISTED else ""
    total = f"{printable(str(root))}: {len(flaws)} images cannot be used{more}."
    mend = f"Replace them with whole images, or leave them out with {skip}."
    return DataError("images that cannot be used", problems=[*listed, f"{total} {mend}"])


def left_out(flaws: Mapping[str, str], of: str = "") -> str:
    """Return a sentence about images that are left out; `of` says where they were."""
    images = "1 image is" if len(flaws) == 1 else f"{len(flaws)} images are"
    return f"{images} left out{of}: {_few_with_causes(flaws)}."


def _few_with_causes(flaws: Mapping[str, str]) -> str:
    shown = "; ".join(f"{printable(path)}: {flaw}" for path, flaw in list(flaws.items())[:_SHOWN])
    return f"{shown}; and {len(flaws) - _SHOWN} more" if len(flaws) > _SHOWN else shown


def _without(splits: LabelledSplits, flaws: Mapping[str, str]) -> LabelledSplits:
    """Return the splits without the flawed images, and a remark on how many each has lost."""
    kept = {split: _sound(part, flaws) for split, part in splits.splits.items()}
    for split, part in splits.splits.items():
        lost = set(part.labels) - set(kept[split].labels) if split == "train" else set[str]()
        if (part.paths and not kept[split].paths) or lost:
            classes = f" of {first_few(sorted(lost))}" if lost and kept[split].paths else ""
            bad = [path for path in part.paths if path in flaws]
            raise DataError(
                f"{split} has no image{classes} that can be used: {_few_with_causes({p: flaws[p] for p in bad})}",
                where=printable(str(splits.root)),
                fix="Replace them with whole images.",
            )
    counts = {split: len(part.paths) - len(kept[split].paths) for split, part in splits.splits.items()}
    of = f" ({', '.join(f'{count} of {split}' for split, count in counts.items() if count)})"
    return replace(splits, splits=kept, remarks=(*splits.remarks, left_out(flaws, of)))


def _sound(part: LabelledPaths, flaws: Mapping[str, str]) -> LabelledPaths:
    pairs = [(path, label) for path, label in zip(part.paths, part.labels, strict=True) if path not in flaws]
    return LabelledPaths([path for path, _ in pairs], [label for _, label in pairs])


def _refuse_changed(splits: LabelledSplits, contents: Mapping[str, ImageContent]) -> None:
    """Raise DataError where files are not what they were when they were split."""
    if not splits.records or splits.split_again is None:
        return
    paths = [path for part in splits.splits.values() for path in part.paths]
    changed = [path for path in paths if contents[path].digest != splits.records[path].digest]
    if not changed:
        return
    size, recorded = contents[changed[0]].stamp.size, splits.records[changed[0]].size
    what = "has other content than when it was split"
    if size != recorded:
        what = f"has {size} bytes; it had {recorded} when it was split"
    if more := len(changed) - 1:
        what += f"; {more} more {'file has' if more == 1 else 'files have'} changed too"
    raise DataError(
        what,
        where=printable(str(splits.root / changed[0])),
        fix=f"Put the old {'file' if not more else 'files'} back, or split again: {splits.split_again()}",
    )
