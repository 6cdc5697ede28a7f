"""GeoTIFF: large images read by rows; masks with the transform and the coordinate system of their image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkit.data.read import read_header, with_holes
from segkit.errors import DataError
from segkit_readers.joined import places_of
from segkit_samples.marked import MARK

MOST_WHOLE = 50_000_000  # pixels up to which an image is read at once: 150 MB as RGB, 2.4 GB with 12 bands
_MOST_SHOWN = 25_000_000  # pixels in overlays and error pictures of larger images
_LOSSY = ("jpeg", "webp", "jpeg2000", "jxl", "lerc", "lerc_deflate", "lerc_zstd")


def is_installed() -> bool:
    """Whether rasterio, which reads and writes georeferences, is installed."""
    return find_spec("rasterio") is not None


class GeoRows:
    """A GeoTIFF of which windows are read, with the same values as ``read_picture``.

    Args:
        path: the file.
        bands: numbers of the bands to read, from 1.
        no_data: as ``data.no_data``.

    Attributes:
        shape: channels, height and width.
        dtype: uint8 or float32.
        device: of the windows; with ``shape`` and slices, all that resizing needs of an image.
        holes: bool ``[H,W]``, pixels without data in the rows read so far; None if ``no_data`` is "stop".
    """

    device = torch.device("cpu")

    def __init__(self, path: Path, bands: Sequence[int], no_data: float | str) -> None:
        import rasterio

        self._path, self._bands, self._no_data = path, list(bands), no_data
        with rasterio.open(path) as file:
            self.shape = (len(self._bands), file.height, file.width)
            self.dtype = np.dtype(np.uint8 if file.dtypes[0] == "uint8" else np.float32)
        self.holes = None if no_data == "stop" else np.zeros(self.shape[1:], bool)
        self._rows = lru_cache(4)(self.rows)  # for neighbouring windows

    def __getitem__(self, part: tuple[slice, slice, slice]) -> Tensor:
        _, rows, columns = part
        return self._rows(rows.start, rows.stop)[:, :, columns]

    def rows(self, first: int, last: int) -> Tensor:
        """Read some rows, ``[C,last - first,W]``."""
        from rasterio.windows import Window

        pixels, holes = self._read(window=Window(0, first, self.shape[2], last - first))
        if self.holes is not None:
            self.holes[first:last] = holes
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def reduced(self) -> tuple[NDArray[Any], int]:
        """Return every ``step``-th pixel of every ``step``-th row, for pictures, and ``step``."""
        bands, height, width = self.shape
        step = math.ceil(math.sqrt(height * width / _MOST_SHOWN))
        return self._read(out_shape=(bands, -(-height // step), -(-width // step)))[0], step

    def _read(self, **how: Any) -> Any:
        import rasterio

        with rasterio.open(self._path) as file:
            values, declared = file.read(self._bands, **how), file.nodata  # [C,h,w]
        pixels = np.ascontiguousarray(np.moveaxis(values, 0, 2), self.dtype)
        return with_holes(pixels, declared, self._no_data, str(self._path))


def rows_of(path: Path, most_pixels: int, bands: Sequence[int] | None, no_data: float | str) -> GeoRows | None:
    """Return a large GeoTIFF to be read by rows; None for other files, or if rasterio would give other values.

    The latter are several files of one image, palettes, transparency, 8-bit grey (which is read as RGB), turned
    pictures, and lossy compression such as JPEG, which two libraries do not decode to the same values.
    """
    header = read_header(path, most_pixels)
    large = header.size[0] * header.size[1] > MOST_WHOLE and len(places_of(path)) == 1
    if not (large and header.georeference and is_installed()) or header.orientation != 1 or header.white_is_zero:
        return None
    import rasterio
    from rasterio.enums import ColorInterp

    with rasterio.open(path) as file:
        odd = {ColorInterp.palette, ColorInterp.alpha} & {*file.colorinterp} or len({*file.dtypes}) > 1
        odd = odd or str(file.profile.get("compress", "")).lower() in _LOSSY
        grey = file.count == 1 and file.dtypes[0] == "uint8"
        if odd or grey or file.dtypes[0].startswith("complex") or (bands and max(bands) > file.count):
            return None
        return GeoRows(path, bands or range(1, file.count + 1), no_data)


def save_geotiff(
    source: Path, labels: NDArray[Any], colours: Mapping[int, tuple[int, ...]], void: int, file: IO[bytes]
) -> None:
    """Write labels ``[H,W]`` or colours ``[H,W,3]`` with an image's georeference, tiled and losslessly compressed.

    Args:
        source: the image.
        labels: the label or colour of each of its pixels.
        colours: RGB by label, for viewers.
        void: the label of pixels without data; declared as no-data unless a class has the same label.
        file: the file to write to.

    Raises:
        DataError: the image is turned by its EXIF orientation, so its georeference does not fit the mask.
    """
    import rasterio
    from rasterio.io import MemoryFile

    values = labels[..., None] if labels.ndim == 2 else labels
    height, width, count = values.shape
    with rasterio.open(places_of(source)[0]) as origin:
        if (origin.height, origin.width) != (height, width):
            raise DataError(
                f"{source}: its pixels are turned by their orientation, so no GeoTIFF of its mask is written"
            )
        points, system = origin.gcps
        place = {"gcps": points, "crs": system} if points else {"crs": origin.crs, "transform": origin.transform}
    how = {
        "height": height,
        "width": width,
        "count": count,
        "dtype": values.dtype,
        "compress": "deflate",
        "tiled": True,
        "nodata": void if count == 1 and void not in colours else None,
    }
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", **how, **place) as target:
            target.write(np.moveaxis(values, 2, 0))
            if count == 1 and values.dtype == np.uint8:
                target.write_colormap(1, {label: tuple(colour) for label, colour in colours.items()})
            target.update_tags(TIFFTAG_SOFTWARE=MARK)
        file.write(memory.read())
