"""Masks as GeoTIFF: with the transform and the coordinate system of the image that they were predicted from."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segkit.errors import DataError
from segkit_samples.sheets import WRITER

_ROWS = 512  # written at a time


def is_installed() -> bool:
    """Whether rasterio is there, which knows what GeoTIFFs say."""
    return find_spec("rasterio") is not None


def save_geotiff(source: Path, labels: NDArray[Any], colours: Mapping[int, tuple[int, ...]], file: IO[bytes]) -> None:
    """Write labels ``[H,W]`` or colours ``[H,W,3]`` where on Earth an image lies, in tiles, compressed without loss.

    Args:
        source: the image.
        labels: of each of its pixels.
        colours: RGB by label, which viewers show.
        file: is written to.

    Raises:
        DataError: the image is turned by its orientation, which no coordinate system knows.
    """
    import rasterio
    from rasterio.io import MemoryFile
    from rasterio.windows import Window

    values = labels[..., None] if labels.ndim == 2 else labels
    height, width, count = values.shape
    with rasterio.open(source) as origin:
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
    }
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", **how, **place) as target:
            for top in range(0, height, _ROWS):
                rows = values[top : top + _ROWS]
                target.write(np.moveaxis(rows, 2, 0), window=Window(0, top, width, len(rows)))
            if count == 1 and values.dtype == np.uint8:
                target.write_colormap(1, {label: tuple(colour) for label, colour in colours.items()})
            target.update_tags(TIFFTAG_SOFTWARE=WRITER)
        file.write(memory.read())


def is_ours(path: Path) -> bool:
    """Whether a file is a mask that was written by :func:`save_geotiff`."""
    import rasterio

    try:
        with rasterio.open(path) as picture:
            return bool(picture.tags().get("TIFFTAG_SOFTWARE") == WRITER)
    except rasterio.errors.RasterioError:
        return False
