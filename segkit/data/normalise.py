"""From stored pixels to what a network reads: the run's normalisation and colour jitter, on the device."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from segkit.data.statistics import SampleStatistics
from segkit.errors import ConfigError, ModelError

# RGB, of images scaled to 0..1 (the 1.28 M training images of ILSVRC 2012); they serve VOC and street scenes as well
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalisation:
    """How a run normalises its images: ``(value - mean) / std``, channel by channel; the default is ImageNet's of RGB.

    Attributes:
        mean: of each channel; of uint8 images as they are scaled to 0..1, of float32 images as they are stored.
        std: likewise.
        dtype: of the images: ``uint8``, or ``float32`` of more than 8 bits a channel.
        no_data: whether values may be NaN, where a pixel has no data; it then becomes 0, the mean.

    Raises:
        ValueError: not a finite mean and a deviation above 0 for each channel.
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    dtype: Literal["uint8", "float32"] = "uint8"
    no_data: bool = False

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or min(self.std) <= 0 or not np.isfinite(self.mean + self.std).all():
            raise ValueError("needed are a finite mean and a deviation above 0 for each channel")

    def is_far(self, channels: ArrayLike) -> bool:
        """Whether a float32 image has values of another unit or range than those the network was trained on.

        Args:
            channels: as :func:`moments` gives them, ``[C,3]``.
        """
        means, variances, counts = np.transpose(channels)
        apart, contrast = np.abs(means - self.mean) / self.std, np.sqrt(variances) / self.std
        is_flat = (contrast > 0) & (contrast < 1 / 50)  # what has one value has no unit
        return bool((apart > 5)[counts > 0].any() or is_flat.all())

    def record(self) -> dict[str, Any]:
        """For ``config.json``."""
        own = {"mean": list(self.mean), "std": list(self.std), "dtype": self.dtype}
        return own | ({"no_data": True} if self.no_data else {})

    @classmethod
    def of_record(cls, record: Mapping[str, Any] | None) -> Normalisation:
        """From ``config.json``; ImageNet's for a run that is older than the entry."""
        return cls(**{**record, "mean": tuple(record["mean"]), "std": tuple(record["std"])}) if record else IMAGENET

    @classmethod
    def of(cls, model: nn.Module, train: Sequence[SampleStatistics], no_data: bool = False) -> Normalisation:
        """The normalisation of a new run: of RGB of 8 bits what the model asks for, or ImageNet's; else it is measured.

        Args:
            model: its attribute ``normalisation``, where there is one, is ``{"mean": [...], "std": [...]}`` of RGB
                scaled to 0..1, as its pretrained encoder has learned to see it.
            train: statistics of the training images.
            no_data: whether pixels may be NaN.

        Raises:
            ModelError: the model asks for something else than three means and three deviations.
        """
        if len(train[0].channels):
            means, variances, counts = np.array([each.channels for each in train]).transpose(2, 0, 1)  # [N,C] each
            share = counts / np.maximum(counts.sum(0), 1)
            mean = (share * means).sum(0)
            std = np.sqrt((share * (variances + (means - mean) ** 2)).sum(0))
            std[std <= 1e-7 * np.abs(mean)] = 1  # a channel of one value, but for the last digits of the sums
            dtype: Any = train[0].dtype
            return cls(tuple(mean.tolist()), tuple(std.tolist()), dtype, no_data)
        asked = getattr(model, "normalisation", None)
        if asked is None or isinstance(asked, nn.Module):  # a layer of somebody's may be called so
            return IMAGENET
        try:
            mean, std = (tuple(map(float, asked[key])) for key in ("mean", "std"))
            if len(mean) != 3:
                raise ValueError
            return cls(mean, std)
        except (TypeError, ValueError, KeyError) as error:
            raise ModelError(
                f"normalisation of {type(model).__name__} is {asked!r:.200}; expected is {{'mean': [r, g, b], "
                "'std': [r, g, b]} of RGB scaled to 0..1, the deviations above 0"
            ) from error

    @functools.cache  # noqa: B019  (equal ones are one key)
    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and deviation ``[C,1,1]`` each; kept, as bringing them to a device makes the host wait for it."""
        return torch.tensor(self.mean, device=device).view(-1, 1, 1), torch.tensor(self.std, device=device).view(
            -1, 1, 1
        )

    @functools.cache  # noqa: B019  (equal ones are one key)
    def mean_pixel(self, device: torch.device) -> Tensor:
        """The pixel ``[C,1,1]`` that becomes about 0, of the images' type: put where there is no image; kept too."""
        fill = [round(255 * value) for value in self.mean] if self.dtype == "uint8" else self.mean
        return torch.tensor(fill, dtype=getattr(torch, self.dtype), device=device).view(-1, 1, 1)

    def normalise(self, images: Tensor, colour: Tensor | None = None) -> Tensor:
        """Normalise images, with a change of their colours where one is given.

        Args:
            images: uint8 or float32 ``[B,C,H,W]`` or ``[C,H,W]``; the memory format is kept.
            colour: of RGB of 8 bits float32 ``[B,3,4]``, per image a matrix and an offset on RGB in 0..1, whose result
                is clipped to 0..1; of others ``[B,C,2]``, a factor and an offset on each normalised channel.

        Returns:
            float32, the shape of ``images``.
        """
        mean, std = self._statistics(images.device)
        values = images.to(torch.float32, copy=True)
        if self.dtype == "uint8":
            values.div_(255)
        if colour is not None and colour.shape[2] == 4:
            rows = values.permute(0, 2, 3, 1).flatten(1, 2)  # [B,H*W,3], free in channels_last
            rows = torch.baddbmm(colour[:, None, :, 3], rows, colour[:, :, :3].transpose(1, 2)).clamp_(0, 1)
            values = rows.view(len(images), *images.shape[2:], 3).permute(0, 3, 1, 2)  # [B,3,H,W]
        values = values.sub_(mean).div_(std)
        if colour is not None and colour.shape[2] == 2:
            values = values * colour[:, :, :1, None] + colour[:, :, 1:, None]
        return values.nan_to_num(0, torch.inf, -torch.inf) if self.no_data else values


IMAGENET = Normalisation()


def moments(image: NDArray[Any]) -> NDArray[np.float64]:
    """Mean, variance and number of the values of each channel of ``[C,H,W]``, in float64: they may be large and alike.

    Those of uint8 are scaled to 0..1; NaN are left out.
    """
    found = np.zeros((len(image), 3))
    for row, channel in zip(found, image, strict=True):
        known = ~np.isnan(channel)
        if count := int(known.sum()):
            mean = float(channel.mean(dtype=np.float64, where=known))
            lines = zip(channel, known, strict=True)  # one at a time: float64 takes eight bytes a value
            squares = sum(float(np.square(line[those].astype(np.float64) - mean).sum()) for line, those in lines)
            row[:] = mean, squares / count, count
    return found / ((255, 255**2, 1) if image.dtype == np.uint8 else (1, 1, 1))


def displayable(image: NDArray[Any], rgb: Sequence[int] | None = None) -> NDArray[np.uint8]:
    """An image ``[H,W,C]`` to look at, ``[H,W,3]``: three of its channels, or one as grey.

    Those of more than 8 bits are stretched, each from its 1st to its 99th percentile; where there is no data it is
    black.

    Args:
        image: uint8 or float32.
        rgb: as ``data.rgb``.

    Raises:
        ConfigError: it names a channel that is not there.
    """
    count = image.shape[2]
    chosen = [band - 1 for band in rgb or (range(1, 4) if count > 2 else [1])]
    if max(chosen) >= count or len(chosen) == 2:
        raise ConfigError(f"data.rgb = {list(rgb or ())}; it names one or three of the {count} channels, from 1")
    shown = image if chosen == [*range(count)] else image[..., chosen]
    if image.dtype != np.uint8:
        step = max(1, int((image.size / 1e6) ** 0.5))  # a part of a large image says as much
        known = np.nan_to_num(shown[::step, ::step], nan=np.nan, posinf=np.nan, neginf=np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # channels without data
            low, high = np.nan_to_num(np.nanpercentile(known, (1, 99), axis=(0, 1)))
        stretched = np.clip((shown - low) / np.maximum(high - low, 1e-30), 0, 1) * 255
        shown = np.nan_to_num(stretched).astype(np.uint8)
    return np.repeat(shown, 3, axis=2) if len(chosen) == 1 else np.ascontiguousarray(shown)
