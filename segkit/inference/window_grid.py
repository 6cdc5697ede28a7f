"""The sliding windows of an image: their positions and their weights at each pixel.

Windows are cut from the image after ``data.resize``. They start on a grid of 32 pixels, so that pooling is aligned as
in the whole image; the last window ends at the image's border.

Overlapping windows are averaged with Gaussian weights, whose standard deviation is an eighth of the side, as in nnU-Net
(Isensee et al., Nature Methods 2021, arXiv 1809.10486). The weights, and so their sum, are separable into both axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        centres: float64 ``[last - first]``, positions of these centres in the window, in pixels of the resized image.
        weights: float32 ``[last - first]``, weight of the window at each of these; the windows' weights add up to 1.
    """

    start: int
    end: int
    first: int
    last: int
    centres: NDArray[np.float64]
    weights: NDArray[np.float32]


def windows(length: int, resized: int, side: int, overlap: float) -> list[Window]:
    """Create the windows along one axis of an image.

    Args:
        length: size of the original image, pixels.
        resized: size after ``data.resize``, pixels.
        side: size of a window in pixels of the resized image; the last window may be larger by less than a grid step.
        overlap: overlap of neighbouring windows, as a share of their side.
    """
    grid = GRID
    while grid > max(1, side // 4):
        grid //= 2
    last_start = max(0, resized - side) // grid * grid
    starts = [*range(0, last_start, max(grid, int(side * (1 - overlap)) // grid * grid)), last_start]
    total, found = np.zeros(length, np.float32), []
    for start in starts:
        end = resized if start == last_start else start + side
        # the first original pixel whose centre is not before a position in the resized image
        first, last = (-(-max(0, 2 * edge * length - resized) // (2 * resized)) for edge in (start, end))
        centres = (np.arange(first, last) + 0.5) * (resized / length) - start
        found.append(Window(start, end, first, last, centres, gaussian(centres, end - start)))
        total[first:last] += found[-1].weights
    for window in found:
        window.weights[:] /= total[window.first : window.last]
    return found


def gaussian(positions: NDArray[np.float64], side: int) -> NDArray[np.float32]:
    """Return float32 weights: 1 at the centre, 0.0003 at the ends; never 0, as one window covers the border alone."""
    weights: NDArray[np.float32] = np.exp(-0.5 * ((positions - side / 2) / (side / 8)) ** 2).astype(np.float32)
    return weights


def window_grid(
    size: tuple[int, int],
    options: PredictOptions,
    classes: int,
    resize: Resize = None,
    crop: int | Sequence[int] | None = None,
) -> tuple[list[Window], list[Window]]:
    """Create the windows along the height and the width of an image; a small image has one of each.

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
    rows, columns = (windows(*axis, options.overlap) for axis in zip(size, resized, sides, strict=True))
    return rows, columns
