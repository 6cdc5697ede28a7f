from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.errors import ConfigError, DataError, LabelError, gathered
from segkit_voc.dataset import VocDataset
from segkit_voc.download import ARCHIVES, MIRRORS, DownloadError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    VocDataset.write_sample(tmp_path)
    return tmp_path


def names(dataset: VocDataset) -> list[str]:
    return [dataset[index].name for index in range(len(dataset))]


@pytest.mark.parametrize(("year", "splits"), [("2007", ("train", "val", "test")), ("2012", ("train", "val"))])
def test_the_sample_has_the_official_splits(root: Path, year: Any, splits: tuple[str, ...]) -> None:
    for split in splits:
        dataset = VocDataset(root, split, year=year)
        assert dataset.splits == splits
        listed = (root / f"VOCdevkit/VOC{year}/ImageSets/Segmentation/{split}.txt").read_text().split()
        assert names(dataset) == listed
        assert len({sample.image.shape for sample in dataset}) > 1
        for index, sample in enumerate(dataset):
            assert sample.mask.shape == sample.image.shape[1:]
            assert set(sample.mask.unique().tolist()) > {0, 255}
            assert sample.mask.equal(dataset.mask(index))


def test_palette_indices_are_the_labels(root: Path) -> None:
    dataset = VocDataset(root)
    with Image.open(dataset.pairs[0][1]) as mask:
        assert mask.mode == "P"
        assert np.array_equal(np.asarray(mask), dataset.mask(0).numpy())
    assert (len(dataset.classes), dataset.classes[15], dataset.palette[15]) == (21, "person", (192, 128, 128))
    assert dataset.ignore_index == 255


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_may_be_any_of_three_folders(root: Path, below: str) -> None:
    assert names(VocDataset(root / below)) == names(VocDataset(str(root)))


def test_another_years_folder_is_not_taken_for_the_wanted_one(root: Path) -> None:
    shutil.rmtree(root / "VOCdevkit" / "VOC2012")
    with pytest.raises(DataError, match="no Pascal VOC there"):
        VocDataset(root / "VOCdevkit" / "VOC2007", year="2012")


def test_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        VocDataset(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: no Pascal VOC there; expected are ")
    assert f"{tmp_path}/VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt" in message
    assert "download = true" in message


def test_a_split_that_is_not_there(root: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'test', but train, val; fractions = .* makes one"):
        VocDataset(root, "test")
    with pytest.raises(DataError, match=r"no split 'tets', but train, val, test; did you mean 'test'\?"):
        VocDataset(root, "tets", year="2007")


@pytest.mark.parametrize("download", [False, True])
def test_a_wrong_argument_is_an_error_of_ours(root: Path, download: bool) -> None:
    for year in ("2010", 2010, None, ""):
        with pytest.raises(ConfigError, match=rf"year = {year!r}: allowed are '2007' and '2012'"):
            VocDataset(root, year=year, download=download)  # type: ignore[arg-type]
    assert VocDataset(root, year=2007).splits == VocDataset(root, year="2007").splits  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no split '1', but train, val"):
        VocDataset(root, 1)  # type: ignore[arg-type]
    for fractions in ("abc", 0.5, [0.5, "x"], [0.5], [0.7, 0.7], [float("nan"), 1]):
        with pytest.raises(ConfigError, match=r"^fractions = .*: give two \(train, val\) or three"):
            VocDataset(root, fractions=fractions)  # type: ignore[arg-type]


def test_a_test_list_without_masks_is_no_split(root: Path) -> None:
    for name in names(VocDataset(root, "test", year="2007")):
        (root / f"VOCdevkit/VOC2007/SegmentationClass/{name}.png").unlink()
    assert VocDataset(root, year="2007").splits == ("train", "val")


@pytest.mark.fault("F28")
def test_files_that_are_missing_are_named_and_counted(root: Path) -> None:
    folder = root / "VOCdevkit" / "VOC2012"
    for name in names(VocDataset(root)):
        (folder / "JPEGImages" / f"{name}.jpg").unlink()
        (folder / "SegmentationClass" / f"{name}.png").unlink()
    with pytest.raises(
        DataError, match=r"^8 files: listed but not there \(train split\): .*unpack the archive again"
    ) as caught:
        VocDataset(root)
    assert str(caught.value).count(".jpg") + str(caught.value).count(".png") == 5
    first = folder / "JPEGImages" / "2007_000001.jpg", folder / "SegmentationClass" / "2007_000001.png"
    assert f"{first[0]}, {first[1]}, " in str(caught.value)
    assert "and 3 more" in str(caught.value)
    with gathered() as faults:
        assert len(VocDataset(root)) == 0
    assert len(faults) == 8
    VocDataset(root, "val")


def test_fractions_deal_all_labelled_images(root: Path) -> None:
    def split(year: Any, **options: Any) -> dict[str, list[str]]:
        splits = VocDataset(root, year=year, **options).splits
        return {each: names(VocDataset(root, each, year=year, **options)) for each in splits}

    dealt = split("2007", fractions=[0.6, 0.2, 0.2])
    assert {each: len(dealt[each]) for each in dealt} == {"train": 6, "val": 2, "test": 2}
    assert len({name for each in dealt.values() for name in each}) == 10
    assert dealt != split("2007", fractions=[0.6, 0.2, 0.2], split_seed=1)
    assert [len(files) for files in split("2012", fractions=(0.7, 0.3)).values()] == [5, 2]
    assert tuple(split("2012", fractions=[0.8, 0.0, 0.2])) == ("train", "test")


def test_a_label_of_no_class_is_refused(root: Path) -> None:
    path = VocDataset(root).pairs[0][1]
    Image.fromarray(np.full((64, 48), 21, dtype=np.uint8)).save(path)
    with pytest.raises(LabelError, match=rf"{path.name}.*21: 3,072 pixels\).*unpack SegmentationClass again$"):
        VocDataset(root).mask(0)


def test_pairs_of_which_a_file_is_missing_can_be_left_out(root: Path) -> None:
    whole = VocDataset(root)
    for pair, part in ((0, 1), (2, 0)):
        whole.pairs[pair][part].unlink()
    with gathered() as faults:
        dataset = VocDataset(root)
    assert names(dataset) == [whole.pairs[1][0].stem, whole.pairs[3][0].stem]
    assert [(fault.kind, fault.file) for fault in faults] == [
        ("missing", str(whole.pairs[0][1])),
        ("missing", str(whole.pairs[2][0])),
    ]


def test_no_map_is_proposed_that_voc_has_no_option_for(root: Path) -> None:
    path = VocDataset(root).pairs[0][1]
    Image.new("RGB", (48, 64), (128, 0, 0)).save(path)
    with pytest.raises(
        LabelError, match=r"colours, not labels \(1 colours\); allowed .*; the masks as published.*again$"
    ) as caught:
        VocDataset(root).mask(0)
    assert "dataset." not in str(caught.value)


def test_the_real_images(real_data: Path) -> None:
    for split, count, background in (("train", 48, 73.6), ("val", 54, 70.3)):
        dataset = VocDataset(real_data, split)
        assert (len(dataset), dataset.splits) == (count, ("train", "val"))
        pixels = sum(np.bincount(dataset.mask(index).numpy().ravel(), minlength=256) for index in range(count))
        assert pixels[21:255].sum() == 0
        assert 100 * pixels[0] / pixels[:21].sum() == pytest.approx(background, abs=0.05)
    assert dataset[0].image.shape[1:] == dataset.mask(0).shape


def test_the_addresses() -> None:
    (name, checksum, _), *rest = ARCHIVES["2012"]
    assert MIRRORS[0].format(year="2012", name=name) == (
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
    )
    assert (checksum, rest) == ("6cd6e144f989b92b3379bac3b3de84fd", [])


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str]

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve the samples as the archives of 2007; what was asked for."""
    VocDataset.write_sample(tmp_path / "made")
    folder = tmp_path / "made" / "VOCdevkit" / "VOC2007"
    offered = []
    for archive, splits in (("trainval.tar", ("train", "val")), ("test.tar", ("test",))):
        (tmp_path / "served").mkdir(exist_ok=True)
        with tarfile.open(tmp_path / "served" / archive, "w") as tar:
            for split in splits:
                files = [Path("ImageSets", "Segmentation", f"{split}.txt")]
                for name in (folder / files[0]).read_text().split():
                    files += [Path("JPEGImages", f"{name}.jpg"), Path("SegmentationClass", f"{name}.png")]
                for file in files:
                    tar.add(folder / file, f"VOCdevkit/VOC2007/{file}")
        checksum = hashlib.md5((tmp_path / "served" / archive).read_bytes()).hexdigest()
        offered.append((archive, checksum, splits[0]))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(Quiet, "asked", [], raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setitem(ARCHIVES, "2007", tuple(offered))
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr("segkit_voc.download.MIRRORS", (address + "/gone/{year}/{name}", address + "/{name}"))
    yield Quiet.asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_download(asked: list[str], tmp_path: Path, below: str) -> None:
    root = tmp_path / "data" / below
    assert len(VocDataset(root, "train", year="2007", download=True)) == 4
    order = list(dict.fromkeys(asked))  # each is asked for redirects first
    assert order == ["/gone/2007/trainval.tar", "/trainval.tar", "/gone/2007/test.tar", "/test.tar"]
    asked.clear()
    assert len(VocDataset(root, "test", year="2007", download=True)) == 3
    assert asked == []
    assert {path.name for path in (tmp_path / "data").iterdir()} == {
        "VOCdevkit",
        "trainval.tar",
        "test.tar",
        ".VOC2007.lock",
    }


def test_only_what_is_missing_is_downloaded_and_an_archive_put_there_is_used(asked: list[str], tmp_path: Path) -> None:
    VocDataset(tmp_path / "data", year="2007", download=True)
    (tmp_path / "data/VOCdevkit/VOC2007/ImageSets/Segmentation/test.txt").unlink()
    asked.clear()
    assert VocDataset(tmp_path / "data", year="2007", download=True).splits == ("train", "val", "test")
    assert asked == []
    (tmp_path / "data/test.tar").unlink()
    VocDataset(tmp_path / "data", year="2007", download=True)
    assert asked == []


def test_an_interrupted_unpacking_is_told_and_repeated(asked: list[str], tmp_path: Path) -> None:
    root = tmp_path / "data"
    VocDataset(root, year="2007", download=True)
    (root / ".trainval.tar.unpacking").mkdir()
    (root / "VOCdevkit/VOC2007/JPEGImages/000002.jpg").unlink()
    assert len(VocDataset(root, year="2007", download=True)) == 4
    (root / ".trainval.tar.unpacking").mkdir()
    shutil.rmtree(root / "VOCdevkit")
    with pytest.raises(DataError, match=r"unpacking Pascal VOC was interrupted; .*download = true"):
        VocDataset(root, year="2007")


@pytest.mark.fault("F39")
def test_a_wrong_archive_leaves_no_data(asked: list[str], tmp_path: Path) -> None:
    (tmp_path / "served" / "trainval.tar").write_bytes(b"another archive")
    with pytest.raises(DownloadError, match=r"status 404.*its md5 is .*put the file here: .*trainval\.tar"):
        VocDataset(tmp_path / "data", year="2007", download=True)
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".VOC2007.lock"]


def test_complete_data_in_a_read_only_folder_need_no_download(
    root: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segkit_voc.dataset.download", lambda *_: pytest.fail("nothing may be written"))
    VocDataset(root, year="2007", download=True)
    assert asked == []


def test_a_download_that_fails_at_once_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segkit_voc.download.MIRRORS", ("http://127.0.0.1:9/{year}/{name}",))
    with pytest.raises(DownloadError, match="no connection"):
        VocDataset(tmp_path / "new" / "data", download=True)


def test_a_list_cannot_name_files_elsewhere(root: Path, tmp_path: Path) -> None:
    folder = root / "VOCdevkit" / "VOC2012"
    shutil.copy(next((folder / "JPEGImages").iterdir()), tmp_path / "secret.jpg")
    shutil.copy(next((folder / "SegmentationClass").iterdir()), tmp_path / "secret.png")
    outside = (tmp_path / "secret", Path("../../../secret"), Path("../JPEGImages/../../../secret"))
    listed = folder / "ImageSets" / "Segmentation" / "train.txt"
    listed.write_text(listed.read_text() + "".join(f"{name}\n" for name in outside))
    with gathered() as faults:
        dataset = VocDataset(root)
    assert {fault.kind for fault in faults} == {"missing"}
    assert len(faults) == 2 * len(outside)
    assert all(path.parent.parent == folder for pair in dataset.pairs for path in pair)


@pytest.mark.timeout(100)
def test_a_list_that_is_a_device_or_without_end_is_refused(root: Path) -> None:
    listed = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt"
    os.truncate(listed, 1 << 40)
    with pytest.raises(DataError, match=r"val\.txt is larger than"):
        VocDataset(root)
    listed.write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"val\.txt cannot be read as text"):
        VocDataset(root)
