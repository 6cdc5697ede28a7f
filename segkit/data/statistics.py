"""What a scan keeps of each sample; how often the classes occur in a split, and what they then weigh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from segkit.errors import ConfigError, DataError
from segkit.settings import FORMULAS


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

    def class_weights(self, formula: str) -> list[float]:
        """One weight for each class by the name of a formula, which keeps rare classes from being drowned out.

        - ``median_frequency``: ``median(f) / f``, where f is the share of the class in the images that contain it; void
          is not counted. Eigen and Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common
          Multi-Scale Convolutional Architecture", ICCV 2015, arXiv 1411.4734.
        - ``sqrt_median_frequency``: its square root: rare classes are found too, and large ones lose less to them.
        - ``inverse``: ``1 / share`` over all images, scaled to a mean of 1: every class has the same say, noisy rare
          ones too.
        - ``effective_number``: ``(1 - beta) / (1 - beta ** n)`` for n pixels, scaled to a mean of 1. Cui et al.,
          "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, arXiv 1901.05555. Their betas up to
          0.9999 are for thousands of images; with millions of pixels all weights would be equal. Here beta is 1 - 1/N
          with N the median class's pixels, whatever the resolution: rarer classes than that are weighted nearly as by
          ``inverse``, larger ones nearly alike.

        A class without a pixel gets the weight 1: training never uses it, and in the loss of another split, which may
        hold the class, it counts like an ordinary class.

        Raises:
            ConfigError: there is no such formula.
            DataError: no class has a pixel.
        """
        if formula not in get_args(FORMULAS):
            raise ConfigError(f'class_weights = "{formula}"; allowed are numbers and {", ".join(get_args(FORMULAS))}')
        present = self.pixels > 0
        if not present.any():
            raise DataError(f'class_weights = "{formula}": no pixel of the training masks is labelled')
        own = self.pixels[present].astype(np.float64)
        if formula.endswith("median_frequency"):
            share = own / self.image_pixels[present]
            found = np.median(share) / share
            found = np.sqrt(found) if formula.startswith("sqrt") else found
        else:
            beta = 1 - 1 / max(float(np.median(own)), 2.0)
            found = 1 / own if formula == "inverse" else (1 - beta) / -np.expm1(own * np.log(beta))
            found = found / found.mean()
        weights = np.ones(len(present))
        weights[present] = found
        return [float(weight) for weight in weights]
