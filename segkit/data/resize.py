"""Resize images (bilinear, antialiased) and masks (nearest pixel).

Training (``augment.scale``), evaluation and prediction (``data.resize``) all use these functions. When an image
shrinks, the bilinear filter widens to the size of an output pixel, so nothing aliases. The computation is in float32;
uint8 results are rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Resize = float | Sequence[int] | None
Span = tuple[int, int]


def resized_size(height: int, width: int, resize: Resize) -> tuple[int, int]:
    """Return height and width after ``resize``: a factor, [height, width] or None.

    A factor counts as the decimal fraction it is written as: 0.7 times 345 is exactly 241.5, which rounds to 242.
    """
    if resize is None:
        return height, width
    if isinstance(resize, (int, float)):
        factor = Fraction(str(resize))
        return max(1, round(height * factor)), max(1, round(width * factor))
    return int(resize[0]), int(resize[1])


def resized_part(image: Tensor, size: tuple[int, int], rows: Span | None = None, columns: Span | None = None) -> Tensor:
    """Resize an image, computing only some rows and columns of the result.

    Args:
        image: ``[C,H,W]``, uint8 or float32.
        size: height and width of the whole resized image.
        rows: first row and last row + 1 to compute; default: all.
        columns: first column and last column + 1 to compute; default: all.

    Returns:
        ``[C,rows,columns]`` in the image's dtype.
    """
    (height, width), rows, columns = image.shape[1:], rows or (0, size[0]), columns or (0, size[1])
    if size == (height, width):
        return image[:, slice(*rows), slice(*columns)]
    if image.device.type != "cpu":
        return _resized_on_device(image, size, rows, columns)
    above, below, from_y, to_y = _source_span(rows, height, size[0])
    before, behind, from_x, to_x = _source_span(columns, width, size[1])
    shape, box = (columns[1] - columns[0], rows[1] - rows[0]), (from_x, from_y, to_x, to_y)
    source = image[:, above:below, before:behind]
    channels = []
    for channel in source.numpy():  # one at a time: float32 takes four times the memory of uint8
        values = np.ascontiguousarray(channel, np.float32)
        part = torch.from_numpy(np.array(Image.fromarray(values).resize(shape, Image.Resampling.BILINEAR, box)))
        channels.append(part if source.is_floating_point() else rounded(part).to(torch.uint8))
    return torch.stack(channels)  # [C,rows,columns]


def _source_span(span: Span, length: int, resized: int) -> tuple[int, int, float, float]:
    """Return the input pixels (first, last + 1) that a span of the result needs, and the span's position in them."""
    step = length / resized
    start, end = span[0] * step, min(span[1] * step, length)
    first, last = max(0, int(start - max(1, step)) - 1), min(length, int(end + max(1, step)) + 2)
    return first, last, start - first, min(end - first, last - first)


def _resized_on_device(image: Tensor, size: tuple[int, int], rows: Span, columns: Span) -> Tensor:
    """Resize where Pillow cannot access the memory; equals Pillow's result up to rounding."""
    whole = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
    part = whole[:, slice(*rows), slice(*columns)]
    return part if image.is_floating_point() else rounded(part).to(torch.uint8)


def rounded(values: Tensor) -> Tensor:
    """Round to the nearest integer, halves up; the margin covers sums that differ in their last digits."""
    return (values + (0.5 + 2**-10)).floor()


def mask_at(mask: Tensor, size: tuple[int, int], rows: Span | None = None, columns: Span | None = None) -> Tensor:
    """Resize a mask ``[H,W]`` by the nearest pixel, see :func:`resized_part`. Training only: scores use full masks."""

    def nearest(span: Span, length: int, resized: int) -> Tensor:
        """Return int64 ``[span]``: the input pixel that contains the centre of each output pixel, in exact integers."""
        return (2 * torch.arange(*span, device=mask.device) + 1) * length // (2 * resized)

    rows, columns = rows or (0, size[0]), columns or (0, size[1])
    if tuple(mask.shape) == tuple(size):
        return mask[slice(*rows), slice(*columns)]
    return mask[nearest(rows, mask.shape[0], size[0])][:, nearest(columns, mask.shape[1], size[1])]
