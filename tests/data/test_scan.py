"""The label scan: what is wrong is told by file, all at once, before training; and the second time costs nothing."""

from __future__ import annotations

import os
import re
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.compose import scan_dataset
from segkit.config import read_config
from segkit.data import parallel
from segkit.data import scan as scanning
from segkit.data.sample import Dataset, Sample
from segkit.data.scan import Scan, scan_splits
from segkit.data.statistics import SampleStatistics
from segkit.data.subset import Subset
from segkit.errors import DataError, Issue, LabelError
from segkit.settings import DataSettings
from segkit_checks.classes import Classes
from segkit_folder.dataset import FolderDataset

Check = Callable[..., Scan]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures of noise, which no two splits share, and masks of the classes 0, 1 and 2 with void."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        for index in range(count):
            picture = np.kron(random.integers(0, 256, (6, 8, 3)), np.ones((5, 5, 1))).astype(np.uint8)
            labels = np.zeros((30, 40), np.uint8)
            labels[5:20, 5:15], labels[5:20, 22:32], labels[25:] = 1, 2, 255
            for folder, pixels in (("images", picture), ("masks", labels)):
                (tmp_path / folder / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / folder / split / f"{split}{index}.png")
    return tmp_path


@pytest.fixture
def check(root: Path) -> Check:
    def run(classes: tuple[str, ...] = ("background", "first", "second"), **options: object) -> Scan:
        data = {key: options.pop(key) for key in ("on_bad", "allow_leaks") if key in options}
        tables = {
            "dataset": {"name": "folder", "root": str(root), "classes": list(classes), **options},
            "model": {"name": "unet"},
            "loss": [{"name": "dice"}],
            "data": data,
        }
        return scan_dataset(read_config(tables))

    return run


def texts(scan: Scan, severity: str = "error") -> str:
    return "\n".join(str(finding) for finding in scan.issues if finding.severity == severity)


def test_good_data_has_no_findings_and_is_counted(check: Check) -> None:
    scan = check()
    assert scan.issues == []
    assert {name: len(dataset) for name, dataset in scan.splits.items()} == {"train": 6, "val": 3, "test": 3}
    counts = scan.counts("train")
    assert (
        counts.pixels.tolist() == [6 * (30 * 40 - 200 - 300), 6 * 150, 6 * 150 - 0] or counts.pixels.sum() == 6 * 1000
    )
    assert counts.images.tolist() == [6, 6, 6]
    assert counts.void == 6 * 200
    assert counts.image_pixels.tolist() == [6000, 6000, 6000]


def test_every_fault_of_every_split_is_told_at_once(root: Path, check: Check) -> None:
    train, val = root / "masks" / "train", root / "masks" / "val"
    labels = np.asarray(Image.open(train / "train0.png"))
    Image.fromarray(labels).save(train / "train0.jpg", quality=95)
    (train / "train0.jpg").rename(train / "train0.png")  # a JPEG under the name of a PNG
    Image.fromarray(np.where(labels == 2, 200, labels).astype(np.uint8)).save(train / "train1.png")
    Image.fromarray(np.where(labels == 2, 200, labels).astype(np.uint8)).save(val / "val0.png")
    Image.fromarray(labels[:20]).save(train / "train2.png")
    (root / "images" / "train" / "train3.png").write_bytes((root / "images" / "train" / "train3.png").read_bytes()[:90])
    (root / "images" / "val" / "val1.png").write_bytes(b"")
    (root / "masks" / "test" / "test0.png").write_text("<html>404</html>")
    (root / "images" / "train" / "lonely.png").write_bytes((root / "images" / "train" / "train4.png").read_bytes())
    scan = check()
    told = texts(scan)
    for words in (
        f"train: {train}/train0.png: the mask is a JPEG",
        f"labels that are not allowed, 200 (300 pixels in 2 of them): {train}/train1.png, {val}/val0.png",
        f"train: {train}/train2.png: image and mask differ in size (40 x 20,",
        f"train: {root}/images/train/train3.png: damaged or cut short",
        f"val: {root}/images/val/val1.png: the file is empty",
        f"test: {root}/masks/test/test0.png: not an image but text in HTML",
        f"train: {root}/images/train/lonely.png: image without a mask",
    ):
        assert words in told
    assert len(scan.errors) == 7
    with pytest.raises(LabelError, match=r"train0\.png") as caught:
        scan.refuse_errors()
    assert str(caught.value) == f'{told}\ndata.on_bad = "skip" continues without the files that cannot be used'


def test_to_leave_files_out_is_no_advice_where_none_would_be_left(root: Path, check: Check) -> None:
    for path in (root / "masks" / "val").iterdir():
        path.write_bytes(b"")
    with pytest.raises(LabelError) as caught:
        check().refuse_errors()
    assert "the file is empty" in str(caught.value)
    assert "on_bad" not in str(caught.value)


@pytest.mark.fault("F21")
def test_the_same_fault_of_many_files_is_told_once_with_counts(root: Path, check: Check) -> None:
    for split, count in (("train", 6), ("val", 1)):
        for index in range(count):
            path = root / "masks" / split / f"{split}{index}.png"
            labels = np.asarray(Image.open(path))
            Image.fromarray(np.where(labels == 2, 100 + index, labels).astype(np.uint8)).save(path)
    (finding,) = check().errors
    assert finding.split == "train, val"
    assert "7 files: labels that are not allowed" in finding.text
    assert "100 (300 pixels in 2 of them)" in finding.text
    assert "train/train4.png and 2 more" in finding.text
    assert len(finding.files) == 7


def test_the_map_proposed_for_0_and_255_is_all_that_is_missing(root: Path, check: Check) -> None:
    for path in sorted((root / "masks").rglob("*.png")):
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.where(labels == 1, 255, 0).astype(np.uint8)).save(path)
    (finding,) = check(("background", "first")).errors
    scan = check(("background", "first"), **tomllib.loads(finding.text[finding.text.index("value_map") :]))
    assert scan.errors == []
    assert (scan.counts("train").pixels > 0).all()


@pytest.mark.fault("F25", "F28")
def test_unusable_samples_can_be_skipped_and_are_listed(root: Path, check: Check) -> None:
    (root / "images" / "train" / "train3.png").write_bytes(b"")
    scan = check(on_bad="skip")
    assert scan.errors == []
    assert "left out: " in texts(scan, "warning")
    assert "train3.png" in texts(scan, "warning")
    train = scan.splits["train"]
    assert [train[index].name for index in range(len(train))] == ["train0", "train1", "train2", "train4", "train5"]
    assert scan.counts("train").images.tolist() == [5, 5, 5]
    for path in (root / "images" / "val").iterdir():
        path.write_bytes(b"")
    scan = check(on_bad="skip")
    assert "val: there is no image that can be used" in texts(scan)
    with pytest.raises(LabelError, match=r"left out: .*\n(?s:.*)val: there is no image that can be used"):  # and why
        scan.refuse_errors()


def test_the_same_picture_in_two_splits_stops_the_run_unless_it_is_meant(root: Path, check: Check) -> None:
    with Image.open(root / "images" / "train" / "train2.png") as picture:
        picture.save(root / "images" / "val" / "val1.png", compress_level=1)  # other bytes, the same pixels
    told = texts(check())
    assert "train and val: 1 picture is in both; the score on val is of pictures that were trained on" in told
    assert "train2 = val1" in told
    allowed = check(allow_leaks=True)
    assert allowed.errors == []
    assert "train2 = val1" in texts(allowed, "warning")


def test_nearly_the_same_picture_in_two_splits_is_a_warning(root: Path, check: Check) -> None:
    with Image.open(root / "images" / "train" / "train2.png") as picture:
        pixels = np.asarray(picture).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(root / "images" / "test" / "test1.png")
    scan = check()
    assert scan.errors == []
    assert "train2 = test1" in texts(scan, "warning")


@pytest.mark.fault("F24")
def test_classes_that_never_occur_are_told(check: Check) -> None:
    told = texts(check(("background", "first", "second", "third")), "warning")
    assert "train: 1 of 4 classes in no image; no network can learn these: third" in told
    assert "val: 1 of 4 classes in no image; these have no score here" in told


def test_masks_that_were_resized_bilinearly_are_told(root: Path, check: Check) -> None:
    for path in (root / "masks" / "train").iterdir():
        labels = np.zeros((61, 81), np.uint8)
        labels[10:30, 10:30], labels[35:50, 20:70], labels[13:28, 40:70] = 2, 4, 4
        Image.fromarray(labels).resize((40, 30), Image.Resampling.BILINEAR).save(path)
    told = texts(check(("background", "a", "b", "c", "d")), "warning")
    assert "train: 6 of 6 masks look interpolated" in told


@pytest.mark.fault("F42")
def test_only_changed_files_are_read_again(root: Path, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    measure = scanning.measure

    def watched(dataset: object, *more: object) -> object:
        seen.append(dataset.pairs[more[0]][0].stem)  # type: ignore[attr-defined]
        return measure(dataset, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(scanning, "measure", watched)
    first = check()
    assert len(seen) == 12
    seen.clear()
    again = check()
    assert seen == []
    for name in first.splits:
        assert (again.pixels(name) == first.pixels(name)).all()
        for index in range(len(first.splits[name])):
            assert first.statistics[name][index].digest == again.statistics[name][index].digest
            assert first.statistics[name][index].name == again.statistics[name][index].name
    mask = root / "masks" / "val" / "val1.png"
    labels = np.asarray(Image.open(mask))
    Image.fromarray(np.where(labels == 1, 0, labels).astype(np.uint8)).save(mask)
    os.utime(mask, ns=(1, 1))
    assert check().counts("val").images.tolist() == [3, 2, 3]
    assert seen == ["val1"]
    seen.clear()
    check(("background", "first", "second", "third"))  # another way to read them
    assert len(seen) == 12


@pytest.mark.fault("F42")
def test_the_same_files_read_by_another_class_are_read_again(root: Path) -> None:
    class Merged(FolderDataset):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            sample.mask[sample.mask == 2] = 1
            return sample

    counts = []
    for kind in (FolderDataset, Merged, FolderDataset):
        splits = {"train": kind(root, "train", classes=["background", "first", "second"])}
        counts.append(scan_splits(splits, progress=False).counts("train").pixels.tolist())
    assert counts == [[4200, 900, 900], [4200, 1800, 0], [4200, 900, 900]]


def test_the_same_relative_path_elsewhere_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for place, label in (("one", 1), ("two", 2)):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        for folder in ("images", "masks"):
            Path(f"data/{folder}/train").mkdir(parents=True)
        Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).save("data/images/train/a.bmp")
        Image.fromarray(np.full((4, 4), label, np.uint8)).save("data/masks/train/a.bmp")
        for file in Path("data").rglob("*.bmp"):
            os.utime(file, ns=(5, 5))
        dataset = FolderDataset("data", "train", classes=["a", "b", "c"])
        counts.append(scan_splits({"train": dataset}, progress=False).counts("train").pixels.tolist())
    assert counts == [[0, 16, 0], [0, 0, 16]]


def test_a_split_without_masks_is_told_with_the_faults_of_the_others(root: Path, check: Check) -> None:
    (root / "masks" / "train" / "train0.png").write_bytes(b"")
    for mask in (root / "masks" / "val").iterdir():
        mask.unlink()
    scan = check()
    assert "val: no split 'val' in " in texts(scan)
    assert "images/val holds its images, and none of these has a mask" in texts(scan, "warning")
    assert "train0.png: the file is empty" in texts(scan)


def test_blank_pictures_are_no_copies_of_each_other(root: Path, check: Check) -> None:
    for split in ("train", "val"):
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(root / "images" / split / f"{split}0.png")
    assert {finding.kind for finding in check().issues} == {"constant_image"}


def test_images_without_content_are_named_and_a_train_split_of_them_is_refused(root: Path, check: Check) -> None:
    for index in (1, 4):
        Image.new("RGB", (40, 30), (10 * index, 0, 255)).save(root / "images" / "train" / f"train{index}.png")
    (finding,) = check().issues
    assert (finding.severity, finding.files) == ("warning", ("train1", "train4"))
    assert "train: 2 of 6 images hold the same value at every pixel" in str(finding)
    for index in range(6):
        Image.new("L", (40, 30), index).save(root / "images" / "train" / f"train{index}.png")
    assert "train: 6 of 6 images hold the same value at every pixel, so nothing can be seen in them: train0" in texts(
        check()
    )


@pytest.mark.fault("F50")
def test_images_of_8_and_of_more_bits_in_one_data_set_are_refused_by_name(root: Path, check: Check) -> None:
    deep = np.random.default_rng(0).integers(0, 5000, (30, 40)).astype(np.uint16)
    Image.fromarray(deep).save(root / "images" / "val" / "val1.png")
    scan = check()
    assert [finding.kind for finding in scan.errors] == ["mixed_depth"]
    message = r"val: 1 of 3 images have more or fewer bits a channel than train0: val1; .* with the same depth"
    with pytest.raises(LabelError, match=message):
        scan.refuse_errors()
    (root / "images" / "train" / "train0.png").unlink()  # the first is not what most are like
    np.save(root / "images" / "train" / "train0.npy", np.stack([deep] * 3, 2))
    assert "train: 1 of 6 images have more or fewer bits a channel than train1: train0; " in texts(check())


@pytest.mark.fault("F51")
def test_masks_whose_zero_is_white_are_read_as_stored_and_told(root: Path, check: Check) -> None:
    masks = sorted((root / "masks").glob("*/*.png"))
    expected = check().counts("train").pixels.tolist()
    for mask in masks[1:]:  # test0 stays a PNG
        labels = np.asarray(Image.open(mask))
        # Pillow inverts what it writes so, too; tifffile writes a mask of bools as it is
        Image.fromarray(255 - labels).save(mask.with_suffix(".tif"), tiffinfo={262: 0})
        mask.unlink()
    scan = check()
    (error,) = scan.errors
    assert (error.kind, error.split, error.files) == ("mixed_white_zero", "test", ("test0",))
    assert "1 of 3 images have masks unlike that of train0: TIFFs whose 0 is white" in str(error)
    labels = np.asarray(Image.open(masks[0]))
    Image.fromarray(255 - labels).save(masks[0].with_suffix(".tif"), tiffinfo={262: 0})
    masks[0].unlink()
    scan = check()
    assert scan.counts("train").pixels.tolist() == expected
    assert {(warning.kind, warning.severity) for warning in scan.issues} == {("white_zero", "warning")}
    assert "test: 3 of 3 images have masks that are TIFFs whose 0 is white" in texts(scan, "warning")


@pytest.mark.parametrize(
    ("orientation", "size", "of_mask", "warned"),
    [
        (3, (40, 30), 1, True),
        (2, (40, 30), 1, True),
        (6, (30, 30), 1, True),
        (6, (40, 30), 1, False),  # the mask fits the upright image alone
        (3, (40, 30), 3, False),  # both are turned
        (1, (40, 30), 3, True),  # the mask alone
        (6, (30, 30), 8, True),
        (1, (40, 30), 1, False),
    ],
)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_turned_image_with_a_mask_that_is_not_is_told(
    root: Path, check: Check, orientation: int, size: tuple[int, int], of_mask: int, warned: bool, suffix: str
) -> None:
    name = root / "images" / "train" / "train2.png"
    random = np.random.default_rng(9)
    picture = Image.fromarray(
        np.kron(random.integers(0, 256, (size[1] // 5, size[0] // 5, 3)), np.ones((5, 5, 1))).astype(np.uint8)
    )
    labels = Image.fromarray((np.arange(size[0] * size[1]) % 3).astype(np.uint8).reshape(size[1], size[0]))
    if orientation == 6 and size == (40, 30):
        labels = labels.resize((30, 40), Image.Resampling.NEAREST)
    tag, of_masks = Image.Exif(), Image.Exif()
    tag[0x0112], of_masks[0x0112] = orientation, of_mask
    name.unlink()
    picture.save(name.with_suffix(f".{suffix}"), exif=tag)
    labels.save(root / "masks" / "train" / "train2.png", exif=of_masks)
    found = [finding for finding in check().issues if finding.kind == "turned_image"]
    assert [finding.files for finding in found] == ([("train2",)] if warned else [])
    if warned:
        assert (
            "1 of 6 images and their masks or shapes are turned differently by their EXIF orientation, which one of "
            in str(found[0])
        )


def test_what_is_noted_of_a_part_of_a_data_set_holds_for_all_of_it(root: Path, check: Check) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    for index in range(6):
        file = root / "images" / "train" / f"train{index}.png"
        Image.open(file).save(file, exif=exif)
    whole = FolderDataset(root, "train", ["background", "first", "second"])
    part = scan_splits(
        {"train": Subset(whole, [2, 4])}, checks={"classes": Classes(DataSettings())}, progress=False
    )  # kept, and read again of all
    assert [finding.files for finding in part.issues] == [("train2", "train4")]
    assert [finding.files for finding in check().warnings] == [tuple(f"train{index}" for index in range(6))]
    (root / "masks" / "train" / "train4.png").write_bytes(b"no picture")
    with pytest.raises(LabelError, match=r"train4\.png: not an image of a known format"):
        scan_splits(
            {"train": Subset(whole, [2, 4])}, checks={"classes": Classes(DataSettings())}, progress=False
        ).refuse_errors()


def test_what_a_dataset_warns_of_in_every_split_is_told_once(root: Path, check: Check) -> None:
    random = np.random.default_rng(1)
    (root / "all").mkdir()  # of images and masks: it is looked into twice a split
    for index in range(12):
        Image.fromarray(random.integers(0, 256, (30, 40, 3)).astype(np.uint8)).save(root / "all" / f"{index}.png")
        (root / "all" / f"{index}_mask.png").write_bytes((root / "masks" / "train" / "train0.png").read_bytes())
    (root / "all" / "notes.txt").write_text("taken in May")
    found = [each for each in check(images="all", masks="all", mask_suffix="_mask").issues if each.kind == "dataset"]
    assert [(each.split, "1 of 25 files" in each.text) for each in found] == [("train, val, test", True)]


@pytest.mark.fault("F50")
def test_float_pictures_that_are_in_two_splits_are_found(root: Path, check: Check) -> None:
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        for index in range(count):
            file = root / "images" / split / f"{split}{index}.png"
            grey = np.asarray(Image.open(file).convert("L"), np.uint16)
            Image.fromarray(grey + 1000).save(file)  # 8 bits of 16 would be the same everywhere
    scan = check()
    assert scan.issues == []
    assert {facts.dtype for facts in scan.statistics["train"]} == {"float32"}
    copy = (root / "images" / "train" / "train1.png").read_bytes()
    (root / "images" / "test" / "test1.png").write_bytes(copy)
    assert [(finding.kind, finding.files) for finding in check().issues] == [("same_picture", ("train1", "test1"))]


@pytest.mark.fault("F42")
def test_a_damaged_cache_is_read_anew(root: Path, check: Check, own_cache: Path) -> None:
    expected = check().counts("train").pixels.tolist()
    for file in own_cache.glob("scan-*"):
        file.write_bytes(file.read_bytes()[:200])
    assert check().counts("train").pixels.tolist() == expected


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    root: Path, check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEGKIT_CACHE", str(tmp_path / "file" / "below"))
    assert check().issues == []


@pytest.mark.fault("F42")
def test_what_was_read_before_ctrl_c_is_kept(root: Path, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = scanning.measure
    seen: list[int] = []

    def interrupted(dataset: object, index: int, *more: object) -> object:
        seen.append(index)
        if len(seen) > 4:
            raise KeyboardInterrupt
        return measure(dataset, index, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(scanning, "measure", interrupted)
    monkeypatch.setattr(parallel, "cores", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        check()
    seen.clear()
    monkeypatch.setattr(
        scanning, "measure", lambda dataset, index, *more: (seen.append(index), measure(dataset, index, *more))[1]
    )
    check()
    assert len(seen) == 12 - 4


class Foreign:
    """A dataset of somebody else's, without files, mask() or advice()."""

    classes = ("background", "thing")
    palette = ((0, 0, 0), (255, 0, 0))
    ignore_index = 255

    def __init__(self, label: int = 1, error: Exception | None = None) -> None:
        self.label, self.error = label, error

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        if self.error and index == 1:
            raise self.error
        mask = torch.zeros(8, 8, dtype=torch.uint8)
        mask[:4] = self.label
        image = torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(id(self) + index))
        return Sample(image.to(torch.uint8), mask, f"picture {index}")


def test_a_foreign_dataset_is_scanned_too() -> None:
    told = texts(scan_splits({"train": Foreign(7), "val": Foreign(1, OSError("disk on fire"))}, progress=False))
    assert "train: 3 files: labels that are not allowed, 7 (96 pixels in 3 of them)" in told
    assert "allowed are 0 to 1 and 255 (void)" in told
    assert "val: val: Foreign[1]: its dataset cannot read it (OSError: disk on fire)" in told
    told = texts(
        scan_splits({"train": Foreign(7), "val": Foreign(7), "test": Foreign(1, SystemExit(0))}, progress=False)
    )
    assert "train, val: 6 files: labels that are not allowed" in told
    assert "test: test: Foreign[1]: its dataset cannot read it (SystemExit: 0)" in told


def test_samples_of_one_file_are_never_taken_for_each_other(root: Path) -> None:
    class Tiles(Foreign):
        reading = "tiles"

        def files(self, index: int) -> tuple[Path, ...]:
            return (root / "images" / "train" / "train0.png",)

    for _ in range(2):
        scan = scan_splits({"train": Tiles()}, progress=False)
        assert [facts.name for facts in scan.statistics["train"]] == ["picture 0", "picture 1", "picture 2"]


@pytest.mark.fault("F28")
def test_an_image_without_its_mask_is_an_error_although_bad_files_may_be_skipped(root: Path, check: Check) -> None:
    (root / "masks" / "train" / "train0.png").unlink()
    scan = check(on_bad="skip")
    assert "train0.png: image without a mask" in texts(scan)
    with pytest.raises(LabelError) as refused:
        scan.refuse_errors()
    assert "on_bad" not in str(refused.value)  # that would not help


@pytest.mark.fault("F25")
def test_links_to_nowhere_and_folders_are_told(root: Path, check: Check) -> None:
    (root / "images" / "train" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "masks" / "train" / "gone.png").symlink_to(root / "nowhere.png")
    for folder in ("images", "masks"):
        (root / folder / "train" / "folder.png").mkdir()
    told = texts(check())
    assert "gone.png: no such file" in told
    assert "folder.png: cannot be read (Is a directory)" in told


def test_a_mask_whose_pixels_were_changed_on_the_way_is_told(root: Path, check: Check) -> None:
    path = root / "masks" / "train" / "train0.png"
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 12] ^= 4
    path.write_bytes(data)
    assert "train0.png: damaged or cut short" in texts(check())


def test_a_mask_of_several_pages_is_told(root: Path, check: Check) -> None:
    pages = [Image.fromarray(np.full((30, 40), label, np.uint8)) for label in (0, 1)]
    (root / "masks" / "train" / "train0.png").unlink()
    pages[0].save(root / "masks" / "train" / "train0.tif", save_all=True, append_images=pages[1:])
    assert "train0.tif: more than one picture in the file (1, 2)" in texts(check())


@pytest.mark.slow
def test_the_real_scan_is_fast(real_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEGKIT_CACHE", str(tmp_path))
    config = read_config(
        Path(__file__).parents[2] / "examples" / "camvid.toml", {"dataset.root": str(real_data / "camvid")}
    )
    durations = []
    for _ in range(2):
        began = time.process_time()
        scan = scan_dataset(config)
        durations.append(time.process_time() - began)
        assert scan.errors == []
        assert scan.counts("train").images.max() == 367
    assert durations[0] < 30  # of the processor, as tests run beside others; 3 to 5
    assert durations[1] < 1


def test_what_a_dataset_warns_of_is_a_warning_of_the_scan_told_once(root: Path, check: Check) -> None:
    (root / "val.txt").touch()
    (finding,) = check().issues
    assert (finding.severity, finding.split) == ("warning", "train, val, test")
    assert finding.text.startswith(f"not read, though named like a split: {root}/val.txt")


def test_no_error_follows_from_another_where_no_image_finds_its_mask(root: Path, check: Check) -> None:
    for split in ("train", "val", "test"):
        for mask in (root / "masks" / split).iterdir():
            mask.rename(mask.with_stem(f"{mask.stem}_net"))
    (finding,) = check().errors
    assert finding.split == "train, val, test"
    assert finding.text.startswith("12 files: image without a mask: ")
    assert finding.text.endswith('in [dataset],\n\nmasks = "masks/{split}/{id}_net.png"')
    assert check(mask_suffix="_net").errors == []
    for split in ("train", "val", "test"):
        for folder in ("images", "masks"):
            for file in (root / folder / split).iterdir():
                file.rename(root / folder / file.name)
            (root / folder / split).rmdir()
    with pytest.raises(DataError) as caught:
        check()
    assert str(caught.value).startswith("12 files: image without a mask: ")
    found = 'in [dataset],\n\nimages = "images/{split}{id}"\nmasks = "masks/{split}{id}_net.png"'
    assert str(caught.value).endswith(found)


@pytest.mark.fault("F50")
@pytest.mark.parametrize(("scale", "warned"), [(1.0, False), (1.3, False), (1 / 65535, True), (16.0, True)])
def test_splits_of_another_unit_than_train_are_told(root: Path, check: Check, scale: float, warned: bool) -> None:
    random = np.random.default_rng(0)
    for path in sorted((root / "images").rglob("*.png")):
        values = random.normal(1000, 100, (30, 40)) * (scale if path.parent.name == "val" else 1)
        Image.fromarray(values.astype(np.float32)).save(path.with_suffix(".tif"))
        path.unlink()
    found = [finding for finding in check().issues if finding.kind == "other_range"]
    assert [(each.split, each.severity, each.files) for each in found] == (
        [("val", "warning", ("val0", "val1", "val2"))] if warned else []
    )
    if warned:
        assert re.search(
            r"3 of 3 images have values of another range than those of train, .* mean of \d+ ", found[0].text
        )


def test_a_single_class_is_told(root: Path, check: Check) -> None:
    found = check(("first",), value_map={"0": 255, "1": 0, "2": 255}).issues
    text = "train: 'first' is the only class, so every prediction is right and nothing can be learned"
    assert [str(each)[: len(text)] for each in found] == [text]
    assert "; the background is a class too; `segkit init" in texts(check(("first",)))


@pytest.mark.fault("F50")
@pytest.mark.parametrize(
    ("mark", "share", "warned"), [(-9999.0, 9, True), (65535.0, 9, True), (0.0, 9, False), (9e4, 1, False)]
)
def test_values_that_mark_pixels_without_data_are_told(
    root: Path, check: Check, mark: float, share: int, warned: bool
) -> None:
    random = np.random.default_rng(0)
    for path in sorted((root / "images").rglob("*.png")):
        values = random.uniform(300, 900, (30, 40)).astype(np.float32)
        if path.stem == "train1":
            values.flat[:share] = mark
        Image.fromarray(values).save(path.with_suffix(".tif"))
        path.unlink()
    for _ in range(2):  # the second time from the cache
        found = [finding for finding in check().issues if finding.kind == "no_data"]
        assert [(each.severity, each.files) for each in found] == ([("warning", ("train1",))] if warned else [])
    if warned:
        assert f"1 of 6 images hold a value far from all their others: train1 ({mark:g})" in found[0].text


class Dark:
    """A check of somebody else's: images that are nearly black."""

    version = 1

    def __init__(self, error: str = "") -> None:
        self.error, self.measured = error, 0

    def measure(self, sample: Sample, dataset: FolderDataset, index: int) -> tuple[float, str]:
        if self.error == "measure":
            raise ValueError("no idea")
        if self.error == "unusable":
            raise DataError(Issue("odd", str(dataset.pairs[index][0]), "odd"))
        self.measured += 1
        return float(sample.image.float().mean()), sample.name

    def judge(
        self,
        splits: Mapping[str, Sequence[tuple[SampleStatistics, Any]]],
        datasets: Mapping[str, Dataset],
        left_out: Sequence[Issue],
    ) -> Iterator[Issue]:
        if self.error == "judge":
            raise ValueError("no idea")
        assert len(left_out) == 6 - len(datasets["train"])
        for split, samples in splits.items():
            assert [each.name for each, _ in samples] == [name for _, (_, name) in samples]
            if dark := tuple(each.name for each, (mean, _) in samples if mean < 3):
                yield Issue("dark", what=f"{len(dark)} images are nearly black", split=split, files=dark)


def test_a_check_of_a_plugin_is_asked_and_what_it_measured_is_cached(root: Path) -> None:
    picture = np.zeros((30, 40, 3), np.uint8)
    picture[0, 0] = 9
    Image.fromarray(picture).save(root / "images" / "train" / "train4.png")
    dataset = FolderDataset(root, "train", ["background", "first", "second"])

    def scanned(check: Dark | None) -> Scan:
        return scan_splits({"train": dataset}, checks={"dark": check} if check else {}, progress=False)

    counts = []
    for version in (1, 1, 2):
        Dark.version, check = version, Dark()
        (issue,) = scanned(check).issues
        counts.append(check.measured)
        assert (issue.kind, issue.files, str(issue)) == ("dark", ("train4",), "train: 1 images are nearly black")
    assert counts == [6, 0, 6]
    assert scanned(None).issues == []
    for error in ("measure", "judge"):
        Dark.version += 1
        with pytest.raises(ValueError, match="no idea") as caught:
            scanned(Dark(error))
        assert caught.value.__notes__ == ["in the check 'dark'"]
    Dark.version += 1
    (issue,) = scanned(Dark("unusable")).errors
    assert str(issue).startswith("train: 6 files: odd: ")


def test_a_split_that_is_asked_for_alone_and_cannot_be_built_is_an_error(root: Path) -> None:
    shutil.rmtree(root / "masks" / "val")
    dataset = {"name": "folder", "root": str(root), "classes": ["background", "first", "second"]}
    config = read_config({"dataset": dataset, "model": {"name": "unet"}, "loss": [{"name": "dice"}]})
    with pytest.raises(DataError, match=r"^val: no split 'val' in .*; there are train, test"):
        scan_dataset(config, ["val"], progress=False)
    assert scan_dataset(config, ["train"], progress=False).errors == []
