"""Looking at images through affine maps: one sampling call a batch, on whatever device it lies.

Images are sampled bilinearly, masks by the nearest pixel; outside an image there is a fill value, and void.
:mod:`segkit.data.augment` looks at one image at a time, :mod:`segkit.data.resident` at many on a device, and both
see the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segkit.data.resize import rounded

if TYPE_CHECKING:
    from segkit.data.augment import View

ROUNDING = 1e-6  # pixels: what lies on the border of two, but for the last digits, is the same one everywhere


class Maps(NamedTuple):
    """What to look at in each image of a batch; all float64 and in (y, x) order.

    Attributes:
        sizes: ``[B,2]``, height and width of the images.
        views: ``[B,2]``, height and width of their views.
        scaled: ``[B,2]``, as :attr:`segkit.data.augment.View.scaled`.
        origins: ``[B,2]``, the pixel of the scaled image where the part that is given begins.
        affine: ``[B,6]``, as :attr:`segkit.data.augment.View.affine`.
    """

    sizes: Tensor
    views: Tensor
    scaled: Tensor
    origins: Tensor
    affine: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Maps:
        """Maps of ``[B,14]``, each a :func:`row`."""
        return cls(*torch.split(rows, [2, 2, 2, 2, 6], dim=1))


def row(view: View, size: Sequence[int], origin: Sequence[int]) -> NDArray[np.float64]:
    """float64 ``[14]``: what :meth:`Maps.of` takes of one image."""
    return np.concatenate([size, view.size, view.scaled, origin, view.affine], dtype=np.float64)


def look(
    images: Tensor, labels: Tensor, maps: Maps, size: tuple[int, int], fill: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Look at images through their maps.

    Args:
        images: ``[B,C,h,w]``, a part of each image at its scale; beyond an image its edge is repeated.
        labels: uint8 ``[B,H,W]``, at the images' own size.
        maps: of the batch.
        size: height and width of the batch, the largest of the views'.
        fill: ``[C,1,1]``, what is outside; the result has its type.
        ignore_index: the label of void.

    Returns:
        Images ``[B,C,*size]`` and masks uint8 ``[B,*size]``.
    """
    a, b, c, d, e, f = maps.affine.view(-1, 6, 1, 1).unbind(1)  # [B,1,1]
    x = torch.arange(size[1], device=images.device, dtype=torch.float64) + 0.5  # [w]; the middle of a pixel
    y = (torch.arange(size[0], device=images.device, dtype=torch.float64) + 0.5)[:, None]  # [h,1]
    from_x, from_y = a * x + b * y + c, d * x + e * y + f  # [B,h,w], in the image
    high, wide = maps.sizes.view(-1, 2, 1, 1).unbind(1)
    inside = (from_x >= 0) & (from_x < wide) & (from_y >= 0) & (from_y < high)
    inside &= (y < maps.views[:, 0].view(-1, 1, 1)) & (x < maps.views[:, 1].view(-1, 1, 1))

    step_y, step_x = (maps.scaled / maps.sizes).view(-1, 2, 1, 1).unbind(1)
    top, left = maps.origins.view(-1, 2, 1, 1).unbind(1)
    places = [(from_x * step_x - left) * (2 / images.shape[3]) - 1, (from_y * step_y - top) * (2 / images.shape[2]) - 1]
    grid = torch.stack(places, dim=-1).float()  # [B,h,w,2], -1..1
    seen = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    seen = seen if fill.is_floating_point() else rounded(seen)
    rows, columns = labels.shape[1:]
    nearest = (from_y + ROUNDING).long().clamp_(0, rows - 1) * columns
    nearest += (from_x + ROUNDING).long().clamp_(0, columns - 1)
    found = labels.flatten(1).gather(1, nearest.flatten(1)).view_as(nearest)
    return torch.where(inside[:, None], seen.to(fill.dtype), fill), torch.where(inside, found, ignore_index)


def resized_parts(images: Tensor, maps: Maps, size: tuple[int, int]) -> Tensor:
    """As :func:`segkit.data.resize.resized_part`, of a whole batch; what is beyond an image repeats its edge.

    Args:
        images: ``[B,C,H,W]``, uint8 or float32.
        maps: of the batch, whose ``origins`` say where the parts begin.
        size: height and width of the parts.

    Returns:
        float32 ``[B,C,*size]``, whole numbers of uint8.
    """
    down, across = (_filters(maps, axis, size[axis], images.shape[2 + axis]) for axis in (0, 1))  # [B,1,size,length]
    parts = down @ (images.float() @ across.transpose(2, 3))
    return parts if images.is_floating_point() else rounded(parts)


def _filters(maps: Maps, axis: int, count: int, length: int) -> Tensor:
    """float32 ``[B,1,count,length]``: what each pixel of the images weighs in each of the parts, along an axis."""
    size, scaled, origin = (each[:, axis].view(-1, 1, 1) for each in (maps.sizes, maps.scaled, maps.origins))
    step = size / scaled
    index = torch.arange(count, device=step.device, dtype=step.dtype)[:, None]  # [count,1]
    middle = (torch.minimum(origin + index, scaled - 1) + 0.5) * step  # [B,count,1]
    places = torch.arange(length, device=step.device, dtype=step.dtype) + 0.5  # [length]
    weights = (1 - (places - middle).abs() / step.clamp(min=1)).clamp_(min=0) * (places < size)
    return (weights / weights.sum(2, keepdim=True)).float()[:, None]
