"""Images at the size that a network sees: ``data.resize``, a factor or a size."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segkit.data.sample import Sample

Resize = float | Sequence[int] | None
Span = tuple[int, int]
BILINEAR = Image.Resampling.BILINEAR


def resized(sample: Sample, resize: Resize) -> Sample:
    """The sample with its image resized (antialiased), its mask at its own size."""
    size = resized_size(sample.image.shape[1], sample.image.shape[2], resize)
    return sample._replace(image=resized_part(sample.image, size, (0, size[0]), (0, size[1])))


def resized_part(image: Tensor, size: tuple[int, int], rows: Span, columns: Span) -> Tensor:
    """Some rows and columns of an image as it is at another size; nothing else of it is computed.

    Training at ``augment.scale``, evaluation and prediction at ``data.resize`` all see these pixels: bilinear, with the
    filter as wide as a pixel of the result where that is larger than the image's own, so that nothing aliases. Computed
    in float32; what was uint8 is rounded once.

    Args:
        image: ``[C,H,W]``, uint8 or float32.
        size: height and width of the whole result.
        rows: the first one and the one after the last.
        columns: likewise.

    Returns:
        ``[C,rows,columns]`` of the image's type.
    """
    (top, bottom), (left, right) = rows, columns
    height, width = image.shape[1:]
    if size == (height, width):
        return image[:, top:bottom, left:right]
    above, below, from_y, to_y = _under(rows, height, size[0])
    before, behind, from_x, to_x = _under(columns, width, size[1])
    shape, box = (right - left, bottom - top), (from_x, from_y, to_x, to_y)
    channels = []
    for channel in image[
        :, above:below, before:behind
    ].numpy():  # one after the other, as float32 takes four times more
        pixels = Image.fromarray(np.ascontiguousarray(channel, np.float32)).resize(shape, BILINEAR, box)
        values = torch.from_numpy(np.array(pixels))
        channels.append(values if image.is_floating_point() else rounded(values).to(torch.uint8))
    return torch.stack(channels)  # [C,rows,columns]


def rounded(values: Tensor) -> Tensor:
    """The nearest whole numbers; halves go up, also those whose last digits another order of a sum has changed."""
    return (values + (0.5 + 2**-10)).floor()


def _under(span: Span, length: int, resized: int) -> tuple[int, int, float, float]:
    """The pixels that a span of the result is computed from, first and last but one, and where in them it lies."""
    step = length / resized
    start, end = span[0] * step, min(span[1] * step, length)
    first, last = max(0, int(start - max(1, step)) - 1), min(length, int(end + max(1, step)) + 2)
    return first, last, start - first, min(end - first, last - first)


def nearest(length: int, resized: int) -> Tensor:
    """int64 ``[resized]``: on which of ``length`` pixels the middle of each lies; by whole numbers, without error."""
    return (2 * torch.arange(resized) + 1) * length // (2 * resized)


def mask_at(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask ``[H,W]`` at another size, by the nearest pixel: for training alone, scores are taken at its own."""
    if tuple(mask.shape) == (height, width):
        return mask
    return mask[nearest(mask.shape[0], height)][:, nearest(mask.shape[1], width)]


def resized_size(height: int, width: int, resize: Resize) -> tuple[int, int]:
    """Height and width after ``resize``: a factor, or [height, width], or None.

    A factor is taken as it was written, so that 0.7 of 345 pixels are 241.5, which goes to 242, and not a little less.
    """
    if resize is None:
        return height, width
    if isinstance(resize, (int, float)):
        factor = Fraction(str(resize))
        return max(1, round(height * factor)), max(1, round(width * factor))
    return int(resize[0]), int(resize[1])
