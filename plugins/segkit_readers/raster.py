"""A picture opened by Pillow, decoded so that no bits and labels are lost."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.read import ALPHA
from segkit.errors import Issue, LabelError
from segkit_readers.tiff import GEOREFERENCE, number, place_of, several, upright

_ROWS_OF = 1 << 24  # pixels converted at a time, to avoid a third full copy besides the decoded image and the result

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
        self._two_bytes = kind in ("LA", "RGB", "RGBA") and bits == "16B"  # of a PNG; Pillow would keep one of two
        deep = self._two_bytes or image.mode[0] in "IF"
        self.dtype = np.dtype({"F": "float32", "I": "int32"}.get(image.mode, "uint16") if deep else "uint8")
        names = ("grey",) if image.mode[0] in "IF" or (deep and kind == "LA") else ("red", "green", "blue")
        self.channels = (*names, ALPHA) if image.has_transparency_data else names
        # Pillow turns a TIFF itself, and reports the upright size of it
        self._turn = 1 if image.format == "TIFF" else self.orientation
        self.shape = (*(image.size if self._turn > 4 else image.size[::-1]), len(self.channels))
        self.has_colours = image.mode in ("RGB", "RGBA")
        self.white_is_zero, self.no_data = tags.get(262) == 0, number(tags.get(42113))
        self.georeference, self.place = any(tag in tags for tag in GEOREFERENCE), place_of(tags)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        chosen: NDArray[Any] = upright(self._in_colours() if self.dtype == np.uint8 else self._deep(), self._turn)[key]
        return chosen

    def _in_colours(self) -> NDArray[np.uint8]:
        image, wanted = self._decoded(), "RGB" if len(self.channels) == 3 else "RGBA"
        pixels = np.empty((image.height, image.width, len(self.channels)), np.uint8)
        rows = max(1, _ROWS_OF // image.width)
        for top in range(0, image.height, rows):
            part = image.crop((0, top, image.width, min(top + rows, image.height)))
            pixels[top : top + rows] = np.asarray(part if part.mode == wanted else part.convert(wanted))
        return pixels

    def _deep(self) -> NDArray[Any]:
        low = self._low_bytes() if self._two_bytes else None
        values: NDArray[Any] = np.atleast_3d(np.asarray(self._decoded()))
        if low is not None:
            high, low = (low[..., ::2], low[..., 1::2]) if self.channels[0] == "grey" else (values, low)
            values = high * np.uint16(256) + low
        if values.shape[2] < len(self.channels):  # one value or colour marks transparent pixels
            seen = (values != self._image.info["transparency"]).any(2, keepdims=True)
            values = np.concatenate([values, seen], axis=2, dtype=self.dtype)
        return values.astype(self.dtype, copy=False)

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
        if kind in ("1", "L") and bits and self._image.format != "PPM":  # whose 1 is black, as programs write false
            if "R" in bits:
                raise ValueError("its bits are stored in reverse order")
            width = bits.rstrip("IR") or {"1": "1", "L": ""}[kind]
            self._image._mode = "P"  # palette indices are decoded unchanged
            decode_as(self._image, f"P;{width}" if width else "P")
        image = self._decoded()
        stored = np.asarray(image.convert("RGB") if image.mode == "RGBX" else image)
        return stored if self._turn == 1 else upright(stored, self._turn)

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

    def _decoded(self) -> Any:
        """Return the decoded image.

        Raises:
            DataError: the file has several pages or frames, of which only the first would be read.
        """
        # additional pictures in a camera's JPEG (MPO) do not count; a TIFF's pages are counted by its own reader
        pages = 1 if self._image.format in ("MPO", "TIFF") else getattr(self._image, "n_frames", 1)
        if self._path and pages > 1:
            raise several(self._path, f"{pages} pages")
        self._image.load()
        return self._image

    def _low_bytes(self) -> NDArray[np.uint8]:
        """Decode a PNG of 16-bit channels in the other byte order, so that Pillow keeps the low bytes, not the high."""
        low: Any = Image.open(self._stream, formats=["PNG"])
        kind = rawmode(low).partition(";")[0]
        decode_as(low, "RGBA" if kind == "LA" else f"{kind};16L")  # both bytes of L and A, as four channels
        return np.asarray(low)


def _orientation(image: Any) -> int:
    """Return the EXIF orientation from the header alone: PngImageFile.getexif would decode the pixels."""
    try:
        orientation = int(Image.Image.getexif(image).get(0x0112, 1))
    except Exception:  # damaged EXIF
        return 1
    return orientation if 1 <= orientation <= 8 else 1


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
