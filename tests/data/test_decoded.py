"""Splits that are decoded once: the same views as from the images' files, whatever memory they are kept in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from segkit.data.augment import RandomTransform
from segkit.data.batch_sampler import TrainBatchSampler
from segkit.data.loader import SampleSource, batch_loader, decoded_bytes
from segkit.data.resize import _resized_on_device, resized_part
from segkit.data.sample import Batch, Dataset, Sample
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


def decoded(source: SampleSource, device: torch.device = CPU, on_device: bool = True) -> SampleSource:
    """The split in memory; that of a CPU stands for a device's, which no process loads samples of."""
    held = source.decoded(device, keep_masks=True)
    held.on_device |= on_device
    return held


def both(resize: float | None = None, device: torch.device = CPU, **augment: object) -> tuple[list[Batch], list[Batch]]:
    """Two epochs of batches by way of the loader, and of the device."""
    source, order = SampleSource(Pictures(), resize), TrainBatchSampler(6, 3, seed=5)
    transform = RandomTransform(AugmentSettings.model_validate(augment), 5, centre_on=range(1, 7))
    cache = decoded(source, device)
    loaded, made = [], []
    for order.epoch in (1, 2):
        loaded += list(batch_loader(source, order, transform, workers=0, device=CPU))
        made += [batch.to(CPU) for batch in batch_loader(cache, order, transform, workers=2, device=device)]
    return loaded, made


@pytest.fixture
def as_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are resized as they are where Pillow cannot read the memory."""

    def on_device(image: Tensor, size: Any, rows: Any = None, columns: Any = None) -> Tensor:
        return _resized_on_device(image, size, rows or (0, size[0]), columns or (0, size[1]))

    for module in ("augment", "loader"):
        monkeypatch.setattr(f"segkit.data.{module}.resized_part", on_device)


def test_a_pixel_without_data_is_none_of_its_row_and_column_on_a_device() -> None:
    image = torch.rand(2, 40, 60)
    image[:, 10:14, 20:24] = torch.nan
    on_cpu = resized_part(image, (30, 50))
    torch.testing.assert_close(_resized_on_device(image, (30, 50), (0, 30), (0, 50)), on_cpu, equal_nan=True)
    assert 0 < int(on_cpu.isnan().sum()) < 60


AUGMENTS: list[dict[str, object]] = [
    {},
    {"crop": 64},
    {"crop": [50, 150], "flip_vertical": 0.5},
    {"crop": 64, "scale": [0.5, 2.0]},
    {"crop": 64, "scale": [0.5, 2.0], "rotation": 45.0, "colour": 0.5},
    {"scale": [0.7, 1.4], "rotation": 10.0},
    {"crop": 32, "class_balanced": 0.7, "max_class_share": 0.6, "scale": [0.8, 1.2]},
]


def require_same(loaded: list[Batch], made: list[Batch]) -> None:
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


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("resize", [None, 0.6])
def test_a_device_and_the_loader_show_the_same_views(
    augment: dict[str, object], resize: float | None, request: pytest.FixtureRequest
) -> None:
    source, order = SampleSource(Pictures(), resize), TrainBatchSampler(6, 3, seed=5)
    transform = RandomTransform(AugmentSettings.model_validate(augment), 5, centre_on=range(1, 7))
    cache = decoded(source)
    loaded, made = [], []
    for order.epoch in (1, 2):
        loaded += list(batch_loader(source, order, transform, workers=0, device=CPU))
    request.getfixturevalue("as_on_a_device")
    for order.epoch in (1, 2):
        made += list(batch_loader(cache, order, transform, workers=2, device=CPU))
    assert len(loaded) == len(made) == 4
    require_same(loaded, made)


@pytest.mark.gpu
@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("resize", [None, 0.6])
def test_a_card_shows_the_same_views(augment: dict[str, object], resize: float | None) -> None:
    loaded, made = both(resize, torch.device("cuda"), **augment)
    assert len(loaded) == len(made) == 4
    require_same(loaded, made)


@pytest.mark.parametrize("augment", AUGMENTS)
def test_in_the_memory_of_a_cpu_views_are_equal_to_the_bit(augment: dict[str, object]) -> None:
    loaded, made = both(**augment)
    assert all(torch.equal(a.image, b.image) for a, b in zip(loaded, made, strict=True))
    assert all(torch.equal(a.mask, b.mask) for a, b in zip(loaded, made, strict=True))


@pytest.mark.parametrize("resize", [None, 0.5])
def test_an_evaluation_sees_each_sample_at_its_own_size(resize: float | None) -> None:
    source = SampleSource(Pictures(), resize)
    cache = decoded(source)
    loader = batch_loader(cache, [range(4), range(4, 6)], workers=2, device=CPU)
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


def test_what_a_split_takes_is_known_before() -> None:
    for resize in (None, 0.5):
        held = decoded(SampleSource(Pictures(), resize))
        rows: Any = [SimpleNamespace(size=size, dtype="uint8") for size in [(90, 120), (120, 90), (70, 70)] * 2]
        assert decoded_bytes(rows, 3, resize) == sum(held[i].image.numel() + held[i].mask.numel() for i in range(6))


def require_equal(one: SampleSource, other: SampleSource) -> None:
    for index in range(len(other)):
        assert one[index].name == other[index].name
        assert one[index].image.dtype == other[index].image.dtype
        assert torch.equal(one[index].image, other[index].image)
        assert torch.equal(one[index].mask, other[index].mask)


@pytest.mark.fault("F50")
def test_images_of_more_than_8_bits_come_back_as_they_are_stored() -> None:
    class Deep(Pictures):
        channels = ("a", "b")

        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return sample._replace(image=sample.image[:2].float() * 70.5)

    for resize in (None, 0.5):
        held = decoded(SampleSource(Deep(), resize))
        assert held[0].image.dtype == torch.float32
        require_equal(held, SampleSource(Deep(), resize))


@pytest.mark.fault("F44")
@pytest.mark.parametrize("resize", [None, 0.5, [16, 24]])
def test_it_holds_what_the_images_hold_and_only_forked_processes_share_it(
    resize: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counted(Pictures):
        read: ClassVar[list[int]] = []

        def __getitem__(self, index: int) -> Sample:
            self.read.append(index)
            return super().__getitem__(index)

    source = SampleSource(Pictures(), resize)
    held = decoded(SampleSource(Counted(), resize), on_device=False)
    Counted.read.clear()
    require_equal(held, source)
    assert not Counted.read
    for method, workers in (("fork", 2), ("spawn", 0), ("forkserver", 0)):
        monkeypatch.setattr("segkit.data.loader.start_method", lambda method=method: method)
        assert batch_loader(held, [[0]], workers=2, device=CPU).num_workers == workers
        assert batch_loader(source, [[0]], workers=2, device=CPU).num_workers == 2
