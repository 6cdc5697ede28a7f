"""From stored pixels to what a network reads: the run's normalisation and colour jitter, on the device."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segkit.errors import ModelError

if TYPE_CHECKING:
    from segkit.data.scan import SampleStatistics

# RGB, of images scaled to 0..1 (the 1.28 M training images of ILSVRC 2012); they serve VOC and street scenes as well
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalisation:
    """How a run normalises its images: ``(value - mean) / std``, channel by channel.

    Attributes:
        mean: of each channel; of uint8 images as they are scaled to 0..1, of float32 images as they are stored.
        std: likewise.
        dtype: of the images: ``uint8``, or ``float32`` of more than 8 bits a channel.

    Raises:
        ValueError: not a finite mean and a deviation above 0 for each channel.
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    dtype: Literal["uint8", "float32"] = "uint8"

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or min(self.std) <= 0 or not np.isfinite(self.mean + self.std).all():
            raise ValueError("needed are a finite mean and a deviation above 0 for each channel")

    @property
    def fill(self) -> tuple[float, ...]:
        """The pixel that becomes about 0: what is put where there is no image."""
        return tuple(round(255 * value) for value in self.mean) if self.dtype == "uint8" else self.mean

    def is_far(self, channels: NDArray[np.float64]) -> bool:
        """Whether a float32 image has values of another unit or range than those the network was trained on.

        Args:
            channels: mean and variance of each channel, ``[C,2]``.
        """
        apart = np.abs(channels[:, 0] - self.mean) / self.std
        contrast = np.sqrt(channels[:, 1]) / self.std
        return bool((apart > 5).any() or ((contrast > 0) & (contrast < 1 / 50)).all())  # of one value: it has no unit

    def record(self) -> dict[str, Any]:
        """For ``config.json``."""
        return {"mean": list(self.mean), "std": list(self.std), "dtype": self.dtype}

    @classmethod
    def of_record(cls, record: Mapping[str, Any] | None) -> Normalisation:
        """From ``config.json``; ImageNet's for a run that is older than the entry."""
        return cls(tuple(record["mean"]), tuple(record["std"]), record["dtype"]) if record else IMAGENET


IMAGENET = Normalisation()
MEAN_PIXEL = IMAGENET.fill


def normalisation_of(model: nn.Module, train: Sequence[SampleStatistics]) -> Normalisation:
    """The normalisation of a new run: measured on float32 images; else what the model asks for, or ImageNet's.

    Args:
        model: its attribute ``normalisation``, where there is one, is ``{"mean": [...], "std": [...]}`` of RGB scaled
            to 0..1, as its pretrained encoder has learned to see it.
        train: statistics of the training images.

    Raises:
        ModelError: the model asks for something else than three means and three deviations.
    """
    if train[0].dtype == "float32":
        return measured(train)
    asked = getattr(model, "normalisation", None)
    if asked is None or isinstance(asked, nn.Module):  # a layer of somebody's may be called so
        return IMAGENET
    try:
        mean, std = (tuple(map(float, asked[key])) for key in ("mean", "std"))
        if len(mean) != 3:
            raise ValueError
        return Normalisation(mean, std)
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(
            f"normalisation of {type(model).__name__} is {asked!r:.200}; expected is {{'mean': [r, g, b], "
            "'std': [r, g, b]} of RGB scaled to 0..1, the deviations above 0"
        ) from error


def moments(image: NDArray[Any]) -> NDArray[np.float64]:
    """Mean and variance of each channel of float32 ``[C,H,W]``, in float64: values may be large and alike."""
    means = image.mean(axis=(1, 2), dtype=np.float64)
    squares = [
        sum(float(np.square(row.astype(np.float64) - mean).sum()) for row in channel)
        for channel, mean in zip(image, means, strict=True)
    ]
    return np.stack([means, np.array(squares) / image[0].size], axis=1)


def measured(train: Sequence[SampleStatistics]) -> Normalisation:
    """Mean and deviation of each channel over all pixels of the images."""
    pixels = np.array([math.prod(each.size) for each in train], np.float64)
    share = (pixels / pixels.sum())[:, None]  # [N,1]
    means, variances = (np.array([each.channels[:, part] for each in train]) for part in (0, 1))  # [N,C]
    mean = (share * means).sum(0)
    std = np.sqrt((share * (variances + (means - mean) ** 2)).sum(0))
    std[std == 0] = 1  # a channel of one value
    return Normalisation(tuple(mean.tolist()), tuple(std.tolist()), "float32")


@functools.cache
def _statistics(how: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``[C,1,1]`` each; kept, as bringing them to a device makes the host wait for it."""
    return torch.tensor(how.mean, device=device).view(-1, 1, 1), torch.tensor(how.std, device=device).view(-1, 1, 1)


@functools.cache
def mean_pixel(device: torch.device, how: Normalisation) -> Tensor:
    """:attr:`Normalisation.fill` ``[C,1,1]``, of the images' type; kept, likewise."""
    return torch.tensor(how.fill, dtype=getattr(torch, how.dtype), device=device).view(-1, 1, 1)


def normalise(images: Tensor, colour: Tensor | None = None, how: Normalisation = IMAGENET) -> Tensor:
    """Normalise images, after an affine change of their colours where one is given.

    Args:
        images: uint8 or float32 ``[B,C,H,W]`` or ``[C,H,W]``; the memory format is kept.
        colour: float32 ``[B,3,4]``, per image a matrix and an offset on RGB in 0..1; the result is clipped to 0..1.
        how: the run's normalisation.

    Returns:
        float32, the shape of ``images``.
    """
    mean, std = _statistics(how, images.device)
    values = images.float()
    if how.dtype == "uint8":
        values = values / 255
    if colour is not None:
        rows = values.permute(0, 2, 3, 1).flatten(1, 2)  # [B,H*W,3], free in channels_last
        rows = torch.baddbmm(colour[:, None, :, 3], rows, colour[:, :, :3].transpose(1, 2)).clamp_(0, 1)
        values = rows.view(len(images), *images.shape[2:], 3).permute(0, 3, 1, 2)  # [B,3,H,W]
    return (values - mean) / std


def displayable(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An image ``[H,W,3]`` to look at: more than 8 bits are stretched, from the image's 1st to its 99th percentile."""
    if image.dtype == np.uint8:
        return image
    step = max(1, int((image.size / 1e6) ** 0.5))  # a part of a large image says as much
    low, high = np.percentile(image[::step, ::step], (1, 99))
    shown: NDArray[np.uint8] = (np.clip((image - low) / max(high - low, 1e-30), 0, 1) * 255).astype(np.uint8)
    return shown
