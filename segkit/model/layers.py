"""Layers shared by the networks: mirror padding to any size, upsampling, and activation checkpointing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def mirror_pad(image: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """``[B,C,H,W] -> [B,C,top+H+bottom,left+W+right]``, mirrored at the borders as often as needed.

    ``F.pad(mode="reflect")`` allows at most ``H - 1`` pixels; this function keeps reflecting, even images of one pixel.
    Zero padding would create edges that no photograph has.
    """

    def mirrored(length: int, before: int, after: int) -> Tensor:
        """Fold the positions ``-before ... length + after - 1`` into ``0 ... length - 1``."""
        period = max(2 * length - 2, 1)  # 0 1 2 3 2 1 | 0 1 2 ...: the edge itself is not repeated
        position = torch.arange(-before, length + after, device=image.device).remainder(period)
        return torch.minimum(position, period - position)

    rows, columns = mirrored(image.shape[-2], top, bottom), mirrored(image.shape[-1], left, right)
    return image.index_select(-2, rows).index_select(-1, columns)


def pad_to_multiple(image: Tensor, multiple: int, least: int = 0) -> Tensor:
    """Mirror-pad ``[B,C,H,W]`` at the bottom and right, so that H and W are multiples of ``multiple``.

    ``logits[..., :H, :W]`` undoes the padding. An image that needs no padding is returned unchanged; ``torch.export``
    then allows all multiples as dynamic sizes. ``least``, itself a multiple, is the minimum of H and W.
    """
    bottom, right = (max(-side % multiple, least - side) for side in image.shape[-2:])
    return mirror_pad(image, 0, bottom, 0, right) if bottom or right else image


class Upsampling(nn.ConvTranspose2d):
    """A transposed convolution whose stride equals its kernel size: ``[B,I,H,W] -> [B,O,size*H,size*W]``.

    For 16-bit training on a CPU it runs as one matrix product, whose gradient takes a third of the time.
    """

    def __init__(self, inputs: int, outputs: int, size: int = 2) -> None:
        super().__init__(inputs, outputs, size, size)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """``[B,I,H,W] -> [B,O,size*H,size*W]``."""
        if x.device.type != "cpu" or x.dtype.itemsize != 2 or not torch.is_grad_enabled() or self.bias is None:
            return super().forward(x, output_size)
        (batch, _, height, width), (_, outputs, size, _) = x.shape, self.weight.shape
        weight, bias = self.weight.permute(2, 3, 1, 0).flatten(0, 2), self.bias.repeat(size * size)  # [size*size*O,I]
        taps = F.linear(x.permute(0, 2, 3, 1), weight, bias)  # [B,H,W,size*size*O]
        taps = taps.view(batch, height, width, size, size, outputs).transpose(2, 3)  # [B,H,size,W,size,O]
        return taps.reshape(batch, height * size, width * size, outputs).permute(0, 3, 1, 2)


class Doubled(nn.Module):
    """:func:`doubled` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B,C,H,W] -> [B,C,2H,2W]``."""
        return doubled(x)


def doubled(x: Tensor) -> Tensor:
    """Upsample by nearest neighbour, ``[B,C,H,W] -> [B,C,2H,2W]``, in the dtype of ``x``; channels_last.

    Under autocast ``F.interpolate`` computes in float32, and so do all concatenations after it; on CUDA its compiled
    backward uses atomics, which is not deterministic. On a CPU it is used with autocast disabled, because there the
    gradient of ``expand`` takes 20 times longer.
    """
    if x.device.type == "cpu":
        # enter no autocast context in exported graphs
        with torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext():
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1)[:, :, None, :, None]  # [B,H,1,W,1,C]
    repeated = rows.expand(batch, height, 2, width, 2, channels)
    return repeated.reshape(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """Compute ``block(x)`` with activation checkpointing: activations are recomputed in the backward pass.

    Tianqi Chen et al.: Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(block)

    output: Tensor = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
    return output


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """During recomputation update copies of the BatchNorm running statistics, so that they count each batch once."""
    layers = [layer for layer in block.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    originals = [dict(layer._buffers) for layer in layers]
    for layer in layers:
        layer._buffers.update({name: each if each is None else each.clone() for name, each in layer._buffers.items()})
    try:
        yield
    finally:
        for layer, buffers in zip(layers, originals, strict=True):
            layer._buffers.update(buffers)
