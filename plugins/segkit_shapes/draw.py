"""Drawing one picture of ``shapes`` and its labels.

Whole numbers throughout, and a random generator fed by a seed sequence, so that a picture is the same on every machine.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

CLASSES = ("background", "disc", "square", "triangle", "cross", "ring")
VOID = 255

_SHARES = (25, 22, 21, 19, 13)  # of 100 objects, in the order of CLASSES: rings are rare, as some class always is
_TURNS = [(round(math.cos(k * math.pi / 32) * 256), round(math.sin(k * math.pi / 32) * 256)) for k in range(64)]
_CELLS = 7  # a texture is a grid of 7 x 7 colours, blended: large patches with edges of their own

Pixels = NDArray[np.int64]
Labels = NDArray[np.uint8]


def draw(size: int, random: np.random.Generator) -> tuple[NDArray[np.uint8], Labels]:
    """A noisy, textured picture uint8 ``[size,size,3]`` of up to five objects, and its labels ``[size,size]``."""
    base = random.integers(40, 216, 3)
    picture = _texture(size, base, 32, random)
    labels: Labels = np.zeros((size, size), dtype=np.uint8)
    for _ in range(int(random.integers(2, 6))):
        label = 1 + int(np.searchsorted(np.cumsum(_SHARES), random.integers(100), side="right"))
        inside = _outline(label, size, random)
        around = _grown(inside)
        if labels[around].any():  # objects never touch
            continue
        picture[inside] = _texture(size, _contrasting(base, random), 20, random)[inside]
        labels[around & ~_shrunk(inside)] = VOID
        labels[_shrunk(inside)] = label
    noise = random.integers(-14, 15, (size, size, 3))
    return np.clip(picture + noise, 0, 255).astype(np.uint8), labels


def _texture(size: int, base: Pixels, contrast: int, random: np.random.Generator) -> Pixels:
    """Smooth patches around the colour ``base``, ``[size,size,3]``."""
    grid: Pixels = (
        base
        + random.integers(-contrast, contrast + 1, (_CELLS, _CELLS, 1))
        + random.integers(-8, 9, (_CELLS, _CELLS, 3))
    )
    at = np.arange(size, dtype=np.int64) * (_CELLS - 1) * 64 // size  # the place on the grid, in 64ths of a cell
    cell, part = at // 64, at % 64
    rows: Pixels = grid[cell] * (64 - part)[:, None, None] + grid[cell + 1] * part[:, None, None]  # [size,cells,3]
    both: Pixels = rows[:, cell] * (64 - part)[:, None] + rows[:, cell + 1] * part[:, None]  # [size,size,3]
    return both // 4096


def _contrasting(base: Pixels, random: np.random.Generator) -> Pixels:
    """A colour that differs from ``base``: any colour goes with any class, so colour alone tells nothing."""
    while True:
        colour = random.integers(20, 236, 3)
        if np.abs(colour - base).sum() >= 150:
            return colour


def _outline(label: int, size: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """The pixels of one object, turned and placed at random, ``[size,size]``."""
    radius = int(random.integers(size * 13, size * 18))  # in hundredths of a pixel
    margin = radius * 13 // 1000 + 2
    column, row = random.integers(margin, size - margin, 2).tolist()
    cosine, sine = _TURNS[int(random.integers(64))]
    x = np.arange(size, dtype=np.int64) - column
    y = (np.arange(size, dtype=np.int64) - row)[:, None]
    u: Pixels = (x * cosine + y * sine) * 100  # [size,size], in units of pixel / 25600
    v: Pixels = (y * cosine - x * sine) * 100
    r = radius * 256
    across, along = np.abs(u), np.abs(v)
    inside: NDArray[np.bool_]
    if CLASSES[label] == "disc":
        inside = u * u + v * v <= r * r
    elif CLASSES[label] == "square":
        inside = np.maximum(across, along) * 100 <= r * 89
    elif CLASSES[label] == "triangle":
        inside = (v * 100 >= -r * 67) & (across * 173 + v * 100 <= r * 133)
    elif CLASSES[label] == "cross":
        inside = (np.minimum(across, along) * 100 <= r * 40) & (np.maximum(across, along) * 100 <= r * 118)
    else:
        inside = (u * u + v * v <= r * r // 100 * 156) & (u * u + v * v >= r * r // 100 * 30)
    return inside


def _grown(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``inside`` and its neighbours above, below, left and right."""
    grown = inside.copy()
    grown[1:] |= inside[:-1]
    grown[:-1] |= inside[1:]
    grown[:, 1:] |= inside[:, :-1]
    grown[:, :-1] |= inside[:, 1:]
    return grown


def _shrunk(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return ~_grown(~inside)
