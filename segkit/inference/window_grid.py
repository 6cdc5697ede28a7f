"""The sliding windows of an image: their positions and their weights at each pixel.

Windows are cut from the image after ``data.resize``. They start on a grid of 32 pixels, so that pooling is aligned as
in the whole image; the last window ends at the image's border.

Overlapping windows are averaged with Gaussian weights, whose standard deviation is an eighth of the side, as in nnU-Net
(Isensee et al., Nature Methods 2021, arXiv 1809.10486). The weights, and so their sum, are separable into both axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkit.data.resize import Resize, resized_size
from segkit.inference.options import PredictOptions

MAX_WHOLE_PIXELS = 2048 * 2048
"""Most pixels per forward pass with ``tile = "auto"``: a UNet of width 64 needs about 5 GB for them."""

GRID = 32  # pixels; networks halve their resolution 4 or 5 times
MIN_SIDE, MAX_SIDE = 512, 1024  # pixels; larger windows gain little, and a row of them takes more memory
STRIP_BYTES = 1 << 30  # probabilities of a row of windows: 512 rows of 20,000 pixels and 21 classes are 860 MB


@dataclass(frozen=True, eq=False)
class Window:
    """A window along one axis of an image.

    Attributes:
        start, end: the window's range of pixels in the resized image, ``end`` excluded.
        first, last: the range of original pixels whose centres lie in the window, ``last`` excluded.
        weights: float32 ``[last - first]``, weight of the window at each of these; the windows' weights add up to 1.
    """

    start: int
    end: int
    first: int
    last: int
    weights: NDArray[np.float32]


class WindowAxis:
    """The windows along one axis of an image.

    Args:
        length: size of the original image, pixels.
        resized: size after ``data.resize``, pixels.
        side: size of a window in pixels of the resized image; the last window may be larger by less than a grid step.
        overlap: overlap of neighbouring windows, as a share of their side.
    """

    def __init__(self, length: int, resized: int, side: int, overlap: float) -> None:
        self.length, self.resized, self.grid = length, resized, GRID
        while self.grid > max(1, side // 4):
            self.grid //= 2
        last_start = max(0, resized - side) // self.grid * self.grid
        step = max(self.grid, int(side * (1 - overlap)) // self.grid * self.grid)
        starts = [*range(0, last_start, step), last_start]
        ends = [*(start + side for start in starts[:-1]), resized]
        total = np.zeros(length, np.float32)
        self.windows = []
        for start, end in zip(starts, ends, strict=True):
            first, last = self._first_pixel(start), self._first_pixel(end)
            centres = (np.arange(first, last) + 0.5) * (resized / length)
            self.windows.append(Window(start, end, first, last, gaussian(centres - start, end - start)))
            total[first:last] += self.windows[-1].weights
        for window in self.windows:
            window.weights[:] /= total[window.first : window.last]

    def _first_pixel(self, position: int) -> int:
        """Return the first original pixel whose centre is not before a position in the resized image."""
        return -(-max(0, 2 * position * self.length - self.resized) // (2 * self.resized))


def gaussian(positions: NDArray[np.float64], side: int) -> NDArray[np.float32]:
    """Return float32 weights: 1 at the centre, 0.0003 at the ends; never 0, as one window covers the border alone."""
    weights: NDArray[np.float32] = np.exp(-0.5 * ((positions - side / 2) / (side / 8)) ** 2).astype(np.float32)
    return weights


class WindowGrid(NamedTuple):
    """The windows along the height and the width of an image; a small image has a single window."""

    rows: WindowAxis
    columns: WindowAxis

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.rows.length, self.columns.length

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width of the image after ``data.resize``."""
        return self.rows.resized, self.columns.resized

    @property
    def is_whole(self) -> bool:
        """Whether a single window covers the image."""
        return len(self.rows.windows) == len(self.columns.windows) == 1


def window_grid(
    size: tuple[int, int],
    options: PredictOptions,
    classes: int,
    resize: Resize = None,
    crop: int | Sequence[int] | None = None,
) -> WindowGrid:
    """Create the windows of an image.

    Args:
        size: height and width of the image.
        options: the prediction options.
        classes: the number of classes, which with the width limits the height of windows of the default size.
        resize: value of ``data.resize``; with [height, width] the network was trained on whole images, so no windows.
        crop: value of ``augment.crop``.

    Raises:
        ConfigError: a size of windows is given, but there are none.
    """
    options.refuse_tiles(resize)
    resized = resized_size(*size, resize)
    if options.tile == 0 or isinstance(resize, Sequence):
        sides = resized
    elif options.tile != "auto":
        sides = (max(1, round(int(options.tile) * (resize or 1.0))),) * 2
    elif resized[0] * resized[1] * max(1.0, *options.scales) ** 2 <= MAX_WHOLE_PIXELS:
        sides = resized
    else:
        side = min(max(MIN_SIDE, *([crop] if isinstance(crop, int) else crop or [0])), MAX_SIDE)
        most = STRIP_BYTES / (4 * classes * size[1]) * resized[0] / size[0]
        sides = max(min(-(-side // GRID), int(most) // GRID) * GRID, GRID), -(-side // GRID) * GRID
    axes = zip(size, resized, sides, strict=True)
    return WindowGrid(*(WindowAxis(*each, options.overlap) for each in axes))
