"""The outlines that tell the classes of ``shapes`` apart, in whole numbers, and which of them a variety draws."""

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
    """What lies beyond at most one of the five lines that a pentagram is drawn with."""
    tips = ((0, -256), (243, -79), (150, 207), (-150, 207), (-243, -79))
    beyond = sum((u * right + v * down > r * 110).astype(np.int64) for right, down in tips)
    return np.asarray(beyond) <= 1


def _crescent(u: Pixels, v: Pixels, r: int) -> Inside:
    bite = u * 100 - r * 65
    return (u * u + v * v <= r * r // 100 * 144) & (bite * bite + v * v * 10_000 >= r * r * 9_000)


# Of an object: u is how far a pixel is to the right of its middle, v how far below it, in one unit of which the radius
# has thousands; what an outline says of lengths it says in hundredths.
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
    """What the pictures of one variety have in common.

    Attributes:
        classes: background and the names of the outlines.
        shares: how many of 100 objects are of each class but the background.
        objects: how many are tried at least, and one more than at most.
        radius: of the objects, from and to, in thousandths of the picture's size.
        turns: how far they are turned, from and to, in 64ths of a full turn.
        smallest: size of a picture in pixels; in less no two shapes can be told apart.
        colours: of each class; where there are none, any colour goes with any class.
        alike: how many of 100, the first aside, are background: of a class's outline and colour, but without its grain.
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
        shares=(25, 22, 21, 19, 13),  # rings are rare, as some class always is
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
        turns=(-4, 5),  # nearly upright: a dozen outlines are to be learnt from a few objects each
        smallest=96,
        colours=(
            *((200, 40, 40), (40, 180, 60), (50, 70, 220), (210, 190, 40), (190, 50, 190), (50, 190, 190)),
            *((230, 120, 30), (120, 60, 20), (130, 110, 230), (110, 230, 110), (240, 150, 180), (20, 90, 90)),
        ),
        alike=90,  # three of four, with the first that never is: "background" is the likelier guess for each of them
    ),
}
