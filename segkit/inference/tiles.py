"""Where the tiles of an image lie, and what each weighs at each pixel.

Tiles are cut out of the image as the network would see it whole, resized like that. They begin where a network that
halves its resolution does so in the whole image. The last one ends with the image, and the network pads it as it would
pad the whole one.

A tile weighs most in its middle, where the network sees most of what is around: a Gaussian whose deviation is an
eighth of the side, as nnU-Net has it (Isensee et al., Nature Methods 2021, arXiv 1809.10486). It is the product of one
along each axis, so the sum of the weights is too, and needs no picture of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segkit.data.resize import Resize, resized_size
from segkit.errors import ConfigError
from segkit.inference.options import Options

WHOLE = 2048 * 2048
"""Pixels that a network sees at once, unless it is told otherwise: a UNet 64 wide takes about 5 GB for them."""

_GRID = 32  # pixels; networks halve their resolution 4 or 5 times, and on this grid all tiles do it at the same places
_LEAST, _MOST = 512, 1024  # pixels; larger tiles gain little, and the strip that holds a row of them grows with them


@dataclass(frozen=True, eq=False)
class Tile:
    """A part of one side of an image.

    Attributes:
        start: the first pixel of it, of those that the network sees.
        end: the last one but one.
        first: the first pixel of the image's own whose middle lies in it.
        last: the last one but one.
        weights: float32 ``[last - first]``, its share of each of these; those of all tiles add up to 1.
    """

    start: int
    end: int
    first: int
    last: int
    weights: NDArray[np.float32]


class Axis:
    """The tiles along one side of an image.

    Args:
        length: pixels of the side.
        seen: that the network would see of it.
        tile: of these a tile; the last one is larger by less than a step of the grid.
        overlap: of neighbours, a share of the tile.

    Attributes:
        length, seen: as given.
        grid: tiles begin at its multiples.
        tiles: from the first to the last.
    """

    def __init__(self, length: int, seen: int, tile: int, overlap: float) -> None:
        self.length, self.seen, self.grid = length, seen, _GRID
        while self.grid > max(1, tile // 4):
            self.grid //= 2
        last = max(0, seen - tile) // self.grid * self.grid
        step = max(self.grid, int(tile * (1 - overlap)) // self.grid * self.grid)
        starts = [*range(0, last, step), last]
        ends = [*(start + tile for start in starts[:-1]), seen]
        spans = [(self._first(start), self._first(end)) for start, end in zip(starts, ends, strict=True)]
        windows = []
        total = np.zeros(length, np.float32)
        for start, end, (first, behind) in zip(starts, ends, spans, strict=True):
            middles = (np.arange(first, behind) + 0.5) * (seen / length)
            windows.append(gaussian(middles - start, end - start))
            total[first:behind] += windows[-1]
        self.tiles = [
            Tile(start, end, *span, window / total[slice(*span)])
            for start, end, span, window in zip(starts, ends, spans, windows, strict=True)
        ]

    def _first(self, place: int) -> int:
        """The first of the image's own pixels whose middle is not before a place among those that are seen."""
        return -(-max(0, 2 * place * self.length - self.seen) // (2 * self.seen))


def gaussian(places: NDArray[np.float64], side: int) -> NDArray[np.float32]:
    """float32: 1 in the middle of a side and 0.0003 at its ends: never 0, as pixels at the border have one tile."""
    weights: NDArray[np.float32] = np.exp(-0.5 * ((places - side / 2) / (side / 8)) ** 2).astype(np.float32)
    return weights


def tiling(
    height: int, width: int, options: Options, resize: Resize = None, crop: int | Sequence[int] | None = None
) -> tuple[Axis, Axis] | None:
    """The tiles of an image along its height and its width; None where it goes whole.

    Args:
        height, width: of the image.
        options: of the prediction.
        resize: as ``data.resize``.
        crop: as ``augment.crop``.
    """
    if options.tile == 0 or is_size(resize):
        return None
    seen = resized_size(height, width, resize)
    if options.tile == "auto":
        if seen[0] * seen[1] * max(1.0, *options.scales) ** 2 <= WHOLE:
            return None
        side = min(max(_LEAST, *([crop] if isinstance(crop, int) else crop or [0])), _MOST)
        side = -(-side // _GRID) * _GRID
    else:
        side = max(1, round(int(options.tile) * (1.0 if resize is None else float(resize))))  # type: ignore[arg-type]
    if seen[0] <= side and seen[1] <= side:
        return None
    return Axis(height, seen[0], side, options.overlap), Axis(width, seen[1], side, options.overlap)


def is_size(resize: Resize) -> bool:
    """Whether images are brought to one size: the network has never seen a part of one, so there are no tiles."""
    return not (resize is None or isinstance(resize, (int, float)))


def refuse_unused(options: Options, resize: Resize) -> None:
    """Refuse options of tiles where there are none.

    Raises:
        ConfigError: which option, and why.
    """
    default = Options()
    chosen = [
        f"{name} = {getattr(options, name)}"
        for name in ("tile", "overlap", "batch_size")
        if getattr(options, name) not in (getattr(default, name), 0 if name == "tile" else None)
    ]
    why = ""
    if is_size(resize):
        why = f"the network was trained on whole images of {list(resize)} (data.resize), and no part of one"  # type: ignore[arg-type]
    elif options.tile == 0:
        why = "with tile = 0 an image is predicted whole"
    if why and chosen:
        raise ConfigError(f"{', '.join(chosen)}: there are no tiles, as {why}; leave it out")
