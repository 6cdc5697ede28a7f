"""Generated pictures: the same everywhere, imbalanced, with borders of void."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Literal

import numpy as np
import pytest
import torch

from segkit.data.sample import Dataset
from segkit.errors import ConfigError, DataError
from segkit_shapes.dataset import ShapesDataset
from segkit_shapes.outlines import OUTLINES, VARIETIES

FINGERPRINT = """
import hashlib, sys
from segkit_shapes.dataset import ShapesDataset
variety, size = sys.argv[1], int(sys.argv[2])
dataset, digest = ShapesDataset("train", variety=variety, size=size), hashlib.sha256()
for image, mask, _ in (dataset[index] for index in range(7, -1, -1)):
    digest.update(image.numpy().tobytes() + mask.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def many() -> dict[str, ShapesDataset]:
    return {split: ShapesDataset(split, 128, [480, 120, 120], variety="many") for split in ShapesDataset.splits}


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    return counted(ShapesDataset("train"))


def counted(dataset: ShapesDataset) -> np.ndarray:
    """Pixels of each label in each picture, ``[pictures,256]``."""
    return np.stack([np.bincount(dataset[index].mask.flatten(), minlength=256) for index in range(len(dataset))])


def test_a_sample() -> None:
    dataset = ShapesDataset("val", size=48)
    assert isinstance(dataset, Dataset)
    image, mask, name = dataset[3]
    assert (image.dtype, image.shape, image.is_contiguous()) == (torch.uint8, (3, 48, 48), True)
    assert (mask.dtype, mask.shape, name) == (torch.uint8, (48, 48), "val_0003")
    assert torch.equal(dataset[-1].image, dataset[59].image)
    with pytest.raises(IndexError):
        dataset[60]


def test_lengths_and_splits() -> None:
    assert [len(ShapesDataset(split)) for split in ShapesDataset.splits] == [240, 60, 60]
    assert [len(ShapesDataset(split, images=[4, 2, 1])) for split in ShapesDataset.splits] == [4, 2, 1]
    assert len(ShapesDataset.palette) == len(ShapesDataset.classes) == 6


@pytest.mark.parametrize(
    ("variety", "size", "digest"),
    [
        ("few", 64, "7335b80ac48ec8799d5e6e80ca63ca65d47046ee3f4121f3ed733a2d6518f126"),
        pytest.param(
            *("many", 128, "024f19f96b4906adcb5135dbcaa2424302d7a44b9cb93b38f293593b781aa54a"), marks=pytest.mark.slow
        ),
    ],
)
def test_a_picture_is_the_same_in_every_process(variety: str, size: int, digest: str) -> None:
    command = [sys.executable, "-c", FINGERPRINT, variety, str(size)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == digest


def test_other_seeds_splits_and_indices_are_other_pictures() -> None:
    pictures = [
        ShapesDataset("train")[0],
        ShapesDataset("train")[1],
        ShapesDataset("val")[0],
        ShapesDataset("train", seed=1)[0],
    ]
    assert len({hashlib.sha256(picture.image.numpy().tobytes()).digest() for picture in pictures}) == 4
    few = ShapesDataset("train", images=[2, 1, 1])
    assert torch.equal(few[1].image, ShapesDataset("train")[1].image)


def test_the_background_is_most_of_it_and_one_class_is_rare(counts: np.ndarray) -> None:
    shares = counts.sum(0)[:6] / counts.sum(0)[:6].sum()
    assert 0.85 < shares[0] < 0.92
    assert shares[5] == shares.min()
    assert shares[5] < shares[1] / 2
    in_pictures = (counts[:, :6] > 0).sum(0)
    assert in_pictures[5] >= 30  # rare, and yet enough to learn it from
    assert counts.sum(0)[6:255].sum() == 0


def test_every_class_is_in_every_split() -> None:
    for split in ("val", "test"):
        dataset = ShapesDataset(split)
        present = torch.cat([dataset[index].mask.flatten() for index in range(len(dataset))]).unique()
        assert present.tolist() == [0, 1, 2, 3, 4, 5, 255]


@pytest.mark.slow
def test_many_classes_are_three_percent_of_the_pixels_and_in_every_split(many: dict[str, ShapesDataset]) -> None:
    for dataset in many.values():
        assert len(dataset.classes) == len(dataset.palette) == 13
        counts = counted(dataset)
        shares = counts.sum(0)[:13] / counts.sum(0)[:13].sum()
        assert 0.965 < shares[0] < 0.975
        assert 0 < shares[1:].min() < shares[1:].max() / 3 < 0.003
        assert counts[:, 1:13].sum(1).min() > 50  # every picture has an object
        assert counts.sum(0)[13:255].sum() == 0
    assert ((counted(many["train"])[:, :13] > 0).sum(0) >= 20).all()  # rare, and yet enough to learn it from


def test_of_what_has_a_class_s_colour_most_is_background_where_classes_are_many(many: dict[str, ShapesDataset]) -> None:
    colours = torch.tensor(VARIETIES["many"].colours)[:, :, None, None]  # [classes,3,1,1]
    alike, own = np.zeros(12), np.zeros(12)
    for image, mask, _ in (many["train"][index] for index in range(100)):
        near = (image.long() - colours).abs().sum(1) < 70  # [classes,H,W]
        alike += (near & (mask != 255)).sum((1, 2)).numpy()
        own += torch.stack([(near[k] & (mask == k + 1)).sum() for k in range(12)]).numpy()
    assert (own < alike / 2).all()
    assert own.sum() > 0.05 * alike.sum()


def test_only_a_grain_tells_an_object_from_what_is_alike(many: dict[str, ShapesDataset]) -> None:
    grain = torch.tensor([-1.0, -1.0, 1.0, 1.0]).repeat(32)[:, None]  # [H,1]
    inside, outside = [], []
    for image, mask, _ in (many["train"][index] for index in range(200)):
        seen = image.float().mean(0) * grain  # [H,W]
        inside.append((seen[mask > 0][mask[mask > 0] != 255]).mean().item())
        outside.append(seen[mask == 0].mean().item())
    assert 1.5 < np.mean(inside) < 2.5
    assert abs(np.mean(outside)) < 0.2


def test_no_two_outlines_are_alike() -> None:
    at = np.arange(-40, 41, dtype=np.int64) * 100
    places = np.broadcast_arrays(at, at[:, None])
    shapes = [OUTLINES[name](*places, 2500) for name in VARIETIES["many"].classes[1:]]
    for position, one in enumerate(shapes):
        assert not (one[0] | one[-1] | one[:, 0] | one[:, -1]).any()
        for other in shapes[:position]:
            assert (one & other).sum() / (one | other).sum() < 0.85


@pytest.mark.parametrize(("variety", "size"), [("few", 64), ("many", 128)])
def test_void_lies_between_an_object_and_the_background(variety: Literal["few", "many"], size: int) -> None:
    dataset = ShapesDataset("train", variety=variety, size=size)
    for index in range(20):
        mask = dataset[index].mask.numpy()
        for one, other in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
            touching = (one != other) & (one != 255) & (other != 255)
            assert not touching.any()
        assert 0 < (mask == 255).mean() < 0.15


def test_colour_alone_does_not_tell_the_class_where_classes_are_few() -> None:
    dataset = ShapesDataset("train")
    means: dict[int, list[np.ndarray]] = {label: [] for label in range(1, len(dataset.classes))}
    for image, mask, _ in (dataset[index] for index in range(len(dataset))):
        for label in means:
            if (mask == label).any():
                means[label].append(image[:, mask == label].float().mean(1).numpy())
    averages = np.array([np.mean(each, axis=0) for each in means.values()])  # [classes,3]
    spread = np.mean([np.std(each, axis=0) for each in means.values()])
    assert np.abs(averages - averages.mean(0)).max() < spread / 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"split": "trian"}, DataError, "no split 'trian'; there are train, val, test; did you mean 'train'"),
        ({"images": [1, 2]}, ConfigError, r"images = \[1, 2\]: give three numbers"),
        ({"images": [1, 0, 1]}, ConfigError, "at least 1"),
        ({"size": 8}, ConfigError, "size = 8: allowed are 32 to 4096"),
        ({"size": 64, "variety": "many"}, ConfigError, "size = 64: allowed are 96 to 4096 pixels for variety = 'many'"),
        ({"variety": "lots"}, ConfigError, "variety = 'lots': allowed are few and many"),
        ({"seed": -1}, ConfigError, "seed = -1: give 0 or more"),
    ],
)
def test_options_that_are_refused(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ShapesDataset(**{"split": "train", **options})  # type: ignore[arg-type]
