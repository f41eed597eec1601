"""A contact sheet: small images in a grid, each with a caption below it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

__all__ = ["contact_sheet", "png_bytes"]

_COLUMNS = 8
_SIDE, _LARGEST_SIDE = 128, 256
_GAP = 8
_FONT_SIZE = 13
_LINE = 18
# Grey: a white picture on white paper cannot be seen.
_PAPER, _INK = "#e4e4e4", "black"


def contact_sheet(tiles: Sequence[tuple[Image.Image, str]], *, columns: int = _COLUMNS) -> Image.Image:
    """Return the tiles in rows on grey paper.

    Images are of one size. Small ones are enlarged by a whole factor, pixel by pixel, so that every pixel can be seen;
    large ones are reduced.

    Args:
        tiles: images with their captions; at least one.
        columns: most images of a row.
    """
    width, height = tiles[0][0].size
    factor: float = max(1, _SIDE // max(width, height))
    factor = min(factor, _LARGEST_SIDE / max(width, height))
    filtering = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BILINEAR
    width, height = max(1, round(factor * width)), max(1, round(factor * height))
    columns = min(columns, len(tiles))
    step_x, step_y = max(width, _SIDE) + _GAP, height + _LINE + _GAP
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), _font()
    for index, (image, caption) in enumerate(tiles):
        row, column = divmod(index, columns)
        left, top = _GAP + column * step_x, _GAP + row * step_y
        sheet.paste(image.resize((width, height), filtering), (left, top))
        draw.text((left, top + height + 2), _shortened(caption, font, step_x - _GAP), fill=_INK, font=font)
    return sheet


def png_bytes(image: Image.Image) -> bytes:
    """Return the content of a PNG file of the image."""
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def _font() -> ImageFont.FreeTypeFont:
    # Matplotlib brings a font that knows more scripts than Pillow's own.
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _FONT_SIZE)


def _shortened(caption: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return the caption, cut so that it is no wider than `width` pixels."""
    if font.getlength(caption) <= width:
        return caption
    kept = next((end for end in range(len(caption), 0, -1) if font.getlength(caption[:end] + "…") <= width), 0)
    return f"{caption[:kept]}…"
