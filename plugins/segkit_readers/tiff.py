"""The reader of TIFF: decides from the tags whether Pillow reads a file without loss; tifffile reads the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from segkit.errors import DataError, Issue
from segkit_readers.several import numbered

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # + is BigTIFF, for files beyond 4 GB
_COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # photometric interpretation -> number of colour bands: RGB, CMYK, YCbCr, LAB
_JPEG = 6  # old JPEG, in colours unless a tag says otherwise
_KINDS = {1: "uint", 2: "int", 3: "float", 5: "complex int", 6: "complex"}
_PILLOWS = ("uint16", "int16", "int32", "float32")  # one-band types that Pillow reads, besides those up to 8 bits
_OURS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float16", "float32", "float64")
_LOSSLESS = {1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000}  # none, fax, LZW, deflate, PackBits, LZMA, Zstandard
GEOREFERENCE = (33550, 33922, 34264, 34735)  # pixel scale, tie points, transformation, keys: GeoTIFF 1.1
_TAGS = (256, 257, 258, 259, 262, 274, 277, 284, 338, 339, 42113, *GEOREFERENCE)  # those that are needed here
_MOST_PAGES = 10_000
Place = tuple[str, tuple[tuple[float, ...], ...]]
_INSTALL = "python -m pip install 'segkit[tiff]'"


def read(path: Path) -> Raster | SimpleNamespace | None:
    """Read a TIFF that Pillow cannot read without loss; return None for other files and damaged TIFFs.

    Supports integer and floating-point bands, interleaved or planar, in strips or tiles, with any compression that
    tifffile knows (some need the package imagecodecs). Several pages are several pictures, unless the file declares
    them the channels of one picture, as ImageJ and OME do.

    Raises:
        DataError: an unsupported kind of TIFF, or tifffile is not installed.
    """
    tags, pages = _first_page(path)
    if not pages:
        return None
    bands, dtype, is_pillows = _stored(tags)
    if pages == 1 and is_pillows:
        return None
    held = f"{bands} bands of {dtype}" if bands > 1 else f"one band of {dtype}"
    held = f"{pages} pages of {held}" if pages > 1 else held
    if dtype not in _OURS:
        what, advice = "a kind of TIFF that is not read", "save it with values of 8, 16 or 32 bits"
        raise DataError(Issue("bands", str(path), what, advice, held))
    try:
        import tifffile
    except ImportError:
        advice = f"install its reader: {_INSTALL}"
        raise DataError(Issue("bands", str(path), "a kind of TIFF that needs tifffile", advice, held)) from None
    with tifffile.TiffFile(path) as file:
        axes, shape = file.series[0].axes, file.series[0].shape
        if pages == 1 or sorted(axes) == ["C", "X", "Y"]:
            return Raster(path, tags, dtype, axes, shape)
        kept = [index for index, page in enumerate(file.pages) if not getattr(page, "is_reduced", False)]
        page = file.pages[kept[0]]
        axes, shape = page.axes, page.shape
    return SimpleNamespace(parts=numbered(len(kept), lambda at: Raster(path, tags, dtype, axes, shape, kept[at])))


def _first_page(path: Path) -> tuple[dict[int, Any], int]:
    """Return a TIFF's tags, and the number of its pictures without reduced copies: 0 if it is no TIFF or damaged."""
    pages, first, seen = 0, dict[int, Any](), set[int]()
    try:
        with path.open("rb") as stream:
            header = stream.read(16)
            directory: Any = ImageFileDirectory_v2(header if 43 in header[2:4] else header[:8])
            while header[:4] in _MAGIC and directory.next and directory.next not in seen and len(seen) < _MOST_PAGES:
                seen.add(directory.next)
                stream.seek(directory.next)
                directory.load(stream)
                first = first or {tag: directory[tag] for tag in _TAGS if tag in directory}
                pages += not (len(seen) > 1 and (directory.get(254, 0) & 1 or directory.get(255) == 2))
    except Exception:  # Pillow raises many types on damaged tags
        return {}, 0
    return first, pages


def _stored(tags: dict[int, Any]) -> tuple[int, str, bool]:
    """Return the number of bands, their type such as ``uint16``, and whether Pillow reads all bands and all bits."""
    bits, photometric, is_planar = tags.get(258, (1,)), tags.get(262, 0), tags.get(284, 1) == 2
    kinds = [_KINDS.get(each, "?") for each in dict.fromkeys(tags.get(339, (1,)))]
    dtype = "/".join(f"{kind}{size}" for size in dict.fromkeys(bits) for kind in kinds)
    bands = tags.get(277, 3 if tags.get(259) == _JPEG else 1)
    extra = bands - _colours(tags, bands)
    if extra > 1 or (extra and (is_planar or tags.get(338, ())[:1] not in ((1,), (2,)))):
        return bands, dtype, False
    if max(bits) <= 8:
        return bands, dtype, dtype.startswith("uint")
    is_white = photometric == 0 and dtype == "uint16"
    return bands, dtype, bands == 1 and dtype in _PILLOWS and not is_white


def _colours(tags: dict[int, Any], bands: int) -> int:
    """Return the number of bands that are colours or grey; further bands are transparency or something else."""
    return min(bands, 3 if tags.get(259) == _JPEG else _COLOURS.get(tags.get(262, 0), 1))


class Raster:
    """A picture in a TIFF, ``[H,W,C]``; it is decoded when it is sliced.

    Attributes:
        shape: (H, W, C) of the upright picture.
        dtype: the type of its values.
        channels: names of the channels.
        no_data, georeference, place: see :class:`segkit.data.read.Header`.
        white_is_zero: whether small values are bright; slices are inverted, ``labels`` are not.
    """

    def __init__(
        self, path: Path, tags: dict[int, Any], dtype: str, axes: str, shape: tuple[int, ...], page: int | None = None
    ) -> None:
        sides = {axis: side for axis, side in zip(axes, shape, strict=True) if side > 1 or axis in "YX"}
        if not {*sides} <= {*"YXSC"} or len(sides) > 3:
            raise several(path, f"{' x '.join(map(str, shape))} values, {axes}")
        self._path, self._axes, self._page, self._turn = path, axes, page, tags.get(274, 1)
        bands = sides.get("S", 1) * sides.get("C", 1)
        height, width = sides["Y"], sides["X"]
        self.shape = (width, height, bands) if self._turn > 4 else (height, width, bands)
        self.dtype, self.no_data = np.dtype(dtype), number(tags.get(42113))
        self.georeference, self.place = any(tag in tags for tag in GEOREFERENCE), place_of(tags)
        self.white_is_zero = tags.get(262, 0) == 0
        self.is_lossy = tags.get(259, 1) not in _LOSSLESS
        names = [f"band {number}" for number in range(1, bands + 1)] if bands > 1 else ["grey"]
        own = tags.get(277, 1)
        if tags.get(262) == 2 and own == bands:
            names[:3] = "red", "green", "blue"
        if own - _colours(tags, own) == 1 and tags.get(338, ())[:1] in ((1,), (2,)):
            names[-1] = "alpha"
        self.channels = tuple(names)

    def labels(self) -> NDArray[Any]:
        """Return the values as stored, turned upright, ``[H,W,C]``."""
        import tifffile

        try:
            with tifffile.TiffFile(self._path) as file:
                stored: NDArray[Any] = (file.series[0] if self._page is None else file.pages[self._page]).asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            what, advice = "a compression that needs imagecodecs", f"install it: {_INSTALL}"
            raise DataError(Issue("bands", str(self._path), what, advice, str(error).split(" requires")[0])) from None
        order = [axis for axis in "YXSC" if axis in self._axes]
        others = [axis for axis in self._axes if axis not in "YXSC"]  # axes of length 1
        stored = stored.transpose([self._axes.index(axis) for axis in [*others, *order]])
        return upright(stored.reshape(*stored.shape[len(others) : len(others) + 2], -1), self._turn)  # [H,W,C]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        values: NDArray[Any] = self.labels()[key]
        inverted = self.white_is_zero and values.dtype.kind == "u"
        return np.invert(values) if inverted else values


def upright(stored: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return stored values ``[H,W,...]`` turned upright, by the EXIF orientation or TIFF's tag of the same meaning."""
    stored = stored.swapaxes(0, 1) if orientation > 4 else stored
    turned = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
    down, across = turned.get(orientation, (1, 1))
    return np.ascontiguousarray(stored[::down, ::across])


def place_of(tags: Any) -> Place | None:
    """Return a picture's place from its GeoTIFF 1.1 tags, as in ``Header.place``; None without an affine transform."""
    scale, tie, matrix = (tags.get(tag, ()) for tag in GEOREFERENCE[:3])
    if tags.get(274, 1) != 1 or not (len(matrix) == 16 or (len(scale) == 3 and len(tie) == 6)):
        return None
    if len(matrix) != 16:
        matrix = (scale[0], 0, 0, tie[3] - tie[0] * scale[0], 0, -scale[1], 0, tie[4] + tie[1] * scale[1])
    stored = tags.get(34735, ())
    keys = {stored[at]: stored[at + 3] for at in range(4, len(stored) - 3, 4) if not stored[at + 1]}
    code = next((keys[key] for key in (3072, 2048) if keys.get(key, 32767) != 32767), "")  # projected, geographic
    half = 0.5 if keys.get(1025) == 2 else 0  # 2: the transform refers to pixel centres
    corners = [(-half, -half), (tags[256] - half, -half), (-half, tags[257] - half)]
    points = [tuple(matrix[at] * x + matrix[at + 1] * y + matrix[at + 3] for at in (0, 4)) for x, y in corners]
    return f"EPSG:{code}" if code else "", tuple(points)


def several(path: Path, pages: str) -> DataError:
    """Return the error for a file with several pictures, of which only one would be read."""
    advice = "save each picture as its own file (for a mask, one file with all labels), in Python: for number, page in "
    advice += "enumerate(tifffile.imread(FILE)): tifffile.imwrite(f'{Path(FILE).stem}_{number}.tif', page)"
    return DataError(Issue("several", str(path), "more than one picture in the file", advice, pages))


def number(text: Any) -> float | None:
    """Convert text in a file, such as GDAL's no-data value, to a number; None if it is no number."""
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None
