"""A person's own folders, in the ways people lay them out."""

from __future__ import annotations

import os
import re
import tomllib
import unicodedata
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segkit
from segkit.data.sample import Dataset, voc_palette
from segkit.data.scan import Scan, scan_splits
from segkit.engine.checkpoint import samples_of
from segkit.errors import ConfigError, DataError, Issue, LabelError, gathered
from segkit.settings import DataSettings
from segkit_checks.classes import Classes
from segkit_folder.dataset import FolderDataset

CHECKS = {"classes": Classes(DataSettings())}

CLASSES = ["background", "left", "right"]
CAMVID = [f"class {index}" for index in range(11)]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    FolderDataset.write_sample(tmp_path)
    return tmp_path


def write(root: Path, labels: list[list[Any]], count: int = 1, folder: str = "masks") -> Path:
    mask = np.array(labels, dtype=np.uint8)
    for name in ("images", folder):
        (root / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        noise = np.random.default_rng(index).integers(0, 256, (*mask.shape[:2], 3), np.uint8)
        Image.fromarray(noise).save(root / "images" / f"{index}.jpg")
        Image.fromarray(mask).save(root / folder / f"{index}.png")
    return root


def everything(root: Path, **options: Any) -> FolderDataset:
    return FolderDataset(root, "train", **{"fractions": [1, 0, 0], "classes": ["a", "b"], **options})


def faults(dataset: FolderDataset) -> list[Issue]:
    """What is wrong with the masks."""
    found = []
    for index in range(len(dataset)):
        with pytest.raises(LabelError) as caught:
            dataset.mask(index)
        assert caught.value.issue is not None
        found.append(caught.value.issue)
    return found


def scanned(dataset: FolderDataset) -> Scan:
    return scan_splits({"train": dataset}, checks=CHECKS, progress=False)


def test_a_folder_for_each_split(sample: Path) -> None:
    datasets = {split: FolderDataset(sample, split, CLASSES) for split in ("train", "val", "test")}
    assert {split: len(dataset) for split, dataset in datasets.items()} == {"train": 4, "val": 2, "test": 2}
    train = datasets["train"]
    assert isinstance(train, Dataset)
    assert train.splits == ("train", "val", "test")
    assert train.palette == voc_palette(3)
    assert train[0].mask.unique().tolist() == [0, 1, 2, 255]
    assert train[0].name == "train_0"


def test_splits_that_have_no_folder_do_not_exist(sample: Path) -> None:
    import shutil

    shutil.rmtree(sample / "images" / "test")
    assert FolderDataset(sample, "val", CLASSES).splits == ("train", "val")
    with pytest.raises(DataError, match=r"no split 'test' in .*; there are train, val$"):
        FolderDataset(sample, "test", CLASSES)
    with pytest.raises(DataError, match="did you mean 'train'"):
        FolderDataset(sample, "trian", CLASSES)


def test_the_split_may_stand_anywhere_in_the_folders(sample: Path) -> None:
    (sample / "train").mkdir()
    (sample / "images" / "train").rename(sample / "train" / "pictures")
    (sample / "masks" / "train").rename(sample / "train" / "labels")
    dataset = FolderDataset(sample, "train", CLASSES, images="{split}/pictures", masks="{split}/labels")
    assert (len(dataset), dataset.splits) == (4, ("train",))
    with pytest.raises(
        DataError,
        match=r'x does not exist; .* the folders images, .* shows other ways; 4 images have .*\n\nimages = "images"$',
    ):
        FolderDataset(sample, "train", CLASSES, images="x/{split}")


def test_one_folder_is_split_by_fractions(tmp_path: Path) -> None:
    write(tmp_path, [[0, 1]], count=20)
    parts = {split: FolderDataset(tmp_path, split, ["a", "b"]) for split in ("train", "val", "test")}
    names = [{sample.name for sample in part} for part in parts.values()]
    assert [len(each) for each in names] == [14, 3, 3]
    assert len(set.union(*names)) == 20
    other = FolderDataset(tmp_path, "train", ["a", "b"], split_seed=1)
    assert {sample.name for sample in other} != names[0]
    two = FolderDataset(tmp_path, "val", ["a", "b"], fractions=[0.8, 0.2])
    assert (len(two), two.splits) == (4, ("train", "val"))


def test_class_names_from_a_file(sample: Path) -> None:
    assert FolderDataset(sample, "train", "classes.txt").classes == ("background", "left", "right")
    (sample / "classes.txt").write_bytes("\ufeffSky\r\n\r\n B\u00e4ume \r\n".encode())  # as Windows' editor writes it
    assert FolderDataset(sample, "train", "classes.txt").classes == ("Sky", "B\u00e4ume")
    with pytest.raises(
        DataError, match=r'classes = "names\.txt": no readable text file.*a class name a line, or a list'
    ):
        FolderDataset(sample, "train", "names.txt")


def test_void_labels(tmp_path: Path) -> None:
    write(tmp_path, [[0, 1, 7, 255]])
    assert everything(tmp_path, void=[7, 255]).mask(0).tolist() == [[0, 1, 255, 255]]
    with pytest.raises(LabelError, match=r"7: 1 pixels\).*list what means unlabelled in `void`"):
        everything(tmp_path).mask(0)
    with pytest.raises(LabelError, match=rf"7: 1 pixels\).*9 -> void.*`segkit init {tmp_path}` looks at all masks"):
        everything(tmp_path, void=[9, 255]).mask(0)
    with pytest.raises(ConfigError, match=r"void: 1 is also the stored label of class 1; .* say in value_map"):
        everything(tmp_path, void=[1])


@pytest.mark.fault("F23")
def test_black_and_white_masks_with_the_map_that_the_message_proposes(tmp_path: Path) -> None:
    write(tmp_path, [[0, 255]])
    (finding,) = scanned(everything(tmp_path)).errors
    assert (finding.kind, finding.files) == ("black_and_white", (str(tmp_path / "masks" / "0.png"),))
    assert re.search(r"the only labels are 0 and 255.*unlabelled, void = \[255\]; .*the class 'b', ", finding.text)
    options = tomllib.loads(re.findall(r"value_map = \{.*\}", finding.text)[0])
    assert options == {"value_map": {"0": 0, "255": 1}}
    assert everything(tmp_path, **options).mask(0).tolist() == [[0, 1]]
    with pytest.raises(ConfigError, match="value_map: 1, 01: a stored label twice; give each one once"):
        everything(tmp_path, value_map={"1": 0, "01": 1})
    with pytest.raises(ConfigError, match=r"void: 1 is .* of class 1; take it out of void, or say in value_map"):
        everything(tmp_path, value_map={"0": 0, "1": 1}, void=[1])
    with pytest.raises(ConfigError, match="value_map: keys are stored labels, whole numbers; given white"):
        everything(tmp_path, value_map={"white": 1})


def test_void_that_a_person_has_given_is_void(tmp_path: Path) -> None:
    write(tmp_path, [[0, 255, 0]], count=2)
    Image.fromarray(np.array([[0, 1, 0]], np.uint8)).save(tmp_path / "masks" / "1.png")
    given = scanned(everything(tmp_path, void=[255]))
    assert given.issues == []
    assert given.pixels("train").tolist() == [[2, 0, 1], [2, 1, 0]]
    with_map = scanned(everything(tmp_path, value_map={"0": 0, "1": 1, "255": 255}))
    assert (with_map.issues, with_map.pixels("train").tolist()) == ([], [[2, 0, 1], [2, 1, 0]])


def test_a_mask_of_background_and_void_is_no_black_and_white_mask_where_others_hold_both(tmp_path: Path) -> None:
    write(tmp_path, [[0, 255, 0]], count=2)
    Image.fromarray(np.array([[0, 1, 255]], np.uint8)).save(tmp_path / "masks" / "1.png")
    assert scanned(everything(tmp_path)).issues == []


def test_255_that_stands_where_other_masks_have_1_is_told_and_does_not_stop_a_run(tmp_path: Path) -> None:
    write(tmp_path, [[0, 255, 0]], count=2)
    Image.fromarray(np.array([[0, 1, 1]], np.uint8)).save(tmp_path / "masks" / "1.png")
    scan = scanned(everything(tmp_path))
    assert scan.errors == []
    (warning,) = scan.warnings
    assert "0.png: holds 255, which is read as void, and no 1, while 1 other masks hold 1 and no 255" in warning.text
    (both,) = re.findall(r"value_map = \{.*\}", warning.text)
    assert everything(tmp_path, **tomllib.loads(both)).mask(0).tolist() in ([[0, 1, 0]], [[0, 1, 1]])


def test_a_value_map_leaves_255_void(tmp_path: Path) -> None:
    write(tmp_path, [[10, 20, 255, 30]])
    dataset = everything(tmp_path, value_map={"10": 0, "20": 1, "30": 255})
    assert dataset.mask(0).tolist() == [[0, 1, 255, 255]]


def test_a_colour_map(tmp_path: Path) -> None:
    write(tmp_path, [[[0, 0, 0], [128, 0, 0], [9, 9, 9]]])
    dataset = everything(tmp_path, colour_map={"b": [128, 0, 0], "a": [0, 0, 0], "void": [9, 9, 9]})
    assert dataset.mask(0).tolist() == [[0, 1, 255]]
    assert dataset.palette == ((0, 0, 0), (128, 0, 0))


def colour_masks(root: Path, *masks: list[list[int]]) -> Path:
    """A mask for each list of colours, all in one row."""
    for index, colours in enumerate(masks):
        write(root, [colours])
        (root / "images" / "0.jpg").rename(root / "images" / f"x{index}.jpg")
        (root / "masks" / "0.png").rename(root / "masks" / f"x{index}.png")
    return root


BLACK, WHITE, RED, OTHER = [0, 0, 0], [255, 255, 255], [255, 0, 0], [9, 8, 7]


def test_masks_of_colours_are_told_together_and_that_they_need_a_map(tmp_path: Path) -> None:
    (finding,) = scanned(everything(colour_masks(tmp_path, [BLACK, RED], [RED, OTHER], [BLACK, BLACK]))).errors
    assert finding.text.startswith(f"2 files: the mask holds colours, not labels (2 colours): {tmp_path}/masks/x0.png")
    assert finding.text.endswith(
        "say in [dataset.colour_map] which colour is which class, or void; "
        f"`segkit init {tmp_path}` looks at all masks and writes what reads them"
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_mask_of_greys_in_colours_holds_labels(tmp_path: Path, mode: str) -> None:
    write(tmp_path, [[0, 1, 2, 3, 255]])
    with Image.open(tmp_path / "masks" / "0.png") as mask:
        mask.convert(mode).save(tmp_path / "masks" / "0.png")
    assert everything(tmp_path, classes=list("abcd")).mask(0).tolist() == [[0, 1, 2, 3, 255]]
    with pytest.raises(LabelError, match=r"labels that are not allowed \(2: 1 pixels, 3: 1 pixels\)"):
        everything(tmp_path).mask(0)


def test_a_colour_that_the_map_lacks_may_be_void(tmp_path: Path) -> None:
    colour_map = {"a": BLACK, "b": RED}
    colour_masks(tmp_path, [BLACK, OTHER, RED])
    with pytest.raises(LabelError, match=r"lacks \(\[9, 8, 7\]: 1 pixels\).* add them, as void where "):
        everything(tmp_path, colour_map=colour_map).mask(0)
    assert everything(tmp_path, colour_map=colour_map | {"void": OTHER}).mask(0).tolist() == [[0, 255, 1]]
    with pytest.raises(LabelError, match=r"it has \[0, 0, 0\], \[255, 0, 0\], \[1, 1, 1\]; add them"):
        everything(tmp_path, colour_map=colour_map | {"void": [1, 1, 1]}).mask(0)


@pytest.mark.parametrize(
    ("colour_map", "message"),
    [
        ({"a": [0, 0, 0], "bb": [1, 1, 1]}, r"no class 'bb'; there are a, b, void; did you mean 'b'\?"),
        ({"a": [0, 0, 0]}, "no colour for b"),
        ({"a": [0, 0, 0], "b": [1, 1]}, r"b = \[1, 1\]; a colour is three numbers"),
        ({"a": [0, 0, 0], "b": [1, 1, 256]}, r"b = \[1, 1, 256\]; a colour is three numbers from 0 to 255"),
        ({"a": [0, 0, 0], "b": [0, 0, 0]}, "two classes share a colour"),
    ],
)
def test_colour_maps_that_are_wrong(tmp_path: Path, colour_map: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ConfigError, match=f"colour_map: {message}"):
        everything(write(tmp_path, [[0, 1]]), colour_map=colour_map)


def test_both_maps_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"value_map and colour_map: .* give one of the two"):
        everything(tmp_path, value_map={"0": 0}, colour_map={"a": [0, 0, 0]})


@pytest.mark.fault("F23", "F28")
def test_a_jpeg_mask_and_a_missing_mask_are_named(sample: Path) -> None:
    mask = sample / "masks" / "train" / "train_2.png"
    with Image.open(mask) as image:
        image.convert("L").save(mask, "JPEG", quality=95)
    with pytest.raises(LabelError, match=r"train_2\.png: the mask is a JPEG, .* \(although its name ends in \.png\)"):
        FolderDataset(sample, "train", CLASSES)[2]
    mask.unlink()
    with pytest.raises(
        DataError, match=r"train_2\.jpg: image without a mask; the mask would be .*masks/train/train_2\.png$"
    ):
        FolderDataset(sample, "train", CLASSES)
    with gathered() as found:
        dataset = FolderDataset(sample, "train", CLASSES)
    assert [(fault.kind, fault.file) for fault in found] == [
        ("image_without_mask", str(sample / "images" / "train" / "train_2.jpg"))
    ]
    assert [each.name for each in dataset] == ["train_0", "train_1", "train_3"]


def test_a_root_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images does not exist; .* give dataset\.root=\.\.\. of the data"):
        FolderDataset(tmp_path / "nowhere", "train", ["a", "b"])


def test_a_relative_root_that_does_not_exist_is_told_with_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = []
    for root in ("nowhere", str(tmp_path / "nowhere")):
        table = {"name": "folder", "root": root, "classes": ["a", "b"]}
        with pytest.raises(DataError) as caught:
            segkit.run({"dataset": table, "model": {"name": "unet"}, "loss": [{"name": "cross_entropy"}]})
        told.append(str(caught.value))
    assert told[0].endswith(f"the working directory is {tmp_path}")
    assert "working directory" not in told[1]


def test_camvid_loads(real_data: Path) -> None:
    counts = {}
    for split in ("train", "val", "test"):
        dataset = FolderDataset(real_data / "camvid", split, CAMVID, void=[11])
        counts[split] = len(dataset)
        image, mask, _ = dataset[len(dataset) // 2]
        assert image.shape == (3, 360, 480)
        assert set(mask.unique().tolist()) <= {*range(11), 255}
    assert counts == {"train": 367, "val": 101, "test": 233}


def test_camvid_without_its_void_label_is_messages(real_data: Path) -> None:
    with pytest.raises(
        LabelError,
        match=r"not allowed \(11: 7,980 pixels\).*list what means unlabelled in `void`, .*`segkit init \S*camvid`",
    ):
        FolderDataset(real_data / "camvid", "train", CAMVID).mask(0)


@pytest.mark.timeout(100)
def test_a_list_of_classes_may_not_be_a_device_or_without_end(tmp_path: Path) -> None:
    FolderDataset.write_sample(tmp_path)
    (tmp_path / "pictures.txt").touch()
    os.truncate(tmp_path / "pictures.txt", 1 << 40)
    for name in ("/dev/zero", "pictures.txt", "zero\0byte"):
        with pytest.raises(DataError, match=f"classes = .* no readable text file in {tmp_path}"):
            FolderDataset(tmp_path, "train", name)


@pytest.mark.fault("F52")
def test_the_same_folder_on_two_systems_is_the_same_run(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(12)]
    found = []
    for system, order in (("NFC", 1), ("NFD", -1)):
        for number in range(12)[::order]:
            for folder, pixels in (("images", noise[number]), ("masks", noise[number][..., 0] % 2)):
                (tmp_path / system / folder).mkdir(parents=True, exist_ok=True)
                name = unicodedata.normalize(system, f"\u00dcber {'Ä' if number % 2 else 'ä'}{number}")
                Image.fromarray(pixels).save(tmp_path / system / folder / f"{name}.png")
        splits = {name: FolderDataset(tmp_path / system, name, ["a", "b"]) for name in ("train", "val", "test")}
        scan = scan_splits(splits, checks=CHECKS, progress=False)
        found.append((samples_of(scan), {name: [each.name for each in scan.statistics[name]] for name in splits}))
    assert found[0] == found[1]


def folders(root: Path, *pairs: tuple[str, str]) -> Path:
    """A picture in each of the folders of images, and its mask in that of masks, where there is one."""
    random = np.random.default_rng(0)
    for images, masks in pairs:
        for folder, pixels in (
            (images, random.integers(0, 256, (8, 8, 3), np.uint8)),
            (masks, np.eye(8, dtype=np.uint8)),
        ):
            if folder:
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / folder / f"{images.replace('/', '_')}.png")
    return root


@pytest.mark.parametrize("val", ["valid", "Validation", "VAL", "dev"])
def test_what_people_call_a_split_is_that_split(tmp_path: Path, val: str) -> None:
    folders(
        tmp_path, ("images/Training", "masks/train"), (f"images/{val}", "masks/val"), ("images/testing", "masks/test")
    )
    found = {split: FolderDataset(tmp_path, split, ["a", "b"]) for split in ("train", "val", "test")}
    assert {split: dataset.pairs[0][0].parent.name for split, dataset in found.items()} == {
        "train": "Training",
        "val": val,
        "test": "testing",
    }
    other = folders(tmp_path / "other", ("training/pictures", "training/labels"), (f"{val}/pictures", f"{val}/labels"))
    options = {"images": "{split}/pictures", "masks": "{split}/labels"}
    assert FolderDataset(other, "val", ["a", "b"], **options).pairs[0][1].parent == other / val / "labels"
    with pytest.raises(
        DataError, match=r'2 images have a mask with, in .*\n\nimages = "{split}/pictures"\nmasks = "{split}/labels"$'
    ):
        FolderDataset(other, "val", ["a", "b"], images="pictures", masks="labels")


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    folders(tmp_path, ("images/train", "masks/train"), ("images/val", "masks/val"), ("images/validation", "masks/val"))
    with pytest.raises(DataError, match=r"images/val and .*images/validation are both the val split; put their"):
        FolderDataset(tmp_path, "train", ["a", "b"])


def test_a_test_split_without_masks_is_told_and_left_out(tmp_path: Path) -> None:
    folders(tmp_path, ("images/train", "masks/train"), ("images/val", "masks/val"), ("images/test", ""))
    with pytest.warns(
        UserWarning, match=r"no test split: .*images/test holds its images, and none of these has a mask; `predict`"
    ):
        assert FolderDataset(tmp_path, "train", ["a", "b"]).splits == ("train", "val")
    only = folders(tmp_path / "only", ("images/test", ""))
    with pytest.raises(DataError, match=r"folder .*only/masks does not exist; .*only holds the folders images"):
        FolderDataset(only, "train", ["a", "b"])


def test_lists_of_splits_and_pictures_beside_the_folders_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    folders(tmp_path, ("images/train", "masks/train"), ("images/val", "masks/val"), ("images/extra", "masks/extra"))
    folders(tmp_path, ("images", ""))
    (tmp_path / "train.txt").touch()
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "validation.csv").touch()
    with pytest.warns(UserWarning, match="^not read") as caught:
        FolderDataset(tmp_path, "val", ["a", "b"])
    where = f"; read are the images of {tmp_path}/images/{{split}}/{{id}}"
    lists = f"not read, though named like a split: {tmp_path}/train.txt, {tmp_path}/lists/validation.csv; if they list "
    assert [str(each.message) for each in caught] == [
        f"not read: {tmp_path}/images/extra, {tmp_path}/images/images.png{where}",
        f"not read: {tmp_path}/masks/extra; read are the images of {tmp_path}/masks/{{split}}/{{id}}",
        f'{lists}names, set lists = "{{split}}.txt"; if they list images with their masks, pairs = "{{split}}.txt"',
    ]
    flat = write(tmp_path / "flat", [[0, 1]], count=4)
    deeper = flat / "ImageSets" / "Segmentation"
    deeper.mkdir(parents=True)
    for name in ("val.lst", "train_log.txt", "test results.csv", "classes.txt"):
        (flat / name).touch()
    for name in ("trainval.txt", "list_train.csv", "val2017.json", "Test_ids.txt"):
        (deeper / name).touch()
    with pytest.warns(UserWarning, match="^not read") as caught:
        FolderDataset(flat, "train", ["a", "b"])
    names = ["Test_ids.txt", "list_train.csv", "trainval.txt", "val2017.json"]
    listed = ", ".join(map(str, [flat / "val.lst", *(deeper / name for name in names)]))
    assert str(caught[0].message).startswith(f"not read, though named like a split: {listed}; ")
    rmtree(deeper.parent)
    with pytest.warns(UserWarning, match=r'split: \S*/flat/val\.lst; if they list names, set lists = "{split}\.lst"'):
        FolderDataset(flat, "train", ["a", "b"])


def test_a_run_without_val_says_where_it_comes_from(tmp_path: Path) -> None:
    folders(tmp_path, ("images/train", "masks/train"))
    with pytest.raises(DataError, match=r"no split 'val' in .*; there are train; val = 0\.15 takes a share of train"):
        FolderDataset(tmp_path, "val", ["a", "b"])


def test_a_wrong_argument_is_an_error_of_ours_also_where_it_would_not_be_needed(sample: Path) -> None:
    for fractions in (None, "abc", 0.5, [0.5, "x"], [0.5]):
        with pytest.raises(ConfigError, match=r"^fractions = .*: give two"):
            FolderDataset(sample, "train", CLASSES, fractions=fractions)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"no split 'None' in .*; there are train, val, test"):
        FolderDataset(sample, None, CLASSES)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="classes: 1 is not text"):
        FolderDataset(sample, "train", [1, 2])  # type: ignore[list-item]


@pytest.mark.parametrize("classes", [["background", "thing"], ["background", "first", "second"]])
def test_masks_of_0_and_255_whose_255_is_said_to_be_void_are_told_the_other_reading(
    tmp_path: Path, classes: list[str]
) -> None:
    dataset = everything(write(tmp_path, [[0, 255], [0, 0]], count=3), classes=classes, void=[255])
    (found,) = [each for each in scan_splits({"train": dataset}, checks=CHECKS).issues if each.kind == "one_class"]
    assert "25.0% of all pixels are void; nothing can be learned; does void belong to a class?" in found.text
