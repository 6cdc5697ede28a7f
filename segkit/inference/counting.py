"""How often labels occur, alone or beside the truth, a band of rows at a time: a count takes eight bytes a pixel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from segkit.metric.confusion import ConfusionMatrix

_BAND = 1 << 20  # pixels


def pixels_by_class(labels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """int64 ``[C]``, how often each class occurs in ``[H,W]``."""
    counts = np.zeros(classes, np.int64)
    for rows in _bands(labels):
        counts += np.bincount(labels[rows].ravel(), minlength=classes)
    return counts


def compare(confusion: ConfusionMatrix, truth: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Add predicted ``labels`` beside the ``truth`` to a matrix; both ``[H,W]``, the truth of classes and void."""
    classes = confusion.num_classes
    for rows in _bands(labels):
        row = np.where(truth[rows] == confusion.ignore_index, classes, truth[rows]).astype(np.int64)
        counts = np.bincount((row * classes + labels[rows]).ravel(), minlength=confusion.counts.numel())
        confusion.counts += torch.from_numpy(counts).view_as(confusion.counts)


def _bands(labels: NDArray[np.uint8]) -> Iterator[slice]:
    height, width = labels.shape
    step = max(1, _BAND // width)
    return (slice(top, top + step) for top in range(0, height, step))
