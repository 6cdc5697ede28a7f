"""From uint8 images to what a network reads: colour jitter and ImageNet's statistics, on the device."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

# RGB, of images scaled to 0..1 (the 1.28 M training images of ILSVRC 2012); they serve VOC and street scenes as well
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
MEAN_PIXEL = tuple(round(255 * value) for value in MEAN)  # becomes about 0: what is put where there is no image


@functools.cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``[3,1,1]`` each; kept, as bringing them to a device makes the host wait for it."""
    return torch.tensor(MEAN, device=device).view(3, 1, 1), torch.tensor(STD, device=device).view(3, 1, 1)


@functools.cache
def mean_pixel(device: torch.device) -> Tensor:
    """:data:`MEAN_PIXEL` as uint8 ``[3,1,1]``."""
    return torch.tensor(MEAN_PIXEL, dtype=torch.uint8, device=device).view(3, 1, 1)


def normalise(images: Tensor, colour: Tensor | None = None) -> Tensor:
    """Normalise uint8 images, after an affine change of their colours where one is given.

    Args:
        images: uint8 ``[B,3,H,W]`` or ``[3,H,W]``; the memory format is kept.
        colour: float32 ``[B,3,4]``, per image a matrix and an offset on RGB in 0..1; the result is clipped to 0..1.

    Returns:
        float32, the shape of ``images``.
    """
    mean, std = _statistics(images.device)
    values = images.float() / 255
    if colour is not None:
        rows = values.permute(0, 2, 3, 1).flatten(1, 2)  # [B,H*W,3], free in channels_last
        rows = torch.baddbmm(colour[:, None, :, 3], rows, colour[:, :, :3].transpose(1, 2)).clamp_(0, 1)
        values = rows.view(len(images), *images.shape[2:], 3).permute(0, 3, 1, 2)  # [B,3,H,W]
    return (values - mean) / std
