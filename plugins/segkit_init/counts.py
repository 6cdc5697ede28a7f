"""Count what a set of masks stores: labels, those along borders or without area, and numbers of single objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import max_pool2d

from segkit_init.stored import COLOUR, THIN, Labels, between_and_within

_LOOKED_AT = 40  # masks whose edges are looked at
_SIDE = 256  # pixels to which a mask is reduced to find border labels
_WINDOW = 9  # pixels of the reduced mask around each pixel
_BETWEEN = 0.95  # share of places where labels meet: VOC's border is in 0.97 to 1, CamVid's labels in at most 0.33
_NEAR = 0.3  # share of its pixels that have two other labels in the window: over 0.6 in 37 of 40 masks of VOC


@dataclass(frozen=True)
class StoredLabels:
    """What a set of masks stores.

    Attributes:
        pixels: stored label -> number of pixels.
        edges: labels that lie along the borders of others.
        thin: rare labels that cover no area.
        of_objects: whether labels look like ids of single objects: each mask counts 0, 1, 2, ... to its own number, or
            most labels are in only one mask.
        black_and_white: number of masks with only 0 and 255, where no other mask holds 255.
        beside: labels to which some mask holds one that is 1 or 2 higher.
        is_inverted: whether 0 is the rarer one of two labels, and still rarer at the edges of the masks.
    """

    pixels: Counter[int]
    edges: frozenset[int]
    thin: frozenset[int]
    of_objects: bool
    black_and_white: int
    is_inverted: bool = False
    beside: frozenset[int] = frozenset()


def stored_labels(masks: Iterable[Labels]) -> StoredLabels:
    """Count what masks store."""
    pixels, images, looked_at, edges, inside, rim = (Counter[int]() for _ in range(6))
    sets: Counter[frozenset[int]] = Counter()
    black_and_white, beside = 0, set[int]()
    for mask in masks:
        values, numbers = _counted(mask)
        labels = values.tolist()
        pixels.update(dict(zip(labels, numbers.tolist(), strict=True)))
        images.update(labels)
        beside |= {label for label in labels if {label + 1, label + 2} & {*labels}}
        sets[frozenset(labels) - {0, 255}] += 1
        black_and_white += labels == [0, 255]
        if sets.total() <= _LOOKED_AT:
            looked_at.update(labels)
            edges.update(_edges(mask, values))
            rim.update(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).tolist())
        if not inside.keys() >= {*labels}:
            inside.update(np.unique(mask[between_and_within(mask)[1]]).tolist())
    along = frozenset(label for label, number in edges.items() if number >= 0.7 * looked_at[label])
    few = THIN * pixels.total()
    thin = frozenset(label for label, number in pixels.items() if number < few and not inside[label])
    once = sum(number == 1 for number in images.values())
    of_objects = _count_up(sets, pixels) or (once >= 8 and 2 * once > len(images)) or _have_numbers(sets)
    share = pixels[0] / max(pixels.total(), 1)
    is_inverted = len(pixels) == 2 and 0 < share < 0.5 and rim[0] < 0.5 * share * rim.total()
    black_and_white *= images[255] == black_and_white
    return StoredLabels(pixels, along, thin, of_objects, black_and_white, is_inverted, frozenset(beside))


def _count_up(sets: Counter[frozenset[int]], pixels: Counter[int]) -> bool:
    """Whether each mask holds the first labels of one common order, to a varying number, as ids of objects do.

    Up to a tenth of them may be missing where the numbers vary much. Classes instead are missing here and there.
    ``sets`` lack 0 and 255; the most frequent colour is the background.
    """
    background = {max(pixels, key=pixels.__getitem__)} if max(pixels, default=0) >= COLOUR else set()
    held = [(labels - background, count) for labels, count in sets.items() if labels - background]
    images: Counter[int] = Counter()
    for labels, count in held:
        images.update(dict.fromkeys(labels, count))
    order = sorted(images, key=lambda label: (-images[label] * (label >= COLOUR), label))
    places = {label: place for place, label in enumerate(order, 1)}
    numbers: Counter[int] = Counter()  # place of the last label -> masks
    gaps = 0
    for labels, count in held:
        last = max(places[label] for label in labels)
        if 10 * len(labels) >= 9 * last:
            numbers[last] += count
            gaps += last - len(labels)
    in_order = numbers.total()
    varies = 2 * max(numbers.values(), default=0) <= in_order
    least = 5 if gaps else 3
    return len(numbers) >= least and varies and 20 * in_order >= 19 * max(5, sum(count for _, count in held))


def _have_numbers(sets: Collection[frozenset[int]]) -> bool:
    """Whether one channel of colours tells those of each mask apart, but not those of all, as numbers of objects do."""
    every = frozenset[int]().union(*sets)
    if len(sets) < 5 or min(every) < COLOUR or 3 * len(sets) > sum(map(len, sets)):
        return False
    for shift in (0, 8, 16):
        own, *those = ({label >> shift & 255 for label in labels} for labels in (every, *sets))
        if 2 * len(own) <= len(every) and [*map(len, those)] == [*map(len, sets)]:
            return True
    return False


def _counted(mask: Labels) -> tuple[Labels, NDArray[np.int64]]:
    """Return the labels of a mask, and the number of pixels of each."""
    if mask.dtype != np.uint8:
        return np.unique(mask, return_counts=True)
    pixels = np.array(Image.fromarray(mask).histogram())  # a tenth of the time
    return np.flatnonzero(pixels).astype(np.uint8), pixels[pixels > 0]


def _edges(mask: Labels, values: Labels) -> set[int]:
    """Return labels that separate the others: these hardly touch one another, and two are near each such pixel."""
    if not 3 <= len(values) <= 64:
        return set()
    indices = np.searchsorted(values, mask).astype(np.uint8)  # [H,W]
    sides = [(indices[:, 1:], indices[:, :-1]), (indices[1:], indices[:-1])]
    touching = np.concatenate([np.stack([one[one != two], two[one != two]]) for one, two in sides], axis=1)  # [2,N]
    step = -(-max(mask.shape) // _SIDE)
    small = indices[::step, ::step]  # [h,w]
    found = set()
    for index, label in enumerate(values.tolist()):
        own = small == index
        if 0 < own.sum() < 0.2 * own.size and (touching == index).any(axis=0).mean() > _BETWEEN:
            # the smallest and the largest of the other labels around each pixel
            others = np.stack([np.where(own, -64.0, -1.0 * small), np.where(own, -64.0, small)]).astype(np.float32)
            least, most = max_pool2d(torch.from_numpy(others), _WINDOW, 1, _WINDOW // 2).numpy()  # [h,w]
            if (-least < most)[own].mean() > _NEAR:
                found.add(label)
    return found
