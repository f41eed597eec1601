"""From an image file of any kind to upright 8-bit pixels in memory."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import PIL
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from mltrain.core.errors import DataError

__all__ = ["ImageMode", "convert_image", "decode_content", "decode_image", "decoder_identity", "find_flaw"]

if TYPE_CHECKING:
    from numpy.typing import NDArray

ImageMode = Literal["RGB", "L"]

# Raised when what is below decodes contents that it refused, or refuses contents that it decoded.
_VERSION = 1

# Not EPS and WMF, which Pillow hands to other programs. They are tried in this order, whatever the file is called; the
# first five are loaded with Pillow, the others with the first file that is none of these.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000", "DIB", "ICO", "QOI", "PCX", "TGA")

# Those of PNG, JPEG, GIF, WebP and TIFF.
_BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")

# Pillow warns of images that are half as large as those that it refuses. Here they are decoded.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(path: Path, mode: ImageMode, *, min_side: int | None = None) -> Image.Image:
    """Decode an image file as people see it: upright, in 8 bits a channel.

    - The kind is found from the content, not from the name.
    - Of an animation or a file of many pages the first is decoded.
    - EXIF rotation is applied; a damaged EXIF block is passed over.
    - Transparency (an alpha channel, a palette entry, a colour key) is composited on white.
    - 16-bit values are divided by 257. 32-bit integers and floats are taken to fill the smallest of the ranges 0..1
      (floats only), 0..255 and 0..65535 that holds them all; values outside of these are refused.
    - Colour profiles are not applied; CMYK is converted by Pillow's plain formula.

    Args:
        path: the file.
        mode: "RGB" for three channels, "L" for one (luma).
        min_side: at least 1. A JPEG file may be decoded at 1/2, 1/4 or 1/8 of its size for speed, if its shorter side
            stays at least this many pixels; its last row and column may then stand for a part of a pixel. None: full
            size.

    Raises:
        DataError: the file cannot be read, or is no image that can be decoded whole.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"the image cannot be read ({error.strerror})",
            where=str(path),
            fix="Restore the file or its permissions, or leave it out.",
        ) from None
    return decode_content(content, path, mode, min_side=min_side)


def decode_content(content: bytes, path: str | Path, mode: ImageMode, *, min_side: int | None = None) -> Image.Image:
    """Decode the content of the image file `path` as `decode_image` does.

    Raises:
        DataError: it is no image that can be decoded whole.
    """
    try:
        return _decode(content, mode, min_side)
    except MemoryError:
        raise
    except Exception as error:  # damaged files make Pillow's decoders raise nearly every kind
        raise DataError(
            _cause(content, error),
            where=str(path),
            fix="Replace it with a whole PNG or JPEG file, or leave it out.",
        ) from None


def find_flaw(content: bytes) -> str | None:
    """Return why the content of a file is no image that can be decoded whole; None: it can."""
    try:
        _decode(content, "RGB", None)
    except MemoryError:
        raise
    except Exception as error:
        return _cause(content, error)
    return None


def decoder_identity() -> str:
    """Return what a verdict on a content depends on: the version of the decoder, and its limits."""
    return f"{_VERSION} pillow {PIL.__version__} {Image.MAX_IMAGE_PIXELS} {ImageFile.LOAD_TRUNCATED_IMAGES}"


def convert_image(image: Image.Image, mode: ImageMode) -> Image.Image:
    """Return an image that Pillow has opened as `decode_image` gives it: upright, in 8 bits a channel."""
    image.load()
    pixels = _convert(image, mode)
    operation = _UPRIGHT.get(_orientation(image))
    return pixels if operation is None else pixels.transpose(operation)


def _decode(content: bytes, mode: ImageMode, min_side: int | None) -> Image.Image:
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        if min_side is not None:
            image.draft(mode, (min_side, min_side))
        return convert_image(image, mode)


def _cause(content: bytes, error: Exception) -> str:
    if not content:
        return "the image file is empty"
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        return f"the image has more than the {most} million pixels that are decoded; make it smaller"
    if isinstance(error, UnidentifiedImageError) and content.startswith(_BEGINNINGS):
        return "the image cannot be decoded (its header is damaged)"
    if isinstance(error, UnidentifiedImageError):
        return f"not an image of a known kind: the file begins with {content[:16]!r}"
    return f"the image cannot be decoded ({str(error).rstrip('.') or type(error).__name__})"


def _orientation(image: Image.Image) -> Any:
    # Read after the pixels: PNG may hold it behind them, and TIFF applies and removes it while loading.
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the pixels are whole
        return None


def _convert(image: Image.Image, mode: ImageMode) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _eight_bits(image).convert(mode)
    if image.has_transparency_data:
        page = Image.new(mode, image.size, "white")
        layer = image.convert("RGBA")
        page.paste(layer, mask=layer.getchannel("A"))
        return page
    if image.mode == "LAB":
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of more than 8 bits in mode L."""
    import numpy as np  # not for the many that need no arithmetic

    values: NDArray[Any] = np.asarray(image)
    low, high = values.min(), values.max()
    top = next((top for top in _possible_maxima(image) if high <= top), None)
    if top is None or not low >= 0:  # NaN is neither
        raise ValueError(f"its pixel values run from {low:g} to {high:g}, beyond 0..1, 0..255 and 0..65535")
    pixels = (values * (255 / top) + 0.5).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        pixels[values == transparent] = 255
    return Image.fromarray(pixels)


def _possible_maxima(image: Image.Image) -> tuple[int, ...]:
    if image.mode == "F":
        return (1, 255, 65535)
    # Pillow's mode for 16-bit PGM is "I", already scaled to 0..65535.
    return (255, 65535) if image.mode == "I" and image.format != "PPM" else (65535,)
