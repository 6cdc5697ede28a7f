"""GeoTIFF: large images read by rows; masks with the transform and the coordinate system of their image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segkit.data.read import places_of, read_header, with_holes
from segkit.errors import DataError
from segkit_samples.sheets import WRITER

MOST_WHOLE = 50_000_000  # pixels of an image that is read at once: 150 MB as RGB, 2.4 GB of 12 bands
_MOST_SHOWN = 25_000_000  # pixels in pictures of it
_LOSSY = ("jpeg", "webp", "jpeg2000", "jxl", "lerc", "lerc_deflate", "lerc_zstd")


def is_installed() -> bool:
    """Whether rasterio is there, which knows what GeoTIFFs say."""
    return find_spec("rasterio") is not None


class GeoRows:
    """A GeoTIFF ``[H,W,C]`` of which rows are read where it is sliced, with the values of ``read_picture``.

    Args:
        path: of the file.
        bands: which are read, from 1.
        no_data: as ``data.no_data``.

    Attributes:
        holes: bool ``[H,W]``, where the rows that were read have no data; None where ``no_data`` is "stop".
    """

    def __init__(self, path: Path, bands: Sequence[int], no_data: float | str) -> None:
        import rasterio

        self._path, self._bands, self._no_data = path, list(bands), no_data
        with rasterio.open(path) as file:
            self.shape = (file.height, file.width, len(self._bands))
            self.dtype = np.dtype(np.uint8 if file.dtypes[0] == "uint8" else np.float32)
        self.holes = None if no_data == "stop" else np.zeros(self.shape[:2], bool)

    @property
    def pixels(self) -> GeoRows:
        """Itself, as what is read whole has ``pixels`` and ``holes``."""
        return self

    def __getitem__(self, rows: slice) -> Any:
        from rasterio.windows import Window

        first, last, _ = rows.indices(self.shape[0])
        pixels, holes = self._read(window=Window(0, first, self.shape[1], last - first))
        if self.holes is not None:
            self.holes[first:last] = holes
        return pixels

    def reduced(self) -> tuple[NDArray[Any], int]:
        """Every so-many-th pixel of every so-many-th row, for pictures; and how many."""
        height, width, bands = self.shape
        step = math.ceil(math.sqrt(height * width / _MOST_SHOWN))
        return self._read(out_shape=(bands, -(-height // step), -(-width // step)))[0], step

    def _read(self, **how: Any) -> Any:
        import rasterio

        with rasterio.open(self._path) as file:
            values, declared = file.read(self._bands, **how), file.nodata  # [C,h,w]
        pixels = np.ascontiguousarray(np.moveaxis(values, 0, 2), self.dtype)
        return with_holes(pixels, declared, self._no_data, str(self._path))


def rows_of(path: Path, most_pixels: int, bands: Sequence[int] | None, no_data: float | str) -> GeoRows | None:
    """A large GeoTIFF to be read by rows; None where it is no such file, or rasterio would read it otherwise.

    That is the case of several files of one image, palettes, transparency, grey of 8 bits, which is read as RGB, turned
    pictures, and JPEG and the like, which two libraries do not decode to the same values.
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
    """Write labels ``[H,W]`` or colours ``[H,W,3]`` where on Earth an image lies, in tiles, compressed without loss.

    Args:
        source: the image.
        labels: of each of its pixels.
        colours: RGB by label, which viewers show.
        void: the label of pixels without data, which the file then declares, unless it is a class's too.
        file: is written to.

    Raises:
        DataError: the image is turned by its orientation, which no coordinate system knows.
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
            target.update_tags(TIFFTAG_SOFTWARE=WRITER)
        file.write(memory.read())
