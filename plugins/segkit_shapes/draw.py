"""Draws one image of ``shapes`` and its labels.

All arithmetic is on integers and the generator is seeded by a seed sequence, so an image is the same on every machine.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from segkit_shapes.outlines import OUTLINES, Inside, Pixels, Variety

VOID = 255

_TURNS = [(round(math.cos(k * math.pi / 32) * 256), round(math.sin(k * math.pi / 32) * 256)) for k in range(64)]
_CELLS = 7  # a texture is an interpolated grid of 7 x 7 colours: large patches with visible edges
_GRAIN = 2  # grey levels, alternating every two rows; the noise has 14, so the grain only shows over many pixels

Labels = NDArray[np.uint8]


def draw(variety: Variety, size: int, random: np.random.Generator) -> tuple[NDArray[np.uint8], Labels]:
    """Draw a noisy, textured image of a few objects, uint8 ``[size,size,3]``, and its labels ``[size,size]``."""
    base = random.integers(40, 216, 3)
    picture = _texture(size, base, 32, random)
    labels: Labels = np.zeros((size, size), dtype=np.uint8)
    taken = np.zeros((size, size), dtype=bool)
    grain = np.where(np.arange(size) // 2 % 2, _GRAIN, -_GRAIN)[:, None, None].repeat(size, axis=1)  # [size,size,1]
    for _ in range(int(random.integers(*variety.objects))):
        label = 1 + int(np.searchsorted(np.cumsum(variety.shares), random.integers(100), side="right"))
        own = _object(variety, label, size, random)
        around = _grown(own)
        if taken[around].any():  # skip objects that would touch another
            continue
        taken |= around
        colour = np.array(variety.colours[label - 1]) if variety.colours else _contrasting(base, random)
        picture[own] = _texture(size, colour, 20, random)[own]
        if variety.alike:
            if labels.any() and random.integers(100) < variety.alike:
                continue
            picture[own] += grain[own]
        labels[around & ~_shrunk(own)] = VOID
        labels[_shrunk(own)] = label
    noise = random.integers(-14, 15, (size, size, 3))
    return np.clip(picture + noise, 0, 255).astype(np.uint8), labels


def _texture(size: int, base: Pixels, contrast: int, random: np.random.Generator) -> Pixels:
    """Draw smooth patches around the colour ``base``, ``[size,size,3]``: a bilinearly enlarged grid of colours."""
    grid: Pixels = (
        base
        + random.integers(-contrast, contrast + 1, (_CELLS, _CELLS, 1))
        + random.integers(-8, 9, (_CELLS, _CELLS, 3))
    )
    at = np.arange(size, dtype=np.int64) * (_CELLS - 1) * 64 // size  # the position on the grid, in 64ths of a cell
    cell, part = at // 64, at % 64
    rows: Pixels = grid[cell] * (64 - part)[:, None, None] + grid[cell + 1] * part[:, None, None]  # [size,cells,3]
    both: Pixels = rows[:, cell] * (64 - part)[:, None] + rows[:, cell + 1] * part[:, None]  # [size,size,3]
    return both // 4096


def _contrasting(base: Pixels, random: np.random.Generator) -> Pixels:
    """Draw a colour that differs from ``base``, independent of the class, so colour carries no information."""
    while True:
        colour = random.integers(20, 236, 3)
        if np.abs(colour - base).sum() >= 150:
            return colour


def _object(variety: Variety, label: int, size: int, random: np.random.Generator) -> Inside:
    """Return the pixels of one randomly placed and rotated object, ``[size,size]``."""
    smallest, largest = variety.radius
    radius = int(random.integers(size * smallest // 10, size * largest // 10))  # in hundredths of a pixel
    margin = radius * 13 // 1000 + 2
    column, row = random.integers(margin, size - margin, 2).tolist()
    cosine, sine = _TURNS[int(random.integers(*variety.turns))]
    x = np.arange(size, dtype=np.int64) - column
    y = (np.arange(size, dtype=np.int64) - row)[:, None]
    u: Pixels = (x * cosine + y * sine) * 100  # [size,size], in units of pixel / 25600
    v: Pixels = (y * cosine - x * sine) * 100
    return OUTLINES[variety.classes[label]](u, v, radius * 256)


def _grown(inside: Inside) -> Inside:
    """Dilate ``inside`` by one pixel, 4-connected."""
    grown = inside.copy()
    grown[1:] |= inside[:-1]
    grown[:-1] |= inside[1:]
    grown[:, 1:] |= inside[:, :-1]
    grown[:, :-1] |= inside[:, 1:]
    return grown


def _shrunk(inside: Inside) -> Inside:
    return ~_grown(~inside)
