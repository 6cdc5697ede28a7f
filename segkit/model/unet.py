"""UNet, from scratch.

Olaf Ronneberger, Philipp Fischer, Thomas Brox: U-Net: Convolutional Networks for Biomedical Image
Segmentation, MICCAI 2015, arXiv 1505.04597. ``norm="none", padding="valid", dropout=0.5`` is the
paper's network. The defaults follow later practice: batch normalisation trains faster and allows deeper
networks, and padded convolutions do not lose the border.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.errors import ModelError, did_you_mean
from segkit.model.layers import Doubled, Upsampling, mirror_pad, pad_to_multiple, recomputed


class UNet(nn.Module):
    """An encoder and a decoder joined by skip connections (Ronneberger et al., arXiv 1505.04597).

    ``[B,in_channels,H,W] -> logits [B,num_classes,H,W]``, any H and W. 31.04 million parameters at
    the defaults and 21 classes.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the image; 3 for RGB.
        width: Channels at full resolution, doubled at each level; 64 is the paper's. Halving it quarters the work.
        depth: Number of times the resolution is halved; 4 is the paper's.
        norm: Normalisation after each convolution. "batch" needs several images per batch; "group" (16 channels per
            group, arXiv 1803.08494) does not; "none" is the paper's.
        dropout: Dropout probability at the end of the contracting path; 0 by default, since batch normalisation and
            augmentation already regularise.
        upsample: "transposed" is the paper's learned 2x2; "nearest" is smaller and free of checkerboard artefacts.
        padding: "same" keeps the size; "valid" is the paper's: unpadded convolutions, centre-cropped skips, and here
            a mirror-padded input, so that the logits have its size. It costs far more on small images.
        checkpointing: Recompute the activations of each block in the backward pass (arXiv 1604.06174): less memory,
            about a third more time, the same gradients.
        patch_size: Side of the patches of pixels that a strided convolution embeds, as in ConvNeXt (arXiv 2201.03545);
            a transposed one maps back to full-resolution logits. 2 or 4 reduces the work to that of images at half or
            a quarter of the resolution. 1 is the paper's.

    Raises:
        ModelError: an option is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 4,
        norm: Literal["batch", "group", "none"] = "batch",
        dropout: float = 0.0,
        upsample: Literal["transposed", "nearest"] = "transposed",
        padding: Literal["same", "valid"] = "same",
        checkpointing: bool = False,
        patch_size: int = 1,
    ) -> None:
        super().__init__()
        counts = {"num_classes": num_classes, "in_channels": in_channels, "width": width, "patch_size": patch_size}
        for name, count in counts.items():
            _require(count >= 1, name, count, "must be at least 1")
        _require(1 <= depth <= 10, "depth", depth, "must be from 1 to 10")
        _require(0 <= dropout < 1, "dropout", dropout, "must be at least 0 and less than 1")
        _one_of("norm", norm, ("batch", "group", "none"))
        _one_of("upsample", upsample, ("transposed", "nearest"))
        _one_of("padding", padding, ("same", "valid"))
        _require(patch_size == 1 or padding == "same", "patch_size", patch_size, "needs padding = 'same'")
        self.depth, self.norm, self.padding, self.checkpointing = depth, norm, padding, checkpointing
        self.patch_size, self.multiple = patch_size, patch_size * 2**depth if padding == "same" else 1

        widths = [width * 2**level for level in range(depth + 1)]  # 64, 128, 256, 512, 1024
        patches = _convolution(in_channels, width, patch_size, norm, patch_size) if patch_size > 1 else []
        self.stem = nn.Sequential(*patches)
        entering = width if patches else in_channels
        self.down = nn.ModuleList(DoubleConvolution(i, o, norm, padding) for i, o in pairwise([entering, *widths]))
        self.dropout = nn.Dropout(dropout)
        rising = list(pairwise(reversed(widths)))  # (1024, 512), ..., (128, 64)
        self.up = nn.ModuleList(_upsampling(i, o, upsample) for i, o in rising)
        self.merge = nn.ModuleList(DoubleConvolution(2 * o, o, norm, padding) for _, o in rising)
        last = Upsampling if patches else nn.Conv2d
        self.classifier = last(width, num_classes, patch_size)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """``[B,in_channels,H,W] -> logits [B,num_classes,H,W]``."""
        height, width = image.shape[-2:]
        if self.padding == "valid":
            rows, columns = _overlap(height, self.depth), _overlap(width, self.depth)
            return self.network(mirror_pad(image, *rows, *columns))[..., :height, :width]
        image = pad_to_multiple(image, self.multiple)
        return self.network(image)[..., :height, :width]

    def network(self, x: Tensor) -> Tensor:
        """Run the network of the paper's figure 1, without padding the input.

        With ``padding="same"`` H and W must be multiples of ``patch_size * 2**depth``; with ``"valid"`` each map must
        be even before it is pooled, and the logits are smaller: at depth 4 an image of 572 x 572 gives 388 x 388.
        """
        skips: list[Tensor] = []
        x = self.stem(x)  # [B,width,H/patch,W/patch]; the identity at patch_size 1
        for level, block in enumerate(self.down):
            x = self._run(block, F.max_pool2d(x, 2) if level else x)  # [B,width*2^l,H/2^l,W/2^l]
            skips.append(x)
        x = self.dropout(skips.pop())
        for up, merge in zip(self.up, self.merge, strict=True):
            x = up(x)  # half the channels, twice the size
            skip = centre_crop(skips.pop(), x.shape[-2], x.shape[-1])
            x = self._run(merge, torch.cat([skip, x], dim=1))
        out: Tensor = self.classifier(x)
        return out

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        recompute = self.checkpointing and self.training and torch.is_grad_enabled()
        out: Tensor = recomputed(block, x) if recompute else block(x)
        return out


class DoubleConvolution(nn.Sequential):
    """Two 3x3 convolutions, each with normalisation and ReLU: ``[B,I,H,W] -> [B,O,H,W]``; H-4 and W-4 if valid."""

    def __init__(self, inputs: int, outputs: int, norm: str, padding: str) -> None:
        border = int(padding == "same")
        super().__init__(
            *_convolution(inputs, outputs, 3, norm, padding=border),
            *_convolution(outputs, outputs, 3, norm, padding=border),
        )


def _convolution(inputs: int, outputs: int, size: int, norm: str, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    """Create a convolution, its normalisation and ReLU."""
    # A bias before a normalisation is redundant: the normalisation subtracts the mean and has a bias itself.
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, size, stride, padding, bias=norm == "none")]
    if norm == "batch":
        layers.append(nn.BatchNorm2d(outputs))
    elif norm == "group":
        # Groups of 16 channels, not 32 groups: so each group has several values even in a narrow network at 1x1 pixel.
        layers.append(nn.GroupNorm(math.gcd(outputs, max(1, outputs // 16)), outputs))
    return [*layers, nn.ReLU(inplace=True)]


def _upsampling(inputs: int, outputs: int, upsample: str) -> nn.Module:
    """``[B,I,H,W] -> [B,O,2H,2W]``."""
    if upsample == "transposed":
        return Upsampling(inputs, outputs)
    # A 1x1 convolution commutes with nearest upsampling and costs a quarter before it. 3x3 convolutions smooth later.
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel_size=1), Doubled())


def _initialise(module: nn.Module) -> None:
    """Initialise weights as in the paper (He): a standard deviation of sqrt(2 / N) for N inputs per output.

    This keeps the variance constant across layers: the factor 2 compensates for the half that a ReLU drops, so it is 1
    where no ReLU follows, in the upsampling and the classifier.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # The stride of a transposed convolution is its kernel size here, so one tap contributes to each output.
        taps = 1 if isinstance(module, nn.ConvTranspose2d) else math.prod(module.kernel_size)
        gain = 2 if taps > 1 else 1  # exactly the convolutions over several pixels have a ReLU
        nn.init.normal_(module.weight, std=math.sqrt(gain / (module.in_channels * taps)))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def centre_crop(x: Tensor, height: int, width: int) -> Tensor:
    """Crop the central ``height`` x ``width`` of ``[B,C,H,W]``: unpadded convolutions leave skips too large."""
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


def _overlap(size: int, depth: int) -> tuple[int, int]:
    """Return how many pixels to mirror before and after ``size``, so that the unpadded network returns at least it.

    The network loses ``12 * 2**depth - 8`` pixels (184 at depth 4), and its output size is a multiple of
    ``2**depth`` minus ``4 * (2**depth - 1)``.
    """
    surplus = -(size + 4 * (2**depth - 1)) % 2**depth
    margin = 6 * 2**depth - 4
    return margin, margin + surplus


def _require(holds: bool, name: str, value: object, problem: str) -> None:
    if not holds:
        raise ModelError(f"unet: {name} = {value!r} {problem}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    choices = ", ".join(map(repr, allowed))
    _require(value in allowed, name, value, f"must be one of {choices}{did_you_mean(str(value), allowed)}")
