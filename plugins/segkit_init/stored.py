"""Read masks as they store their labels, and refuse those whose labels were blended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import max_pool2d

from segkit.data.parallel import read_ahead
from segkit.data.read import opened, read_header
from segkit.errors import DataError, Issue, LabelError, first_few, merged
from segkit_folder.files import telling_colours
from segkit_folder.masks import AT_ENDS, read_mask, without_alpha

Labels = NDArray[np.integer[Any]]
"""The labels of a mask ``[H,W]``; a colour is :data:`COLOUR` + 65536 red + 256 green + blue."""

COLOUR = 1 << 24  # above all labels
_MOST_HELD = 1000  # masks that are read at most
_MOST_PIXELS = 1 << 27  # pixels of these masks together
_LEAST = 2  # masks that are read at least, however large they are
_MIDDLE = 2048  # height and width of the part of a large mask that shows how it was drawn
_BLURRED = 0.3  # share of a label's pixels whose value lies between those beside them
_AREA = 0.05  # share of a label's pixels that have their own label on all four sides
JPEG_OFF = 16  # greys by which JPEG changes values near a border
_FEWEST_BLURRED = 2  # labels, and a third of all in the mask: CamVid reduced four times has at most 3 of 11
_MOST_FLAT = 20  # colours in a mask whose labels were partly erased
_FLAT = 1e-4  # share of all pixels that lie between black and white in 3 x 3 equal pixels
THIN = 0.005  # largest share of all pixels of a label without area


def threshold_of(paths: Sequence[Path]) -> float | None:
    """Return half of the masks' largest value, where most pixels are near it or near 0 (mattes, smooth edges, JPEG).

    Return None for labels with a separate alpha (partly erased labels): neither is complete without the other; and for
    a few values that cover areas: labels divided by 255 or by their number.
    """
    if 2 * sum(map(_has_erased_labels, paths)) >= len(paths):
        return None
    largest, ends, seen = 255.0, np.zeros((len(paths), 2)), set[float]()
    for place, path in enumerate(paths):
        grey, is_deep = _greys(path)
        largest = max(float(grey.max()), largest * (place > 0), 1e-9) if is_deep else 255.0
        seen |= {*np.unique(grey)[: _MOST_FLAT + 1].tolist()} if is_deep else {*range(256)}
        ends[place] = (grey < largest / 16).mean(), (grey > largest * 15 / 16).mean()
    of_both = ends.sum(1).min(initial=1) > AT_ENDS and bool((ends.mean(0) > THIN).all())
    threshold = 128 if largest == 255 else largest / 2
    return threshold if of_both and (len(seen) > _MOST_FLAT or are_edges(paths, threshold)) else None


def _greys(path: Path) -> tuple[NDArray[np.float32], bool]:
    """Return the greys of a mask ``[H,W]``, or the alpha of a cut-out object; and whether it has more than 8 bits."""
    with opened(path) as raster:
        values = np.asarray(raster[...])
    is_deep = values.dtype != np.uint8
    has_alpha = values.ndim == 3 and not is_deep and values.shape[2] in (2, 4)
    values = without_alpha(values, True) if has_alpha else values
    return values.reshape(*values.shape[:2], -1).mean(2, dtype=np.float32), is_deep


def _has_erased_labels(path: Path) -> bool:
    """Whether alpha divides several colours, few enough for labels: a photograph has many, a matte has one."""
    with opened(path) as raster:
        values = np.asarray(raster[...])
    if values.ndim < 3 or values.dtype != np.uint8 or values.shape[2] not in (2, 4):
        return False
    seen = np.unique(values[values[..., -1] > 0][:, :-1], axis=0)  # [colours,1 or 3]
    stored = np.unique(values.reshape(-1, values.shape[2]), axis=0)
    is_redundant = len(np.unique(stored[:, :-1], axis=0)) == len(stored)  # the colour determines the alpha
    if is_redundant or not 1 < len(seen) <= _MOST_FLAT:
        return False
    return bool(np.ptp(seen, axis=0).max() > JPEG_OFF or seen.max() <= _MOST_FLAT)  # else nearly one colour


def are_edges(paths: Sequence[Path], threshold: float) -> bool:
    """Whether the values between black and white in masks cover no area, and so cannot be a class."""
    flat = total = 0
    for path in paths:
        grey = torch.from_numpy(_greys(path)[0])[None] / (2 * threshold)  # [1,H,W]
        high, low = max_pool2d(grey, 3, 1, 1), -max_pool2d(-grey, 3, 1, 1)
        flat += int(((low > 1 / 16) & (high < 15 / 16) & (high - low < 1 / 16)).sum())
        total += grey.numel()
    return flat <= _FLAT * total


def some_of(masks: Sequence[Path], most: int = _MOST_HELD) -> list[Path]:
    """Return evenly spaced masks of a list, as many as fit into memory; a scan reports what the others hold."""
    pixels = 1
    with suppress(DataError):  # reported where it is read
        pixels = prod(read_header(masks[0]).size)
    most = max(_LEAST, min(most, _MOST_PIXELS // pixels))
    return [*masks[:: -(-len(masks) // most)]]


def each_mask(paths: Sequence[Path], threshold: float | None = None) -> Iterator[tuple[Path, Labels | DataError]]:
    """Yield the path of each mask, and the mask or why it cannot be read."""
    yield from zip(paths, read_ahead(lambda path: _read(path, threshold), paths, "masks"), strict=True)


def read_labels(paths: Sequence[Path], threshold: float | None = None) -> dict[Path, Labels]:
    """Return the masks that can be read, by their paths.

    Args:
        paths: paths of the masks.
        threshold: see :func:`read_mask`.

    Raises:
        LabelError: at least half of the masks cannot be read; with the reasons.
        DataError: some masks hold colours, and others labels.
    """
    read = dict(each_mask(paths, threshold))
    masks = {path: mask for path, mask in read.items() if not isinstance(mask, DataError)}
    if 2 * len(masks) <= len(read):
        issues = merged(each.issue for each in read.values() if isinstance(each, DataError) and each.issue)
        raise LabelError("\n".join(map(str, issues)) or "there are no masks")
    return _of_one_kind(_by_palettes(masks))


def _by_palettes(masks: dict[Path, Labels]) -> dict[Path, Labels]:
    """Return the masks; where palettes show one colour for several labels, as programs number them, convert to colours.

    ImageMagick and programs that make files smaller number the colours of each file anew, and keep greys in some files.
    """
    palettes = {path: palette for path in masks if (palette := read_header(path).palette)}
    drawn = [telling_colours(own, range(256), masks[path]) for path, own in palettes.items()]
    held = {path: np.unique(mask).tolist() for path, mask in masks.items()} if len(palettes) < len(masks) else {}
    if held:
        drawn = [{label: own[label] for label in held[path] if label < len(own)} for path, own in palettes.items()]
    meant = {(colour, label) for those in drawn for label, colour in those.items()}
    greys = {label for path, labels in held.items() if path not in palettes for label in labels}
    if not greys <= {red for (red, green, blue), _ in meant if red == green == blue}:
        return masks
    meant |= {((grey, grey, grey), grey) for grey in greys}
    if not all(drawn) or len({colour for colour, _ in meant}) == len(meant):
        return masks
    parts, ramp = np.array([1 << 16, 1 << 8, 1], np.int32), np.repeat(np.arange(256)[:, None], 3, 1)
    numbers = {path: np.array(palettes.get(path, ramp), np.int32) @ parts for path in masks}
    return {path: COLOUR | numbers[path].take(mask, mode="clip") for path, mask in masks.items()}


def _of_one_kind(masks: dict[Path, Labels]) -> dict[Path, Labels]:
    """Return the masks; where some hold colours, convert the greys of others (such as all black) to colours.

    Raises:
        DataError: some masks hold colours, and others labels that are none of these colours.
    """
    colours = {path: np.unique(mask) for path, mask in masks.items() if mask.max() >= COLOUR}
    if not colours:
        return masks
    known = np.unique(np.concatenate([*colours.values()]))
    greys = {path: COLOUR | 0x010101 * mask.astype(np.int64) for path, mask in masks.items() if path not in colours}
    odd = [path for path, grey in greys.items() if not (read_header(path).has_colours or np.isin(grey, known).all())]
    if odd:
        texts = [first_few(sorted(map(str, those)), 3) for those in (colours, odd)]
        what = f"of {len(masks)} that were read {len(colours)} hold colours ({texts[0]})"
        what += f", and {len(odd)} hold labels or greys ({texts[1]})"
        raise DataError(f"the masks differ in kind: {what}; export all of them in one way")
    return {path: greys.get(path, mask) for path, mask in masks.items()}


def _read(path: Path, threshold: float | None) -> Labels | DataError:
    try:
        if threshold is not None:
            return read_mask(path, threshold=threshold)
        mask: Labels = read_mask(path)
        return _blurred(mask, path) or mask
    except DataError as error:
        if error.issue is None or error.issue.kind != "colours":
            return error
        colours = [*error.issue.stored]
        packed = np.array([COLOUR | red << 16 | green << 8 | blue for red, green, blue in colours], np.int32)
        found: Labels = packed[read_mask(path, {colour: index for index, colour in enumerate(colours)})]
        errors = (_blurred(found >> shift & 255, path) for shift in (16, 8, 0))
        return next(filter(None, errors), None) or found


def _blurred(mask: Labels, path: Path) -> LabelError | None:
    """Return an error for a mask in which a third of the labels were never drawn, else None.

    Resizing and rotating by interpolation produce labels between those of their neighbours. No label of CamVid, VOC,
    DRIVE or Carvana is such a label in 30% of its pixels. JPEG produces labels without area near those that have area,
    at both the dark and the bright end.
    """
    mask = _middle(mask)
    between, within = between_and_within(mask)
    low, high = int(mask.min()), int(mask.max())
    pixels, of_between, of_within = (
        np.bincount(mask[where].ravel().astype(int) - low, minlength=high - low + 1) for where in (..., between, within)
    )
    labels = np.flatnonzero(pixels)
    is_odd = of_between[labels] > _BLURRED * pixels[labels]
    has_area = of_within[labels] > _AREA * pixels[labels]
    drawn = labels[has_area]
    if len(drawn) and drawn[-1] - drawn[0] > 4 * JPEG_OFF:
        off = [~has_area & (abs(labels - end) <= JPEG_OFF) for end in (drawn[0], drawn[-1])]
        if all(each.any() for each in off):
            is_odd |= off[0] | off[1]
    number = int(is_odd.sum())
    if number < max(_FEWEST_BLURRED, len(labels) / 3):
        return None
    what = "values between those of the classes, all along their borders, from smooth resizing, anti-aliasing or JPEG"
    advice = "export the masks again, one value per class; resize them by nearest neighbour, and never save them as "
    advice += "JPEG; in [dataset], threshold = 128 reads a matte or the probability of one class"
    return LabelError(Issue("blended", str(path), what, advice, f"{number} of {len(labels)} values"))


def _middle(mask: Labels) -> Labels:
    """Return the middle of a large mask at full resolution, which shows how the mask was drawn."""
    top, left = (max(0, side - _MIDDLE) // 2 for side in mask.shape)
    return mask[top : top + _MIDDLE, left : left + _MIDDLE]


def between_and_within(mask: Labels) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where a label lies between those on two opposite sides, and where all four sides have the same label."""
    between, within = np.zeros(mask.shape, bool), np.ones(mask.shape, bool)
    for lines, found, same in ((mask, between, within), (mask.T, between.T, within.T)):
        rises, falls = lines[:-1] < lines[1:], lines[:-1] > lines[1:]
        found[1:-1] |= (rises[:-1] & rises[1:]) | (falls[:-1] & falls[1:])
        same[:-1] &= ~(rises | falls)
        same[1:] &= ~(rises | falls)
    return between, within
