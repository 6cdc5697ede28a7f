"""Check that labels cover what images show: not of other images, mirrored, on smaller copies, or outlines alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.data.scan import Scan
from segkit.errors import DataError
from segkit_init.questions import Answer, Question

_LOOKED_AT = 20  # samples
_FEWEST = 5
_HARDLY = 1.5  # times the deviation of the mean
_FEWEST_OTHERS = 8  # labels of other images
_COARSE = 64  # the most pixels in a row or column, at which borders may be drawn roughly
_ALIKE = 0.9  # share of equal pixels in the labels of slices of one volume
_GAIN = 1.1  # times the contrast along the borders of labels
_SURELY = 4  # times the deviation of the mean
_CORNER = 0.6  # of height and width
_CENTRE = 0.35
_HALF_WIDE = 3  # pixels from the middle of a drawn line to its side
_MOSTLY = 0.6  # share of masks; lines of objects at the edge of an image are open
_WAYS: Mapping[str, Callable[..., Any]] = {
    "upside down": np.flipud,
    "from right to left": np.fliplr,
    "turned by half": partial(np.rot90, k=2),
}
_OF_SQUARES: Mapping[str, Callable[..., Any]] = {
    "mirrored at the diagonal": np.transpose,
    "turned by a quarter to the left": np.rot90,
    "turned by a quarter to the right": partial(np.rot90, k=3),
}


def placed(scan: Scan) -> Iterator[Question]:
    """Ask whether labels are placed right, where mirrored ones fit better, others as well, or all lie in one corner.

    Ask also whether closed lines are meant, or the areas inside.
    """
    every = [(data, index) for data in scan.splits.values() for index in range(len(data))]
    usual = int(sum(scan.counts(split).shares for split in scan.splits).argmax())
    gains: dict[str, list[float]] = {}
    fits: list[list[float]] = []
    boxes, lines = [], []
    previous = np.zeros((0, 0), np.int16)
    for data, index in every[:: -(-len(every) // _LOOKED_AT)]:
        with suppress(DataError):  # the scan reports it
            sample = data[index]
            labels = sample.mask.numpy().astype(np.int16)  # [H,W]
            image = sample.image.numpy().transpose(1, 2, 0)  # [H,W,C]
            labels[labels == data.ignore_index] = -1
            is_square = labels.shape[0] == labels.shape[1]
            if own := _contrast(labels, image):
                for way, turn in {**_WAYS, **(_OF_SQUARES if is_square else {})}.items():
                    gains.setdefault(way, []).append(math.log(max(_contrast(turn(labels), image), 1e-9) / own))
                if _are_unlike(labels, previous, usual):
                    fits.append([_gain(labels, previous, image), _gain(labels, previous, image, _COARSE)])
            previous = labels
            covered = (labels >= 0) & (labels != usual)
            if (shown := np.argwhere(covered)).size:
                boxes.append(np.concatenate([shown.min(0), shown.max(0) + 1]) / (*labels.shape, *labels.shape))
                lines.append(_are_closed_lines(covered))
    answers = Answer("yes"), Answer("no: correct the labels, and run init again")
    sure = {}
    for way, those in gains.items():
        if len(those) >= _FEWEST:
            gain, deviation = float(np.mean(those)), float(np.std(those, ddof=1)) / math.sqrt(len(those))
            if gain > max(math.log(_GAIN), _SURELY * deviation):
                sure[way] = gain
    texts = []
    if sure:
        text = f"the borders of the labels match edges in the images better {max(sure, key=sure.__getitem__)}"
        texts.append(f"{text}: are the labels right as they are?")
    if len(boxes) >= _FEWEST:
        least, most = np.min(boxes, 0)[:2], np.max(boxes, 0)[2:]
        if (most < _CORNER).all() and ((least + most) / 2 < _CENTRE).all():
            where = f"upper left {most[0]:.0%} of the height and {most[1]:.0%} of the width of the images"
            texts.append(
                f"all labels lie in the {where}, as if they were drawn on smaller copies: do they belong there?"
            )
    is_known = len(fits) >= _FEWEST_OTHERS and not texts
    if is_known and (np.mean(fits, 0) < _HARDLY * np.std(fits, 0) / math.sqrt(len(fits))).all():
        text = "the borders of the labels match edges in the images no better than those of other images do"
        texts.append(f"{text}: does each mask belong to its image?")
    yield from (Question(text, answers) for text in texts)
    if len(lines) >= _FEWEST and np.mean(lines) >= _MOSTLY:
        mend = Answer("no: fill them, in SciPy scipy.ndimage.binary_fill_holes(mask), and run init again")
        text = "the masks hold closed lines alone, as if outlines were drawn: are the lines what is to be found?"
        yield Question(text, [Answer("yes"), mend])


def _are_closed_lines(covered: NDArray[np.bool_]) -> bool:
    """Whether pixels form closed thin lines that do not meet: as many holes as parts, so that Euler's number is 0."""
    cells = np.pad(covered, 1)
    corners = np.stack([cells[:-1, :-1], cells[1:, 1:], cells[1:, :-1], cells[:-1, 1:]])  # of each 2 x 2 pixels
    number = corners.sum(0)  # [H+1,W+1]
    are_diagonal = (number == 2) & (corners[0] == corners[1])
    for _ in range(_HALF_WIDE):
        cells[1:-1, 1:-1] &= cells[:-2, 1:-1] & cells[2:, 1:-1] & cells[1:-1, :-2] & cells[1:-1, 2:]
    return not cells.any() and bool((number == 1).sum() == (number == 3).sum() + 2 * are_diagonal.sum())


def _are_unlike(labels: NDArray[np.int16], others: NDArray[np.int16], usual: int) -> bool:
    """Whether the labels of two images have one size, no void, which may hide borders, and differ."""
    if labels.shape != others.shape or (labels < 0).any() or (others < 0).any():
        return False
    same, shown = labels == others, labels != usual
    return bool(same.mean() < _ALIKE or 2 * (same & shown).sum() < shown.sum())


def _gain(labels: NDArray[np.int16], others: NDArray[np.int16], image: NDArray[Any], most: int = 1 << 30) -> float:
    """Return the logarithm of the contrast along the borders of an image's labels over that of other labels."""
    step = min(-(-max(labels.shape) // most), *labels.shape)
    rows, columns = (side // step for side in labels.shape)
    small = image[: rows * step, : columns * step]
    if step > 1:  # the mean takes eight times the memory of an image
        small = small.reshape(rows, step, columns, step, -1).mean((1, 3))  # [h,w,C]
    own, other = (_contrast(each[::step, ::step][:rows, :columns], small) for each in (labels, others))
    return math.log(own / other) if own and other else 0.0


def _contrast(labels: NDArray[np.int16], image: NDArray[Any]) -> float:
    """Return the mean step of the channels across the borders of labels, except borders of void."""
    steps = []
    for own, values in ((labels, image), (labels.T, image.swapaxes(0, 1))):
        apart = (own[1:] != own[:-1]) & (own[1:] >= 0) & (own[:-1] >= 0)
        steps.append(np.abs(values[1:][apart].astype(np.float32) - values[:-1][apart]).ravel())
    every = np.concatenate(steps)
    return float(every.mean()) if every.size else 0.0
