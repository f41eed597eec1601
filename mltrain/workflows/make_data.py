"""Data sets that the project can write itself, to be tried without a download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mltrain.core.errors import ConfigError, DataError
from mltrain.core.registry import nearest

__all__ = ["DATASETS", "make_data"]


def make_data(name: str, output: Path) -> int:
    """Write a data set below `output` and return how many files it has.

    Raises:
        ConfigError: unknown name.
        DataError: something else is there already.
    """
    if name not in DATASETS:
        close = nearest(name, list(DATASETS))
        hint = f"Did you mean {close}?" if close else f"Known: {', '.join(DATASETS)}."
        raise ConfigError(f"unknown data set {name!r}", where="make-data", fix=hint)
    return DATASETS[name](output)


def _digits(output: Path) -> int:
    """Write scikit-learn's 1,797 handwritten digits, 8 x 8 pixels, 16 grey levels, as PNGs in a folder a class.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
    1998 (its test part).
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for index, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = output / "raw" / str(label) / f"{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.round(image * (255 / 16)).astype(np.uint8)
        if not path.exists():
            Image.fromarray(pixels).save(path)
        elif not np.array_equal(np.asarray(Image.open(path)), pixels):
            raise DataError("is there already and is another image", where=str(path), fix="Choose another --output.")
    return len(digits.images)


DATASETS: dict[str, Callable[[Path], int]] = {"digits": _digits}
