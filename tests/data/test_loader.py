"""Batches: their order, their padding, and that workers change nothing."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest
import torch

import segkit
from segkit.data.augment import RandomTransform
from segkit.data.batch_sampler import Stream, TrainBatchSampler
from segkit.data.loader import EvalBatches, SampleSource, batch_loader
from segkit.data.parallel import refuse_unguarded
from segkit.data.resize import mask_at, resized_size
from segkit.data.sample import Dataset, Sample
from segkit.data.subset import as_dataset
from segkit.settings import AugmentSettings

CPU = torch.device("cpu")


class Sizes(Dataset):
    """A dataset of images of different sizes; pixel values are the index."""

    classes = ("background", "thing")
    palette = ((0, 0, 0), (255, 0, 0))
    ignore_index = 255

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Sample:
        height, width = 10 + index, 20 - index
        mask = torch.ones(height, width, dtype=torch.uint8)
        return Sample(torch.full((3, height, width), index, dtype=torch.uint8), mask, f"image {index}")


def loader(workers: int = 0, **augment: object):
    chosen = AugmentSettings.model_validate(augment)
    source, order = SampleSource(Sizes()), TrainBatchSampler(10, 3, seed=7)
    return batch_loader(source, order, RandomTransform(chosen, seed=7), workers=workers, device=CPU), order


def test_an_epoch_holds_every_image_once_but_the_incomplete_batch() -> None:
    order = TrainBatchSampler(10, 3, seed=0)
    batches = list(order)
    assert [len(batch) for batch in batches] == [3, 3, 3] == [3] * len(order)
    indices = [index for batch in batches for _, index in batch]
    assert len(set(indices)) == 9


def test_fewer_images_than_a_batch_are_one_smaller_batch() -> None:
    order = TrainBatchSampler(2, 8, seed=0)
    assert len(order) == 1
    assert sorted(index for batch in order for _, index in batch) == [0, 1]


def test_repeated_passes_hold_every_image_as_often_under_different_keys() -> None:
    order = TrainBatchSampler(5, 5, seed=0, repeat=4)
    keys = [key for batch in order for key in batch]
    assert len(set(keys)) == 20
    assert sorted(index % 5 for _, index in keys) == sorted(list(range(5)) * 4)


def test_epochs_differ_and_the_same_epoch_repeats() -> None:
    order = TrainBatchSampler(10, 3, seed=0)
    first = list(order)
    assert first == list(order)
    order.epoch = 1
    assert [i for b in first for _, i in b] != [i for b in order for _, i in b]


def test_no_two_purposes_draw_the_same_numbers() -> None:
    """The order of an epoch, the views of its images, and what a step draws have keys of the same three numbers."""
    drawn = [
        stream.generator(*key).random()
        for stream in Stream.__members__.values()
        for key in ((0, 1, 2), (0, 1, 3), (1, 1, 2))
    ]
    drawn += [np.random.default_rng(key).random() for key in ((0, 1, 2), (1, 0, 1, 2))]
    assert len(set(drawn)) == len(drawn)
    assert Stream.VIEW.generator(0, 1, 2).random() == Stream.VIEW.generator(0, 1, 2).random()
    order = TrainBatchSampler(10, 10, seed=4)
    order.epoch = 1
    assert [index for _, index in next(iter(order))] == Stream.ORDER.generator(4, 1, 0).permutation(10).tolist()


def test_smaller_images_are_padded_with_void() -> None:
    batches, _ = loader(flip=0.0)
    batch = next(iter(batches))
    heights = [10 + int(name.split()[1]) for name in batch.names]
    widths = [20 - int(name.split()[1]) for name in batch.names]
    assert batch.mask.shape == (3, max(heights), max(widths))
    labelled = (batch.mask == 1).sum((1, 2)).tolist()
    assert labelled == [h * w for h, w in zip(heights, widths, strict=True)]
    assert batch.image.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.fault("F34")
def test_the_number_of_workers_changes_nothing_and_epochs_differ() -> None:
    drawn = {"crop": 8, "scale": [0.5, 2.0], "rotation": 10.0, "colour": 0.5}

    def seen(workers: int) -> list[torch.Tensor]:
        batches, order = loader(workers, **drawn)
        tensors = []
        for epoch in (1, 2):
            order.epoch = epoch
            for batch in batches:
                assert batch.colour is not None
                tensors += [batch.image.float(), batch.mask.float(), batch.colour]
        return tensors

    alone, two = seen(0), seen(2)
    assert len(alone) == len(two) == 18
    assert all(torch.equal(a, b) for a, b in zip(alone, two, strict=True))
    assert not torch.equal(alone[0], alone[9])


def test_parts_of_a_batch_are_the_batch() -> None:
    batches, _ = loader(crop=8)
    batch = next(iter(batches))
    parts = batch.parts(2)
    assert [len(part.names) for part in parts] == [2, 1]
    assert torch.equal(torch.cat([part.image for part in parts]), batch.image)
    assert [name for part in parts for name in part.names] == batch.names


def test_evaluation_batches_never_mix_sizes() -> None:
    groups = EvalBatches(SampleSource(Sizes()))[[0, 3, 0]]
    assert [group.names for group in groups] == [["image 0", "image 0"], ["image 3"]]


@pytest.mark.parametrize(("resize", "size"), [(None, (10, 20)), (0.5, (5, 10)), ([7, 9], (7, 9)), (0.01, (1, 1))])
def test_resized_size(resize: float | list[int] | None, size: tuple[int, int]) -> None:
    assert resized_size(10, 20, resize) == size


def test_a_factor_is_the_decimal_that_was_written() -> None:
    assert resized_size(345, 230, 0.7) == (242, 161)  # 241.5, to the even number; 345 * 0.7 is less than that
    assert resized_size(230, 10, 0.55) == (126, 6)  # 126.5; 230 * 0.55 is more


def test_resizing_keeps_the_mask_for_scores_and_its_labels_for_training() -> None:
    mask = torch.tensor([[0, 7], [9, 255]], dtype=torch.uint8).repeat_interleave(8, 0).repeat_interleave(8, 1)
    sample = Sample(torch.zeros(3, 16, 16, dtype=torch.uint8), mask, "s")
    scored = SampleSource(as_dataset([sample], "val", ["a"]), 0.5)[0]
    assert scored.image.shape == (3, 8, 8)
    assert scored.mask is mask
    assert torch.equal(mask_at(mask, (8, 8)), mask[::2, ::2])


@pytest.mark.fault("F44")
def test_what_a_process_that_is_started_anew_is_given_is_the_same_there() -> None:
    """Where it is spawned all that it gets is pickled: the source of samples, the random transform."""
    dataset = segkit.datasets["shapes"](split="train", images=[4, 2, 2], size=32)
    job = {"crop": 16, "class_balanced": 0.5, "scale": [0.5, 2.0], "rotation": 20, "colour": 0.5}
    source, order = SampleSource(dataset, 0.5), TrainBatchSampler(4, 4, seed=7)
    transform = RandomTransform(AugmentSettings.model_validate(job), seed=7, centre_on=[1, 2])
    here = batch_loader(source, order, transform, workers=0, device=CPU)
    parts = here.dataset, here.worker_init_fn
    batches, _ = pickle.loads(pickle.dumps(parts))
    (batch,) = here
    (keys,) = order
    there = batches[keys]
    assert torch.equal(there.image, batch.image)
    assert torch.equal(there.mask, batch.mask)
    assert there.names == batch.names


def test_the_start_method_of_processes_is_not_fixed_by_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.context._default_context, "_actual_context", None)
    refuse_unguarded(2)
    assert multiprocessing.get_start_method(allow_none=True) is None  # a person may still set another one


def test_an_epoch_may_be_shorter_than_a_pass_and_longer() -> None:
    sampler = TrainBatchSampler(10, 4, seed=0)
    whole = list(sampler)
    assert len(whole) == 2
    sampler.steps = 1
    assert list(sampler) == whole[:1]
    sampler.steps = 5
    assert list(sampler)[:2] == whole
    seen = [index % 10 for batch in sampler for _, index in batch]
    assert sorted(seen) == sorted([*range(10), *range(10)])  # two passes, each image twice
