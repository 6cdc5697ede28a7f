"""The colours of Pascal VOC, and palettes of masks that contradict each other or the classes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segkit
from segkit.data.sample import voc_palette
from segkit.data.scan import Scan, scan_splits
from segkit.settings import DataSettings
from segkit_checks.classes import Classes
from segkit_folder.dataset import FolderDataset

CHECKS = {"classes": Classes(DataSettings())}


def test_the_published_colours() -> None:
    palette = voc_palette(256)
    assert palette[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert palette[15] == (192, 128, 128)  # person
    assert palette[255] == (224, 224, 192)
    assert len(set(palette)) == 256


def test_the_colours_in_a_real_file(real_data: Path) -> None:
    masks = real_data / "VOCdevkit" / "VOC2012" / "SegmentationClass"
    with Image.open(next(masks.glob("*.png"))) as mask:
        stored = mask.getpalette()
    assert stored == [part for colour in voc_palette(256) for part in colour]


BLACK, RED, GREEN, PERSON = (0, 0, 0), (255, 0, 0), (0, 255, 0), (192, 128, 128)
CLASSES = ["background", "cat", "dog"]


def palette_masks(root: Path, *masks: tuple[list[int], list[tuple[int, int, int]] | None]) -> Path:
    """A mask for each row of labels, with that palette, or of grey values; beside images of noise."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for number, (labels, palette) in enumerate(masks):
        mask = Image.fromarray(np.array([labels] * 8, np.uint8))
        if palette is not None:
            mask = mask.convert("P")
            mask.putpalette([part for colour in palette for part in colour])
        mask.save(root / "masks" / f"{number}.png")
        Image.fromarray(random.integers(0, 256, (8, len(labels), 3), np.uint8)).save(root / "images" / f"{number}.png")
    return root


def scanned(root: Path, **options: Any) -> Scan:
    everything = {"fractions": [1, 0, 0], "classes": CLASSES, **options}
    return scan_splits({"train": FolderDataset(root, "train", **everything)}, checks=CHECKS, progress=False)


@pytest.mark.fault("F51")
def test_palettes_that_differ_name_both_files_and_a_map_reads_both(tmp_path: Path) -> None:
    masks = [([0, 1, 2], [BLACK, RED, GREEN])] * 3 + [([0, 1, 2], [BLACK, GREEN, RED])]
    root = palette_masks(tmp_path, *masks)
    for _ in range(2):  # the second time from the cache
        (error,) = scanned(root).errors
        assert error.text.startswith(
            f"{root}/masks/0.png and {root}/masks/3.png: the palettes of these two masks differ"
        )
        assert "[0, 255, 0] is label 2 in the first and 1 in the second" in error.text
        assert "say in [dataset.colour_map] which colour is which class, or void" in error.text
    scan = scanned(root, colour_map={"background": BLACK, "cat": RED, "dog": GREEN})
    assert scan.issues == []
    assert scan.splits["train"][3].mask[0].tolist() == [0, 2, 1]


@pytest.mark.fault("F51")
def test_palettes_that_differ_between_splits_are_told_with_both(tmp_path: Path) -> None:
    for split, palette in (("train", [BLACK, RED, GREEN]), ("val", [BLACK, GREEN, RED])):
        palette_masks(tmp_path / split, ([0, 1, 2], palette))
    splits = {
        split: FolderDataset(tmp_path, split, CLASSES, images="{split}/images", masks="{split}/masks")
        for split in ("train", "val")
    }
    (error,) = [each for each in scan_splits(splits, checks=CHECKS, progress=False).errors if each.kind == "palettes"]
    assert error.split == "train, val"


@pytest.mark.fault("F51")
def test_a_palette_of_the_colours_in_use_alone_is_no_statement_of_classes(tmp_path: Path) -> None:
    root = palette_masks(tmp_path, ([0, 1], [BLACK, RED]), ([0, 1], [BLACK, GREEN]))  # cat in one, dog in the other
    (error,) = scanned(root).errors
    assert "label 1 is [255, 0, 0] in the first and [0, 255, 0] in the second" in error.text
    stated = scanned(root, value_map={"0": 0, "1": 1, "2": 2})
    assert stated.errors == []
    assert "label_colours" in [warning.kind for warning in stated.warnings]


@pytest.mark.parametrize(
    "masks",
    [
        [([0, 1], [BLACK, RED, GREEN]), ([0, 1, 2], [BLACK, RED, PERSON]), ([0, 1, 1], [BLACK, RED])],  # not used
        [([0, 1, 2], [BLACK, RED, GREEN]), ([0, 1, 2], None)],  # grey values beside indices
        [([0, 1, 2], [(each,) * 3 for each in range(256)]), ([0, 1, 2], [BLACK, RED, GREEN])],
        [([0, 1, 2], [(each,) * 3 for each in (0, 127, 255)]), ([0, 1, 2], [(each,) * 3 for each in range(3)])],
        [([0, 1, 2], [BLACK, BLACK, BLACK]), ([0, 1, 2], [BLACK, RED, GREEN])],  # colours that tell nothing apart
        [([0, 1, 2, 255], [BLACK, RED, GREEN] + [BLACK] * 252 + [PERSON]),
         ([0, 1, 2, 255], [BLACK, RED, GREEN] + [BLACK] * 252 + [(1, 1, 9)])],  # void in any colour
    ],
)  # fmt: skip
def test_palettes_that_mean_the_same_are_no_fault(
    tmp_path: Path, masks: list[tuple[list[int], list[tuple[int, int, int]] | None]]
) -> None:
    scan = scanned(palette_masks(tmp_path, *masks))
    assert scan.errors == []


VOC = [f"class {index}" for index in range(21)]


@pytest.mark.fault("F51")
@pytest.mark.parametrize("how", ["gif", "quantize", "grey gif"])
def test_a_mask_saved_again_with_other_indices_is_known_by_its_colours(tmp_path: Path, how: str) -> None:
    root = palette_masks(tmp_path, ([0, 15, 255, 0], list(voc_palette(256))))
    with Image.open(root / "masks" / "0.png") as mask:
        mask.load()
    (root / "masks" / "0.png").unlink()
    if how == "quantize":
        mask.convert("RGB").quantize(4).save(root / "masks" / "0.png")
    else:  # Pillow numbers the colours of a GIF anew
        saved = Image.fromarray(np.asarray(mask)) if how == "grey gif" else mask
        saved.save(root / "masks" / "0.gif")
    (error,) = scanned(root, classes=VOC).errors
    assert error.kind == "palette"
    assert "the palette draws labels in the colours of others" in error.text
    if how == "gif":
        assert "label 1 ('class 1') in [192, 128, 128], which is 'class 15'" in error.text
    colours = dict(zip([*VOC, "void"], [*voc_palette(21), (224, 224, 192)], strict=True))
    greys = dict(zip([*VOC, "void"], [(label,) * 3 for label in (*range(21), 255)], strict=True))
    scan = scanned(root, classes=VOC, colour_map=greys if how == "grey gif" else colours)
    assert scan.errors == []
    assert scan.splits["train"][0].mask[0].tolist() == [0, 15, 255, 0]


@pytest.mark.fault("F51")
@pytest.mark.parametrize("name", ["voc", "gta5"])
def test_a_mask_that_was_quantised_is_named_among_those_as_published(tmp_path: Path, name: str) -> None:
    kind = segkit.datasets[name]
    kind.write_sample(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a pair that is left out
        dataset = kind(tmp_path, "train")
    assert scan_splits({"train": dataset}, checks=CHECKS, progress=False).errors == []
    mask = dataset.pairs[1][1]
    with Image.open(mask) as picture:
        picture.convert("RGB").quantize(32).save(mask)
    (error,) = scan_splits({"train": dataset}, checks=CHECKS, progress=False).errors
    assert (error.kind, error.files) == ("palette", (str(mask),))
    assert error.text.endswith(dataset.label_advice)


@pytest.mark.fault("F51")
def test_a_gif_of_white_alone_is_not_read_as_background(tmp_path: Path) -> None:
    root = palette_masks(tmp_path, ([0, 255], None), ([255, 255], None))
    for path in (root / "masks").iterdir():
        with Image.open(path) as mask:
            mask.save(path.with_suffix(".gif"))  # white becomes 1 in the first and 0 in the second
        path.unlink()
    (error,) = scanned(root, classes=["background", "cell"]).errors
    assert "[255, 255, 255] is label 1 in the first and 0 in the second" in error.text
    scan = scanned(root, classes=["background", "cell"], colour_map={"background": BLACK, "cell": (255, 255, 255)})
    assert scan.errors == []
    assert [scan.splits["train"][index].mask[0].tolist() for index in range(2)] in ([[0, 1], [1, 1]], [[1, 1], [0, 1]])


def test_colours_that_nobody_chose_prove_nothing(tmp_path: Path) -> None:
    root = palette_masks(tmp_path, ([0, 1, 1], [(255, 255, 255), BLACK]), ([1, 1, 1], [(255, 255, 255), BLACK]))
    assert scanned(root, classes=["background", "ink"]).errors == []
    (error,) = scanned(root, classes=["background", "ink"], palette=[[0, 0, 0], [255, 255, 255]]).errors
    assert error.kind == "palette"
    colours = {"background": BLACK, "ink": (255, 255, 255)}
    mapped = scanned(root, classes=["background", "ink"], colour_map=colours).splits["train"]
    assert mapped[0].mask[0].tolist() == [1, 0, 0]  # black is the background then


HALVES = [([0, 1, 2], [BLACK, RED, GREEN]), ([0, 1, 2], [BLACK, GREEN, RED])] * 2


@pytest.mark.fault("F51")
@pytest.mark.parametrize(
    "masks",
    [
        HALVES,  # which half is right is not known
        [([0, 1], [RED, BLACK]), ([0, 1], [GREEN, BLACK])],  # of colours in use alone, by their frequency
        [([0, 1, 2], [GREEN, BLACK, RED]), ([0, 1], [GREEN, BLACK]), ([0, 1, 2], [GREEN, RED, BLACK])],
    ],
)
def test_palettes_of_which_none_is_proven_are_refused(
    tmp_path: Path, masks: list[tuple[list[int], list[tuple[int, int, int]] | None]]
) -> None:
    (error,) = scanned(palette_masks(tmp_path, *masks)).errors
    assert error.kind in ("palettes", "label_colours")
