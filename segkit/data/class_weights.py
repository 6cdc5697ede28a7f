"""Class weights, which keep rare classes from being drowned out, by the name of a formula."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segkit.errors import ConfigError, DataError, did_you_mean

FORMULAS = ("median_frequency", "sqrt_median_frequency", "inverse", "effective_number")


def class_weights(formula: str, pixels: Sequence[int], image_pixels: Sequence[int]) -> list[float]:
    """One weight for each class by the name of a formula.

    - ``median_frequency``: ``median(f) / f``, where f is the share of the class in the images that contain it; void is
      not counted. Eigen and Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale
      Convolutional Architecture", ICCV 2015, arXiv 1411.4734.
    - ``sqrt_median_frequency``: its square root: rare classes are found too, and large ones lose less to them.
    - ``inverse``: ``1 / share`` over all images, scaled to a mean of 1: every class has the same say, noisy rare ones
      too.
    - ``effective_number``: ``(1 - beta) / (1 - beta ** n)`` for n pixels, scaled to a mean of 1. Cui et al.,
      "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, arXiv 1901.05555. Their betas up to 0.9999
      are for thousands of images; with millions of pixels all weights would be equal. Here beta is 1 - 1/N with N the
      median class's pixels, whatever the resolution: rarer classes than that are weighted nearly as by ``inverse``,
      larger ones nearly alike.

    A class without a pixel gets the weight 1: training never uses it, and in the loss of another split, which may hold
    the class, it counts like an ordinary class.

    Args:
        formula: one of these.
        pixels: labelled pixels of each class, ``[C]``.
        image_pixels: labelled pixels, of any class, of the images that contain the class, ``[C]``.

    Raises:
        ConfigError: there is no such formula.
        DataError: no class has a pixel.
    """
    if formula not in FORMULAS:
        allowed = f"allowed are a list of numbers and {', '.join(FORMULAS)}{did_you_mean(formula, FORMULAS)}"
        raise ConfigError(f'class_weights = "{formula}"; {allowed}')
    counts = np.asarray(pixels, np.float64)
    present = counts > 0
    if not present.any():
        raise DataError(f'class_weights = "{formula}": no pixel of the training masks is labelled')
    own, around = counts[present], np.asarray(image_pixels, np.float64)[present]
    if formula.endswith("median_frequency"):
        found = np.median(own / around) / (own / around)
        found = np.sqrt(found) if formula.startswith("sqrt") else found
    else:
        beta = 1 - 1 / max(float(np.median(own)), 2.0)
        found = 1 / own if formula == "inverse" else (1 - beta) / -np.expm1(own * np.log(beta))
        found = found / found.mean()
    weights = np.ones(len(counts))
    weights[present] = found
    return [float(weight) for weight in weights]
