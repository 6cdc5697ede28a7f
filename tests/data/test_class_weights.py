"""Class weights by formula, by hand and on the real labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.data.statistics import LabelCounts
from segkit.errors import ConfigError, DataError


def class_weights(formula: str, pixels: Sequence[int], image_pixels: Sequence[int]) -> list[float]:
    """The weights of classes with these counts."""
    counts = LabelCounts(np.zeros((1, len(pixels) + 1), np.int64))
    counts.pixels, counts.image_pixels = np.array(pixels), np.array(image_pixels)
    return counts.class_weights(formula)


# CamVid's 367 training masks: labelled pixels of each class, and of the images that contain it
CAMVID = [10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967]
CAMVID_IMAGES = [
    *(60742419, 60576720, 60742419, 60913605, 57891851, 53145620),
    *(58219298, 28788115, 59722763, 52666175, 33193217),
]
# global shares would give the fence 4.0 and the bicyclist 15.4: they are in few images
CAMVID_MEDIAN_FREQUENCY = [0.28, 0.20, 4.8, 0.15, 1.0, 0.42, 3.8, 2.0, 0.79, 6.4, 8.8]


def test_median_frequency_counts_only_the_images_that_contain_the_class() -> None:
    # shares 0.9, 0.1 and, in one of two images, 0.2: the median is 0.2
    assert class_weights("median_frequency", [180, 20, 20], [200, 200, 100]) == pytest.approx([0.2 / 0.9, 2, 1])


def test_camvids_published_weights() -> None:
    assert class_weights("median_frequency", CAMVID, CAMVID_IMAGES) == pytest.approx(CAMVID_MEDIAN_FREQUENCY, rel=0.02)


def test_the_square_root_keeps_the_order_and_lessens_the_differences() -> None:
    assert class_weights("sqrt_median_frequency", CAMVID, CAMVID_IMAGES) == pytest.approx(
        [each**0.5 for each in class_weights("median_frequency", CAMVID, CAMVID_IMAGES)]
    )


def test_the_real_masks_have_these_counts(real_data: Path) -> None:
    pixels, image_pixels = np.zeros(11, np.int64), np.zeros(11, np.int64)
    for path in sorted((real_data / "camvid" / "masks" / "train").glob("*.png")):
        counts = np.bincount(np.asarray(Image.open(path)).ravel(), minlength=12)[:11]
        pixels += counts
        image_pixels[counts > 0] += counts.sum()
    assert pixels.tolist() == CAMVID
    assert image_pixels.tolist() == CAMVID_IMAGES


def test_inverse_gives_every_class_the_same_say() -> None:
    weights = class_weights("inverse", [900, 90, 10], [1000, 1000, 1000])
    assert np.mean(weights) == pytest.approx(1)
    assert weights[0] * 900 == pytest.approx(weights[1] * 90) == pytest.approx(weights[2] * 10)


def test_effective_number_is_its_formula_with_beta_from_the_median() -> None:
    pixels = [900, 100, 10]
    beta = 1 - 1 / 100
    raw = [(1 - beta) / (1 - beta**n) for n in pixels]
    expected = [each / np.mean(raw) for each in raw]
    assert class_weights("effective_number", pixels, [1000] * 3) == pytest.approx(expected)


def test_effective_number_lies_between_inverse_and_no_weights_whatever_the_resolution() -> None:
    weights, inverse = (class_weights(name, CAMVID, CAMVID_IMAGES) for name in ("effective_number", "inverse"))
    assert 1 < max(weights) / min(weights) < max(inverse) / min(inverse)
    larger = class_weights("effective_number", [4 * each for each in CAMVID], [4 * each for each in CAMVID_IMAGES])
    assert larger == pytest.approx(weights, rel=1e-5)


@pytest.mark.parametrize("formula", ["median_frequency", "sqrt_median_frequency", "inverse", "effective_number"])
def test_an_absent_class_weighs_1_and_moves_no_other(formula: str) -> None:
    absent = class_weights(formula, [900, 0, 100], [1000, 0, 1000])
    present = class_weights(formula, [900, 100], [1000, 1000])
    assert absent == pytest.approx([present[0], 1, present[1]])


@pytest.mark.parametrize("formula", ["median_frequency", "sqrt_median_frequency", "inverse", "effective_number"])
def test_a_single_pixel_is_enough(formula: str) -> None:
    assert np.isfinite(class_weights(formula, [1, 1], [2, 2])).all()


def test_what_cannot_be_computed_is_told() -> None:
    with pytest.raises(ConfigError, match=r'"median_frequncy"; allowed are numbers and median_frequency, sqrt_'):
        class_weights("median_frequncy", [1], [1])
    with pytest.raises(DataError, match="no pixel of the training masks is labelled"):
        class_weights("inverse", [0, 0], [0, 0])
