"""Views of a whole batch at once, on the device: one affine map a sample, one sampling call a batch.

The same maps as in :mod:`segkit.data.augment`, which has Pillow sample one image after the other: images bilinearly,
masks by the nearest pixel, outside the image the mean colour and void. Both agree to the rounding of a colour.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.data.normalise import mean_pixel


class Maps(NamedTuple):
    """What to look at in each sample of a batch.

    Attributes:
        numbers: int64 ``[B]``, which samples.
        sizes: float32 ``[B,2]``, height and width of their images.
        views: float32 ``[B,2]``, height and width of their views.
        affine: float32 ``[B,6]``, as in :class:`segkit.data.augment.View`.
    """

    numbers: Tensor
    sizes: Tensor
    views: Tensor
    affine: Tensor


def sampled(pixels: Tensor, maps: Maps, height: int, width: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Look at samples through their maps.

    Args:
        pixels: uint8 ``[N,H,W,4]``: red, green, blue and the label; beyond an image's own size its last row and
            column are repeated.
        maps: of B samples.
        height: of the batch, the largest of the views'.
        width: likewise.
        ignore_index: the label of void.

    Returns:
        Images uint8 ``[B,3,height,width]`` in channels_last, and masks uint8 ``[B,height,width]``.
    """
    count, rows, columns = len(maps.numbers), pixels.shape[1], pixels.shape[2]
    packed = pixels.view(torch.int32)[..., 0].index_select(0, maps.numbers)  # [B,H,W]: a pixel is one number
    a, b, c, d, e, f = maps.affine.view(count, 6, 1, 1).unbind(1)  # [B,1,1]
    x = torch.arange(width, device=pixels.device) + 0.5  # [W]; the middle of a pixel
    y = (torch.arange(height, device=pixels.device) + 0.5)[:, None]  # [H,1]
    from_x, from_y = a * x + b * y + c, d * x + e * y + f  # [B,height,width]
    high, wide = maps.sizes.view(count, 2, 1, 1).unbind(1)
    inside = (from_x >= 0) & (from_x < wide) & (from_y >= 0) & (from_y < high)
    inside &= (y < maps.views[:, 0].view(-1, 1, 1)) & (x < maps.views[:, 1].view(-1, 1, 1))

    grid = torch.stack([from_x * (2 / columns) - 1, from_y * (2 / rows) - 1], dim=-1)  # [B,height,width,2], -1..1
    colours = packed.view(torch.uint8).view(count, rows, columns, 4)[..., :3].permute(0, 3, 1, 2).float()
    seen = F.grid_sample(colours, grid, mode="bilinear", padding_mode="border", align_corners=False)
    image = torch.where(inside[:, None], seen.round_(), mean_pixel(pixels.device)).to(torch.uint8)

    nearest = from_y.long().clamp_(0, rows - 1) * columns + from_x.long().clamp_(0, columns - 1)
    labels = packed.flatten(1).gather(1, nearest.flatten(1)).view(torch.uint8)[..., 3::4].view(count, height, width)
    return image.contiguous(memory_format=torch.channels_last), torch.where(inside, labels, ignore_index)
