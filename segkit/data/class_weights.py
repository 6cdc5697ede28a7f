"""Class weights, which keep rare classes from being drowned out, by the name of a formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from segkit.errors import ConfigError, DataError, did_you_mean

Numbers = NDArray[np.float64]


def class_weights(formula: str, pixels: Sequence[int], image_pixels: Sequence[int]) -> list[float]:
    """One weight for each class by the name of a formula.

    A class without a pixel gets the weight 1: training never uses it, and in the loss of another split, which may hold
    the class, it counts like an ordinary class.

    Args:
        formula: ``median_frequency``, ``sqrt_median_frequency``, ``inverse`` or ``effective_number``.
        pixels: labelled pixels of each class, ``[C]``.
        image_pixels: labelled pixels, of any class, of the images that contain the class, ``[C]``.

    Raises:
        ConfigError: there is no such formula.
        DataError: no class has a pixel.
    """
    if formula not in FORMULAS:
        raise ConfigError(
            f'class_weights = "{formula}"; allowed are a list of numbers and {", ".join(FORMULAS)}'
            + did_you_mean(formula, FORMULAS)
        )
    counts, around = np.asarray(pixels, np.float64), np.asarray(image_pixels, np.float64)
    present = counts > 0
    if not present.any():
        raise DataError(f'class_weights = "{formula}": no pixel of the training masks is labelled')
    weights = np.ones(len(counts))
    weights[present] = FORMULAS[formula](counts[present], around[present])
    return [float(weight) for weight in weights]


def median_frequency(pixels: Numbers, image_pixels: Numbers) -> Numbers:
    """``median(f) / f``, where f is the share of the class in the images that contain it.

    Eigen and Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale Convolutional
    Architecture", ICCV 2015, arXiv 1411.4734. Void is not counted.
    """
    frequency = pixels / image_pixels
    return np.asarray(np.median(frequency) / frequency)


def sqrt_median_frequency(pixels: Numbers, image_pixels: Numbers) -> Numbers:
    """The square root of ``median_frequency``: rare classes are found too, and large ones lose less to them."""
    return np.sqrt(median_frequency(pixels, image_pixels))


def inverse(pixels: Numbers, image_pixels: Numbers) -> Numbers:
    """``1 / share`` over all images, scaled to a mean of 1: every class has the same say, noisy rare ones too."""
    return _mean_one(1 / pixels)


def effective_number(pixels: Numbers, image_pixels: Numbers) -> Numbers:
    """``(1 - beta) / (1 - beta ** n)`` for n pixels, scaled to a mean of 1.

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, arXiv 1901.05555. Their betas up
    to 0.9999 are for thousands of images; with millions of pixels all weights would be equal. Here beta is 1 - 1/N
    with N the median class's pixels, whatever the resolution: rarer classes than that are weighted nearly as by
    ``inverse``, larger ones nearly alike.
    """
    beta = 1 - 1 / max(float(np.median(pixels)), 2.0)
    return _mean_one((1 - beta) / -np.expm1(pixels * np.log(beta)))


def _mean_one(weights: Numbers) -> Numbers:
    return np.asarray(weights / weights.mean())


FORMULAS: dict[str, Callable[[Numbers, Numbers], Numbers]] = {
    "median_frequency": median_frequency,
    "sqrt_median_frequency": sqrt_median_frequency,
    "inverse": inverse,
    "effective_number": effective_number,
}
