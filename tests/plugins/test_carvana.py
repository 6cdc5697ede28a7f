from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import ConfigError, DataError, LabelError
from segkit_carvana.dataset import CarvanaDataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    CarvanaDataset.write_sample(tmp_path)
    return tmp_path


def cars(dataset: CarvanaDataset) -> set[str]:
    return {dataset[index].name.split("_")[0] for index in range(len(dataset))}


def save_mask(dataset: CarvanaDataset, index: int, labels: list[int]) -> None:
    with Image.open(dataset.pairs[index][1]) as mask:
        width, height = mask.size
    pixels = np.resize(np.array(labels, dtype=np.uint8), (height, width))
    # A GIF's palette would be packed: 0 and 255 would be stored as 0 and 1.
    Image.fromarray(pixels).save(dataset.pairs[index][1], format="PNG")


def test_no_car_is_on_two_sides(root: Path) -> None:
    train, val, test = (CarvanaDataset(root, split) for split in ("train", "val", "test"))
    assert train.splits == ("train", "val", "test")
    assert [len(cars(each)) for each in (train, val, test)] == [6, 1, 1]
    assert len(cars(train) | cars(val) | cars(test)) == 8
    assert [len(each) for each in (train, val, test)] == [12, 2, 2]
    assert cars(CarvanaDataset(root, "train", split_seed=1)) != cars(train)


def test_samples(root: Path) -> None:
    dataset = CarvanaDataset(root)
    assert (dataset.classes, dataset.ignore_index) == (("background", "car"), 255)
    for index, sample in enumerate(dataset):
        assert sample.image.shape[1:] == sample.mask.shape
        assert sample.mask.unique().tolist() == [0, 1]
        assert sample.mask.equal(dataset.mask(index))
        assert sample.image[:, sample.mask == 0].float().mean() > 100 > sample.image[:, sample.mask == 1].float().mean()


def test_two_fractions_make_no_test_split(root: Path) -> None:
    assert CarvanaDataset(root, fractions=[0.5, 0.5]).splits == ("train", "val")
    with pytest.raises(DataError, match=r"no split 'test' in .*; there are train, val"):
        CarvanaDataset(root, "test", fractions=[0.5, 0.5])


def test_255_is_a_car_too_and_other_values_are_refused(root: Path) -> None:
    dataset = CarvanaDataset(root)
    save_mask(dataset, 0, [0, 255])
    assert dataset.mask(0).unique().tolist() == [0, 1]
    save_mask(dataset, 0, [0, 128])
    with pytest.raises(LabelError, match=rf"{dataset.pairs[0][1].name}.*128: 1,200 pixels\).*unpack train_masks"):
        dataset.mask(0)


def test_fewer_cars_than_splits(root: Path) -> None:
    for path in [*(root / "train").iterdir(), *(root / "train_masks").iterdir()]:
        if not path.name.startswith("000001234567"):
            path.unlink()
    with pytest.raises(DataError, match=r"a car is a group: cannot split 1 groups into 3 parts.*split_by = \"none\""):
        CarvanaDataset(root)
    assert len(CarvanaDataset(root, fractions=[1.0, 0.0])) == 2


def test_without_a_split_all_are_the_same_and_it_says_so(root: Path) -> None:
    every = []
    for split in ("train", "val", "test"):
        with pytest.warns(UserWarning, match='split_by = "none": train, val and test are the same images'):
            every.append(CarvanaDataset(root, split, split_by="none"))
    assert [len(dataset) for dataset in every] == [16, 16, 16]


def test_a_wrong_argument_is_an_error_of_ours(root: Path) -> None:
    with pytest.raises(ConfigError, match="split_by = 'view': allowed are 'car' and 'none'"):
        CarvanaDataset(root, split_by="view")  # type: ignore[arg-type]
    for fractions in (None, "abc", 0.5, [0.5, "x"], [0.5]):
        with pytest.raises(ConfigError, match=r"^fractions = .*: give two"):
            CarvanaDataset(root, fractions=fractions)  # type: ignore[arg-type]


def test_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no Carvana images there; expected are .*train_masks/\*_mask\.gif.*kaggle"):
        CarvanaDataset(tmp_path)


def test_an_image_without_mask_is_named(root: Path) -> None:
    (root / "train_masks" / "000001234567_01_mask.gif").unlink()
    with pytest.raises(
        DataError, match=r"000001234567_01\.jpg: image without a mask; the mask .*/000001234567_01_mask\.png"
    ):
        CarvanaDataset(root)


@pytest.mark.filterwarnings("ignore:carvana, split_by:UserWarning")
def test_the_real_images(real_data: Path, tmp_path: Path) -> None:
    dataset = CarvanaDataset(real_data / "carvana", split_by="none")
    assert len(dataset) == 5
    sample = dataset[0]
    assert tuple(sample.image.shape) == (3, 1280, 1918)
    assert 0.05 < sample.mask.float().mean() < 0.3
    shutil.copytree(real_data / "carvana", tmp_path / "carvana")
    with pytest.raises(DataError, match="cannot split 1 groups into 3 parts"):
        CarvanaDataset(tmp_path / "carvana")
