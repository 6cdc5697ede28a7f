"""Draw masks in the classes' colours, alone or over their images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:  # drawing does not need torch
    from segkit.data.sample import Colour

VOID_COLOUR = (224, 224, 192)  # the cream of Pascal VOC's object borders; no class of its palette has this colour
MOST_SHOWN = 25_000_000  # most pixels of an overlay, 5,000 x 5,000; no viewer shows more at once
LONGEST_SIDE = 65_500  # longest side of a JPEG, pixels

Pixels = NDArray[np.uint8]


def colour_mask(mask: Pixels, palette: Sequence[Colour], ignore_index: int = 255) -> Pixels:
    """Colour a mask ``[H,W] -> [H,W,3]``; labels without a class are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[ignore_index] = VOID_COLOUR
    return np.take(table, mask, axis=0)


def overlay(image: Pixels, mask: Pixels, palette: Sequence[Colour], ignore_index: int = 255) -> Pixels:
    """Blend the classes' colours into an image ``[H,W,3]``, half and half; void and black pixels show the image."""
    colours = colour_mask(mask, palette, ignore_index)  # [H,W,3]
    left = (mask == ignore_index) | ~colours.any(2)
    blended = (image.astype(np.uint16) + colours + 1) // 2
    return np.where(left[..., None], image, blended.astype(np.uint8))


def overlay_picture(image: Pixels, mask: Pixels, palette: Sequence[Colour], ignore_index: int = 255) -> Image.Image:
    """Draw :func:`overlay`; of an image that is too large, every n-th pixel of every n-th row."""
    step = math.ceil(max(math.sqrt(mask.size / MOST_SHOWN), max(mask.shape) / LONGEST_SIDE))
    return Image.fromarray(overlay(image[::step, ::step], mask[::step, ::step], palette, ignore_index))
