"""How often each class occurs in a split: what class weights and floors are computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelCounts:
    """How often the classes occur in a split.

    Attributes:
        pixels: int64 ``[C]``, labelled pixels of each class.
        image_pixels: int64 ``[C]``, labelled pixels of the images that contain the class.
        images: int64 ``[C]``, images that contain the class.
        void: pixels without a label.
        void_images: images with such pixels.
    """

    pixels: NDArray[np.int64]
    image_pixels: NDArray[np.int64]
    images: NDArray[np.int64]
    void: int
    void_images: int = 0

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> LabelCounts:
        """The sums over a split of pixels by image and class, ``[N,C+1]``; the last column is void."""
        labelled = counts[:, :-1]
        present = labelled > 0
        around = labelled.sum(1, keepdims=True) * present
        void = counts[:, -1]
        return cls(labelled.sum(0), around.sum(0), present.sum(0), int(void.sum()), int(np.count_nonzero(void)))

    @property
    def shares(self) -> NDArray[np.float64]:
        """float64 ``[C]``, the share of each class in the labelled pixels."""
        return self.pixels / max(1, int(self.pixels.sum()))
