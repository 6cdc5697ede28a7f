"""What a scan keeps of each sample, and how often the classes occur in a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class SampleStatistics(NamedTuple):
    """What a scan keeps of one sample.

    Attributes:
        name: what the dataset calls it.
        size: height and width, pixels.
        counts: int64 ``[C+1]``, pixels of each class, then of void.
        digest: of the image's pixels and shape: equal for equal images.
        dtype: of the image, ``uint8`` or ``float32``.
        channels: float64 ``[C,3]``, see :func:`segkit.data.normalise.moments`; none of RGB of 8 bits.
        inspected: what its dataset says of its files (see :meth:`segkit.data.sample.Dataset.inspect`).
        measured: check -> what it has measured.
    """

    name: str
    size: tuple[int, int]
    counts: NDArray[np.int64]
    digest: str
    dtype: str
    channels: NDArray[np.float64]
    inspected: Mapping[str, Any]
    measured: Mapping[str, Any]

    def to_json(self) -> list[Any]:
        """The fields as JSON holds them, for the cache."""
        return [each.tolist() if isinstance(each, np.ndarray) else each for each in self]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> SampleStatistics:
        """From what :meth:`to_json` has given."""
        name, size, counts, digest, dtype, channels, *rest = values
        moments = np.array(channels, np.float64).reshape(-1, 3)
        return cls(name, tuple(size), np.array(counts, np.int64), digest, dtype, moments, *rest)


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
