"""Images at another size, bilinear and antialiased; masks at another size, by the nearest pixel.

Training at ``augment.scale``, evaluation and prediction at ``data.resize`` all see these pixels: bilinear, with the
filter as wide as a pixel of the result where that is larger than the image's own, so that nothing aliases. Computed in
float32; what was uint8 is rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Resize = float | Sequence[int] | None
Span = tuple[int, int]


def resized_size(height: int, width: int, resize: Resize) -> tuple[int, int]:
    """Height and width after ``resize``: a factor, or [height, width], or None.

    A factor is taken as it was written: 0.7 of 345 pixels are 241.5, which is rounded to 242, and not a little less.
    """
    if resize is None:
        return height, width
    if isinstance(resize, (int, float)):
        factor = Fraction(str(resize))
        return max(1, round(height * factor)), max(1, round(width * factor))
    return int(resize[0]), int(resize[1])


def resized_part(image: Tensor, size: tuple[int, int], rows: Span | None = None, columns: Span | None = None) -> Tensor:
    """Some rows and columns of an image at another size; only these are computed.

    Args:
        image: ``[C,H,W]``, uint8 or float32.
        size: height and width of the whole result.
        rows: the first one and the one after the last; left out: all.
        columns: likewise.

    Returns:
        ``[C,rows,columns]`` of the image's type.
    """
    (height, width), rows, columns = image.shape[1:], rows or (0, size[0]), columns or (0, size[1])
    if size == (height, width):
        return image[:, slice(*rows), slice(*columns)]
    if not _on_cpu(image):
        return _resized_on_device(image, size, rows, columns)
    above, below, from_y, to_y = _source_span(rows, height, size[0])
    before, behind, from_x, to_x = _source_span(columns, width, size[1])
    shape, box = (columns[1] - columns[0], rows[1] - rows[0]), (from_x, from_y, to_x, to_y)
    source = image[:, above:below, before:behind]
    channels = []
    for channel in source.numpy():  # one at a time: float32 takes four times the memory
        values = np.ascontiguousarray(channel, np.float32)
        part = torch.from_numpy(np.array(Image.fromarray(values).resize(shape, Image.Resampling.BILINEAR, box)))
        channels.append(part if source.is_floating_point() else rounded(part).to(torch.uint8))
    return torch.stack(channels)  # [C,rows,columns]


def _source_span(span: Span, length: int, resized: int) -> tuple[int, int, float, float]:
    """The pixels that a span of the result is computed from, first and last but one, and where in them it lies."""
    step = length / resized
    start, end = span[0] * step, min(span[1] * step, length)
    first, last = max(0, int(start - max(1, step)) - 1), min(length, int(end + max(1, step)) + 2)
    return first, last, start - first, min(end - first, last - first)


def _on_cpu(image: Tensor) -> bool:
    return image.device.type == "cpu"


def _resized_on_device(image: Tensor, size: tuple[int, int], rows: Span, columns: Span) -> Tensor:
    """The same by two products of matrices, where Pillow cannot read the memory; equal but for the last digits."""

    def weights(span: Span, length: int, resized: int) -> Tensor:
        """float32 ``[span,length]``: what each pixel of the image weighs in each of the result."""
        step = length / resized
        middle = (torch.arange(*span, device=image.device, dtype=torch.float64) + 0.5) * step
        pixels = torch.arange(length, device=image.device, dtype=torch.float64) + 0.5
        found = (1 - (pixels - middle[:, None]).abs() / max(step, 1)).clamp_(min=0)
        return (found / found.sum(1, keepdim=True)).float()

    down, across = weights(rows, image.shape[1], size[0]), weights(columns, image.shape[2], size[1]).T
    if not image.is_floating_point():
        return rounded(down @ image.float() @ across).to(torch.uint8)
    holes = down @ image.isnan().float() @ across > 0  # 0 times NaN is NaN: one would spread over rows and columns
    return (down @ image.nan_to_num(0) @ across).masked_fill_(holes, torch.nan)


def rounded(values: Tensor) -> Tensor:
    """The nearest whole numbers; halves go up, also those whose last digits another order of a sum has changed."""
    return (values + (0.5 + 2**-10)).floor()


def mask_at(mask: Tensor, size: tuple[int, int], rows: Span | None = None, columns: Span | None = None) -> Tensor:
    """As :func:`resized_part`, a mask ``[H,W]`` by the nearest pixel: for training; scores are at its own size."""

    def nearest(span: Span, length: int, resized: int) -> Tensor:
        """int64 ``[span]``: the pixel, of ``length``, in which the middle of each lies; in exact whole numbers."""
        return (2 * torch.arange(*span, device=mask.device) + 1) * length // (2 * resized)

    rows, columns = rows or (0, size[0]), columns or (0, size[1])
    if tuple(mask.shape) == tuple(size):
        return mask[slice(*rows), slice(*columns)]
    return mask[nearest(rows, mask.shape[0], size[0])][:, nearest(columns, mask.shape[1], size[1])]
