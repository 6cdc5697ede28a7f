"""What a scan keeps of each sample, and how often the classes occur in a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class SampleStatistics(NamedTuple):
    """What a scan keeps of one sample, as JSON holds it.

    Attributes:
        name: what the dataset calls it.
        size: height and width, pixels.
        counts: ``[C+1]``, pixels of each class, then of void.
        digest: of the image's pixels and shape: equal for equal images.
        dtype: of the image, ``uint8`` or ``float32``.
        channels: ``[C,3]``, see :func:`segkit.data.normalise.moments`; none of RGB of 8 bits.
        inspected: what its dataset says of its files (see :meth:`segkit.data.sample.Dataset.inspect`).
        measured: check -> what it has measured.
    """

    name: str
    size: tuple[int, int]
    counts: Sequence[int]
    digest: str
    dtype: str
    channels: Sequence[Sequence[float]]
    inspected: Mapping[str, Any]
    measured: Mapping[str, Any]


class LabelCounts:
    """How often the classes occur in a split.

    Args:
        counts: int64 ``[N,C+1]``, pixels by image and class; the last column is void.

    Attributes:
        pixels: int64 ``[C]``, labelled pixels of each class.
        image_pixels: int64 ``[C]``, labelled pixels of the images that contain the class.
        images: int64 ``[C]``, images that contain the class.
        shares: float64 ``[C]``, of each class in the labelled pixels.
        void: pixels without a label.
        void_images: images with such pixels.
    """

    def __init__(self, counts: NDArray[np.int64]) -> None:
        labelled, void = counts[:, :-1], counts[:, -1]
        self.pixels, self.images = labelled.sum(0), (labelled > 0).sum(0)
        self.image_pixels = (labelled.sum(1, keepdims=True) * (labelled > 0)).sum(0)
        self.shares = self.pixels / max(1, int(self.pixels.sum()))
        self.void, self.void_images = int(void.sum()), int(np.count_nonzero(void))
