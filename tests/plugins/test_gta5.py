from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DataError, LabelError, gathered
from segkit_gta5.cityscapes import CityscapesDataset
from segkit_gta5.dataset import VALUES, Gta5Dataset

ODD = "00013"  # the pair of unequal size


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Gta5Dataset.write_sample(tmp_path)
    return tmp_path


@pytest.fixture
def even(root: Path) -> Path:
    """The sample without its pair of unequal size."""
    for folder in ("images", "labels"):
        (root / folder / f"{ODD}.png").unlink()
    return root


def names(dataset: Gta5Dataset) -> list[str]:
    return [dataset[index].name for index in range(len(dataset))]


def test_pairs_of_unequal_size_are_left_out_and_named(root: Path) -> None:
    with pytest.warns(UserWarning, match=r"gta5: skipped 1 of 13 train pairs because .*: 00013$"):
        dataset = Gta5Dataset(root, fractions=[1.0, 0.0])
    assert dataset.left_out == (ODD,)
    assert names(dataset) == [f"{number:05d}" for number in range(1, 13)]
    assert all(sample.image.shape[1:] == sample.mask.shape for sample in dataset)


def test_stored_ids_become_train_ids(even: Path) -> None:
    dataset = Gta5Dataset(even)
    for index, (_, path) in enumerate(dataset.pairs):
        with Image.open(path) as stored:
            ids = np.asarray(stored)
        mask = dataset.mask(index).numpy()
        assert (mask[ids == 7] == dataset.classes.index("road")).all()
        assert (mask[ids == 26] == dataset.classes.index("car")).all()
        assert (mask[ids == 1] == 255).all()
        assert dataset[index].mask.equal(dataset.mask(index))
    assert (len(dataset.classes), dataset.palette[0], dataset.ignore_index) == (19, (128, 64, 128), 255)


def test_the_map_is_the_published_one(real_data: Path) -> None:
    lines = [line.split() for line in (real_data / "gta5" / "id_to_trainid.txt").read_text().splitlines()]
    published = {int(line[0]): int(line[1]) for line in lines if line[0] != "#"}
    assert len(published) == 19
    assert {stored: index for stored, index in VALUES.items() if index != 255} == published


def test_an_id_that_does_not_exist_is_refused(even: Path) -> None:
    dataset = Gta5Dataset(even)
    labels = np.full((42, 76), 7, dtype=np.uint8)
    labels[0, :3] = 40
    Image.fromarray(labels).save(dataset.pairs[0][1])
    with pytest.raises(LabelError, match=rf"{dataset.pairs[0][1].name}.*40: 3 pixels\).*ids of Cityscapes"):
        dataset.mask(0)


def test_without_an_official_split_it_is_70_15_15(even: Path) -> None:
    splits = {split: names(Gta5Dataset(even, split)) for split in ("train", "val", "test")}
    assert [len(each) for each in splits.values()] == [8, 2, 2]
    assert len({name for each in splits.values() for name in each}) == 12
    assert names(Gta5Dataset(even, split_seed=1)) != splits["train"]
    with pytest.raises(DataError, match=r"no split 'tain' in .*; there are train, val, test; did you mean 'train'"):
        Gta5Dataset(even, "tain")


def test_lists(even: Path) -> None:
    (even / "train.txt").write_text("00003.png\nimages/00001.png\n\n")
    (even / "val.txt").write_text("00002\n")
    dataset = Gta5Dataset(even)
    assert (names(dataset), dataset.splits) == (["00003", "00001"], ("train", "val"))
    assert len(Gta5Dataset(even, "test", fractions=[0.5, 0.25, 0.25])) == 3


def test_listed_pairs_that_are_not_there(even: Path) -> None:
    (even / "train.txt").write_text("".join(f"{number:05d}\n" for number in range(1, 20)))
    with pytest.raises(
        DataError,
        match=r"7 files: listed but not there \(.*train\.txt\): .*/00013\.png, .* and 2 more.*fractions = ",
    ):
        Gta5Dataset(even)
    with gathered() as faults:
        assert len(Gta5Dataset(even)) == 12
    assert [Path(fault.file).stem for fault in faults] == [f"{number:05d}" for number in range(13, 20)]


def test_a_damaged_file_is_told_when_it_is_read(even: Path) -> None:
    path = Gta5Dataset(even).pairs[1][0]
    path.write_bytes(b"<html>")
    dataset = Gta5Dataset(even)
    assert len(dataset) == 8
    with pytest.raises(DataError, match=rf"{path.name}: not an image but text in HTML"):
        dataset.mask(1)


def test_split_mat(even: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    ids = {"trainIds": [[1], [2], [5]], "valIds": [[3]], "testIds": [[4], [12]]}
    scipy_io.savemat(even / "split.mat", {key: np.array(value, dtype=np.uint16) for key, value in ids.items()})
    assert names(Gta5Dataset(even)) == ["00001", "00002", "00005"]
    assert names(Gta5Dataset(even, "test")) == ["00004", "00012"]
    (even / "split.mat").write_bytes(b"an error page")
    with pytest.raises(DataError, match=r"split\.mat: not the published split .*train\.txt"):
        Gta5Dataset(even)


def test_split_mat_without_scipy(even: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (even / "split.mat").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(
        DataError, match=r"split\.mat: needs scipy to be read \(pip install scipy\); or write .*fractions = "
    ):
        Gta5Dataset(even)
    assert len(Gta5Dataset(even, fractions=[0.5, 0.5])) == 6


def test_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no GTA5 there; expected are .*images/\*\.png and .*labels/\*\.png"):
        Gta5Dataset(tmp_path)


def test_a_list_cannot_name_files_elsewhere(even: Path, tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        Image.fromarray(np.full((42, 76), 7, np.uint8)).save(tmp_path / f"secret_{folder}.png")
    (even / "train.txt").write_text(f"00001\n../secret_images\n{tmp_path / 'secret_images.png'}\n/etc/passwd\n")
    with gathered() as faults:
        dataset = Gta5Dataset(even)
    assert {Path(fault.file).name for fault in faults} == {"secret_images.png", "passwd.png"}
    assert [path.parent for pair in dataset.pairs for path in pair] == [even / "images", even / "labels"]


@pytest.mark.timeout(100)
def test_a_list_without_end_is_refused(even: Path) -> None:
    (even / "train.txt").touch()
    os.truncate(even / "train.txt", 1 << 40)
    with pytest.raises(DataError, match=r"train\.txt is larger than"):
        Gta5Dataset(even)


# ---- cityscapes ----


def test_cityscapes_as_it_is_unpacked(tmp_path: Path) -> None:
    CityscapesDataset.write_sample(tmp_path)
    assert CityscapesDataset.recognise(tmp_path) == [{}]
    train = CityscapesDataset(tmp_path, "train")
    assert (len(train), train.splits) == (8, ("train", "val"))
    assert train.files(0)[1].name == "aachen_000000_000019_gtFine_labelIds.png"
    own = np.array(Image.open(train.files(0)[1]))
    mask = train.mask(0).numpy()
    for stored, label in ((23, 10), (7, 0), (11, 2), (1, 255)):
        assert (mask[own == stored] == label).all()


def test_all_ids_of_cityscapes_have_the_labels_of_its_scripts(tmp_path: Path) -> None:
    CityscapesDataset.write_sample(tmp_path)
    data = CityscapesDataset(tmp_path)
    ids = np.array([0, 4, 7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33, 9, 30, 255], np.uint8)
    train = np.array([255, 255, *range(19), 255, 255, 255], np.uint8)
    Image.fromarray(np.resize(ids, (40, 80))).save(data.files(0)[1])
    assert (data.mask(0).numpy() == np.resize(train, (40, 80))).all()
    Image.fromarray(np.full((40, 80), 40, np.uint8)).save(data.files(0)[1])
    with pytest.raises(LabelError, match=r"labels that are not allowed \(40: .* ids of -1 to 33"):
        data.mask(0)


def test_cityscapes_has_no_test_split(tmp_path: Path) -> None:
    CityscapesDataset.write_sample(tmp_path)
    with pytest.raises(DataError, match=r"no split 'test' in .*; there are train, val"):
        CityscapesDataset(tmp_path, "test")
    (tmp_path / "gtFine" / "val" / "lindau" / "lindau_000000_000019_gtFine_labelIds.png").unlink()
    assert len(CityscapesDataset(tmp_path)) == 8
    with pytest.raises(DataError, match=r"lindau_000000_000019_leftImg8bit\.png: image without a mask"):
        CityscapesDataset(tmp_path, "val")
