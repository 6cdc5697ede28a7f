"""Generated pictures: the same everywhere, imbalanced, with borders of void."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.data.sample import Dataset
from segkit.errors import ConfigError, DataError
from segkit_shapes.dataset import ShapesDataset

FINGERPRINT = """
import hashlib
from segkit_shapes.dataset import ShapesDataset
dataset, digest = ShapesDataset("train"), hashlib.sha256()
for image, mask, _ in (dataset[index] for index in range(7, -1, -1)):
    digest.update(image.numpy().tobytes() + mask.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    """Pixels of each label in each picture of train, ``[pictures,256]``."""
    dataset = ShapesDataset("train")
    return np.stack([np.bincount(dataset.mask(index).flatten(), minlength=256) for index in range(len(dataset))])


def test_a_sample() -> None:
    dataset = ShapesDataset("val", size=48)
    assert isinstance(dataset, Dataset)
    image, mask, name = dataset[3]
    assert (image.dtype, image.shape, image.is_contiguous()) == (torch.uint8, (3, 48, 48), True)
    assert (mask.dtype, mask.shape, name) == (torch.uint8, (48, 48), "val_0003")
    assert torch.equal(dataset.mask(3), mask)
    assert torch.equal(dataset[-1].image, dataset[59].image)
    with pytest.raises(IndexError):
        dataset[60]


def test_lengths_and_splits() -> None:
    assert [len(ShapesDataset(split)) for split in ShapesDataset.splits] == [240, 60, 60]
    assert [len(ShapesDataset(split, images=[4, 2, 1])) for split in ShapesDataset.splits] == [4, 2, 1]
    assert len(ShapesDataset.palette) == len(ShapesDataset.classes) == 6


def test_a_picture_is_the_same_in_every_process() -> None:
    printed = subprocess.run([sys.executable, "-c", FINGERPRINT], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "7335b80ac48ec8799d5e6e80ca63ca65d47046ee3f4121f3ed733a2d6518f126"


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
        present = torch.cat([dataset.mask(index).flatten() for index in range(len(dataset))]).unique()
        assert present.tolist() == [0, 1, 2, 3, 4, 5, 255]


def test_void_lies_between_an_object_and_the_background() -> None:
    dataset = ShapesDataset("train")
    for index in range(20):
        mask = dataset.mask(index).numpy()
        for one, other in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
            touching = (one != other) & (one != 255) & (other != 255)
            assert not touching.any()
        assert 0 < (mask == 255).mean() < 0.15


def test_colour_alone_does_not_tell_the_class() -> None:
    dataset = ShapesDataset("train")
    means: dict[int, list[np.ndarray]] = {label: [] for label in range(1, 6)}
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
        ({"seed": -1}, ConfigError, "seed = -1: give 0 or more"),
    ],
)
def test_options_that_are_refused(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ShapesDataset(**{"split": "train", **options})  # type: ignore[arg-type]


def test_the_sample_on_disk_is_what_the_dataset_draws(tmp_path: Path) -> None:
    ShapesDataset.write_sample(tmp_path)
    with Image.open(tmp_path / "masks" / "val" / "val_0002.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), ShapesDataset("val").mask(2).numpy())
    assert len(list((tmp_path / "images").glob("*/*.png"))) == 12
