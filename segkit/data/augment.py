"""Random transforms of training samples: scale, crop, flip and rotation as one affine map, colour jitter as another.

The parameters are a pure function of (seed, epoch, index); the number of workers, the batch size and resuming do not
change them. Images are scaled by :mod:`segkit.data.resize`, so a crop shows the same pixels as evaluation at that
size; a rotation interpolates bilinearly once more. Masks are sampled by the nearest pixel. Pixels outside the image
get the mean colour and the label void.

Crops can be centred on a pixel of a class drawn uniformly from the classes in the image, as nnU-Net does with a third
of its crops (Isensee et al., Nature Methods 2021, arXiv 1809.10486), and drawn again where one class fills them, as in
mmsegmentation (``cat_max_ratio``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segkit.data.batch_sampler import Key, Stream
from segkit.data.normalise import IMAGENET, MEAN, Normalisation
from segkit.data.resize import Span, mask_at, resized_part, resized_size, rounded
from segkit.data.sample import RGB, Sample, checked
from segkit.settings import AugmentSettings

_TRIES = 10  # as mmsegmentation; the limit matters for images of a single class
_GRID = 4  # pixels: spacing of the pixels by which the class shares of a crop are measured
_ROUNDING = 1e-6  # pixels: makes a position on the border of two pixels round to the same one on every device


Transform = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]


class TransformParams(NamedTuple):
    """Parameters of one random transform: a window of the resized image, rotated about the window's centre.

    Attributes:
        size: height and width of the window, pixels.
        scaled: height and width to which the image is resized.
        start: row and column of the resized image where the window begins; it may reach beyond the image.
        mirror: whether to flip vertically, and whether to flip horizontally.
        angle: rotation of the window, radians.
        colour: colour jitter: for 8-bit RGB float32 ``[3,4]``, a matrix and an offset on RGB in 0..1; for other images
            ``[C,2]``, a factor and an offset on each normalised channel.
    """

    size: tuple[int, int]
    scaled: tuple[int, int]
    start: tuple[int, int]
    mirror: tuple[bool, bool]
    angle: float
    colour: NDArray[np.float32]

    @property
    def affine(self) -> tuple[float, float, float, float, float, float]:
        """``(a, b, c, d, e, f)``: window pixel (x, y) is sampled from the resized image at ``(ax+by+c, dx+ey+f)``."""
        (height, width), (top, left), (vertical, horizontal) = self.size, self.start, self.mirror
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        x, y = -1.0 if horizontal else 1.0, -1.0 if vertical else 1.0
        a, b, d, e = cos * x, -sin * y, sin * x, cos * y
        c = left + width / 2 - a * width / 2 - b * height / 2
        return a, b, c, d, e, top + height / 2 - d * width / 2 - e * height / 2

    def part(self) -> tuple[Span, Span]:
        """Return the rows and columns of the resized image that the window needs, each as (first, last + 1)."""
        cos, sin = abs(math.cos(self.angle)), abs(math.sin(self.angle))
        reach = cos * self.size[0] + sin * self.size[1], sin * self.size[0] + cos * self.size[1]
        spans, margin = [], 1 if self.angle else 0  # interpolating a rotated window needs a neighbouring pixel
        for start, side, long, length in zip(self.start, self.size, reach, self.scaled, strict=True):
            first, last = start + (side - long) / 2, start + (side + long) / 2
            spans.append((max(math.floor(first) - margin, 0), min(math.ceil(last) + margin, length)))
        return spans[0], spans[1]


@dataclass(frozen=True)
class RandomTransform:
    """The random transform of a run; the same key ``(epoch, index)`` gives the same parameters in every process.

    Attributes:
        settings: the table ``[augment]``.
        seed: the run's seed.
        ignore_index: the label of void; fills the mask outside the image.
        centre_on: labels of the classes on which ``class_balanced`` crops are centred: all but the most frequent one.
        normalisation: the run's normalisation; its mean fills the image outside its borders.
        channels: names of the image channels.
        transforms: the plugins' transforms, applied last (see :func:`segkit.hookspecs.segkit_transforms`).
    """

    settings: AugmentSettings
    seed: int
    ignore_index: int = 255
    centre_on: Sequence[int] = ()
    normalisation: Normalisation = IMAGENET
    channels: Sequence[str] = RGB
    transforms: Sequence[Transform] = ()

    def __call__(self, sample: Sample, key: Key, mask: Tensor | None) -> tuple[Sample, TransformParams]:
        """Transform a sample; return it with the parameters.

        Args:
            sample: the sample, on any device; its mask may differ from its image in size.
            key: (epoch, index).
            mask: the sample's mask on the CPU; needed if the choice of crops depends on it.
        """
        size = (sample.image.shape[1], sample.image.shape[2])
        params = self.params(key, size, mask)
        sample = sample._replace(mask=mask_at(sample.mask, size))
        sample = apply(sample, params, self.ignore_index, self.normalisation.mean_pixel(sample.image.device))
        for number, transform in enumerate(self.transforms):
            random = Stream.TRANSFORM.generator(self.seed, *key, number)
            image, target = transform(sample.image, sample.mask, random)
            sample = checked(Sample(image, target, sample.name), self.channels)
        return sample, params

    def params(self, key: Key, size: tuple[int, int], mask: Tensor | None = None) -> TransformParams:
        """Draw the parameters of a key; if no try keeps within ``max_class_share``, the last one is used.

        Args:
            key: (epoch, index).
            size: height and width of the image, pixels.
            mask: uint8 ``[h,w]`` at its own size; needed if the choice of crops depends on it.
        """
        most = self.settings.max_class_share
        for attempt in range(_TRIES):
            params = self._draw((self.seed, *key), size, mask, attempt)
            if mask is None or most == 1 or _largest_share(mask, params, self.ignore_index) <= most:
                break
        return params

    def _draw(
        self, key: tuple[int, int, int], size: tuple[int, int], mask: Tensor | None, attempt: int
    ) -> TransformParams:
        """Draw the parameters once; a later ``attempt`` changes only the position of the crop."""
        settings, (height, width) = self.settings, size
        random = Stream.VIEW.generator(*key)
        low, high = settings.scale
        scale = low * (high / low) ** random.uniform()
        angle = math.radians(random.uniform(-settings.rotation, settings.rotation))
        position = random.uniform(size=2)
        horizontal, vertical = random.uniform(size=2) < (settings.flip, settings.flip_vertical)
        if self.normalisation.dtype == "uint8" and tuple(self.channels) == RGB:
            colour = _draw_colour(settings.colour, random)
        else:
            colour = _draw_channels(settings.colour, len(self.normalisation.mean), random)
        balanced = random.uniform() < settings.class_balanced
        if attempt:
            random = Stream.VIEW.generator(*key, attempt)
            position = random.uniform(size=2)
        target = _draw_class_location(mask, self.centre_on, random) if balanced and mask is not None else None

        crop = settings.crop if isinstance(settings.crop, int | list) else size  # "auto" in pictures of `check`
        scaled = resized_size(height, width, scale)
        shape = (crop, crop) if isinstance(crop, int) else (crop[0], crop[1])
        starts = []
        for axis, (length, side) in enumerate(zip(scaled, shape, strict=True)):
            spare = length - side  # negative if the crop is larger than the image; the rest is then void
            # uniform over the whole pixels 0 ... spare, both included, as in torchvision's RandomCrop
            start = int(math.copysign(math.floor(position[axis] * (abs(spare) + 1)), spare))
            if target is not None:  # centred on the target; an unrotated crop is kept within the usual range
                start = math.floor(target[axis] * length) - side // 2
                start = start if angle else min(max(start, min(0, spare)), max(0, spare))
            starts.append(start)
        return TransformParams(shape, scaled, (starts[0], starts[1]), (vertical, horizontal), angle, colour)


def _draw_class_location(
    mask: Tensor, classes: Sequence[int], random: np.random.Generator
) -> tuple[float, float] | None:
    """Draw one of the classes in a mask and one of its pixels, both uniformly; return the pixel's (y, x) as fractions
    of the image's size, or None if the mask has none of the classes.
    """
    labels = np.ascontiguousarray(mask.numpy())
    counts = Image.fromarray(labels).histogram()  # five times faster than bincount
    present = [label for label in classes if counts[label]]
    if not present:
        return None
    label = present[int(random.integers(len(present)))]
    y, x = divmod(int(np.flatnonzero(labels == label)[random.integers(counts[label])]), labels.shape[1])
    return (y + 0.5) / labels.shape[0], (x + 0.5) / labels.shape[1]


def _largest_share(mask: Tensor, params: TransformParams, ignore_index: int) -> float:
    """Estimate the largest class's share of a crop's labelled pixels, unrotated; 1 if no pixel is labelled."""
    part = mask_at(mask, params.scaled, *params.part())[::_GRID, ::_GRID]
    counts = np.bincount(part.flatten().numpy(), minlength=256)
    counts[ignore_index] = 0
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


def _draw_colour(strength: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Jitter brightness and contrast by up to ``strength / 2``, saturation by ``strength``, hue by 18 degrees times it.

    All are affine in RGB, so one 3x4 matrix per image holds them: hue rotates the colour about the grey axis, contrast
    scales about the mean colour (see Howard, arXiv 1312.5402).
    """
    brightness, contrast, saturation, hue = random.uniform(-1, 1, size=4) * strength
    grey = np.full((3, 3), 1 / 3)
    turn = math.radians(18 * hue)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    rotate = grey + math.cos(turn) * (np.eye(3) - grey) + math.sin(turn) * cross
    matrix = (1 + contrast / 2) * (grey + (1 + saturation) * (rotate - grey))
    offset = np.array(MEAN) - (1 + contrast / 2) * np.array(MEAN) + brightness / 2
    return np.concatenate([matrix, offset[:, None]], axis=1).astype(np.float32)


def _draw_channels(strength: float, channels: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Jitter each channel's contrast by up to ``strength / 2`` and brightness by ``strength`` deviations: ``[C,2]``."""
    contrast, brightness = random.uniform(-1, 1, size=(2, channels)) * strength
    return np.stack([1 + contrast / 2, brightness], axis=1).astype(np.float32)


def apply(sample: Sample, params: TransformParams, ignore_index: int, fill: Tensor) -> Sample:
    """Apply the geometric part of a transform on the sample's device; normalisation applies the colour jitter.

    Args:
        sample: image ``[C,H,W]`` uint8 or float32, mask uint8 ``[H,W]``.
        params: parameters drawn for an image of this size.
        ignore_index: the label outside the image.
        fill: the pixel outside the image, ``[C,1,1]`` of the image's dtype.
    """
    rows, columns = params.part()
    image = fill.repeat(1, *params.size)
    mask = torch.full(params.size, ignore_index, dtype=torch.uint8, device=fill.device)
    part = resized_part(sample.image, params.scaled, rows, columns)
    if params.angle:
        return Sample(*_rotated(part, sample.mask, params, (rows[0], columns[0]), fill, ignore_index), sample.name)
    into = [slice(span[0] - start, span[1] - start) for span, start in zip((rows, columns), params.start, strict=True)]
    image[:, into[0], into[1]], mask[into[0], into[1]] = part, mask_at(sample.mask, params.scaled, rows, columns)
    flipped = [axis for axis, mirrored in zip((-2, -1), params.mirror, strict=True) if mirrored]
    return Sample(image.flip(flipped), mask.flip(flipped), sample.name) if flipped else Sample(image, mask, sample.name)


def _rotated(
    part: Tensor, labels: Tensor, params: TransformParams, origin: tuple[int, int], fill: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Rotate a part ``[C,h,w]`` of the resized image, which begins at ``origin``, and the labels at their own size."""
    a, b, c, d, e, f = params.affine
    (height, width), (down, across) = labels.shape, params.scaled
    x = torch.arange(params.size[1], device=fill.device, dtype=torch.float64) + 0.5  # [w]; the middle of a pixel
    y = (torch.arange(params.size[0], device=fill.device, dtype=torch.float64) + 0.5)[:, None]  # [h,1]
    from_x, from_y = a * x + b * y + c, d * x + e * y + f  # [h,w], in the resized image
    inside = (from_x >= 0) & (from_x < across) & (from_y >= 0) & (from_y < down)
    grid_x = (from_x - origin[1]).mul_(2 / part.shape[2]).sub_(1)
    grid_y = (from_y - origin[0]).mul_(2 / part.shape[1]).sub_(1)
    grid = torch.stack([grid_x, grid_y], dim=-1).float()[None]  # [1,h,w,2], -1..1
    sampled = F.grid_sample(part[None].float(), grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    sampled = sampled if fill.is_floating_point() else rounded(sampled)
    pixel = from_y.mul_(height / down).add_(_ROUNDING).long().clamp_(0, height - 1).mul_(width)
    pixel += from_x.mul_(width / across).add_(_ROUNDING).long().clamp_(0, width - 1)
    sampled_labels = labels.flatten()[pixel]
    return torch.where(inside, sampled.to(fill.dtype), fill), torch.where(inside, sampled_labels, ignore_index)
