"""Random transforms of training samples: scale, crop, flip and rotation as one affine map, colours as another.

The parameters are a pure function of (seed, epoch, index): the number of workers, the batch size and a resumed run
change nothing. An image is brought to its scale as :mod:`segkit.data.resize` does it, so that a crop at a scale is a
window of what evaluation would see at that size; a rotated one is sampled bilinearly once more. Masks are sampled by
the nearest pixel. Outside the image there is the mean colour, and void.

Crops can be centred on a pixel of a class drawn evenly from those in the image, as nnU-Net does with a third of them
(Isensee et al., Nature Methods 2021, arXiv 1809.10486), and drawn anew where one class fills them, as in
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
from segkit.data.scan import Scan
from segkit.settings import AugmentSettings

_TRIES = 10  # as mmsegmentation; an image of a single class would never end
_GRID = 4  # pixels between those that are looked at to judge a crop
_ROUNDING = 1e-6  # pixels: what lies on the border of two, but for the last digits, is the same one everywhere


Transform = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]


class TransformParams(NamedTuple):
    """The parameters of one random transform: a window is cut out of the resized image, about whose middle it turns.

    Attributes:
        size: height and width of the window, pixels.
        scaled: height and width to which the image is resized.
        start: row and column of the resized image where the window begins; it may reach beyond the image.
        mirror: whether top and bottom, and left and right, change places.
        angle: by which the window is turned, radians.
        colour: float32 ``[3,4]``, a matrix and an offset on RGB in 0..1; or ``[C,2]``, a factor and an offset on each
            normalised channel of other images.
    """

    size: tuple[int, int]
    scaled: tuple[int, int]
    start: tuple[int, int]
    mirror: tuple[bool, bool]
    angle: float
    colour: NDArray[np.float32]

    @property
    def affine(self) -> tuple[float, float, float, float, float, float]:
        """``(a, b, c, d, e, f)``: pixel (x, y) of the result shows the resized image at ``(ax+by+c, dx+ey+f)``."""
        (height, width), (top, left), (vertical, horizontal) = self.size, self.start, self.mirror
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        x, y = -1.0 if horizontal else 1.0, -1.0 if vertical else 1.0
        a, b, d, e = cos * x, -sin * y, sin * x, cos * y
        c = left + width / 2 - a * width / 2 - b * height / 2
        return a, b, c, d, e, top + height / 2 - d * width / 2 - e * height / 2

    def part(self) -> tuple[Span, Span]:
        """Rows and columns that are seen of the resized image, first and last but one."""
        cos, sin = abs(math.cos(self.angle)), abs(math.sin(self.angle))
        reach = cos * self.size[0] + sin * self.size[1], sin * self.size[0] + cos * self.size[1]
        spans, margin = [], 1 if self.angle else 0  # a turned one is interpolated once more
        for start, side, long, length in zip(self.start, self.size, reach, self.scaled, strict=True):
            first, last = start + (side - long) / 2, start + (side + long) / 2
            spans.append((max(math.floor(first) - margin, 0), min(math.ceil(last) + margin, length)))
        return spans[0], spans[1]


@dataclass(frozen=True)
class RandomTransform:
    """The random transform of a run: for each key ``(epoch, index)`` the same parameters, whoever asks.

    Attributes:
        settings: which transforms, from which ranges.
        seed: of the run.
        ignore_index: the label of void, which is put where there is no image.
        centre_on: labels of the classes that a share ``class_balanced`` of the crops is centred on.
        normalisation: its mean is put where there is no image.
        channels: names of the images' channels.
        transforms: see :func:`segkit.hookspecs.segkit_transforms`; they come last.
    """

    settings: AugmentSettings
    seed: int
    ignore_index: int = 255
    centre_on: Sequence[int] = ()
    normalisation: Normalisation = IMAGENET
    channels: Sequence[str] = RGB
    transforms: Sequence[Transform] = ()

    @classmethod
    def of(
        cls,
        scan: Scan,
        settings: AugmentSettings,
        seed: int,
        normalisation: Normalisation,
        transforms: Sequence[Transform] = (),
    ) -> RandomTransform:
        """That of a run on the scanned data; crops are centred on all classes but the largest, which any crop shows."""
        pixels, train = scan.counts("train").pixels, scan.splits["train"]
        rare = [label for label in range(len(pixels)) if label != pixels.argmax()]
        return cls(settings, seed, train.ignore_index, rare, normalisation, train.channels, transforms)

    def __call__(self, sample: Sample, key: Key, mask: Tensor | None) -> tuple[Sample, TransformParams]:
        """The transformed sample and the parameters; the sample's mask may have another size than its image.

        Args:
            sample: on any device.
            key: (epoch, index).
            mask: the sample's mask on the CPU; needed where crops are chosen by it.
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
        """The parameters of a key; where no try keeps within ``max_class_share``, those of the last one.

        Args:
            key: (epoch, index).
            size: height and width of the image, pixels.
            mask: uint8 ``[h,w]`` at its own size; needed where crops are chosen by it.
        """
        most = self.settings.max_class_share
        judged = None if mask is None or most == 1 else mask_at(mask, size)
        for attempt in range(_TRIES):
            params = self._draw((self.seed, *key), size, mask, attempt)
            if judged is None or _largest_share(judged, params, self.ignore_index) <= most:
                break
        return params

    def _draw(
        self, key: tuple[int, int, int], size: tuple[int, int], mask: Tensor | None, attempt: int
    ) -> TransformParams:
        """Draw once; another ``attempt`` moves the crop to another place, and changes nothing else."""
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

        crop, scaled = settings.crop or size, resized_size(height, width, scale)
        shape = (crop, crop) if isinstance(crop, int) else (crop[0], crop[1])
        starts = []
        for axis, (length, side) in enumerate(zip(scaled, shape, strict=True)):
            spare = length - side  # negative: the crop is larger than the image, and the rest is void
            # whole pixels, each place as likely: as torchvision's RandomCrop, from 0 to spare with both ends
            start = int(math.copysign(math.floor(position[axis] * (abs(spare) + 1)), spare))
            if target is not None:  # in the middle; no further out than any other crop, unless that is turned anyway
                start = math.floor(target[axis] * length) - side // 2
                start = start if angle else min(max(start, min(0, spare)), max(0, spare))
            starts.append(start)
        return TransformParams(shape, scaled, (starts[0], starts[1]), (vertical, horizontal), angle, colour)


def _draw_class_location(
    mask: Tensor, classes: Sequence[int], random: np.random.Generator
) -> tuple[float, float] | None:
    """y and x, as parts of the image's size, of a pixel of one of the classes in a mask: each class, and of it each
    pixel, is as likely.
    """
    labels = np.ascontiguousarray(mask.numpy())
    counts = Image.fromarray(labels).histogram()  # five times as fast as bincount
    present = [label for label in classes if counts[label]]
    if not present:
        return None
    label = present[int(random.integers(len(present)))]
    y, x = divmod(int(np.flatnonzero(labels == label)[random.integers(counts[label])]), labels.shape[1])
    return (y + 0.5) / labels.shape[0], (x + 0.5) / labels.shape[1]


def _largest_share(mask: Tensor, params: TransformParams, ignore_index: int) -> float:
    """The largest class's share of the labelled pixels in a crop, from a grid over it; 1 where none is labelled."""
    down, across = (own / scaled for own, scaled in zip(mask.shape, params.scaled, strict=True))
    steps = zip(params.affine, (_GRID, _GRID, 1, _GRID, _GRID, 1), (across,) * 3 + (down,) * 3, strict=True)
    coarse = tuple(value * share * step for value, step, share in steps)
    size = (-(-params.size[1] // _GRID), -(-params.size[0] // _GRID))
    pixels = Image.fromarray(np.ascontiguousarray(mask.numpy()))
    seen = pixels.transform(size, Image.Transform.AFFINE, coarse, Image.Resampling.NEAREST, fillcolor=ignore_index)
    counts = np.array(seen.histogram())
    counts[ignore_index] = 0
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


def _draw_colour(strength: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Brightness and contrast by up to ``strength / 2``, saturation by ``strength``, hue by ``strength x 18`` degrees.

    All of them are affine in RGB, so one 3x4 matrix holds them: hue turns the colour about the grey axis, contrast acts
    about the mean colour (as in Howard, arXiv 1312.5402, but a matrix an image).
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
    """``[C,2]``: contrast by up to ``strength / 2``, brightness by ``strength`` deviations, each channel for itself."""
    contrast, brightness = random.uniform(-1, 1, size=(2, channels)) * strength
    return np.stack([1 + contrast / 2, brightness], axis=1).astype(np.float32)


def apply(sample: Sample, params: TransformParams, ignore_index: int, fill: Tensor) -> Sample:
    """The transformed sample, on its device (colours are left to the normalisation).

    Args:
        sample: image ``[C,H,W]`` uint8 or float32, mask uint8 ``[H,W]``.
        params: drawn for an image of its size.
        ignore_index: the label where there is no image.
        fill: ``[C,1,1]`` of the image's type, where there is no image.
    """
    rows, columns = params.part()
    image = fill.repeat(1, *params.size)
    mask = torch.full(params.size, ignore_index, dtype=torch.uint8, device=fill.device)
    if rows[0] >= rows[1] or columns[0] >= columns[1]:
        return Sample(image, mask, sample.name)
    part = resized_part(sample.image, params.scaled, rows, columns)
    if params.angle:
        return Sample(*_turned(part, sample.mask, params, (rows[0], columns[0]), fill, ignore_index), sample.name)
    into = [slice(span[0] - start, span[1] - start) for span, start in zip((rows, columns), params.start, strict=True)]
    image[:, into[0], into[1]], mask[into[0], into[1]] = part, mask_at(sample.mask, params.scaled, rows, columns)
    flipped = [axis for axis, mirrored in zip((-2, -1), params.mirror, strict=True) if mirrored]
    return Sample(image.flip(flipped), mask.flip(flipped), sample.name) if flipped else Sample(image, mask, sample.name)


def _turned(
    part: Tensor, labels: Tensor, params: TransformParams, origin: tuple[int, int], fill: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """An image ``[C,h,w]``, of which a part at its scale begins at ``origin``, and its labels ``[h,w]``, turned."""
    a, b, c, d, e, f = params.affine
    (height, width), (down, across) = labels.shape, params.scaled
    x = torch.arange(params.size[1], device=fill.device, dtype=torch.float64) + 0.5  # [w]; the middle of a pixel
    y = (torch.arange(params.size[0], device=fill.device, dtype=torch.float64) + 0.5)[:, None]  # [h,1]
    from_x, from_y = a * x + b * y + c, d * x + e * y + f  # [h,w], in the resized image
    inside = (from_x >= 0) & (from_x < across) & (from_y >= 0) & (from_y < down)
    grid_x = (from_x - origin[1]).mul_(2 / part.shape[2]).sub_(1)
    grid_y = (from_y - origin[0]).mul_(2 / part.shape[1]).sub_(1)
    grid = torch.stack([grid_x, grid_y], dim=-1).float()[None]  # [1,h,w,2], -1..1
    seen = F.grid_sample(part[None].float(), grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    seen = seen if fill.is_floating_point() else rounded(seen)
    pixel = from_y.mul_(height / down).add_(_ROUNDING).long().clamp_(0, height - 1).mul_(width)
    pixel += from_x.mul_(width / across).add_(_ROUNDING).long().clamp_(0, width - 1)
    found = labels.flatten()[pixel]
    return torch.where(inside, seen.to(fill.dtype), fill), torch.where(inside, found, ignore_index)
