"""One random view of a sample: scale, crop, flip and rotation as one affine map, colours as another.

What is drawn is a pure function of (seed, epoch, index): the number of workers, the batch size and a
resumed run change nothing. Images are sampled bilinearly, masks by the nearest pixel; outside the image
there is the mean colour, and void.

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
from segkit.data.sample import Sample
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
    """

    size: tuple[int, int]
    affine: tuple[float, float, float, float, float, float]
    colour: NDArray[np.float32]


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
    random = np.random.default_rng(key)
    low, high = settings.scale
    scale = math.exp(random.uniform(math.log(low), math.log(high)))
    angle = math.radians(random.uniform(-settings.rotation, settings.rotation))
    position = random.uniform(size=2)
    mirror = [-1.0 if chance < share else 1.0 for chance, share in _flips(settings, random)]
    colour = _draw_colour(settings.colour, random)
    balanced = random.uniform() < settings.class_balanced
    if attempt:
        random = np.random.default_rng((*key, attempt))
        position = random.uniform(size=2)
    target = _draw_target(targets, random) if balanced else None

    size = _crop_size(settings, height, width)
    centre = []
    for axis, (length, view) in enumerate(zip((height, width), size, strict=True)):
        spare = length * scale - view  # negative: the view is larger than the image, and the rest is void
        start = position[axis] * spare
        if target is not None:  # in the middle; no further out than any other view, unless that is turned anyway
            start = target[axis] * length * scale - view / 2
            start = start if angle else min(max(start, min(0, spare)), max(0, spare))
        if scale == 1.0:
            start = round(start)  # whole pixels: nothing is interpolated
        centre.append((start + view / 2) / scale)
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    a, b, d, e = cos * mirror[0], -sin * mirror[1], sin * mirror[0], cos * mirror[1]
    half_height, half_width = size[0] / 2, size[1] / 2
    c = centre[1] - a * half_width - b * half_height
    f = centre[0] - d * half_width - e * half_height
    return View(size, (a, b, c, d, e, f), colour)


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


def apply(sample: Sample, view: View, ignore_index: int) -> Sample:
    """The sample seen through the view (colours are left to :func:`segkit.data.normalise.normalise`)."""
    image = sample.image.permute(1, 2, 0).numpy()  # [H,W,3]
    mask = sample.mask.numpy()
    a, b, _, d, e, _ = view.affine
    if abs(a) == 1.0 and abs(e) == 1.0 and b == d == 0.0:  # nothing to interpolate: 10 x faster than the transform
        image = _window(image, view, np.array(MEAN_PIXEL, np.uint8))
        mask = _window(mask, view, np.array(ignore_index, np.uint8))
    else:
        size = (view.size[1], view.size[0])
        image = np.asarray(
            Image.fromarray(np.ascontiguousarray(image)).transform(
                size, Image.Transform.AFFINE, view.affine, Image.Resampling.BILINEAR, fillcolor=MEAN_PIXEL
            )
        )
        mask = np.asarray(
            Image.fromarray(np.ascontiguousarray(mask)).transform(
                size, Image.Transform.AFFINE, view.affine, Image.Resampling.NEAREST, fillcolor=ignore_index
            )
        )
    return Sample(torch.from_numpy(image.copy()).permute(2, 0, 1), torch.from_numpy(mask.copy()), sample.name)


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


def _window(pixels: NDArray[np.uint8], view: View, fill: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut the view out of the pixels, mirrored or not, without interpolation."""
    result = np.empty((*view.size, *pixels.shape[2:]), np.uint8)
    result[:] = fill
    a, _, c, _, e, f = view.affine
    places = []
    for length, view_length, step, offset in (
        (pixels.shape[0], view.size[0], e, f),
        (pixels.shape[1], view.size[1], a, c),
    ):
        first = round(offset if step > 0 else offset - view_length)  # of the image, under the view's lower edge
        low, high = max(first, 0), min(first + view_length, length)
        source = slice(low, max(high, low))
        target = slice(low - first, max(high, low) - first)
        places.append((source, target, step))
    (rows, into_rows, row_step), (columns, into_columns, column_step) = places
    result[into_rows, into_columns] = pixels[rows, columns]
    return result[:: int(row_step), :: int(column_step)]


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
