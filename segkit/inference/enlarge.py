"""Values at a network's resolution brought to an image's, a band of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.inference.sliding import Block

_BAND_BYTES = 1 << 28


def enlarged(values: Tensor, size: Sequence[int]) -> Iterator[Block]:
    """``[C,h,w]`` at ``size = (H, W)``, bilinear as ``F.interpolate`` has it, which would make ``[C,H,W]`` at once."""
    (classes, low, _), (height, width) = values.shape, size
    rows = max(1, _BAND_BYTES // (4 * classes * width))
    for top in range(0, height, rows):
        count = min(rows, height - top)
        centre = torch.arange(top, top + count, device=values.device, dtype=torch.float32) + 0.5
        place = (centre * (low / height) - 0.5).clamp_(0, low - 1)  # [rows], among those of `values`
        above = place.long()
        share = (place - above)[:, None]  # [rows,1]
        band = torch.lerp(values[:, above], values[:, (above + 1).clamp_(max=low - 1)], share)  # [C,rows,w]
        band = F.interpolate(band[None], (count, width), mode="bilinear", align_corners=False)[0]  # [C,rows,W]
        yield Block(top, 0, band.transpose(0, 1))
