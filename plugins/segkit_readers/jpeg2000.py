"""The reader of JPEG 2000: Pillow decodes what it keeps whole, rasterio all else."""

from __future__ import annotations

import mmap
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.errors import DataError
from segkit_readers import pillow
from segkit_readers.several import package

_START = b"\xff\x4f\xff\x51"  # of the codestream, in whatever boxes it lies; then comes the size (ISO 15444-1, A.5.1)
_CODING, _COMMENT, _TILE = b"\xff\x52", b"\xff\x64", b"\xff\x90"  # of A.6.1, A.9.2; where the header ends
_GREY = b"colr\x01\0\0\0\0\0\x11"  # the colours of a file (I.5.3.3); GDAL says so of bands, and Pillow decodes no three
_OF_PILLOW = ((1, {7}), (3, {7}), (1, {15}))  # bands, and bits less one: of other bits it would stretch the values


def read(path: Path) -> Any:
    """A picture in a ``.jp2`` or ``.j2k``, of any bits and bands; with rasterio also where it lies; None of others.

    Raises:
        DataError: it is cut short, or needs rasterio, which is not installed.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(_START)
        if start < 0:
            return None
        bands = int.from_bytes(data[start + 40 : start + 42])
        if len(data) < start + 42 + 3 * max(1, bands):
            raise DataError(f"{path}: the file is damaged or cut short; fetch or export it again")
        bits = {*data[start + 42 : start + 42 + 3 * bands : 3]}
        place, header = start + 2, dict[bytes, bytes]()  # marker -> segment
        while (marker := data[place : place + 2]) not in (_TILE, b""):
            length = int.from_bytes(data[place + 2 : place + 4])
            header[marker] = data[place + 4 : place + 2 + length]
            place += 2 + length
        is_odd = bands == 3 and data.find(_GREY, 0, start) >= 0
    # of the 9-7 wavelet; what the 5-3 one writes may be cut in rate, which GDAL then says in a comment
    is_lossy = header.get(_CODING, b"")[9:10] == b"\0" or b"LOSSY" in header.get(_COMMENT, b"")
    raster: Any
    if (bands, bits) in _OF_PILLOW and not is_odd:
        located = None
        with suppress(DataError, OSError):  # no rasterio, or one that reads no JPEG 2000
            located = Located(path)
        raster = pillow.read(path, ("JPEG2000",))
        raster.georeference, raster.place = getattr(located, "georeference", False), getattr(located, "place", None)
    else:
        raster = Located(path)
    raster.is_lossy = "a JPEG 2000 with losses" * is_lossy
    return raster


class Located:
    """A picture ``[H,W,C]`` that rasterio reads; it is decoded when it is sliced.

    Attributes:
        shape, dtype, channels: of the picture.
        no_data, georeference, place: as those of :class:`segkit.data.read.Header`.
    """

    def __init__(self, path: Path) -> None:
        what = "a JPEG 2000 of several bands, or of other than 8 and 16 bits"
        rasterio: Any = package(path, what, "rasterio", "'segkit[geo]'")
        self._open: Any = partial(rasterio.open, path)
        with self._open() as file:
            self.shape, self.dtype = (file.height, file.width, file.count), np.dtype(file.dtypes[0])
            known = [each.name.replace("gray", "grey") for each in file.colorinterp]
            self.channels = tuple(
                name if name in ("red", "green", "blue", "grey", "alpha") else f"band {number}"
                for number, name in enumerate(known, 1)
            )
            self.no_data, self.georeference = file.nodata, not file.transform.is_identity
            corners = tuple(file.xy(*each, offset="ul") for each in ((0, 0), (0, file.width), (file.height, 0)))
            system = file.crs and file.crs.to_epsg()
            self.place = (f"EPSG:{system}" if system else "", corners) if self.georeference else None

    def __getitem__(self, key: Any) -> NDArray[Any]:
        with self._open() as file:
            values: NDArray[Any] = np.moveaxis(file.read(), 0, -1)[key]
        return values
