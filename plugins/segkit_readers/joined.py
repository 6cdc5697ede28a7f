"""Pictures of one scene in several files: those that must lie at one place, and channels: ``red.tif | nir.tif``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.data.read import MAX_PIXELS, Header, opened, read_header, read_picture
from segkit.data.sample import RGB
from segkit.errors import DataError, Issue

_NO_LIMIT = 1 << 62  # pixels: the size of the whole image is checked by the caller


def places_of(path: str | Path) -> list[Path]:
    """Split the path of an image whose channels lie in several files; leave others whole."""
    several = " | " in str(path) and not os.path.exists(path)  # noqa: PTH110
    return [*map(Path, str(path).split(" | "))] if several else [path if isinstance(path, Path) else Path(path)]


def aligned_headers(paths: Sequence[Path], most_pixels: int = MAX_PIXELS) -> list[Header]:
    """Return the headers of pictures whose georeferenced corners do not differ by a tenth of a pixel or more.

    Raises:
        DataError: a picture and the first one differ in position or coordinate system, or a file cannot be read.
    """
    first, *others = headers = [read_header(path, most_pixels) for path in paths]
    for path, its in zip(paths[1:], others, strict=True):
        one, other = first.place, its.place
        if one is None or other is None or len(one[1][0]) != len(other[1][0]):
            continue
        corners, moved = np.array(one[1]), np.array(other[1])
        sides = np.linalg.norm(corners[1:] - corners[0], axis=1) / first.size[::-1]
        is_apart = np.linalg.norm(corners - moved, axis=1).max() >= sides.min() / 10
        if is_apart or (one[0] and other[0] and one[0] != other[0]):
            texts = [f"{each[0]} {[*each[1]]}".strip() for each in (other, one)]
            what = "its georeference differs from that of its image (position, pixel size or orientation)"
            advice = "resample it to the image's grid; or, if its pixels fit, copy the image's georeference to it"
            raise DataError(Issue("place", str(path), what, advice, f"corners {texts[0]}; {paths[0]}: {texts[1]}"))
    return headers


def read(path: Path) -> Joined:
    """Read an image ``[H,W,C]`` from several files, which hold its channels in order.

    Raises:
        DataError: a file cannot be read, or the files differ in size or georeference.
    """
    return Joined(places_of(path))


class Joined:
    """The channels of several files, one of a grey file; they are decoded when the image is sliced.

    Attributes:
        shape, channels: height, width and number of the channels, and their names.
        dtype: uint8 if all files have it, else float32.
        has_colours: whether the first three channels are red, green and blue.
        georeference, place, orientation: those of the first file.
        no_data: once it is sliced, bool ``[H,W]``: where one of the files declares that it has no data.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        headers = aligned_headers(paths, _NO_LIMIT)
        for path, header in zip(paths, headers, strict=True):
            if header.size != headers[0].size:
                what, advice = "files of one image that differ in size", "save them at the same size"
                raise DataError(Issue("size", str(path), what, advice, f"the other is {paths[0]}"))
        self._paths, self._counts, names, dtypes = paths, [], list[str](), set[Any]()
        for path, header in zip(paths, headers, strict=True):
            own = [f"band {len(names) + 1}"] if header.is_grey else header.channels
            self._counts.append(len(own))
            names += own
            with opened(path, _NO_LIMIT) as raster:
                dtypes.add(np.dtype(raster.dtype))
        self.channels, self.has_colours = tuple(names), tuple(names[:3]) == RGB
        self.shape, self.orientation = (*headers[0].size, len(names)), headers[0].orientation
        self.georeference, self.place = headers[0].georeference, headers[0].place
        self.dtype = np.dtype(np.uint8 if dtypes == {np.dtype(np.uint8)} else np.float32)
        self.no_data: NDArray[np.bool_] | None = None

    def __getitem__(self, key: Any) -> NDArray[Any]:
        # the mark that a file declares applies to its own channels, the user's mark to the channels of all files
        pictures = [read_picture(path, _NO_LIMIT, None, "void") for path in self._paths]
        self.no_data = np.logical_or.reduce([each.holes for each in pictures if each.holes is not None])
        parts = [each.pixels[..., :count] for each, count in zip(pictures, self._counts, strict=True)]
        chosen: NDArray[Any] = np.concatenate(parts, 2)[key]
        return chosen
