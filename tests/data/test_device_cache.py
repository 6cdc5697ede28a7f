"""Views made on the device, or read from the file of decoded samples: the same as those of the images' files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.data.augment import RandomTransform
from segkit.data.batch_sampler import EvalBatchSampler, TrainBatchSampler
from segkit.data.loader import SampleSource, eval_loader, train_loader
from segkit.data.sample import Batch, Dataset, Sample
from segkit.data.stores import DeviceCache
from segkit.settings import AugmentSettings

CPU = torch.device("cpu")


class Pictures(Dataset):
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


def sizes_of(dataset: Pictures) -> list[tuple[int, int]]:
    return [tuple(dataset[index].mask.shape) for index in range(6)]


def both(resize: float | None = None, **augment: object) -> tuple[list[Batch], list[Batch]]:
    """Two epochs of batches by way of the loader, and of the device."""
    dataset = Pictures()
    source, order = SampleSource(dataset, resize), TrainBatchSampler(6, 3, seed=5)
    settings = AugmentSettings.model_validate(augment)
    transform = RandomTransform(settings, 5, centre_on=range(1, 7))
    cache = DeviceCache(source, sizes_of(dataset), CPU, keep_masks=True)
    loaded, made = [], []
    for order.epoch in (1, 2):
        loaded += list(train_loader(source, transform, order, workers=0, device=CPU))
        made += list(train_loader(cache, transform, order, workers=2, device=CPU))
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
    source = SampleSource(Pictures(), resize)
    cache = DeviceCache(source, sizes_of(source.dataset), CPU)
    loader = eval_loader(cache, EvalBatchSampler(6, 4), workers=2, device=CPU)
    batches = [batch for those in loader for batch in those]
    seen = {}
    for batch in batches:
        for place, name in enumerate(batch.names):
            seen[name] = (batch.image[place], batch.mask[place])
    assert len(seen) == 6
    for index in range(6):
        expected = source[index]
        assert torch.equal(seen[expected.name][0], expected.image)
        assert torch.equal(seen[expected.name][1], expected.mask)


def test_what_a_split_takes_on_the_device_is_known_before() -> None:
    for resize in (None, 0.5):
        source = SampleSource(Pictures(), resize)
        sizes = sizes_of(source.dataset)
        cache = DeviceCache(source, sizes, CPU)
        own = cache.own_masks.numel() if cache.own_masks is not None else 0
        assert DeviceCache.bytes_needed(source, sizes) == cache.pixels.numel() + own
