"""Where each class is in each training image: some pixels of every class, which crops can be centred on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST = 32  # pixels of a class and image: over a run each is a crop's centre a few times
_BAND = 1 << 16  # pixels
_WITHIN = np.random.default_rng(0).uniform(size=MOST)  # a regular step would take the same column of each row


def histograms(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each label occurs in each band of rows of a mask ``[H,W]``: ``[N,256]``."""
    rows = _band(mask)
    bands = [np.ascontiguousarray(mask[top : top + rows]) for top in range(0, len(mask), rows)]
    return np.array([Image.fromarray(band).histogram() for band in bands], np.int64)  # five times as fast as bincount


def places_of(
    mask: NDArray[np.uint8], num_classes: int, bands: NDArray[np.int64] | None = None
) -> dict[int, NDArray[np.int32]]:
    """Pixels of each class in a mask ``[H,W]``, as flat indices: at most 32, spread over all there are.

    Args:
        mask: labels.
        num_classes: how many classes there are.
        bands: the mask's :func:`histograms`, where they are known.
    """
    before = np.cumsum(histograms(mask) if bands is None else bands, axis=0)  # [N,256], up to the end of each band
    rows, width = _band(mask), mask.shape[1]
    found = {}
    for label in np.flatnonzero(before[-1][:num_classes]).tolist():
        total = int(before[-1, label])
        count = min(total, MOST)
        wanted = ((np.arange(count) + _WITHIN[:count]) * total / count).astype(np.int64)  # of the class's pixels
        own = []
        where = np.searchsorted(before[:, label], wanted, side="right")  # [count], the band of each
        for band in np.unique(where).tolist():
            top = band * rows
            inside = np.flatnonzero(mask[top : top + rows] == label)
            earlier = int(before[band - 1, label]) if band else 0
            own.append(top * width + inside[wanted[where == band] - earlier])
        found[label] = np.concatenate(own).astype(np.int32)
    return found


def _band(mask: NDArray[np.uint8]) -> int:
    """Rows of a band: what is looked through for a pixel of a class is small."""
    return max(1, _BAND // int(mask.shape[1]))


@dataclass(frozen=True)
class Places:
    """The places of a split.

    Attributes:
        of_image: per image its classes' pixels, as :func:`places_of` gives them.
        sizes: height and width of each mask.
        left_out: the class that no crop is centred on: the split's largest, which any other crop shows.
    """

    of_image: Sequence[dict[int, NDArray[np.int32]]]
    sizes: Sequence[tuple[int, int]]
    left_out: int

    def of(self, index: int) -> list[NDArray[np.float64]]:
        """For each class in image ``index``, but for the largest, ``[N,2]``: y and x as parts of the image's size."""
        height, width = self.sizes[index]
        return [
            np.stack([(flat // width + 0.5) / height, (flat % width + 0.5) / width], axis=1)
            for label, flat in self.of_image[index].items()
            if label != self.left_out
        ]
