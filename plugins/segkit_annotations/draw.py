"""Shapes to pixels: what each kind of shape covers of an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]  # [N,2], x and y in pixels; (0, 0) is the upper left corner of the upper left pixel
Size = tuple[int, int]  # height and width
LINE_WIDTH = 10
"""Pixels: a line has no area, and labelme's own export draws it so."""


class Region(NamedTuple):
    """The pixels that a shape covers: ``bits``, bool ``[h,w]``, of which the upper left one is at (top, left)."""

    top: int
    left: int
    bits: NDArray[np.bool_]

    def of(self, mask: NDArray[Any]) -> NDArray[Any]:
        """The part of a mask ``[H,W]`` that ``bits`` lie on; writing to it writes to the mask."""
        height, width = self.bits.shape
        return mask[self.top : self.top + height, self.left : self.left + width]


class Shape(NamedTuple):
    """One labelled shape: ``draw(data, size)`` gives its :class:`Region`; ``label`` is the annotations' name for it."""

    label: str
    draw: Callable[[Any, Size], Region]
    data: Any


class ShapeError(Exception):
    """A shape that cannot be drawn: what is wrong, for all shapes that have it, and the detail of this one."""

    def __init__(self, what: str, detail: str = "") -> None:
        super().__init__(what, detail)
        self.what, self.detail = what, detail


def numbers(data: Any) -> Any:
    """A list of numbers as an array, which takes a quarter of its memory; anything else as it is, for a later error."""
    try:
        return np.array(data, np.float64)
    except (TypeError, ValueError):
        return data


def points_of(data: Any, least: int = 3) -> Points:
    """Points ``[N,2]`` of ``[[x, y], ...]`` or ``[x, y, x, y, ...]``.

    Raises:
        ShapeError: they are no numbers, or fewer than ``least``.
    """
    try:
        points = np.asarray(data, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise ShapeError("a shape whose points are no pairs of numbers", f"{data!r:.60}") from None
    if not np.isfinite(points).all():
        raise ShapeError("a shape whose points are no pairs of numbers")
    if len(points) < least:
        raise ShapeError(f"a shape of fewer than {least} points", f"{len(points)}")
    return points


def bounds(data: Any) -> tuple[float, float, float, float] | None:
    """The least x and y and the largest x and y of the points of a shape; None where it has none."""
    arrays = data if isinstance(data, tuple | list) else [data]
    points = [each.reshape(-1, 2) for each in arrays if isinstance(each, np.ndarray) and each.dtype == np.float64]
    if not points:
        return None
    (left, top), (right, bottom) = (function(np.concatenate(points), axis=0).tolist() for function in (np.min, np.max))
    return left, top, right, bottom


def polygons(data: Sequence[Any], size: Size) -> Region:
    """The union of polygons, each drawn as by pycocotools, COCO's own tool (``rleFrPoly`` of ``maskApi.c``).

    Equal to it bit by bit, which its tests hold: a boundary is traced in steps of a fifth of a pixel, and in each
    column of pixels it toggles inside and outside.
    """
    drawn = [_polygon(points_of(each), size) for each in data]
    if len(drawn) == 1:
        return drawn[0]
    whole = np.zeros(size, bool)
    for region in drawn:
        region.of(whole)[region.bits] = True
    return Region(0, 0, whole)


def _polygon(points: Points, size: Size) -> Region:
    height, width = size
    corners = np.trunc(5 * points + 0.5)  # [N,2]
    following = np.roll(corners, -1, axis=0)
    distance = np.abs(following - corners)
    steps = distance.max(1).astype(np.int64)
    by_x = distance[:, 0] >= distance[:, 1]
    back = np.where(by_x, corners[:, 0] > following[:, 0], corners[:, 1] > following[:, 1])[:, None]
    begin, end = np.where(back, following, corners), np.where(back, corners, following)
    slope = (end - begin) / np.maximum(steps, 1)[:, None]
    edge = np.repeat(np.arange(len(points)), steps + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    step = np.where(back[edge, 0], steps[edge] - step, step)[:, None]
    along = begin[edge] + slope[edge] * step  # [M,2]
    exact = np.stack([by_x, ~by_x], 1)[edge]  # the axis that has a point at every step
    x, y = np.where(exact, along, np.trunc(along + 0.5)).T
    at = np.flatnonzero(x[1:] != x[:-1]) + 1
    column = (np.where(x[at] < x[at - 1], x[at], x[at] - 1) + 0.5) / 5 - 0.5
    row = np.ceil(np.clip((np.minimum(y[at], y[at - 1]) + 0.5) / 5 - 0.5, 0, height))
    kept = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    if not kept.any():
        return Region(0, 0, np.zeros((0, 0), bool))
    column, row = column[kept].astype(np.int64), row[kept].astype(np.int64)
    left, right = int(column.min()), int(column.max()) + 1
    toggles = np.bincount((column - left) * height + row, minlength=(right - left) * height + 1)[:-1]
    inside = np.cumsum(toggles.astype(np.uint8), dtype=np.uint8) & 1  # a sum that wraps around keeps its last bit
    return Region(0, left, inside.reshape(right - left, height).T.astype(bool))


def ellipse(data: tuple[float, float, float, float, float], size: Size) -> Region:
    """The pixels whose centre is inside an ellipse: x and y of its centre, its radii, its turn in degrees."""
    x, y, across, down, turn = data
    reach = max(across, down)
    top, left = max(0, math.floor(y - reach)), max(0, math.floor(x - reach))
    rows, columns = np.ogrid[top : min(size[0], math.ceil(y + reach)), left : min(size[1], math.ceil(x + reach))]
    right, below, angle = columns + 0.5 - x, rows + 0.5 - y, math.radians(turn)
    along, over = right * math.cos(angle) + below * math.sin(angle), below * math.cos(angle) - right * math.sin(angle)
    return Region(top, left, (along * down) ** 2 + (over * across) ** 2 <= (across * down) ** 2)


def box(data: tuple[float, float, float, float, float], size: Size) -> Region:
    """A rectangle, drawn as a polygon: left, top, right, bottom, and degrees by which it is turned about its centre."""
    left, top, right, bottom, turn = data
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    centre = corners.mean(0)
    turned = (corners - centre) @ np.array([(cosine, sine), (-sine, cosine)]) + centre if turn else corners
    return polygons([turned], size)


def stored(data: tuple[int, int, NDArray[np.bool_]], size: Size) -> Region:
    """A mask ``[h,w]`` that is stored as it is, at (top, left); cut where it goes beyond the image."""
    top, left, bits = data
    return Region(top, left, bits[: max(0, size[0] - top), : max(0, size[1] - left)])


def runs(counts: Sequence[int], shape: Size, by_columns: bool = True) -> NDArray[np.bool_]:
    """The mask of a run-length encoding: pixels outside and inside by turns, down the columns or along the rows.

    Raises:
        ShapeError: the runs are not as long as the mask.
    """
    lengths = np.asarray(counts, np.int64)
    if lengths.sum() != shape[0] * shape[1] or (lengths < 0).any():
        raise ShapeError("a run-length encoding that does not fill its mask", f"{lengths.sum()} pixels of {shape}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(shape[::-1]).T if by_columns else flat.reshape(shape)


def pillow(kind: str, points: Points, size: Size) -> Region:
    """A polygon, an ellipse or a rectangle in a box, or a line through points, as Pillow draws it with its boundary."""
    image = Image.new("1", size[::-1])
    pen, numbers = ImageDraw.Draw(image), points.ravel().tolist()
    if kind == "line":
        pen.line(numbers, fill=1, width=LINE_WIDTH)
    else:
        getattr(pen, kind)(numbers, outline=1, fill=1)
    return Region(0, 0, np.asarray(image))


def line(data: Any, size: Size) -> Region:
    """A line through points."""
    return pillow("line", points_of(data, 2), size)
