"""Check that labels lie where images show something: not mirrored (y upwards), not drawn on smaller copies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.data.scan import Scan
from segkit.errors import DataError
from segkit_init.findings import Answer, Question

_LOOKED_AT = 20  # samples
_FEWEST = 5
_GAIN = 1.1  # times the contrast along the borders of labels
_SURELY = 4  # times the deviation of the mean
_CORNER = 0.6  # of height and width
_CENTRE = 0.35


def placed(scan: Scan) -> Iterator[Question]:
    """Ask whether labels are placed right, where mirrored labels fit the images better or all lie in one corner."""
    every = [(data, index) for data in scan.splits.values() for index in range(len(data))]
    total = sum(scan.counts(split).shares for split in scan.splits)
    gains: dict[str, list[float]] = {}
    boxes = []
    for data, index in every[:: -(-len(every) // _LOOKED_AT)]:
        with suppress(DataError):  # the scan reports it
            sample = data[index]
            labels, grey = sample.mask.numpy().astype(np.int16), sample.image.numpy().mean(0)  # [H,W]
            labels[labels == data.ignore_index] = -1
            ways = {
                "upside down": labels[::-1],
                "from right to left": labels[:, ::-1],
                "turned by half": labels[::-1, ::-1],
            }
            if labels.shape[0] == labels.shape[1]:
                ways["mirrored at the diagonal"] = labels.T
                ways["turned by a quarter to the left"] = np.rot90(labels)
                ways["turned by a quarter to the right"] = np.rot90(labels, 3)
            if own := _contrast(labels, grey):
                for way, turned in ways.items():
                    gains.setdefault(way, []).append(math.log(max(_contrast(turned, grey), 1e-9) / own))
            if (shown := np.argwhere((labels >= 0) & (labels != int(total.argmax())))).size:
                boxes.append(np.concatenate([shown.min(0), shown.max(0) + 1]) / (*labels.shape, *labels.shape))
    mend = Answer("no: correct the labels, and run init again")
    found = {way: np.array(those) for way, those in gains.items() if len(those) >= _FEWEST}
    sure = {
        way: those.mean()
        for way, those in found.items()
        if those.mean() > max(math.log(_GAIN), _SURELY * those.std(ddof=1) / math.sqrt(len(those)))
    }
    if sure:
        text = f"the borders of the labels match edges in the images better {max(sure, key=lambda way: sure[way])}"
        yield Question(f"{text}: are the labels right as they are?", [Answer("yes"), mend], "root")
    if len(boxes) >= _FEWEST:
        least, most = np.min(boxes, 0)[:2], np.max(boxes, 0)[2:]
        if (most < _CORNER).all() and ((least + most) / 2 < _CENTRE).all():
            text = (
                f"all labels lie in the upper left {most[0]:.0%} of the height and {most[1]:.0%} of the width of the "
            )
            text += "images, as if they were drawn on smaller copies: do they belong there?"
            yield Question(text, [Answer("yes"), mend], "root")


def _contrast(labels: NDArray[np.int16], grey: NDArray[Any]) -> float:
    """Return the mean step of grey values across the borders of labels, except borders of void."""
    total = number = 0.0
    for own, values in ((labels, grey), (labels.T, grey.T)):
        apart = (own[1:] != own[:-1]) & (own[1:] >= 0) & (own[:-1] >= 0)
        total += float(np.abs(np.diff(values, axis=0))[apart].sum())
        number += int(apart.sum())
    return total / number if number else 0.0
