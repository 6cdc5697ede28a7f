"""The reader of JPEG 2000 of any bits and bands, by rasterio."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.data.sample import RGB
from segkit_readers.several import package

_STARTS = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")  # of a .jp2 file, and of a codestream alone (ISO 15444-1)


def read(path: Path) -> Raster | None:
    """Read a ``.jp2`` or ``.j2k`` with its georeference; return None for other files.

    Raises:
        DataError: rasterio is not installed.
    """
    with path.open("rb") as stream:
        return Raster(path) if stream.read(12).startswith(_STARTS) else None


class Raster:
    """A picture ``[H,W,C]``; it is decoded when it is sliced. One band of 8 bits is read as RGB.

    Attributes:
        shape, dtype, channels: those of the picture.
        has_colours: whether it stores red, green and blue.
        is_lossy: the name of the compression if it changes values, else "".
        no_data, georeference, place: see :class:`segkit.data.read.Header`.
    """

    def __init__(self, path: Path) -> None:
        rasterio: Any = package(path, "a JPEG 2000", "rasterio", "'segkit[geo]'")
        self._open: Any = partial(rasterio.open, path)
        with self._open() as file:
            self.dtype = np.dtype(file.dtypes[0])
            self._is_grey = file.count == 1 and self.dtype == np.uint8
            known = [each.name.replace("gray", "grey") for each in file.colorinterp]
            names = [each if each in (*RGB, "grey", "alpha") else f"band {at}" for at, each in enumerate(known, 1)]
            if {*known} == {"undefined"}:  # a codestream alone
                names = {1: ["grey"], 3: [*RGB]}.get(file.count, names)
            self.channels = RGB if self._is_grey else tuple(names)
            self.has_colours = self.channels[:3] == RGB and not self._is_grey
            self.shape = (file.height, file.width, len(self.channels))
            is_lossy = file.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION_REVERSIBILITY") == "LOSSY"
            self.is_lossy = "a JPEG 2000 with losses" * is_lossy
            self.no_data, self.georeference = file.nodata, not file.transform.is_identity
            corners = tuple(file.xy(*each, offset="ul") for each in ((0, 0), (0, file.width), (file.height, 0)))
            system = file.crs and file.crs.to_epsg()
            self.place = (f"EPSG:{system}" if system else "", corners) if self.georeference else None

    def __getitem__(self, key: Any) -> NDArray[Any]:
        with self._open() as file:
            stored = np.moveaxis(file.read(), 0, -1)
        values: NDArray[Any] = (stored.repeat(3, 2) if self._is_grey else stored)[key]
        return values
