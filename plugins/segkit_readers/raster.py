"""A picture opened by Pillow, decoded so that no bits and labels are lost."""

from __future__ import annotations

import re
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.read import ALPHA
from segkit.errors import Issue, LabelError
from segkit_readers.tiff import GEOREFERENCE, number, place_of, several

_ROWS_OF = 1 << 24  # pixels converted at a time, to avoid a third full copy besides the decoded image and the result
# Pillow keeps the high byte of two-byte values. With the byte order swapped, it keeps the low byte.
_LOW = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
_TURN = {  # EXIF orientation -> operation that makes the image upright; from 5 on the image lies on its side
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LOSSY_TIFF = {6, 7, 33003, 33004, 33005, 34712, 34887, 34892, 50001, 50002}  # JPEG, JPEG 2000, LERC, WebP, JPEG XL


class Raster:
    """A picture that Pillow reads, ``[H,W,C]``; it is decoded when it is sliced.

    Attributes:
        shape: (H, W, C) of the upright picture.
        dtype: the type of its values.
        channels: names of the channels.
        orientation: EXIF orientation: 1 is upright, from 5 on the stored picture lies on its side.
        has_colours: whether it stores red, green and blue.
        white_is_zero, no_data, georeference, place: properties from the tags of a TIFF.
    """

    def __init__(self, image: Any, stream: Any, path: Path | None) -> None:
        self._image, self._stream, self._path = image, stream, path
        tags = getattr(image, "tag_v2", {})  # empty unless it is a TIFF
        self.orientation = _orientation(image)
        kind, _, bits = rawmode(image).partition(";")
        self._two_bytes = kind in ("LA", "RGB", "RGBA") and bits in _LOW  # Pillow would keep one byte of two
        deep = self._two_bytes or image.mode[0] in "IF"
        self.dtype = np.dtype({"F": "float32", "I": "int32"}.get(image.mode, "uint16") if deep else "uint8")
        names = ("grey",) if image.mode[0] in "IF" or (deep and kind == "LA") else ("red", "green", "blue")
        self.channels = (*names, ALPHA) if image.has_transparency_data else names
        # Pillow reports the upright size of a TIFF, and the stored size of other formats
        on_its_side = self.orientation > 4 and image.format != "TIFF"
        self.shape = (*(image.size if on_its_side else image.size[::-1]), len(self.channels))
        self.has_colours = image.mode in ("RGB", "RGBA")
        self.white_is_zero, self.no_data = tags.get(262) == 0, number(tags.get(42113))
        self.georeference, self.place = any(tag in tags for tag in GEOREFERENCE), place_of(tags)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        low = self._low_bytes() if self._two_bytes else None
        image, (height, width, _) = self._upright(), self.shape
        pixels: NDArray[Any] = np.empty(self.shape, self.dtype)
        count, rows = len(self.channels), max(1, _ROWS_OF // width)
        for top in range(0, height, rows):
            box = (0, top, width, min(top + rows, height))
            part = image.crop(box)
            if self.dtype == np.uint8:
                wanted = "RGB" if count == 3 else "RGBA"
                values = np.asarray(part if part.mode == wanted else part.convert(wanted))
            else:
                values = np.asarray(part)
                if low is not None:
                    values = _joined(values, np.asarray(low.crop(box)), self.channels[0] == "grey")
                values = values.reshape(*values.shape[:2], -1)
                if values.shape[2] < count:  # one value or colour marks transparent pixels
                    seen = (values != image.info["transparency"]).any(2, keepdims=True)
                    values = np.concatenate([values, seen], axis=2, dtype=self.dtype)
            pixels[top : box[3]] = values
        chosen: NDArray[Any] = pixels[key]
        return chosen

    def labels(self) -> NDArray[Any]:
        """Return a mask's values as stored, ``[H,W]`` or ``[H,W,C]``; for a palette image, the indices.

        Pillow itself would stretch grey of 2 and 4 bits, and invert the grey of some TIFFs.

        Raises:
            LabelError: colours of 16 bits per channel, of which Pillow would keep the upper 8 and so lose small labels;
                or colours that would have to be converted.
        """
        kind, _, bits = rawmode(self._image).partition(";")
        what, advice = "", "save the labels as a grey PNG"
        if self._image.mode in ("LA", "RGB", "RGBA") and "16" in bits:
            what = "colours of 16 bits per channel, of which only 8 can be read"
        elif self._image.mode in ("CMYK", "LAB", "YCbCr"):
            what, kind = "the mask holds colours, not labels", self._image.mode
        if what:
            raise LabelError(Issue("deep_colours", str(self._path), what, advice, kind))
        if kind in ("1", "L") and bits:
            if "R" in bits:
                raise ValueError("its bits are stored in reverse order")
            width = bits.rstrip("IR") or {"1": "1", "L": ""}[kind]
            self._image._mode = "P"  # palette indices are decoded unchanged
            decode_as(self._image, f"P;{width}" if width else "P")
        image = self._upright()
        return np.asarray(image.convert("RGB") if image.mode == "RGBX" else image)

    @cached_property
    def palette(self) -> list[tuple[int, int, int]] | None:
        """The RGB colours by index if the picture stores palette indices, else None."""
        if self._image.mode not in ("P", "PA") or not self._image.palette:
            return None
        rawmode, stored = self._image.palette.getdata()
        small = Image.new("P", (1, 1))  # gives the colours that decoding the image would give
        small.putpalette(stored, rawmode)
        colours: list[int] = small.getpalette("RGB") or []
        return list(zip(colours[::3], colours[1::3], colours[2::3], strict=False))

    @cached_property
    def is_lossy(self) -> str:
        """A description of the lossy compression, or "" if it is lossless."""
        image, path = self._image, self._path
        if image.format in ("JPEG", "MPO"):
            return "a JPEG"
        if image.format == "WEBP" and path and re.findall(rb"VP8[ L]", path.read_bytes())[:1] != [b"VP8L"]:
            return "a lossy WebP"  # lossless WebP has a chunk VP8L
        is_lossy_tiff = image.format == "TIFF" and image.tag_v2.get(259) in _LOSSY_TIFF
        return "a TIFF with lossy compression" if is_lossy_tiff else ""

    def verify(self) -> None:
        """Verify the checksums of a PNG, which decoding does not."""
        if self._image.format == "PNG":
            self._image.verify()

    def close(self) -> None:
        """Close the file; the header's data stay available."""
        if self._path:
            self._stream.close()

    def _upright(self) -> Any:
        """Return the decoded image, turned upright by EXIF; Pillow turns a TIFF itself.

        Raises:
            DataError: the file has several pages or frames, of which only the first would be read.
        """
        # additional pictures in a camera's JPEG (MPO) do not count; a TIFF's pages are counted by its own reader
        pages = 1 if self._image.format in ("MPO", "TIFF") else getattr(self._image, "n_frames", 1)
        if self._path and pages > 1:
            raise several(self._path, f"{pages} pages")
        return _turned(self._image, self.orientation)

    def _low_bytes(self) -> Any:
        """Decode the file a second time, upright, to the low bytes of its 16-bit channels."""
        low: Any = Image.open(self._stream, formats=[self._image.format])
        kind, _, bits = rawmode(low).partition(";")
        # both bytes of L and A, as four channels
        decode_as(low, "RGBA" if kind == "LA" else f"{kind};{_LOW[bits]}")
        return _turned(low, self.orientation)


def _orientation(image: Any) -> int:
    """Return the EXIF orientation from the header alone: PngImageFile.getexif would decode the pixels."""
    try:
        orientation = int(Image.Image.getexif(image).get(0x0112, 1))
    except Exception:  # damaged EXIF
        return 1
    return orientation if orientation in _TURN else 1


def _turned(image: Any, orientation: int) -> Any:
    turn = None if image.format == "TIFF" else _TURN.get(orientation)
    image.load()
    return image if turn is None else image.transpose(turn)


def rawmode(image: Any) -> str:
    """Return Pillow's raw mode of a file's pixels, such as ``RGB;16B``; empty once the image is decoded."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else ""
    return str(arguments if isinstance(arguments, str) else arguments[0])


def decode_as(image: Any, rawmode: str) -> None:
    """Make Pillow decode an image as if its pixels were stored in the given raw mode."""
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:])) for tile in image.tile
    ]


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8], grey: bool) -> NDArray[np.uint16]:
    """Join high and low bytes to 16-bit values ``[h,w,C]``; for grey, ``_low_bytes`` holds both bytes alternately."""
    if grey:
        high, low = low[..., ::2], low[..., 1::2]
    return high * np.uint16(256) + low
