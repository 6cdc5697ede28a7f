"""Converts each kind of shape to the pixels that it covers."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from segkit_folder.masks import read_mask

Size = tuple[int, int]  # height and width
Bits = NDArray[np.bool_]
Points = NDArray[np.float64]  # [N,2], x and y in pixels; (0, 0) is the upper left corner of the upper left pixel
Drawn = tuple[int, int, Bits]  # top row, left column, and the covered pixels of the region that starts there
LINE_WIDTH = 10  # pixels, as in labelme's own export


class Shape(NamedTuple):
    """A labelled shape: its label in the annotations, its kind (one of :data:`KINDS`), and the data of that kind.

    The data of shapes with corners are a list of rings, each the result of :func:`numbers`.
    """

    label: str
    kind: str
    data: Any


class ShapeError(Exception):
    """A shape that cannot be drawn: the problem (the same text for all such shapes), and mostly this shape's detail."""


def draw(shape: Shape, size: Size) -> tuple[tuple[slice, slice], Bits]:
    """Return the rows and columns of a shape's region, and which pixels of the region the shape covers.

    Raises:
        ShapeError: the shape cannot be drawn.
    """
    if shape.kind not in KINDS or shape.data is None:  # data is None where a tool uses a kind's name differently
        raise ShapeError("a shape of a kind that covers no pixels or is not known", str(shape.kind))
    top, left, bits = KINDS[shape.kind](shape.data, size)
    return (slice(top, top + bits.shape[0]), slice(left, left + bits.shape[1])), bits


def numbers(data: Any) -> Any:
    """Convert ``[[x, y], ...]`` or ``[x, y, x, y, ...]`` to points ``[N,2]``; return other data as is."""
    with suppress(TypeError, ValueError):
        points = np.array(data, np.float64)
        if points.size % 2 == 0 and points.shape[1:] in ((), (2,)):
            return points.reshape(-1, 2)
    return data


def points_of(data: Any, least: int = 3) -> Points:
    """Convert data to points ``[N,2]`` with :func:`numbers`, and check them.

    Raises:
        ShapeError: they are not pairs of finite numbers, or fewer than ``least``.
    """
    points = data if isinstance(data, np.ndarray) else numbers(data)
    if not isinstance(points, np.ndarray) or points.shape[1:] != (2,) or not np.isfinite(points).all():
        raise ShapeError("a shape whose points are no pairs of numbers", f"{data!r:.60}")
    if len(points) < least:
        raise ShapeError(f"a shape of fewer than {least} points", f"{len(points)}")
    return points


def bounds(data: Any) -> tuple[float, float, float, float] | None:
    """Return (min x, min y, max x, max y) of a shape's points, or None if it has no points."""
    rings = [each for each in data if isinstance(each, np.ndarray) and each.size] if isinstance(data, list) else ()
    whole = rings[0] if len(rings) == 1 else np.concatenate(rings) if rings else None
    return None if whole is None else (*whole.min(0).tolist(), *whole.max(0).tolist())


def scaled(data: Any, across: float, down: float) -> Any:
    """Multiply the points in a shape's data by (across, down)."""
    return [each * (across, down) if isinstance(each, np.ndarray) else each for each in data]


def box(left: float, top: float, right: float, bottom: float, turn: float = 0) -> Points:
    """Return the corners of a box that is turned clockwise about its centre by ``turn`` degrees."""
    across, down = (right - left) / 2, (bottom - top) / 2
    return turned(left + across, top + down, across * np.array([-1, 1, 1, -1]), down * np.array([-1, -1, 1, 1]), turn)


def ellipse(x: float, y: float, across: float, down: float, turn: float = 0) -> Points:
    """Return an ellipse, turned clockwise by ``turn`` degrees, as a polygon of 72 corners like VIA's COCO export."""
    angle = np.radians(np.arange(0, 360, 5))
    return turned(x, y, across * np.cos(angle), down * np.sin(angle), turn)


def turned(x: float, y: float, right: Points, below: Points, degrees: float) -> Points:
    """Return points at distances to the right and below (x, y), turned clockwise about it."""
    away = (right + 1j * below) * np.exp(1j * math.radians(degrees))
    return np.stack([x + away.real, y + away.imag], 1)


def _joined(how: Callable[[Bits, Bits], Bits], trace: Callable[[Any, Size], Drawn]) -> Callable[[Any, Size], Drawn]:
    """Return a function that draws all rings of a shape and combines them, in order, with ``how``."""

    def drawn(data: Sequence[Any], size: Size) -> Drawn:
        if len(data) == 1:
            return trace(data[0], size)
        whole = np.zeros(size, bool)
        for number, ring in enumerate(data):
            top, left, bits = trace(ring, size)
            at = slice(top, top + bits.shape[0]), slice(left, left + bits.shape[1])
            whole[at] = how(whole[at], bits) if number else bits
        return 0, 0, whole

    return drawn


def _polygon(data: Any, size: Size) -> Drawn:
    """Draw a polygon exactly like pycocotools (``rleFrPoly`` of ``maskApi.c``).

    The boundary is traced in steps of 1/5 pixel; down each pixel column, every crossing toggles outside and inside.
    """
    height, width = size
    points = points_of(data)
    corners = np.trunc(5 * points + 0.5)  # [N,2]
    following = np.concatenate([corners[1:], corners[:1]])
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
    rounded = np.trunc(along + 0.5)
    is_x = by_x[edge]  # the axis that has a point at every step
    x, y = np.where(is_x, along[:, 0], rounded[:, 0]), np.where(is_x, rounded[:, 1], along[:, 1])
    at = np.flatnonzero(x[1:] != x[:-1]) + 1
    column = (np.where(x[at] < x[at - 1], x[at], x[at] - 1) + 0.5) / 5 - 0.5
    row = np.ceil(np.clip((np.minimum(y[at], y[at - 1]) + 0.5) / 5 - 0.5, 0, height))
    kept = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    column, row = column[kept].astype(np.int64), row[kept].astype(np.int64)
    if not len(column):
        return 0, 0, np.zeros((0, 0), bool)
    top, left = row.min(), column.min()
    rows, columns = row.max() - top, column.max() - left + 1
    toggles = np.bincount((column - left) * rows + row - top, minlength=columns * rows + 1)[: columns * rows]
    inside = np.cumsum(toggles.astype(np.uint8), dtype=np.uint8) & 1  # a sum that wraps around keeps its last bit
    return int(top), int(left), inside.reshape(columns, rows).T.astype(bool)


def _runs(data: tuple[int, int, Size, Sequence[int], bool], size: Size) -> Drawn:
    """Draw a mask at (top, left) from alternating lengths of runs outside and inside, by columns or by rows."""
    top, left, shape, counts, by_columns = data
    if (by_columns and shape != size) or not _fits(top, left, shape, size):
        raise ShapeError("a run-length encoding of another size than its image", f"{shape[1]} x {shape[0]}")
    lengths = np.asarray(counts, np.int64)
    if lengths.sum() != shape[0] * shape[1] or (lengths < 0).any():
        raise ShapeError("a run-length encoding that does not fill its mask", f"{lengths.sum()} pixels")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return top, left, flat.reshape(shape[::-1]).T if by_columns else flat.reshape(shape)


def _starts(data: tuple[str, bool, int], size: Size) -> Drawn:
    """Draw a mask from text of (start, length) pairs, by columns or by rows; the first pixel has number 0 or 1."""
    text, by_columns, first = data
    try:
        starts, lengths = np.array(text.split(), np.int64).reshape(-1, 2).T
    except ValueError:
        raise ShapeError("runs that are no pairs of a start and a length", text[:40]) from None
    starts = starts + 1 - first
    if starts.min() < 1:
        raise ShapeError("runs that start before their image; first_pixel = 0 counts pixels from 0", text[:40])
    if lengths.min() < 1 or (starts + lengths - 1).max() > size[0] * size[1]:
        raise ShapeError("runs that go beyond their image", f"{(starts + lengths - 1).max():,} pixels")
    toggles = np.zeros(size[0] * size[1] + 1, np.int32)
    np.add.at(toggles, starts - 1, 1)
    np.add.at(toggles, starts - 1 + lengths, -1)
    flat = np.cumsum(toggles[:-1]) > 0
    return 0, 0, flat.reshape(size[::-1]).T if by_columns else flat.reshape(size)


def _png(data: tuple[int, int, bytes], size: Size) -> Drawn:
    """Draw a mask at (top, left) from a PNG: the object is where alpha, or if it is full the colour, is not 0."""
    top, left, content = data
    try:
        image = Image.open(io.BytesIO(content), formats=["PNG"])
        fits = _fits(top, left, (image.height, image.width), size)  # before it is decoded
        bits = np.asarray(image) != 0 if fits else None
        if bits is not None and image.mode == "RGBA":
            alpha = np.asarray(image.getchannel("A"))
            bits = alpha != 0 if alpha.min() < 255 else bits[..., :3].any(2)
    except Exception as error:  # Pillow raises many types on a damaged file
        raise ShapeError("a mask that is no PNG, or damaged", f"{error}") from None
    if bits is None or bits.ndim != 2:
        raise ShapeError("a mask that goes beyond its image, or holds colours")
    return top, left, bits


def _brush(data: bytes, size: Size) -> Drawn:
    """Draw a mask painted with Label Studio's brush: RGBA pixels whose alpha marks what is covered.

    Packed as in github.com/thi-ng/umbrella/tree/develop/packages/rle-pack. Header: number of values, bits per value,
    and four sizes of counts in bits. Then chunks: run flag, index of the size, count, and one repeated value or
    ``count`` values.
    """
    bits, at = f"{int.from_bytes(data):0{8 * len(data)}b}", 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        if at > len(bits):
            raise ShapeError("a brush's mask that is damaged or cut short")
        return int(bits[at - count : at], 2)

    total, depth, sizes = read(32), read(5) + 1, [read(4) + 1 for _ in range(4)]
    if total != 4 * size[0] * size[1] or depth != 8:
        raise ShapeError("a brush's mask of another size than its image", f"{total:,} values of {depth} bits")
    values = bytearray()
    while len(values) < total:
        is_run, count = read(1), read(sizes[read(2)]) + 1
        values += bytes([read(8)]) * count if is_run else read(8 * count).to_bytes(count)
    covered = np.frombuffer(values, np.uint8, total)[3::4].reshape(size)
    return 0, 0, covered > covered.max() // 2  # the edges of a brush stroke are blended


def _fits(top: int, left: int, shape: Size, size: Size) -> bool:
    return min(top, left) >= 0 and top + shape[0] <= size[0] and left + shape[1] <= size[1]


def _pillow(method: str, least: int) -> Callable[[Any, Size], Drawn]:
    """Return a function that draws a shape and its boundary with a method of Pillow, from ``least`` points or more."""

    def drawn(data: Any, size: Size) -> Drawn:
        image = Image.new("1", size[::-1])
        how = {"width": LINE_WIDTH} if method == "line" else {"outline": 1}
        getattr(ImageDraw.Draw(image), method)(points_of(data, least).ravel().tolist(), fill=1, **how)
        return 0, 0, np.asarray(image)

    return drawn


def _bits(bits: Bits, size: Size) -> Drawn:
    """Return the mask itself."""
    if bits.shape != size:
        raise ShapeError("a mask of another size than its image", f"{bits.shape[1]} x {bits.shape[0]}")
    return 0, 0, bits


def _file(path: Path, size: Size) -> Drawn:
    """Read a mask file; every label except 0 is the object."""
    labels = read_mask(path)
    if labels.max() == 255 and ((labels > 0) & (labels < 255)).any():
        raise ShapeError("a mask whose edges were blended: it holds 0, 255 and values between them")
    return _bits(labels != 0, size)


KINDS: dict[str, Callable[[Any, Size], Drawn]] = {
    "polygon": _joined(np.logical_or, _polygon),
    "rings": _joined(np.logical_xor, _polygon),
    "less": _joined(np.greater, _polygon),
    "runs": _runs,
    "starts": _starts,
    "outline": _joined(np.greater, _pillow("polygon", 3)),
    **{each: _joined(np.logical_or, _pillow(each, 2)) for each in ("line", "ellipse", "rectangle")},
    "bits": _bits,
    "file": _file,
    "png": _png,
    "brush": _brush,
}
"""Kind -> function that draws its data.

With several rings, ``polygon`` covers their union, ``rings`` the pixels inside an odd number of them, ``less`` and
``outline`` the first ring minus the others; ``outline`` includes boundaries.
"""
