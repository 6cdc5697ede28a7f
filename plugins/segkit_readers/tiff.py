"""The reader of TIFF: decides from the tags whether Pillow reads a file without loss; tifffile reads the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from segkit.errors import DataError, Issue
from segkit_readers.several import Parts, numbers

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # + is BigTIFF, for files beyond 4 GB
_COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # photometric interpretation -> number of colour bands: RGB, CMYK, YCbCr, LAB
_KINDS = {1: "uint", 2: "int", 3: "float", 5: "complex int", 6: "complex"}
_PILLOWS = ("uint16", "int16", "int32", "float32")  # one-band types that Pillow reads, besides those up to 8 bits
_OURS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float16", "float32", "float64")
_LOSSLESS = {1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000}  # none, fax, LZW, deflate, PackBits, LZMA, Zstandard
GEOREFERENCE = (33550, 33922, 34264, 34735)  # pixel scale, tie points, transformation, keys: GeoTIFF 1.1
_MOST_PAGES = 10_000
Place = tuple[str, tuple[tuple[float, ...], ...]]
_INSTALL = "python -m pip install 'segkit[tiff]'"


class Contents(NamedTuple):
    """Properties of a TIFF according to its tags.

    Attributes:
        bands: number of values per pixel.
        colours: number of bands that are colours or grey; further bands are transparency or something else.
        extra: TIFF codes of the further bands: 1 and 2 are transparency, 0 is unspecified.
        dtype: the type of a value, such as ``uint16``.
        bits: the largest number of bits per value.
        photometric: the photometric interpretation; 0 is grey with bright small values, 2 is RGB.
        planar: whether bands are stored one after the other.
        orientation: as in EXIF.
        compression: TIFF's code of the compression.
        no_data: the value that marks pixels without data, from GDAL's tag.
        georeference, place: see :class:`segkit.data.read.Header`.
        pages: number of pictures, without reduced copies of the first one.
    """

    bands: int
    colours: int
    extra: tuple[int, ...]
    dtype: str
    bits: int
    photometric: int
    planar: bool
    orientation: int
    compression: int
    no_data: float | None
    georeference: bool
    place: Place | None
    pages: int = 1

    def __str__(self) -> str:
        """``12 bands of int16``."""
        bands = f"{self.bands} bands" if self.bands > 1 else "one band"
        return f"{bands} of {self.dtype}" + (", stored one after the other" if self.planar and self.bands > 1 else "")

    @property
    def is_pillows(self) -> bool:
        """Whether Pillow reads all bands and all bits."""
        extra = self.bands - self.colours
        if extra > 1 or (extra and (self.planar or self.extra[:1] not in ((1,), (2,)))):
            return False
        if self.bits <= 8:
            return self.dtype.startswith("uint")
        if self.bands == 1:
            return self.dtype in _PILLOWS and not (self.photometric == 0 and self.dtype == "uint16")
        return self.dtype == "uint16" and self.photometric == 2 and not self.planar


def read(path: Path) -> Raster | SimpleNamespace | None:
    """Read a TIFF that Pillow cannot read without loss; return None for other files and damaged TIFFs.

    Supports integer and floating-point bands, interleaved or planar, in strips or tiles, with any compression that
    tifffile knows (some need the package imagecodecs). Several pages are several pictures, unless the file declares
    them the channels of one picture, as ImageJ and OME do.

    Raises:
        DataError: an unsupported kind of TIFF, or tifffile is not installed.
    """
    held = contents(path)
    if held is None or (held.pages == 1 and held.is_pillows):
        return None
    if held.dtype not in _OURS:
        what, advice = "a kind of TIFF that is not read", "save it with values of 8, 16 or 32 bits"
        raise DataError(Issue("bands", str(path), what, advice, str(held)))
    try:
        import tifffile
    except ImportError:
        advice = f"install its reader: {_INSTALL}"
        detail = f"{held.pages} pages of {held}" if held.pages > 1 else str(held)
        raise DataError(Issue("bands", str(path), "a kind of TIFF that needs tifffile", advice, detail)) from None
    with tifffile.TiffFile(path) as file:
        axes, shape = file.series[0].axes, file.series[0].shape
        if held.pages == 1 or sorted(axes) == ["C", "X", "Y"]:
            return Raster(path, held, axes, shape)
        kept = [index for index, page in enumerate(file.pages) if not getattr(page, "is_reduced", False)]
        page = file.pages[kept[0]]
        axes, shape = page.axes, page.shape
    names = numbers(len(kept))
    return SimpleNamespace(parts=Parts(names, lambda name: Raster(path, held, axes, shape, kept[int(name) - 1])))


class Raster:
    """A picture in a TIFF, ``[H,W,C]``; it is decoded when it is sliced.

    Attributes:
        shape: (H, W, C) of the upright picture.
        dtype: the type of its values.
        channels: names of the channels.
        no_data, georeference, place: see :class:`Contents`.
        white_is_zero: whether small values are bright; slices are inverted, ``labels`` are not.
    """

    def __init__(self, path: Path, held: Contents, axes: str, shape: tuple[int, ...], page: int | None = None) -> None:
        sides = {axis: side for axis, side in zip(axes, shape, strict=True) if side > 1 or axis in "YX"}
        if not {*sides} <= {*"YXSC"} or len(sides) > 3:
            raise several(path, f"{' x '.join(map(str, shape))} values, {axes}")
        self._path, self._held, self._axes, self._page = path, held, axes, page
        bands = sides.get("S", 1) * sides.get("C", 1)
        height, width = sides["Y"], sides["X"]
        self.shape = (width, height, bands) if held.orientation > 4 else (height, width, bands)
        self.dtype, self.no_data, self.georeference = np.dtype(held.dtype), held.no_data, held.georeference
        self.place = held.place
        self.white_is_zero = held.photometric == 0
        self.is_lossy = held.compression not in _LOSSLESS
        extra = held.bands - held.colours
        names = [f"band {number}" for number in range(1, bands + 1)] if bands > 1 else ["grey"]
        if held.photometric == 2 and held.bands == bands:
            names[:3] = "red", "green", "blue"
        if extra == 1 and held.extra[:1] in ((1,), (2,)):
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
        stored = stored.reshape(*stored.shape[len(others) : len(others) + 2], -1)  # [H,W,C]
        if self._held.orientation > 4:
            stored = stored.swapaxes(0, 1)
        turned = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
        down, across = turned.get(self._held.orientation, (1, 1))
        return stored[::down, ::across]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        values: NDArray[Any] = self.labels()[key]
        inverted = self.white_is_zero and values.dtype.kind == "u"
        return np.invert(values) if inverted else values


def contents(path: Path) -> Contents | None:
    """Return a TIFF's contents according to its tags; None if it is no TIFF or damaged."""
    try:
        with path.open("rb") as stream:
            header = stream.read(16)
            if header[:4] not in _MAGIC:
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
    except Exception:  # Pillow raises many types on damaged tags
        return None


def _described(tags: Any) -> Contents:
    """Return the contents according to the tags of one picture, without counting pages."""
    photometric, bits, formats, compression = (tags.get(tag, usual) for tag, usual in _USUAL.items())
    bands = tags.get(277, 3 if compression == 6 else 1)
    kinds = [_KINDS.get(each, "?") for each in dict.fromkeys(formats)]
    return Contents(
        bands=bands,
        colours=min(bands, 3 if compression == 6 else _COLOURS.get(photometric, 1)),
        extra=tags.get(338, ()),
        dtype="/".join(f"{kind}{size}" for size in dict.fromkeys(bits) for kind in kinds),
        bits=max(bits),
        photometric=photometric,
        planar=tags.get(284, 1) == 2,
        orientation=tags.get(274, 1),
        compression=compression,
        no_data=number(tags.get(42113)),
        georeference=any(tag in tags for tag in GEOREFERENCE),
        place=place_of(tags),
    )


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


_USUAL: dict[int, Any] = {262: 0, 258: (1,), 339: (1,), 259: 1}


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
