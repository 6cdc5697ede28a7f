"""The outlines of the classes of ``shapes``, in integer arithmetic, and the varieties that draw them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.int64]
Inside = NDArray[np.bool_]


def _box(u: Pixels, v: Pixels, r: int, left: int, right: int, top: int, bottom: int) -> Inside:
    return (u * 100 >= r * left) & (u * 100 <= r * right) & (v * 100 >= r * top) & (v * 100 <= r * bottom)


def _cross(u: Pixels, v: Pixels, r: int) -> Inside:
    across, along = np.abs(u), np.abs(v)
    return (np.minimum(across, along) * 100 <= r * 40) & (np.maximum(across, along) * 100 <= r * 118)


def _star(u: Pixels, v: Pixels, r: int) -> Inside:
    """Points that are outside at most one of the five lines of a pentagram."""
    tips = ((0, -256), (243, -79), (150, 207), (-150, 207), (-243, -79))
    beyond = sum((u * right + v * down > r * 110).astype(np.int64) for right, down in tips)
    return np.asarray(beyond) <= 1


def _crescent(u: Pixels, v: Pixels, r: int) -> Inside:
    bite = u * 100 - r * 65
    return (u * u + v * v <= r * r // 100 * 144) & (bite * bite + v * v * 10_000 >= r * r * 9_000)


# u and v are the offsets of a pixel to the right of and below the object's centre, in the same fine unit as the radius
# r, which is thousands of units. The constants are hundredths of the radius.
OUTLINES: dict[str, Callable[[Pixels, Pixels, int], Inside]] = {
    "disc": lambda u, v, r: u * u + v * v <= r * r,
    "square": lambda u, v, r: np.maximum(np.abs(u), np.abs(v)) * 100 <= r * 89,
    "triangle": lambda u, v, r: (v * 100 >= -r * 67) & (np.abs(u) * 173 + v * 100 <= r * 133),
    "cross": _cross,
    "ring": lambda u, v, r: (u * u + v * v <= r * r // 100 * 156) & (u * u + v * v >= r * r // 100 * 30),
    "ellipse": lambda u, v, r: u * u * 19 + v * v * 100 <= r * r * 36,
    "bar": lambda u, v, r: _box(u, v, r, -33, 33, -140, 140),
    "star": _star,
    "crescent": _crescent,
    "angle": lambda u, v, r: _box(u, v, r, -105, -35, -115, 115) | _box(u, v, r, -105, 105, 45, 115),
    "tee": lambda u, v, r: _box(u, v, r, -115, 115, -115, -45) | _box(u, v, r, -35, 35, -115, 125),
    "arrow": lambda u, v, r: (v <= 0) & (np.abs(u) * 125 - v * 100 <= r * 130) | _box(u, v, r, -33, 33, 0, 120),
}


class Variety(NamedTuple):
    """The parameters shared by all images of one variety.

    Attributes:
        classes: background and the names of the outlines.
        shares: percentage of the objects in each class except background.
        objects: range of the number of objects to try, upper end excluded.
        radius: range of the radius, in thousandths of the image's size.
        turns: range of the rotation, in 64ths of a full turn.
        smallest: smallest image size in pixels at which the shapes can be told apart.
        colours: the colour of each class; empty: colours are drawn independently of the class.
        alike: percentage of the objects, except the first, that have no grain and are labelled background.
    """

    classes: tuple[str, ...]
    shares: tuple[int, ...]
    objects: tuple[int, int]
    radius: tuple[int, int]
    turns: tuple[int, int]
    smallest: int
    colours: tuple[tuple[int, int, int], ...] = ()
    alike: int = 0


VARIETIES = {
    "few": Variety(
        classes=("background", *list(OUTLINES)[:5]),
        shares=(25, 22, 21, 19, 13),  # rings are the rare class
        objects=(2, 6),
        radius=(130, 180),
        turns=(0, 64),
        smallest=32,
    ),
    "many": Variety(
        classes=("background", *OUTLINES),
        shares=(14, 12, 11, 10, 9, 9, 8, 7, 6, 5, 5, 4),
        objects=(6, 13),
        radius=(86, 112),
        turns=(-4, 5),  # nearly upright, because twelve outlines must be learned from few objects each
        smallest=96,
        colours=(
            *((200, 40, 40), (40, 180, 60), (50, 70, 220), (210, 190, 40), (190, 50, 190), (50, 190, 190)),
            *((230, 120, 30), (120, 60, 20), (130, 110, 230), (110, 230, 110), (240, 150, 180), (20, 90, 90)),
        ),
        alike=90,  # about three of four objects overall, because the first is always labelled
    ),
}
