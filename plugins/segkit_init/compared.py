"""Compare two sets of masks of the same pictures: by two annotators, with fewer classes, or all nearly equal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from segkit.data.read import opened
from segkit.errors import DataError
from segkit_folder.masks import read_mask
from segkit_init.stored import Labels

_AGREE = 0.5  # lowest mean intersection over union of two annotators' labels
_NEAR = 2  # pixels by which their borders may differ
_STRAYS = 0.05  # share of labelled pixels that may be farther from their label in the other mask
_INSIDE, _OUTSIDE = 0.98, 0.95  # share of a part inside the whole (a cup in its disc), and of the whole inside the part
_SAME = 0.97  # share of equal pixels in masks that hardly vary, such as DRIVE's fields of view
AS_JPEG = 16
"""Mean difference in grey values that JPEG may cause."""
_MOST_CLASSES = 64  # more labels are probably numbers of objects


def are_one_picture(masks: Sequence[Labels]) -> bool:
    """Whether all masks are nearly equal, such as the field of view of one camera."""
    first, *others = masks
    same = [each.shape == first.shape and bool((each == first).mean() > _SAME) for each in others]
    return len(same) >= 3 and all(same) and bool((first != first.flat[0]).mean() > 0.05)


def agree(masks: Sequence[Labels], others: Sequence[Labels]) -> bool:
    """Whether two sets of masks with the same labels differ only along borders, as two annotators' masks do.

    If one set lies inside the other, they show different things, such as a cup and its disc.
    """
    known = [{label for each in those for label in np.unique(each).tolist()} for those in (masks, others)]
    if known[0] != known[1] or [each.shape for each in masks] != [each.shape for each in others]:
        return False
    a, b = (np.concatenate([each.ravel() for each in those]) for those in (masks, others))
    shares: dict[int, float] = {}
    for label in known[0]:
        both, own = ((a == label) & (b == label)).sum(), ((a == label).sum(), (b == label).sum())
        shares[label] = both / (sum(own) - both)
        if both > _INSIDE * min(own) and both < _OUTSIDE * max(own):
            return False
    background = max(shares, key=lambda label: shares[label])  # the label that agrees best
    rest = [share for label, share in shares.items() if label != background]
    if not rest or np.mean(rest) <= _AGREE:
        return False
    strays = sum(
        _strays(*pair, background) + _strays(*pair[::-1], background) for pair in zip(masks, others, strict=True)
    )
    return bool(strays <= _STRAYS * ((a != background).sum() + (b != background).sum()))


def _strays(mask: Labels, other: Labels, background: int) -> int:
    """Count the foreground pixels of a mask without an equal pixel near them in the other mask."""
    height, width = mask.shape
    around = np.pad(other, _NEAR, mode="edge")
    found = mask != background
    for row, column in product(range(2 * _NEAR + 1), repeat=2):
        found &= mask != around[row : row + height, column : column + width]
    return int(found.sum())


def _regions(*labels: Labels) -> int:
    """Count the different combinations of labels that the pixels of a picture have in its masks."""
    return len(np.unique(np.stack(labels).reshape(len(labels), -1), axis=1).T)


def merges(masks: Sequence[Labels], others: Sequence[Labels]) -> bool:
    """Whether masks have fewer classes than others, each made by merging classes of these others."""
    if [each.shape for each in masks] != [each.shape for each in others]:
        return False
    count = [len(np.unique(np.concatenate([each.ravel() for each in those]))) for those in (masks, others)]
    same = all(_regions(one, other) == _regions(other) for one, other in zip(masks, others, strict=True))
    return count[0] < count[1] <= _MOST_CLASSES and same


def hold_the_same(one: Path, other: Path) -> bool:
    """Whether two files hold the same mask, its labels in the same order, or the same picture up to JPEG changes."""
    try:
        masks = [read_mask(path) for path in (one, other)]
        first, second = (np.unique(mask, return_inverse=True)[1].reshape(mask.shape) for mask in masks)
        return np.array_equal(first, second)
    except DataError:  # masks of colours, or lossy files
        pass
    pictures = []
    try:
        for path in (one, other):
            with opened(path) as raster:
                values = np.asarray(raster[...], np.float32)
                table = getattr(raster, "palette", None)
            pictures.append(np.array(table, np.float32)[values.astype(int)] if table else values)
    except DataError:
        return False
    most = AS_JPEG if one.suffix.lower() != other.suffix.lower() else 0
    return pictures[0].shape == pictures[1].shape and bool(abs(pictures[0] - pictures[1]).mean() <= most)


def divide_alike(masks: Sequence[Labels], others: Sequence[Labels]) -> bool:
    """Whether two sets of masks divide their pictures into the same regions."""
    return [each.shape for each in masks] == [each.shape for each in others] and all(
        _regions(one, other) == _regions(one) == _regions(other) for one, other in zip(masks, others, strict=True)
    )
