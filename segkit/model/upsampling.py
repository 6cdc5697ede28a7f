"""Twice the size by repeating pixels, in the precision of what is repeated.

``torch.nn.functional.interpolate`` does the same, but under autocast in float32, and so are all concatenations after
it; and its compiled backward adds up with atomics. On a CPU it is what is used, outside of autocast, as there the sum
of a gradient over repeated pixels takes 20 times as long.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def doubled(x: Tensor) -> Tensor:
    """``[B,C,H,W] -> [B,C,2H,2W]``, each pixel four times; channels_last."""
    if x.device.type == "cpu":
        if not torch.is_autocast_enabled("cpu"):  # no context of autocast in exported graphs
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        with torch.autocast("cpu", enabled=False):
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1)[:, :, None, :, None]  # [B,H,1,W,1,C]
    repeated = rows.expand(batch, height, 2, width, 2, channels)
    return repeated.reshape(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


class Doubled(nn.Module):
    """:func:`doubled` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B,C,H,W] -> [B,C,2H,2W]``."""
        return doubled(x)
