"""The reader of JPEG, PNG, GIF, BMP, TIFF, WebP, PPM, PGM and text: opens with Pillow and refuses unsafe files."""

from __future__ import annotations

import ctypes
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, _imaging

from segkit.data.read import MAX_PIXELS
from segkit.errors import DataError, Issue
from segkit_readers.raster import Raster, decode_as, rawmode
from segkit_readers.several import MAX_BYTES

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""Decoders that may run. Pillow has dozens more; some start other programs (EPS) or are rarely tested."""

_OTHER_CONTENT = {
    b"<": "text in HTML or XML, perhaps a download's error page",
    b"version https://git-lfs": "a Git LFS pointer; run `git lfs pull`",
}
_lifting = threading.Lock()


def read(source: Path | Image.Image) -> Raster | NDArray[Any]:
    """Open a file with Pillow, whatever its suffix, without decoding it; or wrap an image that Pillow has opened.

    8-bit palette, CMYK, grey and similar images become RGB; colours and grey of more bits stay as stored. A TIFF whose
    zero is white is inverted to its intended look, except when read as labels.

    Raises:
        DataError: another format, more than :data:`MAX_BYTES`, a TIFF with giant tiles, or a BMP that Pillow misreads.
    """
    if isinstance(source, Image.Image):
        return Raster(source, source.fp if hasattr(source, "fp") else None, None)
    if (size := source.stat().st_size) > MAX_BYTES:
        raise _too_large(source, f"{MAX_BYTES:,} bytes that are read", "save it again", f"{size:,} bytes")
    if source.suffix.lower() in (".txt", ".csv"):
        return _matrix(source)
    stream = source.open("rb")
    try:
        return Raster(_opened(source, stream), stream, source)
    except BaseException:
        stream.close()
        raise


def _opened(path: Path, stream: Any) -> Any:
    """Return the image in a file, checked to be safe to decode."""
    head = stream.read(64)
    stream.seek(0)
    try:
        image: Any = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError:
        known = [content for start, content in _OTHER_CONTENT.items() if head.lstrip().startswith(start)]
        what = f"not an image but {known[0]}" if known else "not an image of a known format"
        raise DataError(Issue("disguised", str(path), what, f"allowed are {', '.join(FORMATS)}")) from None
    except Image.DecompressionBombError:  # Pillow's limit; segkit checks its own limit against the header's size
        with _lifting:
            before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                stream.seek(0)
                image = Image.open(stream, formats=FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = before
    if image.format == "TIFF":  # its tiles are decoded whole, however small the image
        width, height = (image.tag_v2.get(tag, 0) for tag in (322, 323))
        if width * height > max(MAX_PIXELS, image.width * image.height):
            raise _too_large(path, f"{MAX_PIXELS:,} pixels per tile", "use smaller tiles", f"{width} x {height}")
    kind, _, bits = rawmode(image).partition(";")
    if kind in ("RGBa", "La"):  # colours multiplied by alpha are kept as stored
        image._mode = kind.upper()
        decode_as(image, f"{kind.upper()};{bits}" if bits else kind.upper())
    if image.format == "BMP" and _is_misread(image, head):
        what = "a BMP of greys in a palette of 4 or 8 bits a pixel, which Pillow misreads"
        raise DataError(Issue("misread", str(path), what, "save it as PNG with the program that wrote it"))
    return image


def _is_misread(image: Any, head: bytes) -> bool:
    """Whether Pillow reads a BMP with a black-and-white palette as 1-bit, or one with a grey palette as 8-bit."""
    bits = head[28] if head[14] >= 40 else head[24]
    decoder, kind = image.tile[0][0], rawmode(image)
    return (kind == "1" and bits != 1) or (kind == "L" and bits < 8 and decoder == "raw")


def _matrix(path: Path) -> NDArray[Any]:
    """Read labels from text, one row per line, with numbers split at spaces, commas or semicolons.

    Raises:
        ValueError: the text is no numbers, or rows differ in length.
    """
    with path.open(encoding="utf-8-sig") as file:
        first = file.readline()
    comma = next((each for each in ",;" if each in first), None)
    values = np.loadtxt(path, delimiter=comma, ndmin=2, encoding="utf-8-sig")
    return values.astype(np.int32) if (values == np.rint(values)).all() else values


def _too_large(path: Path, limit: str, advice: str, found: str) -> DataError:
    return DataError(Issue("too_large", str(path), f"larger than the {limit} at most", advice, found))


def _silence() -> None:
    """Keep messages of Pillow and libtiff off the terminal: problems are raised as errors that name the file."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints unhandled log messages
    try:
        libtiff = ctypes.CDLL(_imaging.__file__)
        libtiff.TIFFSetErrorHandler(None)
        libtiff.TIFFSetWarningHandler(None)
    except (AttributeError, OSError):  # a Pillow without libtiff, or one that hides its functions
        pass


_silence()
