"""Images of any size for networks that want multiples: pad by mirroring, crop the logits back."""

from __future__ import annotations

import torch
from torch import Tensor


def mirror_pad(image: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """``[B,C,H,W] -> [B,C,top+H+bottom,left+W+right]``, mirrored at the borders as often as needed.

    ``F.pad(mode="reflect")`` stops at ``H - 1`` pixels; this one goes on to and fro, down to images
    of one pixel. Zeros would be an edge that no photograph has.
    """
    rows = _mirrored(image.shape[-2], top, bottom, image.device)
    columns = _mirrored(image.shape[-1], left, right, image.device)
    return image.index_select(-2, rows).index_select(-1, columns)


def pad_to_multiple(image: Tensor, multiple: int, least: int = 0) -> Tensor:
    """``[B,C,H,W]`` with H and W mirrored up to the next multiple, at the bottom and the right only.

    ``least``, itself a multiple, is the smallest side that is wanted.

    The top left corner stays where it is, so ``logits[..., :H, :W]`` undoes the padding. An image that
    needs none is returned as it is; ``torch.export`` then keeps any multiples as free sizes.
    """
    bottom, right = (max(-side % multiple, least - side) for side in image.shape[-2:])
    return mirror_pad(image, 0, bottom, 0, right) if bottom or right else image


def _mirrored(length: int, before: int, after: int, device: torch.device) -> Tensor:
    """The positions ``-before ... length + after - 1`` folded into ``0 ... length - 1``."""
    period = max(2 * length - 2, 1)  # 0 1 2 3 2 1 | 0 1 2 ...: the edge itself is not repeated
    position = torch.arange(-before, length + after, device=device).remainder(period)
    return torch.minimum(position, period - position)
