"""Turn stored pixels into network input: the run's normalisation and colour jitter, on the device."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from segkit.data.statistics import SampleStatistics
from segkit.errors import ConfigError

# ImageNet's, of RGB scaled to 0..1 (the 1.28 M training images of ILSVRC 2012); also good for VOC and street scenes
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalisation:
    """The normalisation of a run, ``(value - mean) / std`` per channel; the default is ImageNet's for RGB.

    Attributes:
        mean: mean of each channel; for uint8 images after scaling to 0..1, for float32 images of the stored values.
        std: standard deviation of each channel, in the same units.
        dtype: dtype of the images: ``uint8``, or ``float32`` for more than 8 bits per channel.
        no_data: whether pixels without data (NaN) are allowed; they become 0 after normalisation, the mean.

    Raises:
        ValueError: a channel lacks a finite mean or a standard deviation above 0.
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    dtype: Literal["uint8", "float32"] = "uint8"
    no_data: bool = False

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or min(self.std) <= 0 or not np.isfinite(self.mean + self.std).all():
            raise ValueError("each channel needs a finite mean and a standard deviation above 0")

    def is_far(self, channels: ArrayLike) -> bool:
        """Whether a float32 image has values in another unit or range than the training images.

        Args:
            channels: the result of :func:`moments`, ``[C,3]``.
        """
        means, variances, counts = np.transpose(channels)
        apart, contrast = np.abs(means - self.mean) / self.std, np.sqrt(variances) / self.std
        is_flat = (contrast > 0) & (contrast < 1 / 50)  # a constant channel says nothing about the unit
        return bool(((apart > 5) & (counts > 0)).any() or is_flat.all())

    def record(self) -> dict[str, Any]:
        """Return the entry for ``config.json``."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any] | None) -> Normalisation:
        """Read an entry of ``config.json``; ImageNet's for older runs without the entry."""
        return cls(**{**record, "mean": tuple(record["mean"]), "std": tuple(record["std"])}) if record else IMAGENET

    @classmethod
    def of(cls, model: nn.Module, train: Sequence[SampleStatistics], no_data: bool = False) -> Normalisation:
        """Choose a new run's normalisation: for 8-bit RGB the model's own or ImageNet's, else measured on the data.

        Args:
            model: its optional attribute ``normalisation`` is ``{"mean": [...], "std": [...]}`` for RGB scaled to
                0..1, the normalisation with which its encoder was pretrained.
            train: statistics of the training images.
            no_data: whether pixels may be NaN.

        Raises:
            ValueError: ``normalisation`` does not hold three means and three standard deviations above 0.
        """
        if len(train[0].channels):
            means, variances, counts = np.array([each.channels for each in train]).transpose(2, 0, 1)  # [N,C] each
            share = counts / np.maximum(counts.sum(0), 1)
            mean = (share * means).sum(0)
            std = np.sqrt((share * (variances + (means - mean) ** 2)).sum(0))
            std[std <= 1e-7 * np.abs(mean)] = 1  # a constant channel, up to rounding errors of the sums
            dtype: Any = train[0].dtype
            return cls(tuple(mean.tolist()), tuple(std.tolist()), dtype, no_data)
        declared = getattr(model, "normalisation", None)
        if declared is None or isinstance(declared, nn.Module):  # a model may have a layer of this name
            return IMAGENET
        if len(declared["mean"]) != 3:
            raise ValueError(f"normalisation of {type(model).__name__}: {declared!r:.200} needs three means")
        mean, std = (tuple(map(float, declared[key])) for key in ("mean", "std"))
        return cls(mean, std)

    @functools.cache  # noqa: B019  (equal instances share a key)
    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each ``[C,1,1]``; cached, because copying them makes the host wait."""
        return torch.tensor(self.mean, device=device).view(-1, 1, 1), torch.tensor(self.std, device=device).view(
            -1, 1, 1
        )

    @functools.cache  # noqa: B019  (equal instances share a key)
    def mean_pixel(self, device: torch.device) -> Tensor:
        """Return the mean pixel ``[C,1,1]`` in the images' dtype, for filling areas outside an image; cached."""
        fill = [round(255 * value) for value in self.mean] if self.dtype == "uint8" else self.mean
        return torch.tensor(fill, dtype=getattr(torch, self.dtype), device=device).view(-1, 1, 1)

    def normalise(self, images: Tensor, colour: Tensor | None = None) -> Tensor:
        """Normalise images and, if given, apply colour jitter.

        Args:
            images: uint8 or float32 ``[B,C,H,W]`` or ``[C,H,W]``; the memory format is kept.
            colour: for 8-bit RGB float32 ``[B,3,4]``: per image a matrix and an offset on RGB in 0..1, whose result is
                clipped to 0..1; for other images ``[B,C,2]``: a factor and an offset on each normalised channel.

        Returns:
            float32, the shape of ``images``.
        """
        mean, std = self._statistics(images.device)
        values = images.to(torch.float32, copy=True)
        if self.dtype == "uint8":
            values.div_(255)
        if colour is not None and colour.shape[2] == 4:
            rows = values.permute(0, 2, 3, 1).flatten(1, 2)  # [B,H*W,3], no copy in channels_last
            rows = torch.baddbmm(colour[:, None, :, 3], rows, colour[:, :, :3].transpose(1, 2)).clamp_(0, 1)
            values = rows.view(len(images), *images.shape[2:], 3).permute(0, 3, 1, 2)  # [B,3,H,W]
        values = values.sub_(mean).div_(std)
        if colour is not None and colour.shape[2] == 2:
            values = values * colour[:, :, :1, None] + colour[:, :, 1:, None]
        return values.nan_to_num(0, torch.inf, -torch.inf) if self.no_data else values


IMAGENET = Normalisation()


def moments(image: NDArray[Any]) -> NDArray[np.float64]:
    """Return mean, variance and number of values of each channel of an image ``[C,H,W]``: float64 ``[C,3]``.

    uint8 values are scaled to 0..1; NaN are ignored. Sums use float64, as values may be large and differ little.
    """
    result = np.zeros((len(image), 3))
    for row, channel in zip(result, image, strict=True):
        known = ~np.isnan(channel)
        if count := int(known.sum()):
            mean = float(channel.mean(dtype=np.float64, where=known))
            # one row at a time: float64 takes eight bytes per value
            lines = zip(channel, known, strict=True)
            squares = sum(np.square(line[valid].astype(np.float64) - mean).sum() for line, valid in lines)
            row[:] = mean, squares / count, count
    return result / ((255, 255**2, 1) if image.dtype == np.uint8 else (1, 1, 1))


def displayable(image: NDArray[Any], rgb: Sequence[int] | None = None) -> NDArray[np.uint8]:
    """Convert an image ``[H,W,C]`` to a viewable one ``[H,W,3]``: three of its channels, or one as grey.

    Float channels are stretched from their 1st to their 99th percentile; pixels without data become black.

    Args:
        image: uint8 or float32.
        rgb: value of ``data.rgb``.

    Raises:
        ConfigError: ``rgb`` names a channel that the image lacks, or two channels.
    """
    count = image.shape[2]
    chosen = [band - 1 for band in rgb or (range(1, 4) if count > 2 else [1])]
    if max(chosen) >= count or len(chosen) == 2:
        raise ConfigError(f"data.rgb = {list(rgb or ())}; it must name one or three of the {count} channels, from 1")
    shown = image if chosen == [*range(count)] else image[..., chosen]
    if image.dtype != np.uint8:
        step = max(1, int((image.size / 1e6) ** 0.5))  # a subset of a large image's pixels is enough
        known = np.nan_to_num(shown[::step, ::step], nan=np.nan, posinf=np.nan, neginf=np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # channels without data
            low, high = np.nan_to_num(np.nanpercentile(known, (1, 99), axis=(0, 1)))
        stretched = np.clip((shown - low) / np.maximum(high - low, 1e-30), 0, 1) * 255
        shown = np.nan_to_num(stretched).astype(np.uint8)
    return np.repeat(shown, 3, axis=2) if len(chosen) == 1 else np.ascontiguousarray(shown)
