"""How images are normalised: measured where they have more than 8 bits, else ImageNet's or what the model asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from segkit.data.normalise import IMAGENET, MEAN, STD, Normalisation, moments
from segkit.data.sample import Dataset, Sample, channel_names
from segkit.data.scan import measure
from segkit.data.statistics import SampleStatistics

CPU = torch.device("cpu")


class Pictures(Dataset):
    """Images as they are given."""

    classes, palette, ignore_index = ("a", "b"), ((0, 0, 0), (9, 9, 9)), 255

    def __init__(self, *images: np.ndarray) -> None:
        self.images, self.channels = images, channel_names(len(images[0]))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        image = torch.from_numpy(self.images[index])
        return Sample(image, torch.zeros(image.shape[1:], dtype=torch.uint8), str(index))

    def statistics(self) -> list[SampleStatistics]:
        found = [measure(self, index, "train", {}) for index in range(len(self))]
        return [each for each in found if isinstance(each, SampleStatistics)]


@pytest.mark.fault("F50")
@pytest.mark.parametrize("offset", [0, 1e6])
def test_mean_and_deviation_are_those_of_all_pixels_of_train(offset: float) -> None:
    random = np.random.default_rng(0)
    images = [(random.normal(10 * n, 3 + n, (3, 20 + n, 30)) + offset).astype(np.float32) for n in range(4)]
    pixels = np.concatenate([image.reshape(3, -1) for image in images], axis=1).astype(np.float64)  # [3,N]
    found = Normalisation.of(nn.Identity(), Pictures(*images).statistics())
    np.testing.assert_allclose(found.mean, pixels.mean(1), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(1), rtol=1e-9)
    seen = found.normalise(torch.from_numpy(pixels.astype(np.float32)).view(3, 1, -1))
    torch.testing.assert_close(seen.mean((1, 2)), torch.zeros(3), atol=1e-2, rtol=0)
    torch.testing.assert_close(seen.std((1, 2)), torch.ones(3), atol=1e-2, rtol=0)


def test_a_channel_of_one_value_is_no_division_by_zero() -> None:
    image = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    image[1] = 7
    found = Normalisation.of(nn.Identity(), Pictures(image).statistics())
    assert (found.mean[1], found.std[1]) == (7, 1)


@pytest.mark.parametrize(("value", "dtype"), [(195, np.uint8), (0.0028823412, np.float32)])
def test_a_channel_of_one_value_in_images_of_several_sizes_is_no_division_by_the_rounding_of_its_sums(
    value: float, dtype: Any
) -> None:
    rows = [Pictures(np.full((1, 20 + side, 31), value, dtype)).statistics()[0] for side in range(9)]
    for first in range(8):
        assert Normalisation.of(nn.Identity(), rows[first:]).std == (1,)


def test_a_channel_without_data_says_nothing_about_the_range_of_an_image() -> None:
    how = Normalisation((100.0, 100.0), (1.0, 1.0), "float32", no_data=True)
    image = 100 + np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
    image[1] = np.nan
    assert not how.is_far(moments(image))
    assert how.is_far(moments(image + 9))


@pytest.mark.parametrize(
    "how",
    [IMAGENET, Normalisation((0.5,) * 3, (0.5,) * 3), Normalisation((1077.0, 0.0, -3.0), (24.0, 1.0, 2.0), "float32")],
)
def test_what_is_outside_an_image_becomes_about_0(how: Normalisation) -> None:
    fill = how.mean_pixel(CPU)
    assert fill.dtype == getattr(torch, how.dtype)
    assert how.normalise(fill).abs().max() < 0.01


def test_8_bits_are_normalised_by_imagenet_unless_the_model_asks_for_others() -> None:
    facts = Pictures(np.random.default_rng(0).integers(0, 255, (3, 8, 8)).astype(np.uint8)).statistics()
    assert Normalisation.of(nn.Identity(), facts) == IMAGENET == Normalisation(MEAN, STD, "uint8")
    model = nn.Identity()
    model.normalisation = None  # type: ignore[assignment]  # as of a model from scratch
    assert Normalisation.of(model, facts) == IMAGENET
    layer = nn.ModuleDict({"normalisation": nn.BatchNorm2d(3)})  # somebody's name for it
    assert isinstance(layer.normalisation, nn.BatchNorm2d)
    assert Normalisation.of(layer, facts) == IMAGENET
    model.normalisation = {"mean": [0.5, 0.5, 0.4], "std": (0.5, 0.5, 0.5)}  # type: ignore[assignment]
    found = Normalisation.of(model, facts)
    assert found == Normalisation((0.5, 0.5, 0.4), (0.5, 0.5, 0.5))
    assert Normalisation.of_record(found.record()) == found
    assert Normalisation.of_record(None) == IMAGENET  # a run that is older than the entry


@pytest.mark.parametrize(
    "asked", [{"mean": [0.5] * 3}, {"mean": [0.5], "std": [0.5]}, {"mean": [0.5] * 3, "std": [0.5, 0, 0.5]}, 0.5]
)
def test_a_model_that_asks_for_nonsense_is_refused(asked: Any) -> None:
    facts = Pictures(np.zeros((3, 8, 8), np.uint8)).statistics()
    model = nn.Identity()
    model.normalisation = asked
    with pytest.raises((ValueError, KeyError, TypeError)):
        Normalisation.of(model, facts)
