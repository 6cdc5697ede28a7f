"""Where the tiles of an image lie, and what each weighs at each pixel.

A tile weighs most in its middle, where the network sees most of what is around: a Gaussian whose deviation is an
eighth of the side, as nnU-Net has it (Isensee et al., Nature Methods 2021, arXiv 1809.10486). It is the product of one
along each axis, so the sum of the weights is too, and needs no picture of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segkit.data.resize import Resize
from segkit.inference.options import Options

WHOLE = 2048 * 2048
"""Pixels that a network sees at once, unless it is told otherwise: a UNet 64 wide takes about 5 GB for them."""

_GRID = 32  # pixels; networks halve their resolution 4 or 5 times, and on this grid all tiles do it at the same places
_LEAST, _MOST = 512, 1024  # pixels; larger tiles gain little, and the strip that holds a row of them grows with them


class Axis:
    """The tiles along one side of an image.

    The last one may reach beyond the image by less than a step of the grid.

    Args:
        length: pixels of the side.
        tile: pixels of a tile.
        overlap: of neighbours, a share of the tile.
        grid: pixels; tiles begin at its multiples.

    Attributes:
        length: as given.
        tile: as given, but no more than the side needs.
        starts: where the tiles begin.
    """

    def __init__(self, length: int, tile: int, overlap: float, grid: int = _GRID) -> None:
        while grid > max(1, tile // 4):
            grid //= 2
        self.length, self.tile = length, min(tile, -(-length // grid) * grid)
        last = max(0, -(-(length - self.tile) // grid) * grid)
        step = max(grid, int(self.tile * (1 - overlap)) // grid * grid)
        self.starts = [*range(0, last, step), last]
        self._window = gaussian(self.tile)
        self._total = np.zeros(last + self.tile, np.float32)
        for start in self.starts:
            self._total[start : start + self.tile] += self._window

    def weights(self, start: int) -> NDArray[np.float32]:
        """float32 ``[tile]``, the share of the tile that begins there; those of all tiles add up to 1 at each pixel."""
        share: NDArray[np.float32] = self._window / self._total[start : start + self.tile]
        return share


def gaussian(side: int) -> NDArray[np.float32]:
    """float32 ``[side]``, 1 in the middle and 0.0003 at the ends: never 0, as pixels at the border have one tile."""
    distance = (np.arange(side) - (side - 1) / 2) / (side / 8)
    weights: NDArray[np.float32] = np.exp(-0.5 * distance**2).astype(np.float32)
    return weights


def tiling(
    height: int, width: int, options: Options, resize: Resize = None, crop: int | Sequence[int] | None = None
) -> tuple[Axis, Axis] | None:
    """The tiles of an image along its height and its width; None where it goes whole.

    Args:
        height, width: of the image.
        options: of the prediction.
        resize: as ``data.resize``. Of an image that was always brought to one size there are no tiles: the network has
            never seen a part of one.
        crop: as ``augment.crop``.
    """
    if options.tile == 0 or not (resize is None or isinstance(resize, (int, float))):
        return None
    factor = 1.0 if resize is None else float(resize)
    grid = round(_GRID / factor) if (_GRID / factor).is_integer() else _GRID
    if options.tile == "auto":
        if height * width * (factor * max(1.0, *options.scales)) ** 2 <= WHOLE:
            return None
        seen = min(max(_LEAST, *([crop] if isinstance(crop, int) else crop or [0])), _MOST)
        side = -(-round(seen / factor) // grid) * grid
    else:
        side = int(options.tile)
    if height <= side and width <= side:
        return None
    return Axis(height, side, options.overlap, grid), Axis(width, side, options.overlap, grid)
