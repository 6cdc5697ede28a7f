"""Folders as people have them are checked and trained from with a config of a few lines."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from segkit.cli import main
from segkit.errors import DataError
from segkit.options import create
from segkit.registry import datasets

CONFIG = """
[dataset]
name = "folder"
root = "data"
{dataset}
[model]
name = "unet"
width = 4
depth = 1
[[loss]]
name = "cross_entropy"
[train]
epochs = 2
batch_size = 2
device = "cpu"
workers = 0
[output]
samples = 0
"""
CITYSCAPES = """
images = "leftImg8bit/{split}/{city}/{id}_leftImg8bit.png"
masks = "gtFine/{split}/{city}/{id}_gtFine_labelIds.png"
classes = ["road", "sky", "car"]
value_map = { "7" = 0, "23" = 1, "26" = 2 }
void = [0, 1, 4]
"""
PETS = """
masks = "annotations/trimaps"
lists = { train = "annotations/trainval.txt", test = "annotations/test.txt" }
val = 0.25
classes = ["pet", "background"]
value_map = { "1" = 0, "2" = 1, "3" = 255 }
"""
AUGMENTED_VOC = """
images = "JPEGImages"
masks = "SegmentationClassAug"
lists = { train = "ImageSets/trainaug.txt", val = "ImageSets/val.txt" }
classes = ["background", "aeroplane"]
"""
HOSPITAL = """
images = "patient{group}/slice_{id}.png"
masks = "patient{group}/slice_{id}_mask.png"
classes = ["tissue", "tumour"]
value_map = { "0" = 0, "255" = 1 }
folds = 4
fold = 1
"""
A_FOLDER_A_KIND = """
images = "{kind}/{id}.jpg"
masks = "{kind}/{id}_mask.png"
classes = ["background", "animal"]
"""
DRIVE = """
images = "{split}/images/{id}_{split}.tif"
masks = "{split}/1st_manual/{id}_manual1.gif"
classes = ["background", "vessel"]
val = 0.25
"""
OTHERS = """
images = "images/{split}"
masks = "labels/{split}"
classes = ["background", "thing"]
"""


def put(image: str, mask: str, labels: list[int], number: int) -> None:
    """A photograph that shows where the labels are, and its mask."""
    stored = np.array(labels, np.uint8)[(np.mgrid[:32, :32].sum(0) // (9 + number)) % len(labels)]
    noise = np.random.default_rng(crc32(image.encode())).integers(0, 60, (32, 32, 3))
    for name, pixels in ((image, noise + stored[..., None] // 2), (mask, stored)):
        path = Path("data") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def cityscapes() -> None:
    for number, place in enumerate(("train/aachen/a", "train/aachen/b", "train/ulm/c", "val/bonn/d", "val/bonn/e")):
        stem = f"gtFine/{place}_gtFine"
        put(f"leftImg8bit/{place}_leftImg8bit.png", f"{stem}_labelIds.png", [0, 1, 4, 7, 23, 26], number)
        put(f"{stem}_color.png", f"{stem}_instanceIds.png", [0, 1], number)


def pets() -> None:
    names = [f"{breed}_{number}" for breed in ("Abyssinian", "pug") for number in (1, 2, 10)]
    for number, name in enumerate(names):
        put(f"images/{name}.jpg", f"annotations/trimaps/{name}.png", [1, 2, 3], number)
    Path("data/annotations/trimaps/._pug_1.png").write_bytes(b"of a Mac")
    Path("data/annotations/trainval.txt").write_text("".join(f"{name} 1 1 1\n" for name in names[:4]))
    Path("data/annotations/test.txt").write_text("".join(f"{name} 37 2 25\n" for name in names[4:]))


def augmented_voc() -> None:
    for number in range(6):
        put(f"JPEGImages/2011_{number:06}.jpg", f"SegmentationClassAug/2011_{number:06}.png", [0, 1, 255], number)
    put("JPEGImages/2011_000009.jpg", "SegmentationObject/2011_000009.png", [0, 1], 9)
    Path("data/ImageSets").mkdir()
    for name, numbers in (("train", [0]), ("trainaug", [0, 1, 2, 3]), ("val", [4, 5])):
        Path(f"data/ImageSets/{name}.txt").write_text("".join(f"2011_{number:06}\n" for number in numbers))


def hospital() -> None:
    for patient in range(1, 6):
        for number in (1, 2):
            stem = f"patient{patient:02}/slice_{number:02}"
            put(f"{stem}.png", f"{stem}_mask.png", [0, 255], 10 * patient + number)


def a_folder_a_kind() -> None:
    for number in range(12):
        stem = f"{('cats', 'dogs', 'owls')[number % 3]}/{number // 3:03}"
        put(f"{stem}.jpg", f"{stem}_mask.png", [0, 1], number)


def drive() -> None:
    for number in range(21, 29):
        put(f"training/images/{number}_training.tif", f"training/1st_manual/{number}_manual1.gif", [0, 1], number)
        put(f"training/mask/{number}_training_mask.gif", "training/readme.png", [0, 1], number)
    for number in range(1, 4):
        put(f"testing/images/0{number}_test.tif", f"testing/1st_manual/0{number}_manual1.gif", [0, 1], number)


def other_names() -> None:
    for split, count in (("Training", 4), ("validation", 2), ("TESTING", 2)):
        for number in range(count):
            put(
                f"images/{split}/{split[:2]}{number}.png",
                f"labels/{split.lower()}/{split[:2]}{number}.png",
                [0, 1],
                number,
            )


@pytest.mark.parametrize(
    ("write", "dataset", "images"),
    [
        (cityscapes, CITYSCAPES, {"train": 3, "val": 2}),
        (pets, PETS, {"train": 3, "val": 1, "test": 2}),
        (augmented_voc, AUGMENTED_VOC, {"train": 4, "val": 2}),
        (hospital, HOSPITAL, {"train": 8, "val": 2}),
        (a_folder_a_kind, A_FOLDER_A_KIND, {"train": 8, "val": 2, "test": 2}),
        (drive, DRIVE, {"train": 6, "val": 2, "test": 3}),
        (other_names, OTHERS, {"train": 4, "val": 2, "test": 2}),
    ],
)
@pytest.mark.timeout(120)
def test_it_is_checked_and_trained_from(
    write: Any,
    dataset: str,
    images: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write()
    Path("mine.toml").write_text(CONFIG.replace("{dataset}", dataset))
    status = main(["check", "mine.toml", "--json"])
    checked = json.loads(capsys.readouterr().out)
    assert (status, checked["errors"]) == (0, [])
    assert {split: each["images"] for split, each in checked["splits"].items()} == images
    assert main(["run", "mine.toml", "--quiet"]) == 0
    result = json.loads(Path("runs/mine/result.json").read_text())
    assert set(result["splits"]) == set(images)
    assert all(0 <= each["mean_iou"] <= 1 for each in result["splits"].values())


def test_the_options_of_the_published_data_sets_are_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "your-data.md").read_text("utf-8")
    blocks = [tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]
    tables = [block["dataset"] for block in blocks if block.get("dataset", {}).get("name") == "folder"]
    assert [table["root"].split("/")[1] for table in tables] == ["pets", "VOCdevkit"]
    for table in tables:
        wanted = {**table, "root": str(tmp_path), "classes": ["a", "b"]}
        with pytest.raises(DataError, match="does not exist"):
            create(datasets.find("folder"), {k: v for k, v in wanted.items() if k != "name"}, {"split": "train"})
