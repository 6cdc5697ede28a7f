"""One random view of a sample: scale, crop, flip and rotation as one affine map, colours as another.

What is drawn is a pure function of (seed, epoch, index): the number of workers, the batch size and a
resumed run change nothing. An image is brought to its scale as ``data.resize`` does it, antialiased, so that a
crop at a scale is a window of what evaluation would see at that size; a turned one is sampled bilinearly once more.
Masks are sampled by the nearest pixel. Outside the image there is the mean colour, and void.

Crops can be centred on a pixel of a class drawn evenly from those in the image, as nnU-Net does with a third of them
(Isensee et al., Nature Methods 2021, arXiv 1809.10486), and drawn anew where one class fills them, as in
mmsegmentation (``cat_max_ratio``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segkit.data.normalise import MEAN, MEAN_PIXEL
from segkit.data.order import Stream
from segkit.data.resize import Span, nearest, resized_part, resized_size
from segkit.data.sample import Sample
from segkit.data.sampling import ROUNDING, Maps, look, row
from segkit.settings import AugmentSettings

TRIES = 10  # as mmsegmentation; an image of a single class would never end
_GRID = 4  # pixels between those that are looked at to judge a crop
Targets = Sequence[
    NDArray[np.float64]
]  # for each class [N,2]: y and x of some of its pixels, as parts of the image's size


class View(NamedTuple):
    """What to look at.

    Attributes:
        size: height and width of the view, pixels.
        affine: ``(a, b, c, d, e, f)``: pixel (x, y) of the view shows the image at ``(ax+by+c, dx+ey+f)``.
        colour: float32 ``[3,4]``, a matrix and an offset on RGB in 0..1.
        scaled: height and width to which the image is resized before anything is cut out of it.
    """

    size: tuple[int, int]
    affine: tuple[float, float, float, float, float, float]
    colour: NDArray[np.float32]
    scaled: tuple[int, int]


def draw(
    settings: AugmentSettings,
    height: int,
    width: int,
    key: tuple[int, int, int],
    targets: Targets = (),
    attempt: int = 0,
) -> View:
    """Draw a view of an image of ``height x width`` pixels.

    Args:
        settings: what is drawn, from which ranges.
        height: of the image, pixels.
        width: of the image, pixels.
        key: (seed, epoch, index).
        targets: what a share ``class_balanced`` of the views is centred on.
        attempt: another one moves the view to another place, and changes nothing else.
    """
    random = Stream.VIEW.generator(*key)
    low, high = settings.scale
    scale = low * (high / low) ** random.uniform()
    angle = math.radians(random.uniform(-settings.rotation, settings.rotation))
    position = random.uniform(size=2)
    mirror = [-1.0 if chance < share else 1.0 for chance, share in _flips(settings, random)]
    colour = _draw_colour(settings.colour, random)
    balanced = random.uniform() < settings.class_balanced
    if attempt:
        random = Stream.VIEW.generator(*key, attempt)
        position = random.uniform(size=2)
    target = _draw_target(targets, random) if balanced else None

    size, scaled = _crop_size(settings, height, width), resized_size(height, width, scale)
    centre = []
    for axis, (length, view) in enumerate(zip(scaled, size, strict=True)):
        spare = length - view  # negative: the view is larger than the image, and the rest is void
        # whole pixels, each place as likely: as torchvision's RandomCrop, from 0 to spare with both ends
        start = math.copysign(math.floor(position[axis] * (abs(spare) + 1)), spare)
        if target is not None:  # in the middle; no further out than any other view, unless that is turned anyway
            start = math.floor(target[axis] * length) - view // 2
            start = start if angle else min(max(start, min(0, spare)), max(0, spare))
        centre.append(start + view / 2)
    down, across = height / scaled[0], width / scaled[1]
    cos, sin = math.cos(angle), math.sin(angle)
    a, b, d, e = cos * mirror[0], -sin * mirror[1], sin * mirror[0], cos * mirror[1]
    c = centre[1] - a * size[1] / 2 - b * size[0] / 2
    f = centre[0] - d * size[1] / 2 - e * size[0] / 2
    return View(size, (a * across, b * across, c * across, d * down, e * down, f * down), colour, scaled)


def draw_mixed(
    settings: AugmentSettings,
    size: tuple[int, int],
    key: tuple[int, int, int],
    targets: Targets,
    mask: Tensor | None,
    ignore_index: int,
) -> View:
    """Draw a view of which no class fills more than ``max_class_share``; where ten tries find none, the last one.

    Args:
        settings: as in :func:`draw`, likewise ``key`` and ``targets``.
        size: height and width of the image, pixels.
        key: (seed, epoch, index).
        targets: what a share of the views is centred on.
        mask: uint8 ``[H,W]``, which is looked at where ``max_class_share`` is below 1.
        ignore_index: the label of void, which is not counted.
    """
    for attempt in range(TRIES):
        view = draw(settings, *size, key, targets, attempt)
        if settings.max_class_share == 1 or mask is None:
            break
        if _largest_share(mask, view, ignore_index) <= settings.max_class_share:
            break
    return view


def apply(sample: Sample, view: View, ignore_index: int, fill: Sequence[float] = MEAN_PIXEL) -> Sample:
    """The sample seen through the view (colours are left to :func:`segkit.data.normalise.normalise`).

    Args:
        sample: image ``[C,H,W]`` uint8 or float32, mask uint8 ``[H,W]``.
        view: drawn for an image of its size.
        ignore_index: the label where there is no image.
        fill: a value a channel, where there is no image.
    """
    height, width = sample.mask.shape
    colour = torch.tensor(fill, dtype=sample.image.dtype)[:, None, None]
    image = colour.repeat(1, *view.size)
    mask = torch.full(view.size, ignore_index, dtype=torch.uint8)
    rows, columns = part_under(view, height, width)
    if rows[0] >= rows[1] or columns[0] >= columns[1]:
        return Sample(image, mask, sample.name)
    part = resized_part(sample.image, view.scaled, rows, columns)
    a, b, c, d, e, f = view.affine
    if b or d:
        maps = Maps.of(torch.from_numpy(row(view, (height, width), (rows[0], columns[0])))[None])
        seen, turned = look(part[None], sample.mask[None], maps, view.size, colour, ignore_index)
        return Sample(seen[0], turned[0], sample.name)
    labels = sample.mask[nearest(height, view.scaled[0])[slice(*rows)]]
    labels = labels[:, nearest(width, view.scaled[1])[slice(*columns)]]
    turn = [axis for axis, step in ((-2, e), (-1, a)) if step < 0]
    place = [
        round((span[0] * step - offset) / step if step > 0 else (offset + span[1] * step) / -step)
        for span, step, offset in zip((rows, columns), (e, a), (f, c), strict=True)
    ]
    into = tuple(slice(start, start + length) for start, length in zip(place, labels.shape, strict=True))
    image[:, *into], mask[into] = part.flip(turn), labels.flip(turn)
    return Sample(image, mask, sample.name)


def part_under(view: View, height: int, width: int) -> tuple[Span, Span]:
    """Rows and columns of the image at its scale that a view is made of, first and last but one."""
    a, b, c, d, e, f = view.affine
    corners = [(x, y) for x in (0, view.size[1]) for y in (0, view.size[0])]
    margin = 1 if b or d else 0  # a turned view is interpolated once more
    spans = []
    for places, length, scaled in (
        ([d * x + e * y + f for x, y in corners], height, view.scaled[0]),
        ([a * x + b * y + c for x, y in corners], width, view.scaled[1]),
    ):
        first = math.floor(min(places) * scaled / length + ROUNDING) - margin
        last = math.ceil(max(places) * scaled / length - ROUNDING) + margin
        spans.append((max(first, 0), min(last, scaled)))
    return spans[0], spans[1]


def _draw_target(targets: Targets, random: np.random.Generator) -> NDArray[np.float64] | None:
    """One pixel of a class, each class as likely as any other."""
    if not len(targets):
        return None
    places = targets[int(random.integers(len(targets)))]
    return places[int(random.integers(len(places)))]  # type: ignore[no-any-return]


def _largest_share(mask: Tensor, view: View, ignore_index: int) -> float:
    """The largest class's share of the labelled pixels in a view, from a grid over it; 1 where none is labelled."""
    a, b, c, d, e, f = view.affine
    coarse = (a * _GRID, b * _GRID, c, d * _GRID, e * _GRID, f)
    size = (-(-view.size[1] // _GRID), -(-view.size[0] // _GRID))
    pixels = Image.fromarray(np.ascontiguousarray(mask.numpy()))
    seen = pixels.transform(size, Image.Transform.AFFINE, coarse, Image.Resampling.NEAREST, fillcolor=ignore_index)
    counts = np.bincount(np.asarray(seen).reshape(-1), minlength=256)
    counts[ignore_index] = 0
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


def _flips(settings: AugmentSettings, random: np.random.Generator) -> list[tuple[float, float]]:
    return list(zip(random.uniform(size=2), (settings.flip, settings.flip_vertical), strict=True))


def _crop_size(settings: AugmentSettings, height: int, width: int) -> tuple[int, int]:
    if settings.crop is None:
        return height, width
    if isinstance(settings.crop, int):
        return settings.crop, settings.crop
    return settings.crop[0], settings.crop[1]


def _draw_colour(strength: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Brightness and contrast by up to ``strength / 2``, saturation by ``strength``, hue by ``strength x 18`` degrees.

    All of them are affine in RGB, so one 3x4 matrix holds them: hue turns the colour about the grey axis,
    contrast acts about the mean colour (as in Howard, arXiv 1312.5402, but a matrix an image).
    """
    brightness, contrast, saturation, hue = random.uniform(-1, 1, size=4) * strength
    grey = np.full((3, 3), 1 / 3)
    turn = math.radians(18 * hue)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    rotate = grey + math.cos(turn) * (np.eye(3) - grey) + math.sin(turn) * cross
    matrix = (1 + contrast / 2) * (grey + (1 + saturation) * (rotate - grey))
    offset = np.array(MEAN) - (1 + contrast / 2) * np.array(MEAN) + brightness / 2
    return np.concatenate([matrix, offset[:, None]], axis=1).astype(np.float32)
