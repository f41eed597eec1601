"""Every kind of image decodes to what people see; every damaged one is a DataError."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image
from warm_process import run_warm

from mltrain.core.errors import DataError
from mltrain.data.image_decoding import ImageMode, decode_image
from mltrain.data.image_transforms import ImageTransform

Array = NDArray[np.uint8]
PHOTOGRAPHS = Path(__file__).resolve().parents[3] / "shared" / "data" / "hymenoptera" / "raw"


def noise(*shape: int) -> Array:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int, width: int) -> Array:
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 100 * np.sin(x / 19), 128 + 100 * np.cos(y / 23), 255 * (x + y) / (height + width)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def decoded(path: Path, mode: ImageMode = "RGB") -> NDArray[np.int64]:
    image = decode_image(path, mode)
    assert image.mode == mode
    return np.asarray(image).astype(np.int64)


def on_white(colour: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.float64]:
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


def png(width: int, height: int, depth: int, kind: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# --- orientation

UPRIGHT: dict[int, Callable[[Array], Array]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied_once(tmp_path: Path, orientation: int, suffix: str) -> None:
    pixels = noise(5, 9, 3)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(decoded(path), UPRIGHT[orientation](pixels))


def test_a_reduced_jpeg_is_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(smooth(160, 320)).save(path, exif=exif)
    assert decode_image(path, "RGB").size == (160, 320)
    assert decode_image(path, "RGB", min_side=40).size == (40, 80)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_a_damaged_exif_block_is_passed_over(tmp_path: Path, exif: bytes) -> None:
    path = tmp_path / "exif.jpg"
    Image.fromarray(smooth(16, 24)).save(path, exif=exif)
    assert decode_image(path, "RGB").size == (24, 16)


def test_an_orientation_out_of_range_is_passed_over(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 9
    path = tmp_path / "nine.png"
    Image.fromarray(noise(4, 6, 3)).save(path, exif=exif)
    np.testing.assert_array_equal(decoded(path), noise(4, 6, 3))


# --- more than 8 bits


def grey_16_files(folder: Path, values: NDArray[np.uint16]) -> list[Path]:
    height, width = values.shape
    big = values.astype(">u2")
    (folder / "big.pgm").write_bytes(b"P5 %d %d 65535\n" % (width, height) + big.tobytes())
    (folder / "big.png").write_bytes(png(width, height, 16, 0, b"".join(b"\0" + row.tobytes() for row in big)))
    Image.frombytes("I;16B", (width, height), big.tobytes()).save(folder / "big.tif")
    Image.fromarray(values).save(folder / "little.tif")
    Image.fromarray(values.astype(np.int32)).save(folder / "integers.tif")
    Image.fromarray(values.astype(np.float32) / 65535).save(folder / "fractions.tif")
    Image.fromarray(values.astype(np.float32)).save(folder / "floats.tif")
    return sorted(folder.iterdir())


def test_16_bit_images_of_every_kind_are_scaled(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 40 * 50).astype(np.uint16).reshape(40, 50)
    expected = np.rint(values / 257).astype(np.int64)
    files = grey_16_files(tmp_path, values)
    assert len(files) == 7
    for path in files:
        np.testing.assert_array_equal(decoded(path, "L"), expected, err_msg=path.name)
        np.testing.assert_array_equal(decoded(path), np.repeat(expected[..., None], 3, axis=-1), err_msg=path.name)


def test_a_dark_16_bit_image_stays_dark(tmp_path: Path) -> None:
    values = np.full((3, 4), 200, dtype=np.uint16)
    for path in grey_16_files(tmp_path, values):
        if path.suffix in (".pgm", ".png") or path.name == "little.tif":
            assert decoded(path, "L").max() == 1, path.name


def test_16_bit_colour_is_scaled(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (6, 5, 3)).astype(">u2")
    path = tmp_path / "colour.png"
    path.write_bytes(png(5, 6, 16, 2, b"".join(b"\0" + row.tobytes() for row in values)))
    assert np.abs(decoded(path) - values / 257).max() <= 1


def test_8_bit_values_in_wide_types_are_kept(tmp_path: Path) -> None:
    values = noise(6, 7)
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "integers.tif")
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "floats.tif")
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(decoded(path, "L"), values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 70000.0])
def test_values_of_no_known_range_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "odd.tif"
    Image.fromarray(np.array([[0.5, value]], dtype=np.float32)).save(path)
    with pytest.raises(DataError, match="pixel values run from"):
        decode_image(path, "L")


# --- transparency


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_alpha_is_composited_on_white(tmp_path: Path, suffix: str) -> None:
    pixels = noise(9, 8, 4)
    path = tmp_path / f"alpha.{suffix}"
    Image.fromarray(pixels).save(path, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    assert np.abs(decoded(path) - on_white(pixels[..., :3], pixels[..., 3])).max() <= 1


def test_grey_with_alpha_is_composited_on_white(tmp_path: Path) -> None:
    pixels = noise(9, 8, 2)
    path = tmp_path / "alpha.png"
    Image.fromarray(pixels, "LA").save(path)
    expected = on_white(pixels[..., :1], pixels[..., 1])
    assert np.abs(decoded(path) - expected).max() <= 1
    assert np.abs(decoded(path, "L") - expected[..., 0]).max() <= 1


@pytest.mark.parametrize("kind", ["opaque", "one entry", "an alpha an entry"])
def test_palettes(tmp_path: Path, kind: str) -> None:
    table, indices = noise(16, 3), noise(7, 11) % 16
    image = Image.fromarray(indices.astype(np.uint8), "L")
    image.putpalette(table.tobytes())
    alphas = np.full(16, 255, dtype=np.uint8)
    path = tmp_path / "palette.png"
    if kind == "opaque":
        image.save(path)
    elif kind == "one entry":
        alphas[3] = 0
        image.save(path, transparency=3)
    else:
        alphas = np.arange(0, 256, 16, dtype=np.uint8)
        image.save(path, transparency=alphas.tobytes())
    with Image.open(path) as stored:
        assert stored.mode == "P"
    assert np.abs(decoded(path) - on_white(table[indices], alphas[indices])).max() <= 1


def test_colour_keys_are_transparent(tmp_path: Path) -> None:
    grey, wide, colour = tmp_path / "grey.png", tmp_path / "wide.png", tmp_path / "colour.png"
    Image.fromarray(np.array([[10, 20]], dtype=np.uint8)).save(grey, transparency=10)
    wide.write_bytes(png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 700, 25700), chunk(b"tRNS", struct.pack(">H", 700))))
    Image.fromarray(np.array([[[1, 2, 3], [3, 2, 1]]], dtype=np.uint8)).save(colour, transparency=(1, 2, 3))
    assert decoded(grey, "L").tolist() == [[255, 20]]
    assert decoded(wide, "L").tolist() == [[255, 100]]
    assert decoded(colour).tolist() == [[[255, 255, 255], [3, 2, 1]]]


# --- other colour models

INKS = np.array([[0, 0, 0, 0], [255, 0, 0, 0], [0, 200, 100, 50], [30, 60, 90, 120], [0, 0, 0, 255]], dtype=np.uint8)


def printed(inks: Array) -> NDArray[np.float64]:
    return (255.0 - inks[:, :3]) * (255.0 - inks[:, 3:]) / 255


def blocks(values: Array) -> Array:
    """Return each value as a block of 16x16, so that JPEG keeps it."""
    return np.repeat(np.repeat(values[None], 16, axis=0), 16, axis=1)


def block_centres(pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    return pixels[8, 8::16]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "cmyk.jpg"
    Image.fromarray(blocks(INKS), "CMYK").save(path, quality=100)
    assert np.abs(block_centres(decoded(path)) - printed(INKS)).max() <= 2


def test_ycck_jpeg(tmp_path: Path) -> None:
    # In the file: YCbCr of the inks read as red, green and blue, and black inverted; Pillow inverts what it saves.
    luma_chroma = np.asarray(Image.fromarray(INKS[None, :, :3]).convert("YCbCr"))[0]
    stored = np.concatenate([255 - luma_chroma, INKS[:, 3:]], axis=1)
    path = tmp_path / "ycck.jpg"
    Image.fromarray(blocks(stored), "CMYK").save(path, quality=100)
    content = bytearray(path.read_bytes())
    content[content.index(b"Adobe") + 11] = 2
    path.write_bytes(content)
    assert np.abs(block_centres(decoded(path)) - printed(INKS)).max() <= 3


def test_one_bit_and_lab(tmp_path: Path) -> None:
    bits = noise(5, 13) > 127
    Image.fromarray(bits).save(tmp_path / "bits.png")
    assert decoded(tmp_path / "bits.png", "L").tolist() == (bits * 255).tolist()
    Image.new("LAB", (4, 3), (255, 128, 128)).save(tmp_path / "lab.tif")
    assert decoded(tmp_path / "lab.tif", "L").min() >= 250


# --- containers


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    for name, options in (("a.gif", {}), ("a.webp", {"lossless": True}), ("a.png", {}), ("a.tif", {})):
        path = tmp_path / name
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)  # type: ignore[arg-type]
        image = decode_image(path, "RGB")
        assert np.unique(np.asarray(image).reshape(-1, 3), axis=0).tolist() == [[255, 0, 0]], name
        assert image.resize((4, 4)).getpixel((0, 0)) == (255, 0, 0)


def test_the_content_counts_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "png named.jpg"
    Image.fromarray(noise(4, 5, 3)).save(path, "PNG")
    np.testing.assert_array_equal(decoded(path), noise(4, 5, 3))


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = Path(f"{tmp_path}/caf\udce9\n.tif")
    Image.fromarray(noise(4, 5, 3)).save(tmp_path / "plain.tif", compression="tiff_lzw")
    (tmp_path / "plain.tif").rename(path)
    np.testing.assert_array_equal(decoded(path), noise(4, 5, 3))


# --- reduced decoding


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    ("size", "min_side", "expected"),
    [
        ((640, 480), 480, (640, 480)),
        ((640, 480), 241, (640, 480)),
        ((640, 480), 240, (320, 240)),
        ((640, 480), 60, (80, 60)),
        ((640, 480), 1, (80, 60)),
        ((641, 483), 60, (81, 61)),
        ((100, 3), 8, (100, 3)),
    ],
)
def test_draft_never_goes_below_min_side(
    tmp_path: Path, mode: ImageMode, size: tuple[int, int], min_side: int, expected: tuple[int, int]
) -> None:
    path = tmp_path / "large.jpg"
    Image.fromarray(smooth(size[1], size[0])).save(path, quality=95)
    full, reduced = decode_image(path, mode), decode_image(path, mode, min_side=min_side)
    assert reduced.size == expected
    assert reduced.mode == mode
    if size[0] % 8 == 0:
        reference = np.asarray(full.resize(expected, Image.Resampling.BOX)).astype(int)
        assert np.abs(np.asarray(reduced).astype(int) - reference).mean() < 2


def test_other_formats_are_decoded_at_full_size(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(smooth(64, 96)).save(path)
    assert decode_image(path, "RGB", min_side=8).size == (96, 64)


# --- files that are no whole image


def _photograph(path: Path, kind: str, share: float) -> None:
    Image.fromarray(noise(64, 64, 3)).save(path, kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated jpeg": (lambda path: _photograph(path, "JPEG", 0.7), "truncated"),
    "truncated png": (lambda path: _photograph(path, "PNG", 0.7), "truncated"),
    "truncated webp": (lambda path: _photograph(path, "WEBP", 0.7), "cannot be decoded|begins with"),
    "truncated tiff": (lambda path: _photograph(path, "TIFF", 0.7), "cannot be decoded|begins with"),
    "header only": (lambda path: _photograph(path, "JPEG", 0.02), "cannot be decoded|begins with"),
    "empty": (lambda path: path.write_bytes(b""), "the image file is empty"),
    "html": (lambda path: path.write_bytes(b"<!DOCTYPE html>\n<html>404</html>"), "begins with b'<!DOCTYPE html>"),
    "bomb": (lambda path: path.write_bytes(png(50000, 50000, 8, 2, b"")), "more than the 178 million pixels"),
    "postscript": (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "begins with"),
    "missing": (lambda path: None, "No such file"),
    "folder": (lambda path: path.mkdir(), "Is a directory"),
}


@pytest.mark.parametrize("min_side", [None, 16])
@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_decoded_is_one_line_for_people(tmp_path: Path, kind: str, min_side: int | None) -> None:
    make, cause = BROKEN[kind]
    path = tmp_path / "broken.jpg"
    make(path)
    with pytest.raises(DataError, match=cause) as caught:
        decode_image(path, "RGB", min_side=min_side)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("or leave it out.")
    assert "\n" not in message
    assert caught.value.__suppress_context__


def test_a_damaged_header_is_not_called_an_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "none.png").write_bytes(png(0, 0, 8, 2, b""))
    with pytest.raises(DataError, match=r"cannot be decoded \(its header is damaged\)"):
        decode_image(tmp_path / "none.png", "RGB")


@pytest.mark.slow
def test_large_images_below_the_limit_are_decoded_without_a_warning(tmp_path: Path) -> None:
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "large.png")
    program = """
from pathlib import Path
from PIL import Image
from mltrain.data.image_decoding import decode_image
Image.MAX_IMAGE_PIXELS = 50
assert decode_image(Path("large.png"), "RGB").size == (8, 8)
"""
    result = run_warm(["python", "-c", program], tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not list open files")
def test_no_file_stays_open(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.gif", tmp_path / "broken.png"
    frames = [Image.new("L", (4, 4), value) for value in (1, 2, 3)]
    frames[0].save(whole, save_all=True, append_images=frames[1:])
    _photograph(broken, "PNG", 0.5)
    before = len(list(Path("/proc/self/fd").iterdir()))
    images = [decode_image(whole, "L") for _ in range(5)]
    for _ in range(5):
        with pytest.raises(DataError):
            decode_image(broken, "L")
    assert len(images) == 5
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- photographs


@pytest.mark.shared_data
def test_all_photographs_decode() -> None:
    if not PHOTOGRAPHS.is_dir():
        pytest.skip("NOT TESTED: ../shared/data/hymenoptera/raw is not here")
    paths = sorted(path for path in PHOTOGRAPHS.rglob("*") if path.is_file())
    assert len(paths) > 390
    assert sum(path.suffix == ".gif" for path in paths) == 1
    transform = ImageTransform(32)
    for path in paths:
        image = decode_image(path, "RGB", min_side=transform.min_side)
        assert min(image.size) >= transform.min_side, path
        pixels = transform(image, None)
        assert pixels.shape == (3, 32, 32), path
        assert pixels.float().std() > 5, path
