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


def resized(sample: Sample, resize: Resize) -> Sample:
    """The sample with its image resized (antialiased), its mask at its own size."""
    size = resized_size(sample.image.shape[1], sample.image.shape[2], resize)
    if size == tuple(sample.image.shape[1:]):
        return sample
    pixels = Image.fromarray(np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy()))
    image = np.asarray(pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR))  # [H,W,3]
    return sample._replace(image=torch.from_numpy(image.copy()).permute(2, 0, 1))


def mask_at(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask ``[H,W]`` at another size, by the nearest pixel: for training alone, scores are taken at its own."""
    if tuple(mask.shape) == (height, width):
        return mask
    labels = Image.fromarray(np.ascontiguousarray(mask.numpy()))
    return torch.from_numpy(np.asarray(labels.resize((width, height), Image.Resampling.NEAREST)).copy())


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
