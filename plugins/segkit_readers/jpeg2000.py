"""The reader of JPEG 2000: Pillow decodes what it reads without loss of bits or bands, rasterio everything else."""

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

_START = b"\xff\x4f\xff\x51"  # starts the codestream, in any box; the size follows (ISO 15444-1, A.5.1)
_CODING, _COMMENT, _TILE = b"\xff\x52", b"\xff\x64", b"\xff\x90"  # markers of A.6.1 and A.9.2; a tile ends the header
_GREY = b"colr\x01\0\0\0\0\0\x11"  # the colour box "grey" (I.5.3.3); GDAL writes it for bands; Pillow fails with three
_OF_PILLOW = ((1, {7}), (3, {7}), (1, {15}))  # (bands, bits - 1); Pillow would stretch values of other bit depths


def read(path: Path) -> Any:
    """Read a ``.jp2`` or ``.j2k`` of any bits and bands, with its georeference if rasterio is installed; else None.

    Raises:
        DataError: the file is cut short, or needs rasterio, which is not installed.
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
    # lossy: the 9-7 wavelet, or the 5-3 wavelet with a cut rate, which GDAL notes in a comment
    is_lossy = header.get(_CODING, b"")[9:10] == b"\0" or b"LOSSY" in header.get(_COMMENT, b"")
    raster: Any
    if (bands, bits) in _OF_PILLOW and not is_odd:
        located = None
        with suppress(DataError, OSError):  # no rasterio, or one without JPEG 2000
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
        shape, dtype, channels: those of the picture.
        no_data, georeference, place: see :class:`segkit.data.read.Header`.
    """

    def __init__(self, path: Path) -> None:
        what = "a JPEG 2000 of several bands, or not of 8 or 16 bits"
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
