"""What a TIFF says it holds: Pillow cannot decode every kind, and of some it leaves out bands without a word."""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path
from typing import Any, NamedTuple

from PIL import _imaging
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from segkit.errors import DataError, Issue

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # + is BigTIFF, for files beyond 4 GB
_COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # photometric interpretation -> bands that are colours: RGB, CMYK, YCbCr, LAB
_KINDS = {1: "uint", 2: "int", 3: "float", 5: "complex int", 6: "complex"}
_GEOREFERENCE = (33550, 33922, 34264, 34735)  # pixel scale, tie points, transformation, keys: GeoTIFF 1.1
_MOST_PAGES = 10_000
_SHOWN = {"RGBX": "RGBA", "LX": "LA", "PX": "PA", "RGBa": "RGBA", "La": "LA"}  # Pillow drops or divides by the fourth


class Contents(NamedTuple):
    """What the tags of a TIFF say.

    Attributes:
        bands: values a pixel.
        colours: bands that are colours or grey; those beyond are transparency or something else.
        dtype: of a value, as ``uint16``.
        bits: of the longest value.
        white_is_zero: whether small values are bright.
        planar: whether each band lies apart from the others.
        pages: pictures in the file, without reduced copies of the first one.
        georeference: whether the file says where on Earth its pixels lie.
    """

    bands: int
    colours: int
    dtype: str
    bits: int
    white_is_zero: bool
    planar: bool
    pages: int
    georeference: bool

    def __str__(self) -> str:
        """``12 bands of int16``."""
        bands = f"{self.bands} bands" if self.bands > 1 else "one band"
        return f"{bands} of {self.dtype}" + (", stored one after the other" if self.planar and self.bands > 1 else "")


def contents(path: Path) -> Contents | None:
    """What a file holds, None where it is no TIFF or a damaged one."""
    try:
        with path.open("rb") as stream:
            header = stream.read(16)
            if header[:4] not in MAGIC:
                return None
            directory: Any = ImageFileDirectory_v2(header if 43 in header[2:4] else header[:8])
            first: Contents | None = None
            pages, seen = 0, set[int]()
            while directory.next and directory.next not in seen and len(seen) < _MOST_PAGES:
                seen.add(directory.next)
                stream.seek(directory.next)
                directory.load(stream)
                first = first or _described(directory)
                pages += not (len(seen) > 1 and (directory.get(254, 0) & 1 or directory.get(255) == 2))
            return first and first._replace(pages=pages)
    except Exception:  # what Pillow raises at damaged tags is anything
        return None


def _described(tags: Any) -> Contents:
    """What the tags of one picture in a TIFF say; its ``pages`` are not looked for."""
    photometric, bits, formats = tags.get(262, 0), tags.get(258, (1,)), tags.get(339, (1,))
    bands = tags.get(277, 3 if tags.get(259) == 6 else 1)
    colours = min(bands, 3 if tags.get(259) == 6 else _COLOURS.get(photometric, 1))
    kinds = [_KINDS.get(each, "?") for each in dict.fromkeys(formats)]
    dtype = "/".join(f"{kind}{size}" for size in dict.fromkeys(bits) for kind in kinds)
    planar = tags.get(284, 1) == 2
    georeference = any(tag in tags for tag in _GEOREFERENCE)
    return Contents(bands, colours, dtype, max(bits), photometric == 0, planar, 1, georeference)


def prepare(image: Any, name: str) -> Contents | None:
    """What a TIFF that is not decoded yet holds; a fourth band that Pillow would drop is decoded too. None: no TIFF.

    Raises:
        DataError: Pillow would leave out bands, or a part of their values.
    """
    if not isinstance(image, TiffImageFile):
        return None
    held = show_fourth_band(image)
    extra = held.bands - held.colours
    lost = extra > 1 or (extra == 1 and (held.planar or not image.has_transparency_data))
    if lost or (held.bits > 8 and held.bands > 1 and (held.planar or held.colours != 3)):
        raise DataError(bands_issue(held, name))
    return held


def show_fourth_band(image: Any) -> Contents:
    """Have Pillow decode a fourth band that it would drop, and leave colours alone that were multiplied by it."""
    held = _described(image.tag_v2)
    kind, _, bits = rawmode_of(image).partition(";")
    if held.bands == held.colours + 1 and kind in _SHOWN:
        image._mode = _SHOWN[kind]
        decode_as(image, f"{_SHOWN[kind]};{bits}" if bits else _SHOWN[kind])
    return held


def bands_issue(held: Contents, name: str) -> Issue:
    """What a TIFF holds that is not read, and how to make one of it that is."""
    advice = "read are grey of 8 or 16 bits or float32, and RGB of 8 or 16 bits a channel; save it as one of these"
    if held.bands > 1:
        advice += ". With GDAL, gdal_translate -b 1 IN OUT takes the first band"
    if held.bands > 2:
        advice += (
            ", gdal_translate -b 1 -b 2 -b 3 -ot UInt16 -scale LOW HIGH 0 65535 -co PHOTOMETRIC=RGB -co "
            "INTERLEAVE=PIXEL IN OUT three, with the lowest and the highest value in all the files"
        )
    return Issue("bands", name, "a kind of TIFF that is not read", advice, str(held))


def rawmode_of(image: Any) -> str:
    """How a file stores a pixel, in Pillow's words, as ``RGB;16B``; empty once it is decoded."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else ""
    return str(arguments if isinstance(arguments, str) else arguments[0])


def decode_as(image: Any, rawmode: str) -> None:
    """Have Pillow decode an image as if its pixels were stored otherwise."""
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:])) for tile in image.tile
    ]


def _silence() -> None:
    """Keep what is not Python's off the terminal: what is wrong with a file is raised, and told by its name."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints errors that nobody handles
    try:
        libtiff = ctypes.CDLL(_imaging.__file__)
        libtiff.TIFFSetErrorHandler(None)
        libtiff.TIFFSetWarningHandler(None)
    except (AttributeError, OSError):  # a Pillow without libtiff, or one that does not show its functions
        pass


_silence()
