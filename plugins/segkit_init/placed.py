"""Check that labels cover what images show: not of other images, mirrored, on smaller copies, or outlines alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.data.read import opened
from segkit.data.sample import Dataset
from segkit.data.scan import Scan
from segkit.errors import DataError
from segkit_init.questions import Answer, Question

LOOKED_AT = 20  # samples
_FEWEST = 5
_FEWEST_TURNED = 3
_HARDLY = 1.5  # times the deviation of the mean
_FEWEST_OTHERS = 8  # labels of other images
_COARSE = 64  # the most pixels in a row or column, at which borders may be drawn roughly
_ALIKE = 0.9  # share of equal pixels in the labels of slices of one volume
_GAIN = 1.1  # times the contrast along the borders of labels
_SURELY = 4  # times the deviation of the mean
_CORNER = 0.6  # of height and width
_CENTRE = 0.35
_FEWEST_PARTS = 3  # of an image
_UNLIKE = 0.25  # of the difference between objects and background
_HALF_WIDE = 3  # pixels from the middle of a drawn line to its side
_BESIDE = 4  # pixels from a line to what it encloses
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
    for data, index in every[:: -(-len(every) // LOOKED_AT)]:
        with suppress(DataError):  # the scan reports it
            labels, image = _shown(data, index)
            if turned := _turned(labels, image):
                for way, gain in turned.items():
                    gains.setdefault(way, []).append(gain)
                if _are_unlike(labels, previous, usual):
                    fits.append([_gain(labels, previous, image), _gain(labels, previous, image, _COARSE)])
            previous = labels
            covered = (labels >= 0) & (labels != usual)
            if (shown := np.argwhere(covered)).size:
                boxes.append(np.concatenate([shown.min(0), shown.max(0) + 1]) / (*labels.shape, *labels.shape))
                lines.append(_are_closed_lines(covered, image))
    answers = Answer("yes"), Answer("no: correct the labels, and run init again")
    sure = {way: float(np.mean(those)) for way, those in gains.items() if len(those) >= _FEWEST and _are_gains(those)}
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


def _shown(data: Dataset, index: int) -> tuple[NDArray[np.int16], NDArray[Any]]:
    """Return the labels of a sample, with -1 for void ``[H,W]``, and its image ``[H,W,C]``."""
    sample = data[index]
    labels = sample.mask.numpy().astype(np.int16)
    labels[labels == data.ignore_index] = -1
    return labels, sample.image.numpy().transpose(1, 2, 0)


def _turned(labels: NDArray[np.int16], image: NDArray[Any]) -> dict[str, float]:
    """Return the logarithm of the contrast of turned labels over that of labels as they are; {} without borders."""
    if not (own := _contrast(labels, image)):
        return {}
    ways = {**_WAYS, **(_OF_SQUARES if labels.shape[0] == labels.shape[1] else {})}
    return {way: math.log(max(_contrast(turn(labels), image), 1e-9) / own) for way, turn in ways.items()}


def _are_gains(those: Sequence[float]) -> bool:
    """Whether the mean of logarithms of contrasts is surely above 0."""
    return float(np.mean(those)) > max(math.log(_GAIN), _SURELY * float(np.std(those, ddof=1)) / math.sqrt(len(those)))


def are_upright(scan: Scan, names: Collection[tuple[str, str]]) -> bool:
    """Whether the labels of samples (split, name) surely fit their images better than mirrored and turned ones do."""
    losses: dict[str, list[float]] = {}
    for split, data in scan.splits.items():
        for index in [at for at, each in enumerate(scan.statistics[split]) if (split, each.name) in names]:
            with suppress(DataError):  # the scan reports it
                for way, gain in _turned(*_shown(data, index)).items():
                    losses.setdefault(way, []).append(-gain)
    return bool(losses) and all(len(those) >= _FEWEST_TURNED and _are_gains(those) for those in losses.values())


def are_told_apart(pairs: Sequence[tuple[Path, NDArray[Any]]], background: int, usual: int) -> bool:
    """Whether labels only tell touching objects apart, as programs do that number neighbours with a few numbers.

    Then many pixels have the ``usual`` label, all others lie beside these, and both look alike in the images.
    """
    numbers, unlike = np.zeros(3), []
    for path, mask in pairs:
        own, other = mask == usual, (mask != usual) & (mask != background)
        numbers += [_parts_less_holes(own), _parts_less_holes(other), _parts_less_holes(own | other)]
        with suppress(DataError), opened(path) as raster:  # the scan reports it
            image = np.asarray(raster[...], np.float32)
            if image.shape[:2] == mask.shape and own.any() and other.any() and (mask == background).any():
                looks = [image[each].mean(0) for each in (own, other, mask == background)]
                unlike.append(np.abs(looks[0] - looks[1]).sum() / (np.abs(looks[0] - looks[2]).sum() + 1e-9))
    first, others, together = numbers
    is_beside = first >= _FEWEST_PARTS * len(pairs) and others >= len(pairs) / 2 and together <= 1.05 * first
    return len(unlike) >= _FEWEST and bool(is_beside and np.median(unlike) < _UNLIKE)


def _are_closed_lines(covered: NDArray[np.bool_], image: NDArray[Any]) -> bool:
    """Whether pixels form closed thin lines: as many holes as parts, or more where lines meet and their sides differ.

    On both sides of membranes, vessels and roads, an image is rather the same, and the line is not.
    """
    cells = np.pad(covered, 1)
    for _ in range(_HALF_WIDE):
        cells[1:-1, 1:-1] &= cells[:-2, 1:-1] & cells[2:, 1:-1] & cells[1:-1, :-2] & cells[1:-1, 2:]
    if cells.any() or (number := _parts_less_holes(covered)) > 0:
        return False
    across, on_line = 0.0, 0.0
    for lines, values in ((covered, image), (covered.T, image.swapaxes(0, 1))):
        here = lines[_BESIDE:-_BESIDE] & ~lines[: -2 * _BESIDE] & ~lines[2 * _BESIDE :]
        before, line, after = (values[at : at + len(here)][here].astype(np.float32) for at in (0, _BESIDE, 2 * _BESIDE))
        across += float(np.abs(before - after).sum())
        on_line += float(np.abs(2 * line - before - after).sum()) / 2
    return number == 0 or across > on_line


def _parts_less_holes(covered: NDArray[np.bool_]) -> int:
    """Return the number of connected parts minus that of their holes (Euler's number); corners connect."""
    cells = np.pad(covered, 1)
    corners = np.stack([cells[:-1, :-1], cells[1:, 1:], cells[1:, :-1], cells[:-1, 1:]])  # of each 2 x 2 pixels
    number = corners.sum(0)  # [H+1,W+1]
    are_diagonal = (number == 2) & (corners[0] == corners[1])
    return int((number == 1).sum() - (number == 3).sum() - 2 * are_diagonal.sum()) // 4


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
