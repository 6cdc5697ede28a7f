"""Labels in their colours, and images under them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:  # torch is not needed to draw
    from segkit.data.sample import Colour

VOID_COLOUR = (224, 224, 192)  # the cream of Pascal VOC's borders, which no class of its palette has
MOST_SHOWN = 25_000_000  # pixels of an overlay: 5,000 x 5,000; what is larger no viewer shows at once
LONGEST_SIDE = 65_500  # pixels of a JPEG
_BAND = 1 << 20  # pixels that are painted at a time

Pixels = NDArray[np.uint8]


def colour_mask(mask: Pixels, palette: Sequence[Colour], ignore_index: int = 255) -> Pixels:
    """Labels ``[H,W]`` in their colours, ``[H,W,3]``: black where there is no class."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[ignore_index] = VOID_COLOUR
    return np.take(table, mask, axis=0)


def overlay(image: Pixels, mask: Pixels, palette: Sequence[Colour], ignore_index: int = 255) -> Pixels:
    """The image ``[H,W,3]`` under its labels' colours, half and half; void and what would be black are left out."""
    colours = colour_mask(mask, palette, ignore_index)  # [H,W,3]
    blended = image * 0.5 + colours * 0.5
    left = (mask == ignore_index) | ~colours.any(2)
    return np.where(left[..., None], image, blended.round()).astype(np.uint8)


def overlay_picture(image: Pixels, mask: Pixels, palette: Sequence[Colour], ignore_index: int = 255) -> Image.Image:
    """As :func:`overlay`; reduced by a whole factor where it were too large, in the memory that this takes."""
    height, width = mask.shape
    factor = math.ceil(max(math.sqrt(height * width / MOST_SHOWN), height / LONGEST_SIDE, width / LONGEST_SIDE))
    rows = max(1, _BAND // (width * factor)) * factor
    page = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    for top in range(0, height, rows):
        band = Image.fromarray(overlay(image[top : top + rows], mask[top : top + rows], palette, ignore_index))
        page.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
    return page
