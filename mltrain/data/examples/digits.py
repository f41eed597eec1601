"""Handwritten digits as images in a folder a class."""

from __future__ import annotations

from pathlib import Path

from mltrain.core.errors import DataError

__all__ = ["write"]


def write(output: Path) -> str:
    """Write scikit-learn's 1,797 handwritten digits, 8 x 8 pixels, 16 grey levels, as PNGs in a folder a class.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
    1998 (its test part).

    Raises:
        DataError: a file is there already and is another image.
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
    return f"{len(digits.images)} files in {output}/raw"
