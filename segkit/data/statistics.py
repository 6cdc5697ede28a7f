"""Statistics of a sample, class frequencies of a split, and class weights computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from segkit.errors import ConfigError, DataError
from segkit.settings import FORMULAS


class SampleStatistics(NamedTuple):
    """The scan's statistics of one sample; JSON-serialisable.

    Attributes:
        name: the sample's name.
        size: height and width of the mask, pixels.
        counts: ``[C+1]``, pixels of each class, then of void.
        digest: hash of the image's dtype, shape and pixels.
        dtype: dtype of the image, ``uint8`` or ``float32``.
        channels: ``[C,3]``, see :func:`segkit.data.normalise.moments`; empty for 8-bit RGB.
        measured: name of a plugin's check -> its measurement.
    """

    name: str
    size: tuple[int, int]
    counts: Sequence[int]
    digest: str
    dtype: str
    channels: Sequence[Sequence[float]]
    measured: Mapping[str, Any]


class LabelCounts:
    """Class frequencies of a split.

    Args:
        counts: int64 ``[N,C+1]``, pixels by image and class; the last column is void.

    Attributes:
        pixels: int64 ``[C]``, pixels of each class.
        image_pixels: int64 ``[C]``, all labelled pixels of the images that contain the class.
        images: int64 ``[C]``, number of images that contain the class.
        shares: float64 ``[C]``, share of each class in the labelled pixels.
        void: number of void pixels.
        void_images: number of images with void pixels.
    """

    def __init__(self, counts: NDArray[np.int64]) -> None:
        labelled, void = counts[:, :-1], counts[:, -1]
        self.pixels, self.images = labelled.sum(0), (labelled > 0).sum(0)
        self.image_pixels = (labelled.sum(1, keepdims=True) * (labelled > 0)).sum(0)
        self.shares = self.pixels / max(1, int(self.pixels.sum()))
        self.void, self.void_images = int(void.sum()), int(np.count_nonzero(void))

    def class_weights(self, formula: str) -> list[float]:
        """Compute one weight per class with a named formula; rare classes get larger weights.

        - ``median_frequency``: ``median(f) / f``, where f is the share of the class in the images that contain it; void
          is not counted. Eigen and Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common
          Multi-Scale Convolutional Architecture", ICCV 2015, arXiv 1411.4734.
        - ``sqrt_median_frequency``: the square root of it; a milder correction that costs large classes less accuracy.
        - ``inverse``: ``1 / share`` over all images, scaled to a mean of 1; every class counts equally, even rare noisy
          ones.
        - ``effective_number``: ``(1 - beta) / (1 - beta ** n)`` for n pixels, scaled to a mean of 1. Cui et al.,
          "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, arXiv 1901.05555. Their betas of up to
          0.9999 suit thousands of images; with millions of pixels all weights would be equal. Here beta is 1 - 1/N, N
          being the median of the classes' pixel counts, at any resolution: classes rarer than the median get nearly the
          weights of ``inverse``, more frequent ones nearly equal weights.

        A class without pixels gets the weight 1: training never uses it, and in the loss of another split that contains
        the class it counts like an ordinary class.

        Raises:
            ConfigError: the formula is unknown.
            DataError: no class has a pixel.
        """
        if formula not in get_args(FORMULAS):
            raise ConfigError(f'class_weights = "{formula}"; allowed are numbers and {", ".join(get_args(FORMULAS))}')
        present = self.pixels > 0
        if not present.any():
            raise DataError(f'class_weights = "{formula}": no pixel of the training masks is labelled')
        pixels = self.pixels[present].astype(np.float64)
        if formula.endswith("median_frequency"):
            share = pixels / self.image_pixels[present]
            values = np.median(share) / share
            values = np.sqrt(values) if formula.startswith("sqrt") else values
        else:
            beta = 1 - 1 / max(float(np.median(pixels)), 2.0)
            values = 1 / pixels if formula == "inverse" else (1 - beta) / -np.expm1(pixels * np.log(beta))
            values = values / values.mean()
        weights = np.ones(len(present))
        weights[present] = values
        return [float(weight) for weight in weights]
