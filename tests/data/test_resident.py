"""Views made on the device, or read from the file of decoded samples: the same as those of the images' files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.data.loader import Draws, training_loader
from segkit.data.order import BatchOrder, EvaluationOrder
from segkit.data.places import Places, places_of
from segkit.data.resident import Resident, ResidentBatches, ResidentEvaluation, bytes_needed
from segkit.data.sample import Batch, Sample
from segkit.data.samples import Samples
from segkit.settings import AugmentSettings

CPU = torch.device("cpu")


class Pictures:
    """Smooth colours and blobs of seven classes beside void, in three sizes."""

    classes = tuple("abcdefg")
    palette = tuple((20 * index, 0, 0) for index in range(7))
    ignore_index = 255

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Sample:
        height, width = [(90, 120), (120, 90), (70, 70)][index % 3]
        random = np.random.default_rng(index)
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        image = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        labels = Image.fromarray(random.choice([0, 1, 2, 3, 4, 5, 6, 255], (6, 6)).astype(np.uint8))
        mask = np.asarray(labels.resize((width, height), Image.Resampling.NEAREST))
        return Sample(torch.from_numpy(image.copy()).permute(2, 0, 1), torch.from_numpy(mask.copy()), f"{index}")


def both(resize: float | None = None, **augment: object) -> tuple[list[Batch], list[Batch]]:
    """Two epochs of batches by way of the loader, and of the device."""
    dataset = Pictures()
    samples, order = Samples(dataset, resize), BatchOrder(6, 3, seed=5)
    settings = AugmentSettings.model_validate(augment)
    masks = [dataset[index].mask.numpy() for index in range(6)]
    places = Places([places_of(mask, 7) for mask in masks], [mask.shape for mask in masks], left_out=0)
    draws = Draws(samples, settings, 5, places)
    keep = settings.max_class_share < 1
    resident = Resident(samples, [mask.shape for mask in masks], CPU, keep_masks=keep)
    loaded, made = [], []
    for order.epoch in (1, 2):
        loaded += list(training_loader(samples, draws, order, workers=0, device=CPU))
        made += list(ResidentBatches(resident, draws, order))
    return loaded, made


@pytest.mark.parametrize(
    "augment",
    [
        {},
        {"crop": 64},
        {"crop": [50, 150], "flip_vertical": 0.5},
        {"crop": 64, "scale": [0.5, 2.0]},
        {"crop": 64, "scale": [0.5, 2.0], "rotation": 45.0, "colour": 0.5},
        {"scale": [0.7, 1.4], "rotation": 10.0},
        {"crop": 32, "class_balanced": 0.7, "max_class_share": 0.6, "scale": [0.8, 1.2]},
    ],
)
@pytest.mark.parametrize("resize", [None, 0.6])
def test_the_device_and_the_loader_show_the_same_views(augment: dict[str, object], resize: float | None) -> None:
    loaded, made = both(resize, **augment)
    assert len(loaded) == len(made) == 4
    for ours, other in zip(made, loaded, strict=True):
        assert ours.names == other.names
        assert ours.image.is_contiguous(memory_format=torch.channels_last)
        assert ours.mask.shape == other.mask.shape
        assert torch.equal(ours.mask, other.mask)
        difference = (ours.image.int() - other.image.int()).abs()
        assert difference.max() <= 1
        assert difference.float().mean() < 5e-3  # the last digits of places and sums
        if ours.colour is None:
            assert other.colour is None
        else:
            assert torch.equal(ours.colour, other.colour)


def test_views_of_whole_pixels_are_equal_to_the_bit() -> None:
    loaded, made = both(crop=48, flip=0.5, flip_vertical=0.5)
    assert all(torch.equal(a.image, b.image) for a, b in zip(loaded, made, strict=True))
    assert all(torch.equal(a.mask, b.mask) for a, b in zip(loaded, made, strict=True))


@pytest.mark.parametrize("resize", [None, 0.5])
def test_an_evaluation_sees_each_sample_at_its_own_size(resize: float | None) -> None:
    samples = Samples(Pictures(), resize)
    resident = Resident(samples, [samples.dataset[index].mask.shape for index in range(6)], CPU)
    batches = [batch for those in ResidentEvaluation(resident, EvaluationOrder(6, 4)) for batch in those]
    seen = {}
    for batch in batches:
        for place, name in enumerate(batch.names):
            seen[name] = (batch.image[place], batch.mask[place])
    assert len(seen) == 6
    for index in range(6):
        expected = samples.to_score(index)
        assert torch.equal(seen[expected.name][0], expected.image)
        assert torch.equal(seen[expected.name][1], expected.mask)


def test_what_a_split_takes_on_the_device_is_known_before() -> None:
    for resize in (None, 0.5):
        samples = Samples(Pictures(), resize)
        sizes = [tuple(samples.dataset[index].mask.shape) for index in range(6)]
        resident = Resident(samples, sizes, CPU)
        own = resident.own_masks.numel() if resident.own_masks is not None else 0
        assert bytes_needed(samples, sizes) == resident.pixels.numel() + own
