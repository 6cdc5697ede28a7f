"""Where each class is in each training image: some pixels of every class, which crops can be centred on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 32  # pixels of a class and image: over a run each is a crop's centre a few times
_WITHIN = np.random.default_rng(0).uniform(size=MOST)  # a regular step would take the same column of each row


def places_of(mask: NDArray[np.uint8], num_classes: int) -> dict[int, NDArray[np.int32]]:
    """Pixels of each class in a mask ``[H,W]``, as flat indices: at most 32, spread over all there are."""
    flat = mask.reshape(-1)
    order = np.argsort(flat, kind="stable")  # a radix sort for uint8
    ends = np.cumsum(np.bincount(flat, minlength=256))[:num_classes]
    found = {}
    for label, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        if end > start:
            count = min(int(end - start), MOST)
            steps = (np.arange(count) + _WITHIN[:count]) * (end - start) / count
            found[label] = order[start + steps.astype(np.int64)].astype(np.int32)
    return found


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
