"""The outlines that tell the classes of ``shapes`` apart, in whole numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.int64]
Inside = NDArray[np.bool_]


def inside(name: str, u: Pixels, v: Pixels, radius: int) -> Inside:
    """The pixels of an object: ``u`` is how far each one is to the right of its middle, ``v`` how far below it.

    Lengths share one unit, of which ``radius`` has thousands; what an outline says of them it says in hundredths.
    """
    return _OUTLINES[name](u, v, radius)


def _disc(u: Pixels, v: Pixels, r: int) -> Inside:
    return u * u + v * v <= r * r


def _square(u: Pixels, v: Pixels, r: int) -> Inside:
    return np.maximum(np.abs(u), np.abs(v)) * 100 <= r * 89


def _triangle(u: Pixels, v: Pixels, r: int) -> Inside:
    return (v * 100 >= -r * 67) & (np.abs(u) * 173 + v * 100 <= r * 133)


def _cross(u: Pixels, v: Pixels, r: int) -> Inside:
    across, along = np.abs(u), np.abs(v)
    return (np.minimum(across, along) * 100 <= r * 40) & (np.maximum(across, along) * 100 <= r * 118)


def _ring(u: Pixels, v: Pixels, r: int) -> Inside:
    return (u * u + v * v <= r * r // 100 * 156) & (u * u + v * v >= r * r // 100 * 30)


def _ellipse(u: Pixels, v: Pixels, r: int) -> Inside:
    return u * u * 19 + v * v * 100 <= r * r * 36


def _bar(u: Pixels, v: Pixels, r: int) -> Inside:
    return _box(u, v, r, -33, 33, -140, 140)


def _star(u: Pixels, v: Pixels, r: int) -> Inside:
    """What lies beyond at most one of the five lines that a pentagram is drawn with."""
    tips = ((0, -256), (243, -79), (150, 207), (-150, 207), (-243, -79))
    beyond = sum((u * right + v * down > r * 110).astype(np.int64) for right, down in tips)
    return np.asarray(beyond) <= 1


def _crescent(u: Pixels, v: Pixels, r: int) -> Inside:
    bite = u * 100 - r * 65
    return (u * u + v * v <= r * r // 100 * 144) & (bite * bite + v * v * 10_000 >= r * r * 9_000)


def _angle(u: Pixels, v: Pixels, r: int) -> Inside:
    return _box(u, v, r, -105, -35, -115, 115) | _box(u, v, r, -105, 105, 45, 115)


def _tee(u: Pixels, v: Pixels, r: int) -> Inside:
    return _box(u, v, r, -115, 115, -115, -45) | _box(u, v, r, -35, 35, -115, 125)


def _arrow(u: Pixels, v: Pixels, r: int) -> Inside:
    head = (v <= 0) & (np.abs(u) * 125 - v * 100 <= r * 130)
    return head | _box(u, v, r, -33, 33, 0, 120)


def _box(u: Pixels, v: Pixels, r: int, left: int, right: int, top: int, bottom: int) -> Inside:
    return (u * 100 >= r * left) & (u * 100 <= r * right) & (v * 100 >= r * top) & (v * 100 <= r * bottom)


_OUTLINES: dict[str, Callable[[Pixels, Pixels, int], Inside]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "ring": _ring,
    "ellipse": _ellipse,
    "bar": _bar,
    "star": _star,
    "crescent": _crescent,
    "angle": _angle,
    "tee": _tee,
    "arrow": _arrow,
}
