"""What a TIFF says it holds: Pillow cannot decode every kind, and of some it leaves out bands without a word."""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path
from typing import Any, NamedTuple

from PIL import _imaging
from PIL.TiffImagePlugin import ImageFileDirectory_v2

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # + is BigTIFF, for files beyond 4 GB
_COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # photometric interpretation -> bands that are colours: RGB, CMYK, YCbCr, LAB
_KINDS = {1: "uint", 2: "int", 3: "float", 5: "complex int", 6: "complex"}
_GEOREFERENCE = (33550, 33922, 34264, 34735)  # pixel scale, tie points, transformation, keys: GeoTIFF 1.1
_MOST_PAGES = 10_000


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
                first = first or described(directory)
                pages += not (len(seen) > 1 and (directory.get(254, 0) & 1 or directory.get(255) == 2))
            return first and first._replace(pages=pages)
    except Exception:  # what Pillow raises at damaged tags is anything
        return None


def described(tags: Any) -> Contents:
    """What the tags of one picture in a TIFF say; its ``pages`` are not looked for."""
    photometric, bits, formats = tags.get(262, 0), tags.get(258, (1,)), tags.get(339, (1,))
    bands = tags.get(277, 3 if tags.get(259) == 6 else 1)
    colours = min(bands, 3 if tags.get(259) == 6 else _COLOURS.get(photometric, 1))
    kinds = [_KINDS.get(each, "?") for each in dict.fromkeys(formats)]
    dtype = "/".join(f"{kind}{size}" for size in dict.fromkeys(bits) for kind in kinds)
    planar = tags.get(284, 1) == 2
    georeference = any(tag in tags for tag in _GEOREFERENCE)
    return Contents(bands, colours, dtype, max(bits), photometric == 0, planar, 1, georeference)


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
