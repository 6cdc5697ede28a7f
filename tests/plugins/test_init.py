"""``init`` looks at a folder as an expert would: what it recognises, what it asks, and that its config runs."""

from __future__ import annotations

import io
import json
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from segkit import registry
from segkit.cli import main
from segkit.config import read_config
from segkit.errors import LabelError
from segkit.registry import Component
from segkit_folder.dataset import FolderDataset
from segkit_init.counts import StoredLabels
from segkit_init.issues import bands_asked
from segkit_init.labels import question_of
from segkit_init.look import look
from segkit_init.plan import plan
from segkit_init.stored import COLOUR, read_labels
from segkit_init.text import value_text

RGB = np.array([(128, 64, 128), (70, 70, 70), (0, 0, 142)], np.uint8)  # the colour of each of three labels
Labels = np.ndarray[Any, np.dtype[np.uint8]]


def scene(number: int, classes: int = 3) -> tuple[Labels, Labels]:
    """A picture ``[48,64,3]`` and its labels ``[48,64]``; each class but the first is a rectangle of its own colour."""
    random = np.random.default_rng(number)
    labels = np.zeros((48, 64), np.uint8)
    for label in range(1, classes):
        top, left = random.integers(2, 26), random.integers(2, 20) + 22 * (label - 1)
        labels[top : top + 18, left : left + 16] = label
    light = np.kron(random.integers(-60, 60, (6, 8, 3)), np.ones((8, 8, 1)))  # [48,64,3]
    colours = np.array([(90, 110, 90), (200, 60, 60), (60, 60, 200)])
    return np.clip(colours[labels] + light + random.integers(0, 9, (48, 64, 3)), 0, 255).astype(np.uint8), labels


def save(pixels: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


# ---- what stored labels mean ----


def masks(*values: int, count: int = 6) -> list[Labels]:
    return [
        np.array(values, np.int32 if min(values) < 0 else np.uint8)[scene(number, len(values))[1]]
        for number in range(count)
    ]


def options(root: Path, those: Sequence[Any], *names: str) -> list[dict[str, Any]]:
    """Of each answer to the one question about the labels of some masks."""
    for number, mask in enumerate(those):
        save(scene(number)[0][: mask.shape[0], : mask.shape[1]], root / f"data/images/{number}.png")
        save(mask, root / f"data/masks/{number}.{'tif' if mask.dtype == np.int32 else 'png'}")
    if names:
        (root / "data/classes.txt").write_text("\n".join(names))
    asked = [each.answers for each in look(root / "data").questions if "classes" in each.taken]
    assert len(asked) == 1
    return [dict(answer.options) for answer in asked[0]]


def test_greys_in_a_palette_beside_greys_without_one_are_read_as_colours(place: Path) -> None:
    those = masks(0, 1, 2)
    assert list(options(place, those)[0]) == ["classes"]
    for number, mask in enumerate(those):
        path = place / f"data/masks/{number}.png"
        picture = Image.fromarray(mask if number % 2 else np.array([0, 128, 255], np.uint8)[mask])
        if number % 2:
            picture.putpalette([0, 0, 0, 128, 128, 128, 255, 255, 255])
        picture.save(path)
    found = look(place / "data").options["colour_map"]
    assert {*map(tuple, found.values())} == {(0, 0, 0), (128, 128, 128), (255, 255, 255)}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0, 1), {"classes": ["background", "foreground"]}),
        ((0, 255), {"classes": ["background", "foreground"], "value_map": {"0": 0, "255": 1}}),
        ((0, 1, 2), {"classes": ["class_0", "class_1", "class_2"]}),
        ((0, 1, 255), {"classes": ["background", "foreground"]}),  # 255 is void where nothing else is said
        ((1, 2, 3), {"classes": ["class_0", "class_1", "class_2"], "value_map": {"1": 0, "2": 1, "3": 2}}),
        ((7, 26, 255), {"classes": ["class_0", "class_1"], "value_map": {"7": 0, "26": 1, "255": 255}}),
        ((0, 1, -1), {"classes": ["background", "foreground"], "void": [-1]}),
    ],
)
def test_labels_that_can_be_read_in_one_way(place: Path, values: tuple[int, ...], expected: dict[str, Any]) -> None:
    assert options(place, masks(*values)) == [expected]


@pytest.mark.parametrize(("grey", "likelier"), [(128, 0), (100, 0), (40, 1)])
def test_greys_that_are_spread_to_be_seen_may_hold_void(place: Path, grey: int, likelier: int) -> None:
    answers = options(place, masks(0, grey, 255))
    assert answers[likelier]["value_map"] == {"0": 0, str(grey): 1, "255": 2}
    assert answers[1 - likelier]["value_map"] == {"0": 0, str(grey): 1, "255": 255}


@pytest.mark.parametrize(
    ("greys", "classes"), [((0, 100, 200, 255), [3, 4]), ((0, 80, 160, 255), [4, 3]), ((0, 85, 170, 255), [4])]
)
def test_255_beside_greys_of_another_step_is_not_labelled(
    place: Path, greys: tuple[int, ...], classes: list[int]
) -> None:
    bands = [np.roll(np.array(greys, np.uint8).repeat(200).reshape(20, 40), 3 * step, 1) for step in range(6)]
    answers = options(place, bands)
    assert [len(each["classes"]) for each in answers] == classes


def test_0_beside_names_that_count_a_background_from_1_is_not_labelled(place: Path) -> None:
    (answer,) = options(place, masks(0, 1, 2), "1: background", "2: cat")
    assert answer == {"classes": ["background", "cat"], "value_map": {"1": 0, "2": 1, "0": 255}}


def test_255_beside_254_may_be_the_same_or_not_labelled(place: Path) -> None:
    binary = {"0": 0, "254": 1}
    assert [each["value_map"] for each in options(place, masks(0, 254, 255))] == [
        {**binary, "255": 1},
        {**binary, "255": 255},
        {**binary, "255": 2},
    ]


def test_255_in_masks_without_254_may_be_not_labelled_either(place: Path) -> None:
    assert {"0": 0, "254": 1, "255": 255} in [
        each["value_map"] for each in options(place, [*masks(0, 254), *masks(0, 255)])
    ]


def test_254_and_255_beside_labels_may_both_be_not_labelled(place: Path) -> None:
    both, one, *_ = options(place, [*masks(0, 1, 254), *masks(0, 1, 255)])
    assert (len(both["classes"]), both["void"]) == (2, [254, 255])
    assert one["value_map"] == {"0": 0, "1": 1, "254": 2, "255": 2}


def test_greys_that_differ_by_1_and_are_in_no_mask_together_may_be_one_class(place: Path) -> None:
    one, *others = options(place, [*masks(0, 127, 255), *masks(0, 128, 254)])
    assert (one["value_map"], len(one["classes"])) == ({"0": 0, "127": 1, "128": 1, "254": 2, "255": 2}, 3)
    assert len(others[-1]["classes"]) == 5
    both = np.where(np.arange(64) % 2, *masks(0, 127, 255)[:1], *masks(0, 128, 254)[:1])
    assert options(place, [*masks(0, 127, 255), *masks(0, 128, 254), both])[0]["value_map"]["128"] == 2


@pytest.mark.parametrize(("void", "likelier"), [(-1, 0), (255, 1)])
def test_what_covers_most_of_the_masks_may_be_the_background(place: Path, void: int, likelier: int) -> None:
    answers = options(place, masks(void, 0, 1))
    background, unlabelled = answers if likelier == 0 else reversed(answers)
    assert background["value_map"] == {str(void): 0, "0": 1, "1": 2}
    assert unlabelled["classes"] == ["background", "foreground"]


def test_a_label_along_the_borders_may_be_void_or_a_class(place: Path) -> None:
    drawn = []
    for number in range(6):
        labels = scene(number)[1]
        padded = np.pad(labels, 2, mode="edge")
        shifted = [padded[y : y + 48, x : x + 64] for y in range(5) for x in range(5)]
        drawn.append(np.where(np.any([each != labels for each in shifted], axis=0), 3, labels).astype(np.uint8))
    first, second = options(place, drawn)
    assert first == {"classes": ["class_0", "class_1", "class_2"], "void": [3]}
    assert second["classes"] == ["class_0", "class_1", "class_2", "class_3"]


ROWS = np.arange(48, dtype=np.uint8)[:, None].repeat(64, axis=1)  # [48,64]


def test_labels_that_count_up_to_a_number_of_their_own_may_be_ids_of_objects(place: Path) -> None:
    first, second = options(place, [np.minimum(ROWS // 6, number) for number in range(1, 7)])
    assert first["classes"] == ["background", "object"]
    assert first["value_map"] == {"0": 0, **{str(number): 1 for number in range(1, 7)}}
    assert len(second["classes"]) == 7


def test_one_of_ten_ids_may_be_missing(place: Path) -> None:
    numbered = [np.minimum(ROWS // 3, number) for number in range(6, 16)]
    assert len(options(place, [*numbered, np.where(numbered[-1] == 12, 0, numbered[-1])])) == 2


def test_labels_of_one_mask_each_may_be_ids_of_objects(place: Path) -> None:
    those = [masks(0, 2 * number + 1, 2 * number + 2, count=1)[0] for number in range(6)]
    those[0][0, 0] = 13  # of an object that is hardly to be seen, and not of JPEG
    first, second = options(place, those)
    assert first["classes"] == ["background", "object"]
    assert len(second["classes"]) == 14


@pytest.mark.parametrize("are_alike", [True, False])
def test_labels_that_only_tell_touching_objects_apart_are_of_one_class(place: Path, are_alike: bool) -> None:
    for number in range(8):
        mask = np.zeros((48, 64), np.uint8)
        for each in range(6):
            left, top = 10 * each + 2, 4 + (7 * number + 11 * each) % 30
            mask[top : top + 6, left : left + 6] = 1
            mask[top + 6 : top + 11, left : left + 5] = 2 * (each % 3 == 0)
        light = np.array([20, 200, 200 if are_alike else 120])[mask] + np.random.default_rng(number).integers(
            40, size=mask.shape
        )
        save(light.astype(np.uint8), place / f"data/images/{number}.png")
        save(mask, place / f"data/masks/{number}.png")
    asked = [each for each in look(place / "data").questions if "classes" in each.taken]
    assert [len(each.answers) for each in asked] == [1 + are_alike]
    assert asked[0].taken["classes"] == (["background", "object"] if are_alike else ["class_0", "class_1", "class_2"])


@pytest.mark.parametrize("base", [1000, 256])
def test_labels_may_hold_the_class_and_the_number_of_an_object(place: Path, base: int) -> None:
    labels = np.array([7, 24 * base, 24 * base + 1, 26 * base, 26 * base + 1, 26 * base + 2], np.uint16)
    first, second = options(place, [labels[np.minimum(ROWS // 8, 5)]] * 6)
    assert [*first["value_map"].values()] == [0, 1, 1, 2, 2, 2]
    assert len(second["classes"]) == 6


@pytest.mark.parametrize("names", [(), ("background", "cat")])
def test_objects_may_be_black_on_white(place: Path, names: tuple[str, ...]) -> None:
    classes = [*(names or ("background", "foreground"))]
    first, second = options(place, [255 - mask for mask in masks(0, 255)], *names)
    assert first == {"classes": classes, "value_map": {"255": 0, "0": 1}}
    assert second == {"classes": classes, "value_map": {"0": 0, "255": 1}}


def test_colours_of_one_mask_each_without_black_are_asked_about(place: Path) -> None:
    colours = np.random.default_rng(0).integers(1, 255, (8, 6, 3)).astype(np.uint8)
    each, mend = options(place, [those[np.minimum(ROWS // 8, 5)] for those in colours])
    assert len(each["classes"]) == 48
    assert not mend


def test_labels_of_which_one_is_missing_here_and_there_are_classes(place: Path) -> None:
    classes = [np.minimum(ROWS // 12, number) for number in (1, 1, 1, 2, 2, 2, 3, 3)]
    assert len(options(place, [*classes, np.where(classes[-1] == 1, 0, classes[-1])])) == 1


def test_colours_that_count_up_may_be_objects(place: Path) -> None:
    colours = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), (0, 0, 128)], np.uint8)
    first, second = options(place, [colours[np.minimum(ROWS // 12, number)] for number in (1, 1, 1, 2, 2, 2, 3, 3)])
    assert (first["classes"], first["threshold"]) == (["background", "object"], 0.1)
    assert len(second["colour_map"]) == 4


def test_colours_that_hold_the_class_and_the_number_of_an_object_are_refused(place: Path) -> None:
    random = np.random.default_rng(0)
    codes = []
    for _ in range(10):
        classes = random.permutation(6)[:4].astype(np.uint8)[np.minimum(ROWS // 12, 3)]
        order = {label: 20 * at for at, label in enumerate(np.unique(classes), 1)}
        codes.append(np.dstack([classes * 10, classes, np.vectorize(order.get)(classes).astype(np.uint8)]))
    with pytest.raises(LabelError, match=r"the channels store numbers of classes and objects; .* list all in classes"):
        options(place, codes)


def test_colours_that_hold_small_numbers_in_two_channels_are_refused(place: Path) -> None:
    codes = np.array([(0, 0, 0), *((label, number, 0) for label in (1, 2) for number in range(3))], np.uint8)
    with pytest.raises(
        LabelError, match=r"the masks hold 7 colours: .* the channels store numbers of classes and objec"
    ):
        options(place, [codes[np.minimum(ROWS // 7, 6)]] * 6)


def test_colours_that_are_nearly_the_same_may_be_one_class(place: Path) -> None:
    colours = np.array([(0, 0, 0), (200, 10, 10), (199, 10, 12)], np.uint8)
    each, mend = options(place, [colours[mask] for mask in masks(0, 1, 2)])
    assert len(each["colour_map"]) == 3
    assert not mend


def test_65535_marks_unlabelled_pixels_beside_small_labels(place: Path) -> None:
    those = [np.array([0, 1, 65535], np.uint16)[mask] for mask in masks(0, 1, 2)]
    assert options(place, those) == [{"classes": ["background", "foreground"], "void": [65535]}]
    those = [np.array([0, 32767, 65535], np.uint16)[mask] for mask in masks(0, 1, 2)]
    assert len(options(place, those)[0]["classes"]) == 3


def test_a_rare_0_below_names_is_rather_not_labelled(place: Path) -> None:
    those = masks(1, 1, 2)
    those[0][:2] = 0
    assert options(place, those, "cat", "dog")[0]["classes"] == ["cat", "dog"]


def test_too_many_labels_for_a_config_are_refused(place: Path) -> None:
    tiles = [48 * number + np.arange(48, dtype=np.uint16).reshape(6, 8) for number in range(6)]
    with pytest.raises(LabelError, match=r"288 labels, up to 287, .* export the class of each pixel"):
        options(place, [np.kron(each, np.ones((8, 8), np.uint16)) for each in tiles])


def test_colours_become_a_map_and_the_cream_of_voc_is_void(place: Path) -> None:
    colours = np.array([(0, 0, 0), (128, 64, 128), (224, 224, 192)], np.uint8)
    assert options(place, [colours[mask] for mask in masks(0, 1, 2)]) == [
        {
            "classes": ["background", "foreground"],
            "colour_map": {"background": [0, 0, 0], "foreground": [128, 64, 128], "void": [224, 224, 192]},
        }
    ]


def test_masks_of_black_and_white_beside_masks_of_labels_are_asked_about(place: Path) -> None:
    labels = masks(0, 1, 2)
    unlabelled, other = options(place, [*labels, *masks(0, 255, count=2)])
    assert (unlabelled, other) == ({"classes": ["class_0", "class_1", "class_2"]}, {})
    labels[0][0, 0] = 255  # a void pixel among labels
    assert len(options(place, labels)) == 1


def test_255_in_masks_without_1_may_be_1(place: Path) -> None:
    one, void, _ = options(place, [*masks(0, 1), *masks(0, 255)])
    assert one == {**void, "value_map": {"0": 0, "1": 1, "255": 1}}


def test_one_name_less_than_labels_asks_what_0_is(place: Path) -> None:
    those = masks(0, 1, 2)
    unnamed = {"classes": ["cat", "dog", "class_2"]}
    ways = [{"classes": ["background", "cat", "dog"]}]
    ways += [{"classes": ["cat", "dog"], "value_map": {"1": 0, "2": 1, "0": 255}}]
    assert options(place, those, "cat", "dog") == [*ways, unnamed]
    for mask in those[1:]:
        mask[mask == 2] = 0
    those[0][those[0] == 2] = np.arange(18 * 16) < 40  # most are 0 and 1
    those[0][0, :20] = 2
    assert options(place, those, "cat", "dog") == [*ways, unnamed]  # 0 covers most pixels
    for mask in those:
        mask[mask == 0] = 1
        mask[-4:] = 0
    assert options(place, those, "cat", "dog") == [unnamed, *ways]


def test_names_that_lack_one_are_too_few_where_the_background_is_among_them(place: Path) -> None:
    assert options(place, masks(0, 1, 2), "background", "cat") == [{"classes": ["class_0", "class_1", "class_2"]}]


# ---- what is proposed ----


def test_forty_photographs_on_a_laptop_and_on_a_card() -> None:
    facts = ([(3000, 4000)] * 28, 3, True, [0.95, 0.04, 0.01])
    laptop = {key: choice.value for key, choice in plan(*facts).items()}
    assert laptop == {
        "data.resize": 0.13,
        "data.cache": "ram",
        "augment.crop": 256,
        "train.batch_size": 4,
        "model.name": "unet",
        "model.width": 32,
        "model.depth": 3,
        "model.patch_size": 4,
        "train.repeat": 4,
        "train.minutes": 20,
        "train.schedule": "poly",
        "train.ema": 0.99,
        "loss.class_weights": "sqrt_median_frequency",
        "augment.class_balanced": 0.33,
        "augment.scale": [0.5, 1.5],
        "augment.colour": 0.3,
    }
    card = {key: choice.value for key, choice in plan(*facts, memory=24 << 30).items()}
    assert (card["augment.crop"], card["train.batch_size"], card["model.width"], card["data.resize"]) == (
        512,
        16,
        64,
        0.26,
    )


def test_two_classes_may_be_thin_as_vessels_and_are_seen_pixel_by_pixel() -> None:
    assert plan([(584, 565)] * 17, 3, True, [0.9, 0.1])["model.patch_size"].value is None
    assert plan([(584, 565)] * 17, 3, True, [0.8, 0.1, 0.1])["model.patch_size"].value == 4


def test_small_tiles_of_twelve_bands_are_taken_whole_and_without_jitter_of_colours() -> None:
    chosen = {key: choice.value for key, choice in plan([(128, 128)] * 56, 12, False, [0.5, 0.5]).items()}
    assert (chosen["data.resize"], chosen["augment.crop"], chosen["augment.colour"]) == (None, None, None)
    assert (chosen["loss.class_weights"], chosen["train.batch_size"]) == (None, 8)


def test_small_images_that_would_be_padded_are_cropped() -> None:
    """Padding that always lies at the same place is learned, and is wrong in images of other sizes."""
    assert plan([(90, 120)] * 40, 3, True, [0.5, 0.5])["augment.crop"].value == 80


def test_images_smaller_than_a_crop_are_taken_whole_and_strips_stay_as_high_as_one() -> None:
    tiny = plan([(8, 8)] * 12, 3, True, [0.5, 0.5])
    assert tiny["augment.crop"].value is None
    assert "smaller than a crop of 16" in tiny["augment.crop"].why
    assert plan([(8, 8), (9, 8)] * 6, 3, True, [0.5, 0.5])["augment.crop"].value == 16  # batches are of one size
    strip = plan([(24, 40000)] * 12, 3, True, [0.5, 0.5])
    assert (strip["data.resize"].value, strip["augment.crop"].value) == (0.67, 16)
    assert plan([(12, 40000)] * 12, 3, True, [0.5, 0.5])["data.resize"].value is None


def test_values_are_written_as_toml_reads_them() -> None:
    value = {"a b": [0, 1.5, True], 'q"\\': "ü", "255": {"x": "C:\\data"}}
    assert tomllib.loads(f"value = {value_text(value)}")["value"] == value


# ---- folders ----


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def init(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Status, and what was printed."""
    status = main(["init", "data", *arguments])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


def dataset(place: Path) -> dict[str, Any]:
    """The table ``[dataset]`` of the config that was written; it passes the check of every config."""
    config = read_config(place / "mine.toml")
    return {"name": config.dataset.name, **config.dataset.options}


def pairs(number: int = 12, image: str = "images/{}.png", mask: str = "masks/{}.png", classes: int = 3) -> None:
    for each in range(number):
        picture, labels = scene(each, classes)
        save(picture, Path("data", image.format(each)))
        save(labels, Path("data", mask.format(each)))


def test_two_folders_end_in_a_config_that_trains(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number, 2)
        save(picture, Path("data/images", f"{number}.JPG"))
        save(labels * 255, Path("data/masks", f"{number}.PNG"))
    status, printed = init(capsys)
    assert status == 0
    assert "mine.toml is written; next: `segkit run mine.toml` trains unet on 8 images for 20 minutes" in printed
    assert dataset(place) == {
        "name": "folder",
        "root": "data",
        "images": "images",
        "masks": "masks",
        "classes": ["background", "foreground"],
        "value_map": {"0": 0, "255": 1},
        "fractions": [0.7, 0.15, 0.15],
    }
    text = (place / "mine.toml").read_text("utf-8")
    assert '    "foreground",                   # 255: 9.38% of the training pixels' in text
    assert "# ? what are the classes called? the masks hold only numbers" in text
    assert (
        "# no list or folder assigns images to splits: they are split at random, the same way every time\nfractions"
        in text
    )
    assert main(["run", "mine.toml", "train.epochs=1", "train.repeat=1", "model.width=2", "train.device=cpu"]) == 0
    assert (place / "runs" / "mine" / "result.json").is_file()


def test_a_config_that_is_there_stays_unless_it_is_to_be_replaced(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs()
    (place / "mine.toml").write_text("mine")
    assert init(capsys) == (2, "segkit: mine.toml exists; use --overwrite to replace it, or -o to write another file\n")
    assert (place / "mine.toml").read_text() == "mine"
    assert init(capsys, "-o", "other/new.toml", "--quiet")[0] == 0
    assert (place / "other" / "new.toml").is_file()
    save(scene(0)[0], Path("data/unused/1.png"))
    status, printed = init(capsys, "--overwrite")
    assert status == 0
    assert "not read: 1 .png in unused" in printed
    assert "[dataset]" in (place / "mine.toml").read_text()


def test_the_archives_of_cityscapes_have_its_classes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.array([7, 11, 26], np.uint8)
    for split, count in (("train", 8), ("val", 4)):
        for number in range(count):
            city = ("aachen", "köln")[number % 2]
            name = f"{city}_{number:06}_000019"
            picture, labels = scene(number + 10 * (split == "val"))
            save(picture, Path("data/leftImg8bit", split, city, f"{name}_leftImg8bit.png"))
            for what, pixels in {
                "color": RGB[labels],
                "labelIds": values[labels],
                "labelTrainIds": np.array([0, 2, 13], np.uint8)[labels],
                "instanceIds": np.array([7, 11, 26000 + number], np.uint16)[labels],
            }.items():
                save(pixels, Path("data/gtFine", split, city, f"{name}_gtFine_{what}.png"))
    status, printed = init(capsys)
    assert status == 0
    assert dataset(place) == {"name": "cityscapes", "root": "data"}
    assert "classes   19: road 81" in printed


def test_names_of_cityscapes_alone_do_not_make_its_classes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(10):  # as CVAT exports it
        picture, labels = scene(number)
        save(picture, Path(f"data/imgsFine/leftImg8bit/default/{number}_leftImg8bit.png"))
        for what, pixels in {
            "labelIds": labels + 7,
            "color": np.array(((0, 0, 0), (9, 0, 9), (0, 9, 9)), np.uint8)[labels],
        }.items():
            save(pixels, Path(f"data/gtFine/default/{number}_gtFine_{what}.png"))
    assert init(capsys)[0] == 0
    assert (dataset(place)["name"], dataset(place)["value_map"]) == ("folder", {"7": 0, "8": 1, "9": 2})


def test_a_file_of_another_format_does_not_stop_what_can_be_read(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        runs(number)
    table = Path("data/train.csv")
    table.write_text(table.read_text().replace("EncodedPixels", "annotation"))  # seen by what it holds
    Path("data/labels.json").write_text(
        '{"info": {}, "categories": [{"id": 1, "name": "cat", "supercategory": "pet"}]}'
    )
    status, printed = init(capsys)
    assert status == 0
    assert "labels.json: not as COCO has it (KeyError: 'images')" in printed
    assert dataset(place)["name"] == "rle"
    table.unlink()
    status, printed = init(capsys, "--overwrite")
    assert status == 2
    assert "labels.json: not as COCO has it (KeyError: 'images')" in printed


def test_views_of_one_thing_stay_in_one_split(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for car in range(8):
        light = scene(car)[0] // 2
        for view in range(3):
            picture, labels = scene(100 + 10 * car + view)
            save(light + picture // 5, Path("data/images", f"car{car}_view{view}.png"))
            save(labels, Path("data/masks", f"car{car}_view{view}.png"))
    status, printed = init(capsys)
    assert status == 0
    assert "the names form 8 groups" in printed
    assert "and pictures correlate more within a group" in " ".join(printed.split())
    assert dataset(place)["group"] == "{group}_"


@pytest.mark.parametrize(("name", "groups"), [("day{1}_{0}", 6), ("cam{2}_{1}", 3)])
def test_names_that_come_in_groups_of_unlike_pictures_are_a_question(
    place: Path, capsys: pytest.CaptureFixture[str], name: str, groups: int
) -> None:
    for number in range(18):
        picture, labels = scene(number)
        file = name.format(number, number // 3, number % 3)
        save(picture, Path("data/images", f"{file}.png"))
        save(labels, Path("data/masks", f"{file}.png"))
    assert init(capsys)[0] == 0
    assert "group" not in dataset(place)
    text = (place / "mine.toml").read_text("utf-8")
    assert f"# ? the names form {groups} groups: is each group one object, patient, film or site? then group = " in text


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("patient{0:02}_slice{1:02}", "{group}_"),
        ("Patient {2}_{1}", "{group}_"),
        ("video{0}_f{1}", "{group}_"),
        ("P{0:02}-{1:02}", "{group}-"),
        ("site{3}_patient{0}_{1}", "_{group}_"),
    ],
)
def test_pictures_of_patients_stay_together_and_of_what_may_be_patients_are_asked_about(
    place: Path, capsys: pytest.CaptureFixture[str], name: str, pattern: str
) -> None:
    for number in range(18):
        picture, labels = scene(number)
        called = ("Jäger", "Öz", "Weiß", "Böhm", "Kurt", "Abt")[number // 3]
        file = name.format(number // 3, number % 3, called, number // 6)
        save(picture, Path("data/images", f"{file}.png"))
        save(labels, Path("data/masks", f"{file}.png"))
    status, printed = init(capsys)
    assert status == 0
    assert "note      the names form 6 groups, one of them with images/" in printed
    assert dataset(place)["group"] == pattern


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("austin{0}_{1}_512", "{group}_"),
        ("Brain_Training_{0:03}_slice_{1}", "images/Brain_Training_{group}_"),
        ("Image_{0:02}{2}", "images/{group}?."),
        ("north{0}_r0_c{1}", "{group}_"),
        ("patch_{3}_{1}_by_2_L1TP_00205{0}_T1", "images/patch_*_*_by_2_L1TP_{group}_"),
    ],
)
def test_parts_of_numbered_things_stay_together(
    place: Path, capsys: pytest.CaptureFixture[str], name: str, pattern: str
) -> None:
    for number in range(18):
        for side, pixels in zip(("images", "masks"), scene(number), strict=True):
            save(pixels, Path("data", side, f"{name.format(number // 3, number % 3, 'LMR'[number % 3], number)}.png"))
    status, printed = init(capsys)
    assert status == 0
    assert "is each group one patient, scene or film? assumed yes" in " ".join(printed.split())
    assert dataset(place)["group"] == pattern


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("{2}_{0:04}", "images/*_{group}."),
        ("{2}/{0:04}", "/{group}.png"),
        ("IMG_{0:04}{3}", "images/IMG_{group}[._]"),
        ("{4:03}", "images/{group}?."),
        ("{5}{0:04}", "[/_]{group}.png"),
    ],
)
def test_pictures_that_are_alike_stay_together(
    place: Path, capsys: pytest.CaptureFixture[str], name: str, pattern: str
) -> None:
    for number in range(30):
        group, at = divmod(number, 2) if pattern != "images/{group}?." else (0, number)
        wide = np.hstack([scene(100 + group)[0], scene(200 + group)[0]])  # [48,128,3]
        picture, labels = wide[:, 2 * at : 2 * at + 64], scene(number)[1]
        words = [pair[at % 2] for pair in (("left", "right"), ("", "_aug"), ("", "aug1_"))]
        file = name.format(group, at, *words[:2], number, words[2])
        for side, pixels in (("images", picture), ("masks", labels)):
            save(pixels, Path("data", side, f"{file}.png"))
    status, printed = init(capsys, "--yes")
    assert "pictures correlate more" in " ".join(printed.split())
    assert (status, dataset(place)["group"]) == (0, pattern)


def test_pictures_of_groups_that_take_turns_are_compared(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segkit_init.groups._MOST", 9)  # every second picture: the left ones
    for number in range(18):
        for side, pixels in zip(("images", "masks"), scene(number), strict=True):
            save(pixels, Path("data", side, f"{number // 2:02}_{'LR'[number % 2]}.png"))
    assert look(place / "data").options["group"] == "{group}_"


@pytest.mark.parametrize(
    ("file", "heading", "row"),
    [
        ("a.csv", "id,is_train", "{0},{1}"),
        ("a.csv", "id,is_test", "{0},{2}"),
        ("a.csv", "id,in_test", "{0},{4}"),
        ("a.tsv", "id\tage\ttrain\ttest", "{0}\t20\t{1}\t{2}"),
        ("a.json", "", '"{0}": "{3}"'),
        ("a.json", "[", '{{"image": "images/{0}.png", "part": "{3}"}}'),
    ],
)
def test_tables_that_mark_images_of_train_and_test(
    place: Path, capsys: pytest.CaptureFixture[str], file: str, heading: str, row: str
) -> None:
    names = [f"{997 * number:05x}" for number in range(15)]
    for number, name in enumerate(names):
        for side, pixels in zip(("images", "masks"), scene(number), strict=True):
            save(pixels, Path("data", side, f"{name}.png"))
    rows = [
        row.format(name, int(at < 11), int(at >= 11), ("train", "test")[at > 10], ("no", "Yes")[at > 10])
        for at, name in enumerate(names)
    ]
    if file.endswith("json"):
        rows = [f"[{', '.join(rows)}]" if heading else f"{{{', '.join(rows)}}}"]
    Path("data", file).write_text("\n".join((*([] if file.endswith("json") else [heading]), *rows)))
    status, printed = init(capsys)
    assert (status, dataset(place)["lists"]) == (0, file)
    assert "9 train, 2 val, 4 test" in printed


def test_folders_that_lists_assign_to_splits_are_films_and_no_classes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        picture, labels = scene(number, 2)
        film = ("bear", "boat", "camel", "dog")[number // 3]
        save(picture, Path(f"data/images/{film}/{number % 3:05}.png"))
        save(labels, Path(f"data/masks/{film}/{number % 3:05}.png"))
    Path("data/train.txt").write_text("bear\nboat\ndog\n")
    Path("data/val.txt").write_text("camel\n")
    assert init(capsys)[0] == 0
    assert (dataset(place)["name"], dataset(place)["lists"]) == ("folder", "{split}.txt")


def test_a_column_that_may_hold_splits_is_asked_about(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs()
    paths = sorted(Path("data/images").iterdir())
    Path("data/a.csv").write_text(
        "image,usage,value,test,set,is_valid\n"
        + "\n".join(f"{path.name},{'ab'[at % 2]},{at % 2},{at},a,{int(at > 2)}" for at, path in enumerate(paths))
    )
    status, printed = init(capsys)
    printed = " ".join(printed.split())
    assert (status, printed.count("? the column")) == (1, 1)
    assert "? the column 'usage' of data/a.csv (a, b) is not read: does it assign images to splits?" in printed


@pytest.mark.parametrize(("heading", "is_read"), [("phase", False), ("split", True)])
def test_numbers_in_a_column_are_splits_only_where_its_name_says_so(
    place: Path, capsys: pytest.CaptureFixture[str], heading: str, is_read: bool
) -> None:
    pairs()
    rows = [f"{path.name},{'0102'[at % 4]}" for at, path in enumerate(sorted(Path("data/images").iterdir()))]
    Path("data/meta.csv").write_text("\n".join([f"image,{heading}", *rows]))
    status, printed = init(capsys)
    assert (status, "is not read: does it assign" in " ".join(printed.split())) == (int(not is_read), not is_read)


def test_a_column_of_sites_is_asked_about(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs()
    rows = [f"{path.name},{'ABC'[at % 3]}" for at, path in enumerate(sorted(Path("data/images").iterdir()))]
    Path("data/meta.csv").write_text("\n".join(["image,hospital", *rows]))
    status, printed = init(capsys)
    assert (status, "group" in dataset(place)) == (0, False)
    assert "meta.csv#hospital names 3 groups of images: are the scores to be of sites" in " ".join(printed.split())


@pytest.mark.parametrize("name", ["left_{0:03}", "field_{1}_{2}"])
def test_sides_of_one_thing_and_tiles_stay_together(place: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    words = ("lake", "mill", "moor", "north", "harbour", "wood")
    for number in range(24):
        for side, pixels in zip(("images", "masks"), scene(number), strict=True):
            file = name.format(number // 2, number // 2 % 2, number % 2).replace("field", words[number // 4])
            file = file.replace("left", ("left", "right")[number % 2])
            save(pixels, Path("data", side, f"{file}.png"))
    assert init(capsys)[0] == 0
    assert dataset(place)["group"] in ("images/*_{group}.", "{group}_")


@pytest.mark.parametrize("name", ["{2}_2020_{0:02}", "{1}-{0:02}-11", "{3:03}_01_{2}"])
def test_dates_and_numbers_in_a_year_are_no_tiles(place: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    for number in range(24):
        file = name.format(number // 4 + 1, 2017 + number % 4, ("rust", "dent", "hole", "crack")[number % 4], number)
        for side, pixels in zip(("images", "masks"), scene(number), strict=True):
            save(pixels, Path("data", side, f"{file}.png"))
    assert init(capsys)[0] == 0
    assert "group" not in dataset(place)


def test_a_column_of_patients_keeps_their_pictures_together(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs()
    rows = [f"{path.name},P{at // 2},{at}" for at, path in enumerate(sorted(Path("data/images").iterdir()))]
    Path("data/meta.csv").write_text("\n".join(["image,patient_id,case", *rows]))
    status, printed = init(capsys)
    assert (status, dataset(place)["group"]) == (0, "meta.csv#patient_id")
    assert f"meta.csv#patient_id names {len(rows) // 2} groups of images: every group" in " ".join(printed.split())
    rows = [
        f"{path.name},{('cat', 'dog', 'cow')[at % 3]}" for at, path in enumerate(sorted(Path("data/images").iterdir()))
    ]
    Path("data/meta.csv").write_text("\n".join(["image,animal", *rows]))
    init(capsys, "--overwrite")
    assert "group" not in dataset(place)  # each split holds every kind


def test_files_of_splits_that_are_not_read_are_asked_about(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs()
    stems = [path.stem for path in sorted(Path("data/images").iterdir())]
    Path("data/split.xlsx").write_bytes(b"PK")
    Path("data/train_codes.csv").write_text("\n".join(f"{stem},1 2 3" for stem in stems))
    Path("data/easy.txt").write_text("\n".join(stems[:2]))
    printed = init(capsys)[1]
    assert "? not read: data/split.xlsx; does this assign images to splits?" in printed
    assert printed.count("? not read") == 1
    Path("data/split.xlsx").unlink()
    for name in ("cats", "dogs"):
        Path("data/kinds").mkdir(exist_ok=True)
        Path(f"data/kinds/{name}.txt").write_text("\n".join(stems[name == "dogs" :: 2]))
    status, printed = init(capsys)
    assert (status, "? not read: data/kinds/cats.txt, data/kinds/dogs.txt" in " ".join(printed.split())) == (0, True)
    for name in ("cats", "dogs"):
        Path(f"data/kinds/{name}.txt").unlink()
    (place / "mine.toml").unlink()
    for name in ("learn", "exam"):
        Path(f"data/{name}").mkdir()
        Path(f"data/{name}/ids.txt").write_text("\n".join(stems[name == "exam" :: 2]))
    printed = " ".join(init(capsys)[1].split())
    assert "? not read: data/exam/ids.txt, data/learn/ids.txt; does this assign images to splits?" in printed
    Path("data/learn/ids.txt").write_text("\n".join(stems))  # what others hold too
    Path("data/train.yaml").write_text("model: unet\nepochs: 10\n")  # of a program
    Path("data/val.yaml").write_text("batch: 2\n")
    Path("data/a.txt").write_text("Of the images 0, 1, 2, 3, 4, and 5, none is dark.")
    Path("data/b.txt").write_text("Others, such as 6, 7, 8 and 9, were taken at night.")
    printed = init(capsys)[1]
    assert "? not read" not in printed
    assert "named like a split" not in printed


def test_a_channel_of_0_and_1_for_each_class_holds_no_numbers(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number, 3)
        save(picture, Path(f"data/images/{number}.png"))
        save(np.eye(4, dtype=np.uint8)[labels][..., 1:], Path(f"data/masks/{number}.png"))
    assert init(capsys)[0] == 0
    assert len(dataset(place)["colour_map"]) == 3


def test_arrays_whose_names_begin_with_a_split_are_not_asked_about(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(10):
        for folder, values in zip(("images", "masks"), scene(number, 3), strict=True):
            Path("data", folder).mkdir(parents=True, exist_ok=True)
            np.save(Path("data", folder, f"train_{number}.npy"), values)
    assert "? not read" not in init(capsys)[1]


def test_a_table_of_folds_is_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs()
    rows = [f"{path.name},{at % 3}" for at, path in enumerate(sorted(Path("data/images").iterdir()))]
    Path("data/a.csv").write_text("\n".join(["image,fold", *rows]))
    status, printed = init(capsys)
    assert (status, dataset(place)["lists"]) == (0, "a.csv")
    assert "a.csv holds folds, of which the first is val: fold = 1 and so on make others val" in " ".join(
        printed.split()
    )


def test_images_that_exif_turns_and_masks_without_it_are_asked_about(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = Image.Exif()
    turned[0x0112] = 3
    for number in range(12):
        picture, labels = scene(number)
        save(labels, Path(f"data/masks/{number}.png"))
        save(picture, path := Path(f"data/images/{number}.jpg"))
        if number == 5:
            Image.fromarray(picture).save(path, exif=turned)
    status, printed = init(capsys)
    assert status == 1
    assert "by their EXIF orientation, which one of the two may lack: 5; if" in " ".join(printed.split())
    assert "--yes: these were drawn on the upright images" in printed
    for number in range(12):
        Image.fromarray(scene(number)[0][::-1, ::-1]).save(f"data/images/{number}.jpg", exif=turned)
    assert init(capsys)[0] == 0  # the masks fit the upright images


@pytest.mark.parametrize(
    ("val", "told"), [((1, 4, 7, 10, 13), "5 of these groups are"), ((1, 12, 13, 14), "1 of these groups is")]
)
def test_patients_in_two_folders_of_splits_are_told(
    place: Path, capsys: pytest.CaptureFixture[str], val: Sequence[int], told: str
) -> None:
    for number in range(15):
        for side, pixels in zip(("images", "masks"), scene(number), strict=True):
            split = "val" if number in val else "train"
            save(pixels, Path("data", split, side, f"patient{number // 3}_{number}.png"))
    status, printed = init(capsys)
    assert (status, "group" in dataset(place)) == (0, False)
    assert f"; {told} in two splits: if each is one patient" in " ".join(printed.split())


def test_pictures_of_numbered_folders_stay_together(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(18):
        picture, labels = scene(number)
        save(picture, Path(f"data/images/{number // 3:03}/{number % 3}.png"))
        save(labels, Path(f"data/masks/{number // 3:03}/{number % 3}.png"))
    status, printed = init(capsys)
    assert status == 0
    assert "6 groups, one of them with images/00" in " ".join(printed.split())
    assert "is each group one patient, scene or film?" in " ".join(printed.split())
    assert dataset(place)["group"] == "images/{group}/"


@pytest.mark.parametrize(("name", "like"), [("patient", False), ("ds", True), ("ds", False)])
def test_two_numbered_folders_are_asked_about_where_they_may_be_of_one_thing_each(
    name: str, like: bool, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        picture, labels = scene(number)
        picture = scene(50 + number // 6)[0] // 2 + picture // 5 if like else picture
        for side, pixels in (("images", picture), ("masks", labels)):
            save(pixels, Path(f"data/{side}/{name}{number // 6}/{number % 6}.png"))
    status, printed = init(capsys)
    assert status == (like or name == "patient")
    assert ("--yes: yes: the pictures of a group stay in one split" in printed) == bool(status)
    assert "the names form 2 groups" in printed


def test_two_numbered_folders_of_train_are_no_train_and_val(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(24):
        picture, labels = scene(number)
        path = f"data/Class{number % 2}/{('Train', 'Test')[number // 16]}"
        save(picture, Path(f"{path}/{number // 2}.png"))
        save(labels, Path(f"{path}/Label/{number // 2}_label.png"))
    assert init(capsys)[0] == 0
    assert (dataset(place)["val"], "group" in dataset(place)) == (0.15, False)


def test_names_without_a_background_where_one_class_is_absent_are_told(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs()
    Path("data/classes.txt").write_text("cat\ndog\nbird\n")  # there is no bird, and 0 is none of them
    assert init(capsys)[0] == 1
    status, printed = init(capsys, "--yes")
    assert status == 0
    assert "% of the masks, and classes.txt calls it 'cat': is that right?" in printed
    assert (
        'or: no: it is the background, which that file does not name: classes = ["background", "cat", "dog", "bird"]'
        in " ".join((place / "mine.toml").read_text("utf-8").replace("#", "").split())
    )
    assert dataset(place)["classes"] == "classes.txt"
    Path("data/classes.txt").write_text("background\ndog\nbird\n")
    assert "is that right?" not in init(capsys, "--overwrite")[1]


def test_a_class_file_that_counts_one_more_than_the_masks(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number)
        save(picture, Path(f"data/images/{number}.png"))
        save(np.array([0, 1, 255], np.uint8)[labels], Path(f"data/masks/{number}.png"))
    Path("data/labels.txt").write_text("0: unlabeled\n1: person\n2: bicycle\n3: car\n")
    assert init(capsys)[0] == 1
    assert "255 marks unlabelled pixels: are the labels as in that file?" in init(capsys, "--yes")[1]
    assert dataset(place)["classes"] == ["person", "bicycle", "car"]
    assert "value_map" not in dataset(place)


def test_a_background_in_another_language_is_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs()
    Path("data/clases.txt").write_text("fondo\ngato\nperro\n")
    assert init(capsys)[0] == 0


def test_folders_whose_labels_have_other_names_are_asked_about(place: Path) -> None:
    for number in range(12):
        picture, labels = scene(number)
        save(picture, Path(f"data/{number}_json/img.png"))
        save(labels, Path(f"data/{number}_json/label.png"))
        names = ("cat", "dog") if number % 2 else ("bird", "cat")
        Path(f"data/{number}_json/label_names.txt").write_text("\n".join(("_background_", *names)))
    asked = [each.text for each in look(Path("data")).questions if each.must]
    assert len(asked) == 1
    assert re.search(r"label_names\.txt calls 1 '\w+', and .*: has each folder its own labels\?", asked[0])


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.json", '{"seed": 0, "workers": 1, "folds": 2}'), ("colors.json", '{"0": [0, 0, 0], "1": [9, 9, 9]}'),
     ("labels.json", '{"dropout": 0.5, "momentum": 1.9, "decay": 2.2}')],
)  # fmt: skip
def test_numbers_in_json_that_name_no_classes(
    place: Path, capsys: pytest.CaptureFixture[str], file: str, content: str
) -> None:
    pairs(classes=content.count(":"))
    Path("data", file).write_text(content)
    assert init(capsys)[0] == 0
    assert [*dataset(place)["classes"]] in (["background", "foreground"], [f"class_{each}" for each in range(3)])


def test_black_may_have_no_name_in_a_file_of_colours(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number)
        save(picture, Path(f"data/images/{number}.png"))
        save(np.array([(0, 0, 0), (224, 64, 64), (61, 245, 61)], np.uint8)[labels], Path(f"data/masks/{number}.png"))
    named = [{"id": 1, "name": "cat", "color": "#e04040"}, {"id": 2, "name": "dog", "color": "#3df53d"}]
    Path("data/classes.json").write_text(json.dumps(named))
    assert "classes.json has no name for black: what is it?" in init(capsys)[1]
    assert init(capsys, "--yes")[0] == 0
    colours = {"background": [0, 0, 0], "cat": [224, 64, 64], "dog": [61, 245, 61]}
    assert dataset(place)["colour_map"] == colours


@pytest.mark.parametrize("volumes", [2, 4])
def test_pages_of_one_file_stay_in_one_split(volumes: int, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for volume in "abcd"[:volumes]:
        pages = [[Image.fromarray(each) for each in scene(10 * ord(volume) + page)] for page in range(6)]
        for side, (first, *others) in zip(("images", "masks"), zip(*pages, strict=True), strict=True):
            Path("data", side).mkdir(parents=True, exist_ok=True)
            first.save(Path("data", side, f"{volume}.tif"), save_all=True, append_images=others)
    status, printed = init(capsys)
    if volumes == 2:  # which cannot be dealt to three splits
        assert status == 1
        assert "or:    no: single pictures are split at random" in printed
        status, _ = init(capsys, "--yes")
        assert dataset(place)["fractions"] == [0.5, 0.5]
    assert status == 0
    assert dataset(place)["group"] == "images/{group}.tif#"


def test_val_is_taken_of_whole_volumes_of_train(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(20):
        picture, labels = scene(number)
        path = f"{'train' if number < 15 else 'test'}/{number // 5}/{number % 5}.png"
        save(picture, Path("data/images", path))
        save(labels, Path("data/masks", path))
    assert init(capsys, "--yes")[0] == 0
    assert (dataset(place)["group"], dataset(place)["val"]) == ("images/*/{group}/", 0.15)


def test_pictures_of_folders_that_may_be_classes_or_cities_are_dealt_singly(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(18):
        picture, labels = scene(number)
        path = f"{('oslo', 'rome', 'lima')[number // 6]}/{number % 6}.png"
        save(picture, Path("data/images", path))
        save(labels, Path("data/masks", path))
    assert init(capsys)[0] == 0
    assert "group" not in dataset(place)
    assert 'then group = "images/{group}/" keeps' in (place / "mine.toml").read_text("utf-8").replace("\n#  ", "")


@pytest.mark.parametrize(("end", "group"), [("", "images/{group}[._]"), ("_0", "{group}_")])
def test_mirrored_copies_stay_together(end: str, group: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(10):
        for side, pixels in zip(("images", "masks"), scene(number), strict=True):
            save(pixels, Path("data", side, f"x{number}{end}.png"))
            save(np.ascontiguousarray(pixels[:, ::-1]), Path("data", side, f"x{number}_flip.png"))
            save(np.ascontiguousarray(np.rot90(pixels)), Path("data", side, f"x{number}_rot90.png"))
    status, printed = init(capsys)
    assert (status, dataset(place)["group"]) == (0, group)
    assert "turned or mirrored" in printed


def test_mirrored_copies_under_unrelated_names_are_asked_about(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        for side, pixels in zip(("images", "masks"), scene(number), strict=True):
            save(pixels, Path("data", side, f"{997 * number % 101:x}.png"))
            save(np.ascontiguousarray(pixels[::-1]), Path("data", side, f"{997 * number % 89 + 512:x}.png"))
    status, printed = init(capsys)
    assert status == 1
    assert "turned or mirrored" in printed


def test_what_tiffs_declare_as_no_data_is_asked_about_in_masks_and_void_in_images(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        for side, pixels in zip(("images", "masks"), scene(number), strict=True):
            stored = pixels + np.uint8(side == "masks")
            stored[:8] = 0
            Path("data", side).mkdir(parents=True, exist_ok=True)
            Image.fromarray(stored).save(Path("data", side, f"{number}.tif"), tiffinfo={42113: "0"})
    status, printed = init(capsys)
    assert status == 1
    assert "? the masks declare 0 as no data: is it a class?" in printed
    assert "hold the value that their file declares as no data" in printed
    assert init(capsys, "--yes")[0] == 0
    assert dataset(place)["value_map"]["0"] == 255
    assert tomllib.loads((place / "mine.toml").read_text("utf-8"))["data"]["no_data"] == "void"


@pytest.mark.parametrize("has_colours", [False, True])
def test_a_class_that_its_file_calls_void_is_none(
    place: Path, capsys: pytest.CaptureFixture[str], has_colours: bool
) -> None:
    for number in range(12):
        picture, labels = scene(number)
        save(picture, Path("data/images", f"{number}.png"))
        save(RGB[labels] if has_colours else labels, Path("data/masks", f"{number}.png"))
    colours = [",".join(map(str, colour)) for colour in RGB.tolist()]
    names = ("Sky", "Void", "Road")
    text = [f"{name},{colour}" for name, colour in zip(names, colours, strict=True)] if has_colours else names
    Path("data/codes.txt").write_text("\n".join(["name,r,g,b"] * has_colours + [*text]))
    status, printed = init(capsys)
    assert status == 0
    assert "codes.txt calls " in printed
    assert "'Void': such pixels are neither learned nor scored" in printed
    found = dataset(place)
    assert found["classes"] == ["Sky", "Road"]
    if has_colours:
        assert found["colour_map"] == {"Sky": [128, 64, 128], "Road": [0, 0, 142], "void": [70, 70, 70]}
    else:
        assert found["value_map"] == {"0": 0, "1": 255, "2": 1, "255": 255}


def test_a_table_that_counts_from_1_says_that_0_is_no_class(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(12)
    Path("data/objectInfo150.txt").write_text("Idx\tRatio\tName\n1\t0.15\twall\n2\t0.10\tbuilding, edifice\n")
    status, printed = init(capsys, "--yes")
    assert status == 0
    assert "? 2 names for 3 labels: what is 0?\n  --yes: 0 marks unlabelled pixels" in printed
    assert dataset(place)["classes"] == ["wall", "building, edifice"]
    assert dataset(place)["value_map"] == {"0": 255, "1": 0, "2": 1}


def test_names_of_classes_are_taken_from_a_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number)
        save(picture, Path("data/images", f"{number}.png"))
        save(
            np.dstack([RGB[labels], np.full(labels.shape, 255, np.uint8)]), Path("data/masks", f"{number}.png")
        )  # RGBA
    Path("data/classes.csv").write_text("a,b,c\n1,2,3\n")  # of something else
    Path("data/labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nroad:128,64,128::\nwall:70,70,70::\ncar:0,0,142::\n"
    )
    assert init(capsys)[0] == 0
    assert dataset(place)["classes"] == "labelmap.txt"


def test_two_names_and_masks_of_0_and_255(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number, 2)
        save(picture, Path("data/images", f"{number}.png"))
        save(labels * 255, Path("data/masks", f"{number}.png"))
    Path("data/classes.txt").write_text("wall\ncrack\n")
    assert init(capsys)[0] == 0
    assert (dataset(place)["classes"], dataset(place)["value_map"]) == (["wall", "crack"], {"0": 0, "255": 1})


@pytest.mark.parametrize("has_colours", [False, True])
def test_which_of_0_and_255_is_the_background_that_is_named_last(
    place: Path, capsys: pytest.CaptureFixture[str], has_colours: bool
) -> None:
    for number in range(12):
        picture, labels = scene(number, 2)
        save(picture, Path("data/images", f"{number}.png"))
        save(RGB[labels] if has_colours else labels * 255, Path("data/masks", f"{number}.png"))
    Path("data/classes.txt").write_text("crack\nbackground\n")
    status, printed = init(capsys, "--yes")
    assert status == 0
    is_asked = "? the masks hold 0 and 255, and the names are 'crack' and 'background': which is which?" in printed
    assert is_asked != has_colours
    if not has_colours:
        assert dataset(place)["classes"] == ["crack", "background"]
        assert dataset(place)["value_map"] == {"255": 0, "0": 1}


@pytest.mark.parametrize("is_rgb", [False, True])
def test_greys_have_the_names_that_a_file_gives_their_colours(
    place: Path, capsys: pytest.CaptureFixture[str], is_rgb: bool
) -> None:
    for number in range(12):
        picture, labels = scene(number, 2)
        save(picture, Path("data/train", f"{number}_sat.jpg"))
        save(np.dstack([labels * 255] * 3) if is_rgb else labels * 255, Path("data/train", f"{number}_mask.png"))
    Path("data/class_dict.csv").write_text("name,r,g,b\nroad,255,255,255\nbackground,0,0,0\n")
    assert init(capsys)[0] == 0
    read = registry.datasets["folder"](split="train", **{k: v for k, v in dataset(place).items() if k != "name"})
    assert read.classes == ("road", "background")
    labels = scene(int(read[0].name.partition("_")[0]), 2)[1]
    assert read[0].mask.tolist() == (1 - labels).tolist()


def test_where_two_readings_are_possible_nothing_is_written_without_yes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs(12)
    for number in range(12):
        save(scene(50 + number)[1], Path("data/second", f"{number}.png"))
    status, printed = init(capsys)
    assert status == 1
    assert "? the folder can be read in several ways: which one is meant?" in printed
    assert '--yes: masks = "masks"' in printed
    assert 'or:    masks = "second"' in printed
    assert not (place / "mine.toml").exists()
    assert init(capsys, "--yes")[0] == 0
    assert dataset(place)["masks"] == "masks"
    assert '#   or: masks = "second"' in (place / "mine.toml").read_text("utf-8")


def test_masks_of_the_same_labels_are_asked_about_and_those_of_two_classes_are_one_map(place: Path) -> None:
    def found(**squares: tuple[int, int, int]) -> list[str]:
        """The masks of the readings of squares in folders: their row, column and size."""
        for folder, (row, column, size) in squares.items():
            for number in range(12):
                mask = np.zeros((48, 64), np.uint8)
                mask[row : row + size, number + column : number + column + size] = 255
                save(scene(number)[0], Path("data/images", f"{number}.png"))
                save(mask, Path("data", folder, f"{number}.png"))
        found = look(Path("data"))
        asked = [answer.text for each in found.questions if "several ways" in each.text for answer in each.answers]
        return asked or [found.options["annotations"]]

    assert found(disc=(3, 2, 20), cup=(5, 4, 16)) == ['masks = "cup"', 'masks = "disc"']
    assert found(cup=(6, 5, 20)) == ['masks = "cup"', 'masks = "disc"']  # as large, and three pixels off
    for name in ("person_mask", "object_mask"):
        shutil.rmtree("data")
        assert found(**{name: (3, 2, 16)}, car_mask=(3, 30, 16)) == ["{class}"]


def test_ids_of_fields_are_no_finer_classes(place: Path) -> None:
    pairs(image="images/{}.png", mask="labels/{}.png")
    for number in range(12):
        labels = scene(number)[1]
        save(
            labels + (labels == 2) * (np.arange(64) % 2 == 1).astype(np.uint8),
            Path(f"data/labels/{number}_field_ids.png"),
        )
    found = look(Path("data"))
    assert found.options["masks"] == "labels"
    assert 'not read because they number single objects: masks = "labels/{id}_field_ids.png"' in found.notes


@pytest.mark.parametrize(
    ("folders", "asked"),
    [
        (("Trainingsdaten", "Validierung", "Testdaten"), ""),
        (("训练集", "验证集", "测试集"), ""),
        (("uno", "dos", "Test"), "Test"),
        (("SBUTrain4KSmall", "SBU-Test", "SBU-val"), ""),
        (("Train4K", "Test", "other"), "Test, Train4K"),
    ],
)
def test_folders_of_splits_are_known_in_other_languages_and_asked_about(
    folders: tuple[str, ...], asked: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        image, labels = scene(number)
        folder = folders[max(0, number - 9)]
        save(image, Path(f"data/{folder}/Bilder/{number}.png"))
        save(labels, Path(f"data/{folder}/Masken/{number}.png"))
    status, printed = init(capsys)
    assert status == bool(asked), printed
    assert ("10 train, 1 val, 1 test" in printed) is not asked
    assert (f"some folders have names of splits: {asked}; are these splits?" in " ".join(printed.split())) is bool(
        asked
    )


def test_a_file_that_is_called_as_a_list_and_is_none_is_asked_about(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs(12)
    Path("data/train.txt").write_text("0.31\n0.29\n")
    status, printed = init(capsys)
    assert status == 1
    assert "not read, though named like a split: data/train.txt" in " ".join(printed.split())
    assert "  --yes: they list no images\n" in printed
    assert 'or:    they list the names of each split: lists = "{split}.txt"' in printed
    assert init(capsys, "--yes")[0] == 0
    assert dataset(place)["fractions"] == [0.7, 0.15, 0.15]
    assert "lists" not in dataset(place)


def test_white_space_at_the_ends_of_a_list_is_no_column(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(12)
    Path("data/train.txt").write_text("".join(f"{number}  \r\n" for number in range(9)))
    Path("data/val.txt").write_text("".join(f"{number}\t\n" for number in range(9, 12)))
    assert init(capsys)[0] == 0
    assert dataset(place)["lists"] == "{split}.txt"


@pytest.mark.parametrize(("name", "asked"), [("Labels", True), ("Depth", False), ("Masken", True)])
def test_masks_of_val_in_a_folder_of_another_name_are_asked_about(
    name: str, asked: bool, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs(12, "Train/Images/{}.png", "Train/Masks/{}.png")
    for number in range(12, 16):
        save(scene(number)[0], Path(f"data/Val/Images/{number}.png"))
        save(scene(number)[1], Path(f"data/Val/{name}/{number}.png"))
    save(scene(0)[0], Path("data/Train/Depth/0.npy.png"))
    status, printed = init(capsys)
    assert status == asked
    assert (f"nothing is read from Val/{name}, which seem to hold masks" in printed) is asked


def test_masks_of_a_test_split_in_folders_of_other_names_are_asked_about(place: Path) -> None:
    pairs(12, "TrainData/image/{}.png", "TrainData/mask/{}.png")
    for number in range(12, 16):
        save(scene(number)[0], Path(f"data/TestData/cvc/imgs/{number}.png"))
        save(scene(number)[1], Path(f"data/TestData/cvc/gts/{number}.png"))
    asked = [each.text for each in look(Path("data")).questions if each.must]
    assert len(asked) == 1
    assert "nothing is read from TestData/cvc/gts, TestData/cvc/imgs, which seem to hold masks" in asked[0]


def test_images_that_no_list_names_are_noted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(14)
    Path("data/train.txt").write_text("".join(f"{number}\n" for number in range(9)))
    Path("data/val.txt").write_text("".join(f"{number}\n" for number in range(9, 12)))
    status, printed = init(capsys)
    assert status == 0
    assert "  images that no list names are not read: 2 in images\n" in printed
    with Path("data/val.txt").open("a") as names:
        names.write("12\n13\n")
    assert "that no list names" not in init(capsys, "--overwrite")[1]


def test_rows_of_a_table_that_name_no_mask_are_left_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(14, "train/{}_sat.png", "train/{}_mask.png")
    rows = [f"{number},train/{number}_sat.png,train/{number}_mask.png,train" for number in range(14)]
    rows = [
        "image_id,sat_image_path,mask_path,split",
        *rows,
        *[f"{number},valid/{number}_sat.png,,valid" for number in (20, 21)],
    ]
    Path("data/metadata.csv").write_text("\n".join(rows))
    for number in (20, 21):
        save(scene(number)[0], Path(f"data/valid/{number}_sat.png"))
    status, printed = init(capsys)
    assert status == 0, printed
    assert "12 train, 2 val" in printed


@pytest.mark.parametrize("line", ["{}, 3, wide", "{} # Übung"])
def test_lists_that_cannot_be_used_are_asked_about(place: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    pairs(12)
    Path("data/train.txt").write_text("".join(line.replace("{}", f"{number}") + "\n" for number in range(9)), "latin-1")
    status, printed = init(capsys)
    assert status == 1
    assert "data/train.txt" in printed
    assert init(capsys, "--yes")[0] == 0
    assert "lists" not in dataset(place)


def test_a_dot_is_written_as_the_folder_that_it_is(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs(12)
    monkeypatch.chdir(place / "data")
    assert main(["init", ".", "-o", str(place / "mine.toml")]) == 0
    assert dataset(place)["root"] == str(place / "data")


@pytest.mark.parametrize("other", ["pred", "my_predictions", "output", "results/new"])
def test_what_a_network_has_predicted_comes_last(place: Path, capsys: pytest.CaptureFixture[str], other: str) -> None:
    pairs(12, mask="zebra_and_other_animals/{}.png")
    for number in range(12):
        save(np.roll(scene(number)[1], 25, 0), Path("data", other, f"{number}.png"))
    status, printed = init(capsys, "--yes")
    assert status == 0
    assert dataset(place)["masks"] == "zebra_and_other_animals"
    assert other in printed


def test_what_a_network_has_predicted_is_asked_about_if_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(12, mask="predictions/{}.png")
    status, printed = init(capsys)
    assert (status, printed.count('? masks = "predictions" may be of a network: are these to be learned?')) == (1, 1)


@pytest.mark.parametrize("other", ["pred/pred_{}.png", "overlay/{}.png"])
def test_masks_of_a_program_are_not_taken_where_drawn_ones_have_other_names(
    place: Path, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    pairs(12, mask=other)
    for number in range(12):
        save(scene(number)[1], Path("data/gt", f"{chr(97 + number)}.png"))
    status, printed = init(capsys, "--yes")
    assert status == 2
    assert "gt may hold the drawn masks: name these as their images" in printed


def test_what_is_found_as_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(12)
    Path("data/train.txt").write_text("0.31\n0.29\n")
    assert main(["init", "data", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["config"] is None
    (asked,) = [each for each in found["questions"] if each["must"]]
    assert asked["answers"][1]["options"] == {"lists": "{split}.txt"}
    Path("data/train.txt").unlink()
    assert main(["init", "data", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["config"], found["dataset"], found["options"]["images"]) == ("mine.toml", "folder", "images")
    assert found["splits"] == {"train": 8, "val": 2, "test": 2}
    assert sum(found["classes"].values()) == pytest.approx(1)
    assert found["plan"]["train.batch_size"]["value"] == 8
    assert (place / "mine.toml").is_file()


def test_folders_and_formats_that_are_not_read_are_noted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        pixels, labels = scene(number)
        save(pixels[..., 0], place / f"data/elevation/{number}.png")
        save(labels, place / f"data/masks/{number}.png")
        save(labels, place / f"data/masks/{number}.tif")
        (place / f"data/photos/{number}.heic").parent.mkdir(exist_ok=True)
        (place / f"data/photos/{number}.heic").write_bytes(b"\0\0\0 ftypheic")
    (place / "data/film.mp4").write_bytes(b"x")
    (place / "data/__MACOSX").mkdir()
    for system in ("Thumbs.db", "photos/desktop.ini", "__MACOSX/._1.png"):
        (place / "data" / system).write_bytes(b"x")
    status, printed = init(capsys)
    assert status == 0, printed
    assert "not read: 1 .mp4 in ., 12 .tif in masks, 12 .heic in photos" in printed


QUARTERS = {"turned by a quarter to the left": 3, "turned by a quarter to the right": 1}  # what was done to the labels


@pytest.mark.parametrize(
    "kind", ["upside down", "from right to left", *QUARTERS, "smaller copies", "right", "void", "anywhere"]
)
def test_labels_that_do_not_lie_where_the_images_show_something_are_asked_about(place: Path, kind: str) -> None:
    for number in range(10):
        pixels, labels = scene(number)
        labels = scene(116 + number)[1] if kind == "anywhere" else labels
        if kind == "smaller copies":
            small, labels = labels[::2, ::2], np.zeros_like(labels)
            labels[:24, :32] = small
        turned = {"upside down": labels[::-1], "from right to left": labels[:, ::-1]}.get(kind, labels).copy()
        if kind in QUARTERS:  # of a square image
            pixels, turned = pixels[:, 8:56], np.rot90(labels[:, 8:56], QUARTERS[kind])
        if kind == "void":  # beside a label, and at the wrong place
            turned = np.where(labels[::-1] > 0, 255, 0)
            turned[:8, :8] = 1
        save(np.ascontiguousarray(pixels), Path(f"data/images/{number}.png"))
        save(np.ascontiguousarray(turned).astype(np.uint8), Path(f"data/masks/{number}.png"))
    asked = [each.text for each in look(Path("data")).questions if each.must]
    told = {
        "smaller copies": "as if they were drawn on smaller copies",
        "anywhere": "does each mask belong to its image?",
    }
    known = told.get(kind, f"better {kind}: are the labels right")
    assert any(known in text for text in asked) is (kind not in ("right", "void")), asked
    assert len(asked) == (kind != "right")


@pytest.mark.parametrize("is_net", [False, True])
def test_outlines_that_meet_are_told_from_a_net_of_lines(place: Path, is_net: bool) -> None:
    for number in range(12):
        cells = np.zeros((48, 64), np.uint8)
        top, left = 4 + number % 9, 5 + 5 * number % 20
        cells[top : top + 14, left : left + 14], cells[top + 5 : top + 22, left + 14 : left + 28] = 1, 2
        lines = np.zeros_like(cells)
        lines[:-1] = cells[1:] != cells[:-1]
        lines[:, :-1] |= cells[:, 1:] != cells[:, :-1]
        light = 200 * lines if is_net else 200 * (cells > 0)
        save(
            (light + np.random.default_rng(number).integers(40, size=cells.shape)).astype(np.uint8),
            Path(f"data/images/{number}.png"),
        )
        save(lines, Path(f"data/masks/{number}.png"))
    asked = [each.text for each in look(Path("data")).questions if each.must]
    assert any("closed lines" in text for text in asked) is not is_net


@pytest.mark.parametrize("are_filled", [False, True])
def test_closed_lines_may_be_outlines_that_are_not_filled(place: Path, are_filled: bool) -> None:
    for number in range(12):
        picture, labels = scene(number)
        inside = np.pad(labels[2:-2, 2:-2] * (labels[4:, 2:-2] > 0) * (labels[:-4, 2:-2] > 0), 2)
        inside[:, 2:-2] *= (labels[:, 4:] > 0) & (labels[:, :-4] > 0)
        save(picture, Path(f"data/images/{number}.png"))
        save(labels if are_filled else labels - inside, Path(f"data/masks/{number}.png"))
    asked = [each.text for each in look(Path("data")).questions if each.must]
    assert [text for text in asked if "closed lines" in text] == asked[: not are_filled]


def test_a_table_of_pairs_comes_before_names_that_agree_by_chance(place: Path) -> None:
    rows = ["image,mask"]
    for number in range(12):
        picture, labels = scene(number)
        save(picture, Path(f"data/a/x{number}.png"))
        save(labels, Path(f"data/b/y{3 * number + 1}.png"))
        rows.append(f"a/x{number}.png,b/y{3 * number + 1}.png")
    Path("data/data.csv").write_text("\n".join(rows))
    found = look(Path("data"))
    assert found.options["pairs"] == "data.csv"
    assert sum(map(len, found.scan.splits.values())) == 12


def test_epochs_in_the_logs_of_a_run_are_no_names_of_images(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs()
    for split, epochs in (("train", range(9)), ("val", range(9, 12))):
        Path(f"data/{split}_log.csv").write_text("epoch,loss\n" + "\n".join(f"{each},0.5" for each in epochs))
    assert init(capsys)[0] == 0
    assert "lists" not in dataset(place)


def test_labels_of_pictures_that_are_long_and_low_are_compared_too(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        picture, labels = scene(number, 2)
        save(np.tile(picture[16:32], (1, 30, 1)), Path(f"data/images/{number}.png"))
        save(np.tile(labels[16:32], (1, 30)), Path(f"data/masks/{number}.png"))
    status, printed = init(capsys)
    assert status == 0, printed


def test_copies_of_a_data_set_are_not_crossed_and_an_old_one_comes_last(place: Path) -> None:
    pairs()
    for side in ("images", "masks"):
        shutil.copytree(f"data/{side}", f"data/old/{side}")
    for number in range(12):
        save(scene(number)[1][::-1], Path(f"data/old/masks/{number}.png"))
    save(scene(50)[0], Path("data/images/50.png"))  # without a mask
    asked = next(each for each in look(Path("data")).questions if "several ways" in each.text)
    sides = [f'images = "{place}images", masks = "{place}masks"' for place in ("", "old/")]
    assert [each.text for each in asked.answers] == sides


def test_masks_alone_are_asked_about_where_one_passes_for_the_image_of_another(place: Path) -> None:
    for number in range(12):
        for label, name in enumerate(("cat", "dog"), 1):
            save((scene(number)[1] == label).astype(np.uint8) * 255, Path(f"data/task-{number}-tag-{name}-0.png"))
    asked = [each.text for each in look(Path("data")).questions if each.must]
    assert any("hold at most 2 colours, as masks do: are these the images?" in text for text in asked)


def test_bands_in_files_of_their_own_are_one_image(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number)
        for band, name in enumerate(("nir", "green", "red")):
            save(picture[..., band].astype(np.uint16) * 90, Path(f"data/T{number:02}/S2_{name}.tif"))
        save(labels, Path(f"data/T{number:02}/S2_label.tif"))
    assert init(capsys)[0] == 0
    assert dataset(place)["images"] == [f"{{id}}/S2_{name}.tif" for name in ("red", "green", "nir")]


def test_names_of_the_files_say_which_bands_are_red_green_and_blue(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        picture, labels = scene(number)
        for band, name in enumerate(("blue", "green", "nir", "red")):
            save(picture[..., band % 3].astype(np.uint16) * 90, Path(f"data/train_{name}/{name}_{number}.TIF"))
        save(labels, Path(f"data/train_gt/gt_{number}.TIF"))
    assert init(capsys)[0] == 0
    assert read_config(place / "mine.toml").data.rgb == [1, 2, 3]


def test_bands_in_a_folder_that_is_called_as_the_mask(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number)
        for band in range(3):
            save(picture[..., band].astype(np.uint16) * 90, Path(f"data/scenes/s{number:02}/B0{band + 2}.tif"))
        save(labels, Path(f"data/labels/s{number:02}.png"))
    assert init(capsys)[0] == 0
    assert dataset(place)["images"] == [f"scenes/{{id}}/B0{band}.tif" for band in (2, 3, 4)]
    assert dataset(place)["masks"] == "labels"


def test_bands_of_another_size_than_the_masks_are_left_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number)
        save(picture[..., 0].astype(np.uint16), Path(f"data/{number}/B02.tif"))
        save(picture[::2, ::2, 1].astype(np.uint16), Path(f"data/{number}/B11.tif"))
        save(labels, Path(f"data/{number}/mask.tif"))
    status, printed = init(capsys)
    assert (status, dataset(place)["images"]) == (0, "{id}/B02.tif")
    assert 'not read because images and masks differ in size: images = "{id}/B11.tif"' in printed


def test_pictures_of_two_dates_are_the_channels_of_one_or_either_is_meant(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs(image="A/{}.png", mask="label/{}.png")
    for number in range(12):
        save(scene(50 + number)[0], Path("data/B", f"{number}.png"))
    status, printed = init(capsys)
    assert (status, printed.count("or:    images =")) == (1, 2)
    assert init(capsys, "--yes")[0] == 0
    assert dataset(place)["images"] == ["A", "B"]


@pytest.mark.parametrize("number", [1, 2])
def test_three_pictures_are_needed_at_least(place: Path, capsys: pytest.CaptureFixture[str], number: int) -> None:
    pairs(number)
    status, printed = init(capsys)
    assert status == 2
    assert "into 3 parts without an empty one; label more (start with about 20)" in printed


def test_more_colours_than_a_config_can_list_are_refused_unless_they_are_objects() -> None:
    pixels = Counter({COLOUR | number: 300 if number else 9000 for number in range(300)})  # black most often
    stored = StoredLabels(pixels, frozenset(), frozenset(), False, 0)
    with pytest.raises(LabelError, match="hold 300 colours, and a config has at most 255: mostly, each object"):
        question_of(stored)
    merged, mend = question_of(replace(stored, of_objects=True)).answers
    assert merged.options == {"classes": ["background", "object"], "threshold": 0.1}
    assert not mend.options


def test_masks_of_labels_beside_masks_of_colours_are_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(12)
    for number in (3, 5):
        save(RGB[scene(number)[1]], Path(f"data/masks/{number}.png"))
    status, printed = init(capsys)
    assert status == 2
    assert (
        "the masks differ in kind: of 12 that were read 2 hold colours (data/masks/3.png, data/masks/5.png)" in printed
    )


def test_a_mask_without_colours_may_be_one_of_colours(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colours = np.array([(0, 0, 0), (255, 255, 255), (255, 0, 0)], np.uint8)
    for number in range(12):
        picture, labels = scene(number)
        save(picture, Path("data/images", f"{number}.png"))
        save(colours[labels * (number > 1) + (number == 1)], Path("data/masks", f"{number}.png"))
    save(np.zeros((48, 64), np.uint8), Path("data/masks/0.png"))  # black alone, and grey
    assert init(capsys)[0] == 0
    assert sorted(dataset(place)["colour_map"].values()) == sorted(colours.tolist())


def test_a_name_that_stands_twice_in_a_file_of_names_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(12)
    Path("data/classes.txt").write_text("wall\nroad\nroad\n")
    status, printed = init(capsys)
    assert status == 0
    assert "class names not read: data/classes.txt has road more than once" in printed


def test_a_mask_without_an_image_is_left_out_and_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(12)
    save(scene(0)[1], Path("data/masks/none.png"))
    status, printed = init(capsys)
    assert (status, dataset(place)["skip_unpaired"]) == (0, True)
    assert "mask without an image; add the image or remove it; taken: skip_unpaired = true" in " ".join(printed.split())


def test_files_without_a_partner_and_damaged_ones_are_asked_about(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs(14)
    Path("data/masks/3.png").unlink()
    save(scene(0)[1], Path("data/masks/none.png"))
    Path("data/images/5.png").write_bytes(Path("data/images/5.png").read_bytes()[:200])
    status, printed = init(capsys)
    assert status == 1
    assert printed.count("--yes: leave them out: skip_unpaired = true") == 1
    assert '--yes: leave these files out: data.on_bad = "skip"' in printed
    assert init(capsys, "--yes")[0] == 0
    config = read_config(place / "mine.toml")
    assert config.dataset.options["skip_unpaired"] is True
    assert config.data.on_bad == "skip"


def test_few_pictures_are_asked_about(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(4)
    status, printed = init(capsys)
    assert status == 1
    assert "only 4 pictures" in printed
    assert init(capsys, "--yes")[0] == 0
    assert dataset(place)["fractions"] == [0.7, 0.3]


def test_masks_that_are_the_same_for_every_image_are_no_labels(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(12)
    rows, columns = np.mgrid[:48, :64]
    view = np.where((rows - 24) ** 2 + (columns - 32) ** 2 < 400, 255, 0).astype(np.uint8)
    for number in range(12):
        save(view, Path("data/fov", f"{number}.png"))
    status, printed = init(capsys)
    assert status == 0
    assert 'no labels, because they are nearly the same for every image: masks = "fov"' in printed
    assert dataset(place)["masks"] == "masks"


def test_pictures_are_drawn_to_look_at(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs()
    status, printed = init(capsys, "--pictures")
    assert status == 0
    assert "pictures: mine_pictures" in printed
    with Image.open("mine_pictures/train.png") as sheet:
        assert sheet.width > 500


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "data holds no files"),
        (["a.h5"], "holds no pictures that can be read, but 1 .h5: data/a.h5: damaged or cut short"),
        (["notes.txt", "all.zip"], "data holds no pictures, but 1 .txt, 1 .zip; unpack archives"),
        (["a.heic", "a.png"], "1 .png), but nothing shows which mask belongs to which image: 1 .heic are not read"),
        (["masks/1.png", "masks/2.png"], "data holds pictures (2 in masks; in all 2 .png), but nothing shows which"),
    ],
)
def test_a_folder_that_nobody_can_read_is_told_in_a_sentence(
    place: Path, capsys: pytest.CaptureFixture[str], files: list[str], message: str
) -> None:
    Path("data").mkdir()
    for number, name in enumerate(files):
        save(scene(number)[1], Path("data", name)) if name.endswith(".png") else Path("data", name).write_text("x")
    status, printed = init(capsys)
    assert status == 2
    assert message in printed
    assert "Traceback" not in printed


def test_objects_in_structures_or_cut_out_are_told_what_to_do_with(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, labels = scene(0, 2)
    save(np.dstack([picture, labels * np.uint8(255)]), Path("data/a.png"))
    assert "data/a.png has transparency: if it was cut out of a photograph" in init(capsys)[1]
    save(picture, Path("data/a.png"))
    np.savez("data/a.npz", objects=np.arange(3))
    assert "data/a.npz holds no array of the size of a picture: write its objects into one" in init(capsys)[1]


def test_shapes_of_maps_are_told_to_be_drawn_first(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        save(scene(number)[0], Path(f"data/RGB/RGB_{number}.tif"))
        Path(f"data/RGB/buildings_{number}.geojson").write_text("{}")
    status, printed = init(capsys)
    assert status == 2
    assert "not read: 12 .geojson; draw such shapes into masks, as rasterio.features.rasterize does" in printed


def test_no_folder_and_a_file_in_its_place(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(capsys) == (2, "segkit: data cannot be opened: No such file or directory\n")
    Path("data").write_text("x")
    assert init(capsys)[1].endswith("Not a directory; give the folder that contains it\n")


def test_jpeg_masks_are_refused_with_what_to_do(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        picture, labels = scene(number)
        save(picture, Path("data/images", f"{number}.png"))
        save(labels * 100, Path("data/masks", f"{number}.jpg"))
    status, printed = init(capsys)
    assert status == 2
    assert "4 files: the mask is a JPEG, and that changes labels" in printed
    assert "if that is lost and their labels lie far apart, give each pixel the nearest of these" in printed


def through_jpeg(labels: Labels, quality: int = 75) -> Labels:
    stream = io.BytesIO()
    Image.fromarray(labels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def larger(labels: Labels) -> Labels:
    small = Image.fromarray(labels).resize((32, 24), Image.Resampling.NEAREST)
    return np.asarray(small.resize((64, 48), Image.Resampling.BILINEAR))


def averaged(labels: Labels) -> Labels:
    """Of a mask twice as large, by the mean of areas: hardly any new values."""
    large = np.roll(np.kron(labels, np.ones((2, 2), np.uint8)), 1, (0, 1))
    return np.asarray(Image.fromarray(large).resize((64, 48), Image.Resampling.BOX))


def through_good_jpeg(labels: Labels) -> Labels:
    return through_jpeg(labels, 95)


@pytest.mark.parametrize("damage", [through_jpeg, through_good_jpeg, larger, averaged])
@pytest.mark.parametrize("greys", [(0, 255), (0, 128, 255), (0, 100, 200)])
def test_masks_with_values_between_those_of_the_classes_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Labels], Labels], greys: tuple[int, ...]
) -> None:
    rows, columns = np.mgrid[:48, :64]
    for number in range(12):
        picture, labels = scene(number, len(greys))
        labels[(rows - 24) ** 2 + (columns - 32) ** 2 < 90 + number] = 1
        save(picture, Path("data/images", f"{number:02}.png"))
        save(damage(np.array(greys, np.uint8)[labels]), Path("data/masks", f"{number:02}.png"))
    Path("data/classes.txt").write_text("\n".join(["wall", "crack", "hole"][: len(greys)]))
    status, printed = init(capsys, "--yes")
    if len(greys) == 2:
        assert (status, dataset(place)["threshold"]) == (0, 128)
        status, printed = init(capsys, "--overwrite")
        assert (status, "as made by JPEG, smooth edges or a matte, only along borders" in printed) == (0, True)
        return
    assert status == 2
    assert "values between those of the classes, all along their borders" in printed
    assert re.search(r"\d\d\.png \(", printed)
    assert "export the masks again, one value per class; resize them by nearest neighbour" in printed
    assert not (place / "mine.toml").exists()


def test_colours_between_those_of_the_classes_are_refused_and_no_classes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        picture, labels = scene(number)
        save(picture, Path("data/images", f"{number}.png"))
        drawn = Image.fromarray(RGB[labels].repeat(2, 0).repeat(2, 1))
        drawn = drawn.resize((64, 48), Image.Resampling.BOX, (1, 1, 127, 95))
        save(np.asarray(drawn), Path("data/masks", f"{number}.png"))
    status, printed = init(capsys)
    assert status == 2
    assert "values between those of the classes, all along their borders" in printed


def test_palettes_that_number_the_same_colours_anew_in_each_file_are_read_as_colours(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        picture, labels = scene(number)
        save(picture, Path("data/images", f"{number}.png"))
        order = np.random.default_rng(number).permutation(3)
        mask = Image.fromarray(np.argsort(order).astype(np.uint8)[labels])
        mask.putpalette(RGB[order].tobytes())
        (place / "data/masks").mkdir(exist_ok=True)
        mask.save(place / f"data/masks/{number}.png")
    assert init(capsys)[0] == 0
    assert sorted(dataset(place)["colour_map"].values()) == sorted(RGB.tolist())
    assert dataset(place)["colour_map"]["class_0"] == RGB[0].tolist()  # the most frequent one


def test_what_covers_areas_between_black_and_white_may_be_a_class(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        picture, labels = scene(number, 2)
        grey = labels * np.uint8(255)
        grey[40:46, 50:56] = 128
        save(picture, Path("data/images", f"{number}.png"))
        save(through_good_jpeg(grey), Path("data/masks", f"{number}.png"))
    status, printed = init(capsys)
    assert status == 1
    assert "between black and white, as made by JPEG, smooth edges or a matte: are these borders?" in printed


def test_a_few_fractions_that_cover_areas_are_labels_and_no_matte(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs(12)
    for number in range(12):
        Path("data/masks", f"{number}.png").unlink()
        np.save(Path("data/masks", f"{number}.npy"), scene(number)[1] / np.float32(255))
    status, printed = init(capsys, "--yes")
    assert (status, "divided by 255 are np.rint(mask * 255)" in printed) == (2, True)


def test_what_was_cut_out_of_photographs_is_read_by_its_alpha(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number, 2)
        save(picture, Path("data/img", f"{number}.jpg"))
        alpha = np.asarray(
            Image.fromarray(labels * np.uint8(255)).resize((64, 48), Image.Resampling.BOX, (1, 1, 63, 47))
        )
        save(np.dstack([picture * (alpha > 0)[..., None], alpha]), Path("data/matting", f"{number}.png"))
    status, printed = init(capsys)
    assert status == 0, printed
    assert dataset(place)["threshold"] == 128
    data = registry.datasets["folder"](split="train", **{k: v for k, v in dataset(place).items() if k != "name"})
    for index in range(len(data)):
        wanted = scene(int(data.names[index]), 2)[1]
        assert (data.mask(index).numpy() != wanted).mean() < 0.05


@pytest.mark.parametrize("colours", [RGB, [[0], [1], [2]], [[0], [255], [255]], [[0] * 3, [255] * 3, [255] * 3]])
def test_labels_that_were_erased_in_part_are_no_matte(
    place: Path, capsys: pytest.CaptureFixture[str], colours: Any
) -> None:
    for number in range(12):
        picture, labels = scene(number)
        alpha = np.full_like(labels, 255)
        alpha[:, :20] = 0
        save(picture, Path("data/images", f"{number}.jpg"))
        save(np.dstack([np.asarray(colours, np.uint8)[labels], alpha]), Path("data/masks", f"{number}.png"))
    status, printed = init(capsys)
    assert status == 2
    assert "the alpha channel differs where the colour is the same" in printed
    assert "and one for what is not labelled" in printed


def test_braces_in_the_name_of_a_folder_are_no_placeholders(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(image="images [v1] {{x}}/{}.png")
    status, printed = init(capsys)
    assert status == 0, printed
    assert dataset(place)["images"] == "images [v1] *x*"


@pytest.mark.parametrize("side", ["images", "masks"])
@pytest.mark.parametrize("are_same", [True, False])
def test_of_two_files_of_one_name_one_is_read_and_the_other_is_told(
    place: Path, capsys: pytest.CaptureFixture[str], side: str, are_same: bool
) -> None:
    for number in range(12):
        own = dict(zip(("images", "masks"), scene(number), strict=True))
        for each, pixels in own.items():
            save(pixels, Path("data", each, f"{number}.png"))
        other = own[side] if are_same else np.ascontiguousarray(own[side][::-1])
        save(other, Path("data", side, f"{number}.tif"))
    status, printed = init(capsys, "--yes")
    assert status == 0, printed
    assert dataset(place)[side] == f"{side}/{{id}}.png"
    assert ".tif" in printed


def test_labels_that_are_called_semantic_go_before_numbers_that_divide_these(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        picture, labels = scene(number)
        save(picture, Path(f"data/{number}.jpg"))
        save(labels, Path(f"data/{number}_label_semantic.png"))
        parts = labels + 0
        parts[20:, :20][labels[20:, :20] > 0] = 3  # of no order that all masks have
        save(parts, Path(f"data/{number}_label.png"))
    assert init(capsys)[0] == 0
    assert dataset(place)["masks"] == "{id}_label_semantic.png"


def test_masks_of_one_label_in_folders_of_words_may_be_a_class_each(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(18):
        picture, labels = scene(number, 2)
        path = f"data/{('cats', 'dogs', 'red birds')[number // 6]}/{number % 6}"
        save(picture, Path(f"{path}.jpg"))
        save(labels * np.uint8(255), Path(f"{path}_mask.png"))
    status, printed = init(capsys)
    assert status == 1
    assert '--yes: the data set layers images = "{class}/{id}.jpg", annotations = "{class}/{id}_mask.png"' in printed
    data = registry.datasets["layers"]("data", "train", images="{class}/{id}.jpg", annotations="{class}/{id}_mask.png")
    assert data.classes == ("background", "cats", "dogs", "red birds")


def test_folders_of_two_formats_are_no_classes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number, 2)
        for suffix in ("png", "tiff"):
            split = ("train", "val", "test")[number % 3]
            save(picture, Path(f"data/{suffix}/{split}/{number}.{suffix}"))
            save(labels * np.uint8(255), Path(f"data/{suffix}/{split}_labels/{number}.{suffix}"))
    assert init(capsys)[0] == 0
    assert dataset(place)["name"] == "folder"


def test_folders_of_a_class_each_are_found_beside_other_masks_and_channels(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        picture, labels = scene(number)
        save(picture, Path(f"data/images/rgb/{number}.jpg"))
        save(picture[..., 0], Path(f"data/images/nir/{number}.jpg"))
        save(np.roll(labels > 0, 9, 1) * np.uint8(255), Path(f"data/valid/{number}.png"))
        for label, name in ((1, "water"), (2, "weeds")):
            save((labels == label) * np.uint8(255), Path(f"data/labels/{name}/{number}.png"))
    status, printed = init(capsys, "--yes")
    assert (status, dataset(place)["annotations"]) == (0, "labels/{class}")
    assert "labels/water" not in printed


def test_masks_of_one_label_in_folders_of_a_class_may_lie_deeper(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(16):
        picture, labels = scene(number, 2)
        folder = f"data/{('colon', 'liver')[number // 8]}/0{number // 4 % 2}"
        save(picture, Path(f"{folder}/image{number % 4}.png"))
        save(labels * np.uint8(255), Path(f"{folder}/mask{number % 4}.png"))
    assert init(capsys, "--yes")[0] == 0
    assert dataset(place)["annotations"] == "{class}/{folder2}/mask{id}.png"


def test_masks_of_colours_in_folders_of_words_are_read_by_their_colours(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        picture, labels = scene(number, 2)
        folder = f"data/{('cats', 'dogs')[number // 6]}"
        save(picture, Path(f"{folder}/{number}.jpg"))
        save(RGB[labels], Path(f"{folder}/{number}_mask.png"))
    status, printed = init(capsys)
    assert status == 0, printed
    assert "colour_map" in dataset(place)


@pytest.mark.parametrize(
    ("folders", "is_blank"), [(("benign", "normal"), False), (("fish", "sand"), True), (("set_a", "set_b"), False)]
)
def test_folders_of_states_or_codes_are_no_classes(
    place: Path, capsys: pytest.CaptureFixture[str], folders: tuple[str, str], is_blank: bool
) -> None:
    for number in range(16):
        picture, labels = scene(number, 2)
        folder = folders[number % 2]
        save(picture, Path(f"data/{folder}/{number}.jpg"))
        save(labels * np.uint8(255 * (not is_blank or folder == "fish")), Path(f"data/{folder}/{number}_mask.png"))
    status, printed = init(capsys)
    assert status == 0, printed
    assert dataset(place)["masks"] == "{folder}/{id}_mask.png"


def test_a_fourth_channel_may_be_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number)
        save(np.dstack([picture, picture[..., :1]]), Path(f"data/images/{number}.png"))
        save(labels, Path(f"data/masks/{number}.png"))
    status, printed = init(capsys, "--yes")
    assert status == 0, printed
    assert read_config(place / "mine.toml").data.bands == [1, 2, 3, 4]
    assert "it is a channel, such as infrared" in printed


def test_masks_are_no_images(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        for folder in ("box/ground_truth/logical", "box/ground_truth/structural"):
            save(scene(number, 2)[1] * np.uint8(255), Path(f"data/{folder}/{number}.png"))
    status, printed = init(capsys, "--yes")
    assert status == 2
    assert "nothing shows which mask belongs to which image" in printed


def test_what_a_jpeg_of_the_best_quality_leaves_is_asked_about(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number, 2)
        save(picture, Path("data/images", f"{number}.png"))
        save(through_jpeg(labels * 255, 100), Path("data/masks", f"{number}.png"))
    status, printed = init(capsys)
    assert status == 1
    assert "? 1 and 254 cover no area, and lie near 0 and 255: did JPEG compression make them?" in printed
    assert init(capsys, "--yes")[0] == 0
    found = dataset(place)
    assert found["classes"] == ["background", "foreground"]
    assert found["value_map"] == {"0": 0, "1": 0, "254": 1, "255": 1}


def test_dots_and_thin_lines_of_many_labels_are_no_damage(tmp_path: Path) -> None:
    dots = np.zeros((100, 120), np.uint8)
    dots[45:, :] = 255
    for label in range(1, 13):
        dots[3 * label, 7 * label] = label  # a dot
        dots[50 + 4 * label, 9 * label :] = 12 + label  # a line
    lines = np.repeat(np.arange(60, dtype=np.uint8) * 4, 3)[:, None].repeat(90, axis=1)  # a stack of layers
    border = np.full((60, 60), 255, np.uint8)
    border[5:50, 5:50], border[10:40, 10:40] = 128, 0
    border[20, 20:40] = 1
    for name, mask in (("dots", dots[:, ::-1]), ("lines", lines), ("border", border)):
        save(np.ascontiguousarray(mask), tmp_path / f"{name}.png")
        assert len(read_labels([tmp_path / f"{name}.png"])) == 1, name


def test_a_few_blurred_masks_add_no_classes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(14, classes=2)
    for number in range(14):
        save((larger if number < 2 else np.copy)(scene(number, 2)[1] * 255), Path("data/masks", f"{number}.png"))
    status, printed = init(capsys)
    assert status == 1
    assert "2: background 90." in printed
    assert '--yes: leave these files out: data.on_bad = "skip"' in printed


def test_masks_that_look_interpolated_though_all_values_may_be_classes_are_asked_about(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        save(scene(number)[0], Path("data/images", f"{number}.png"))
        tiles = np.random.default_rng(number).integers(0, 7, (6, 8), np.uint8)
        labels = Image.fromarray(np.roll(np.kron(tiles, np.ones((16, 16), np.uint8)), 5, (0, 1)))
        save(np.asarray(labels.resize((64, 48), Image.Resampling.BILINEAR)), Path("data/masks", f"{number}.png"))
    status, printed = init(capsys)
    assert status == 1
    assert "? train: 8 of 8 masks look interpolated, with thin seams of other labels along the borders" in printed
    assert not (place / "mine.toml").exists()


def test_more_than_64_labels_without_names_are_a_question(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        save(scene(number)[0], Path("data/images", f"{number}.png"))
        tiles = np.random.default_rng(number).permutation(70).astype(np.uint8)[:48].reshape(6, 8)
        save(np.kron(tiles, np.ones((8, 8), np.uint8)), Path("data/masks", f"{number}.png"))
    status, printed = init(capsys)
    assert status == 1
    assert "? 70 labels, from 0 to 69: is each a class? the masks hold only numbers" in printed
    assert "class_30" in printed
    assert "class_60" not in printed  # the first 500 characters of an answer
    Path("data/classes.txt").write_text("\n".join(f"kind {number}" for number in range(70)))
    assert init(capsys)[0] == 0
    assert dataset(place)["classes"] == "classes.txt"


def test_a_file_of_names_that_is_not_utf_8_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs()
    Path("data/classes.txt").write_text("Straße\nWald\nGrünland\n", "latin-1")
    status, printed = init(capsys)
    assert status == 0
    assert (
        "note      class names not read: data/classes.txt cannot be read as text: line 1 is not UTF-8; save" in printed
    )
    assert "# class names not read: data/classes.txt" in (place / "mine.toml").read_text("utf-8")
    Path("data/classes.txt").write_text("Straße\nWald\nGrünland\n", "utf-16")  # as Windows has it
    assert init(capsys, "--overwrite", "--yes")[0] == 0
    assert dataset(place)["classes"] == "classes.txt"


def test_a_data_set_that_a_plugin_knows_in_a_folder_below(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from segkit.registry import datasets

    datasets["voc"].write_sample(place / "data" / "archive")
    status, printed = init(capsys)
    assert status == 1  # of two years
    assert 'year = "2012"' in printed
    assert init(capsys, "--yes")[0] == 0
    assert dataset(place) == {"name": "voc", "root": "data/archive", "year": "2012"}


STRANGERS = """
import segkit, segkit.errors, torch, warnings

class Own:
    classes, palette, ignore_index, splits = ("sea", "ship"), ((0, 0, 90), (200, 200, 200)), 255, ("train", "val")

    def __init__(self, root: str, split: str, tide: str = "") -> None:
        self.seed = 1000 * (split == "val")
        if not tide:
            ways = {"it was low": {"tide": "low"}, "it was high": {"tide": "high"}}
            warnings.warn(segkit.errors.DataWarning("the tide is unknown", ways))

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> segkit.Sample:
        image = torch.randint(0, 256, (3, 32, 32), generator=torch.Generator().manual_seed(self.seed + index))
        return segkit.Sample(image.to(torch.uint8), (image[0] > 127).to(torch.uint8), f"{self.seed + index}")

    @classmethod
    def recognise(cls, root):
        return [{}] if (root / "ships.bin").exists() else []

class Broken(Own):
    @classmethod
    def recognise(cls, root):
        raise RuntimeError("out of luck")
"""


def test_a_strangers_data_set_recognises_its_own_and_asks_and_a_broken_one_is_told(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("strangers.py").write_text(STRANGERS)
    monkeypatch.syspath_prepend(str(place))
    theirs = [
        Component("dataset", name.lower(), f"strangers:{name}", "mine", "mine", "1.0") for name in ("Own", "Broken")
    ]
    real = type(registry.datasets).components
    monkeypatch.setattr(
        type(registry.datasets),
        "components",
        lambda self: [*real(self), *theirs] if self.kind == "dataset" else real(self),
    )
    Path("data").mkdir()
    Path("data/ships.bin").touch()
    status, printed = init(capsys)
    assert status == 1
    assert 'the tide is unknown\n  --yes: it was low: tide = "low"\n  or:    it was high: tide' in printed
    assert init(capsys, "--yes")[0] == 0
    assert "dataset 'broken' of plugin 'mine' (mine 1.0) could not look at data: RuntimeError: out of luck" in printed
    assert dataset(place) == {"name": "own", "root": "data", "tide": "low"}
    assert "# its classes: sea, ship" in (place / "mine.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("image", "mask", "found"),
    [
        ("{0:03}_image.png", "{0:03}_annotation.png", ("{id}_image.png", "{id}_annotation.png")),
        ("patient{1}/{0}.png", "patient{1}/{0}_mask.png", ("{folder}/{id}.png", "{folder}/{id}_mask.png")),
        ("kind{1}/images/{0}.png", "kind{1}/masks/{0}.png", ("{folder}/images/{id}.png", "{folder}/masks/{id}.png")),
        ("Bäume ü/größe{0}.PNG", "Masken/größe{0}.PNG", ("Bäume ü", "Masken")),
        ("imagesTr/a_{0:03}_0000.png", "labelsTr/a_{0:03}.png", ("imagesTr/{id}_0000.png", "labelsTr")),
    ],
)
def test_layouts_of_files(
    place: Path, capsys: pytest.CaptureFixture[str], image: str, mask: str, found: tuple[str, str]
) -> None:
    for number in range(15):
        picture, labels = scene(number)
        save(picture, Path("data", image.format(number, number // 3)))
        save(labels, Path("data", mask.format(number, number // 3)))
    assert init(capsys, "--yes")[0] == 0  # of a folder a patient it is asked
    options = dataset(place)
    assert (options["images"], options["masks"]) == found


def test_what_a_run_would_stop_at_is_named_below_the_config(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(24)
    for number in range(12):
        save(scene(number)[1][:40], Path("data/masks", f"{number}.png"))
    status, printed = init(capsys)
    assert status == 2
    assert "12 files: image and mask differ in size" in printed
    assert printed.endswith("mine.toml is written; a run would stop at the problems above\n")
    assert (place / "mine.toml").is_file()
    for number in range(12, 18):
        save(scene(number)[1][:40], Path("data/masks", f"{number}.png"))
    status, printed = init(capsys, "--overwrite")
    assert status == 1  # six pictures are left
    assert "error: train, val: 18 files: image and mask differ in size" in printed


# ---- as public data sets lie ----


def volume(number: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    pages = [scene(each, 2) for each in range(12)]
    Path("data").mkdir(exist_ok=True)
    tifffile.imwrite("data/train-volume.tif", np.stack([picture[..., 0] for picture, _ in pages]))
    tifffile.imwrite("data/train-labels.tif", np.stack([labels * 255 for _, labels in pages]))


def archive(number: int) -> None:
    picture, labels = scene(number)
    Path("data/slices").mkdir(parents=True, exist_ok=True)
    np.savez(f"data/slices/{number}.npz", image=picture, label=labels)


def annotators(number: int) -> None:
    picture, labels = scene(number, 2)
    save(picture, Path(f"data/Image_{number}.jpg"))
    save(labels, Path(f"data/Image_{number}_1stHO.png"))
    save(np.roll(labels, 1, 0), Path(f"data/Image_{number}_2ndHO.png"))


def overlays(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/images/{number}.png"))
    save(picture // 2, Path(f"data/overlay/{number}.png"))
    save(picture // 3, Path(f"data/heatmaps/{number}.png"))
    save(labels, Path(f"data/labels/{number}.png"))


def vegetation(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/images/{number:03}_image.png"))
    save((labels == 0) * np.uint8(255), Path(f"data/masks/{number:03}_mask.png"))
    save(RGB[labels], Path(f"data/annotations/{number:03}_annotation.png"))


def classes_apart(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/Originals/{number}.jpg"))
    for label, name in ((1, "1. Bleeding"), (2, "2. Exudate")):
        save((labels == label).astype(np.uint8), Path(f"data/Truth/{name}/{number}_{name[3:5].upper()}.tif"))


def unlabelled(number: int) -> None:
    picture, labels = scene(number, 2)
    save(picture, Path(f"data/train/{number}_sat.jpg"))
    save(np.dstack([labels * 255] * 3), Path(f"data/train/{number}_mask.png"))
    for split in ("valid", "test"):
        save(picture, Path(f"data/{split}/{number + 90}_sat.jpg"))


def runs(number: int) -> None:
    picture, labels = scene(number, 2)
    save(picture, Path(f"data/train_images/{number}.jpg"))
    rows, columns = np.nonzero(labels)  # down to the lower edge, which says that pixels are counted from 1
    text = " ".join(f"{column * 48 + rows.min() + 1} {48 - rows.min()}" for column in sorted({*columns.tolist()}))
    with Path("data/train.csv").open("a") as file:
        file.write("ImageId,EncodedPixels\n" * (number == 0) + f"{number}.jpg,{text}\n")


def matrices(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/images/{number}.jpg"))
    Path("data/labels").mkdir(exist_ok=True)
    np.savetxt(f"data/labels/{number}.regions.txt", labels, fmt="%d")
    Path("data/horizons.txt").write_text("0 80 60 33")


def grey(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/images/rgb/{number}.jpg"))
    save(picture[..., 0], Path(f"data/images/nir/{number}.jpg"))
    save(labels, Path(f"data/semantics/{number}.png"))
    objects = np.zeros_like(labels)
    for each in range(2 + number % 5):
        objects[5:40, 10 * each : 10 * each + 8] = each + 1
    save(objects, Path(f"data/plant_instances/{number}.png"))


def thumbnails(number: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    picture, labels = scene(number)
    folder = Path(f"data/scene{number}x")
    save(picture, folder / "photo.png")
    bands = np.stack([*picture.transpose(2, 0, 1), *picture.transpose(2, 0, 1)]).astype(np.uint16) * 50
    tifffile.imwrite(folder / "S2.tif", bands, photometric="minisblack", planarconfig="separate")
    save(labels, folder / "label.png")


def parts(number: int) -> None:
    picture, labels = scene(number, 2)
    save(picture, Path(f"data/images_part_{1 + number // 6}/I{number}.jpg"))
    save(labels * 255, Path(f"data/lesions/I{number}_segmentation.png"))


def other_words(number: int) -> None:
    picture, labels = scene(number, 2)
    image, mask = ("Training/image", "Training/label") if number < 8 else ("Validation/images", "Validation/masks")
    save(picture, Path(f"data/{image}/{number}.png"))
    save(labels, Path(f"data/{mask}/{number}.png"))


def classes_and_objects(number: int) -> None:
    picture, labels = scene(number)
    objects = np.zeros((48, 64, 3), np.uint8)
    objects[labels > 0] = 1 + np.arange((labels > 0).sum())[:, None] * 6 // (labels > 0).sum()
    objects[..., 1:] = 0
    save(picture, Path(f"data/images/P{number}.png"))
    save(RGB[labels], Path(f"data/Semantic_masks/P{number}_instance_color_RGB.png"))
    save(objects, Path(f"data/Instance_masks/P{number}_instance_id_RGB.png"))


def without_val(number: int) -> None:
    picture, labels = scene(number)
    split = "train" if number < 9 else "test"
    save(picture, Path(f"data/{split}/image/{number}.jpg"))
    for label, name in ((1, "EX"), (2, "HE")):
        save((labels == label) * np.uint8(255), Path(f"data/{split}/label/{name}/{number}.tif"))


def in_two_formats(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/jpeg_images/img_{number:03}.jpeg"))
    save(picture, Path(f"data/png_images/img_{number:03}.png"))
    save(labels, Path(f"data/png_masks/seg_{number:03}.png"))


def twice(number: int) -> None:
    picture, labels = scene(number)
    split = "train" if number < 9 else "test"
    for folder in (f"data/{split}", "data"):
        save(picture, Path(f"{folder}/images/{number}.png"))
        save(labels, Path(f"{folder}/masks/{number}.png"))


def tissue_and_cells(number: int) -> None:
    picture, labels = scene(number)
    save(scene(number + 50)[0], Path(f"data/images/cell/{number}.png"))
    save(picture, Path(f"data/images/tissue/{number}.png"))
    save(labels, Path(f"data/annotations/tissue/{number}.png"))


def matting(number: int) -> None:
    picture, labels = scene(number, 2)
    save(picture, Path(f"data/original/{number}.jpg"))
    save(labels * np.uint8(255), Path(f"data/mask/{number}.png"))
    save(
        np.where(labels == np.roll(labels, 2, 1), labels * 255, 128).astype(np.uint8), Path(f"data/trimap/{number}.png")
    )
    edge = (labels != np.roll(labels, 1, 1)) * np.uint8(255)
    save(edge, Path(f"data/edge/{number}.png"))


def boxes_too(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/images/{number}.jpg"))
    save(labels, Path(f"data/masks/{number}.png"))
    Path("data/labels").mkdir(exist_ok=True)
    Path(f"data/labels/{number}.txt").write_text("0 0.5 0.5 0.2 0.2")
    Path("data/data.yaml").write_text("train: images\nnames: [cat, dog]\n")


def rows_of_tables(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/images/{number}.png"))
    save(labels, Path(f"data/masks/{number}.png"))
    with Path(f"data/{('train', 'val')[number > 8]}.csv").open("a") as file:  # the row is no name of a picture
        file.write(",ID,grade\n" * (number in (0, 9)) + f"{number + 1},{number}.png,3\n")


def lists_of_pairs(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/set/images/{number}.png"))
    save(labels, Path(f"data/set/masks/{number}.png"))
    Path("data/set/lists").mkdir(exist_ok=True)
    with Path(f"data/set/lists/{('train', 'val')[number > 8]}.txt").open("a") as file:
        file.write(f"/images/{number}.png /masks/{number}.png\n")


def a_file_where_a_class_is(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/images/{number}.jpg"))
    for label, name in ((1, "polyp"), (2, "cancer")):
        if number % 4 != 2 * label - 1:
            save((labels == label) * np.uint8(255), Path(f"data/masks/{number}_{name}.png"))


def two_dates(number: int) -> None:
    for date in (1, 2):
        picture, labels = scene(number + 50 * date)
        save(picture, Path(f"data/im{date}/{7 * number:03}.png"))
        save(labels, Path(f"data/label{date}/{7 * number:03}.png"))


def numbers_of_classes(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/frames/{number}.png"))
    save(np.array([[3, 7, 9], [3, 7, 11]][number % 2], np.uint8)[labels], Path(f"data/frames_labels_ids/{number}.png"))


def both_in_a_folder(number: int) -> None:
    picture, labels = scene(number, 2)
    folder = f"data/trainval/{'train' if number < 9 else 'val'}"
    save(picture, Path(f"{folder}/image/{number}.png"))
    save(labels, Path(f"{folder}/label/{number}.png"))
    save(picture, Path(f"data/test/image/{number + 50}.png"))


def train_and_val(number: int) -> None:
    picture, labels = scene(number, 2)
    split = "trainval" if number < 9 else "TEST"
    save(picture, Path(f"data/{split}-image/{number}.png"))
    save(labels, Path(f"data/{split}-mask/{number}.png"))
    Path("data/frames.json").write_text("[]")


def volumes_in_parts(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/part{number % 3}/vol-{number}.png"))
    save(labels, Path(f"data/truth/seg-{number}.png"))


def splits_of_masks(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/frames/{number}.png"))
    save(labels, Path(f"data/labels/{'train' if number < 9 else 'test'}/{number}.png"))


def masks_of_another_kind(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/video/{number}_endo.png"))
    save(labels, Path(f"data/video/{number}_endo_mask.png"))
    save(labels * 7, Path(f"data/video/{number}_endo_color_mask.png"))


def lists_in_folders_of_splits(number: int) -> None:
    picture, labels = scene(number)
    folder, split = ("Training", "train") if number < 9 else ("Validation", "val")
    save(picture, Path(f"data/{folder}/Images/{number}.png"))
    save(labels, Path(f"data/{folder}/Category_ids/{number}.png"))
    with Path(f"data/{folder}/{split}_id.txt").open("a") as file:
        file.write(f"{number}\n")


def two_cameras(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/left_frames/{number}.png"))
    save(np.roll(picture, 3, 1), Path(f"data/right_frames/{number}.png"))
    save(labels, Path(f"data/labels/{number}.png"))


def parts_of_several_products(number: int) -> None:
    picture, labels = scene(number, 2)
    where = f"{('b1', 't2')[number % 2]}/{{}}/{('h1', 's2')[number // 2 % 2]}/{number // 4}"
    save(picture, Path(f"data/{where.format('test')}.png"))
    save(labels, Path(f"data/{where.format('ground_truth')}_mask.png"))
    save(scene(number + 50)[0], Path(f"data/{where.split('/')[0]}/train/good/{number}.png"))


def numbers_in_red(number: int) -> None:
    picture, labels = scene(number)
    labels = np.array([0, 1 + 2 * (number % 3), 2 + 2 * (number % 3)], np.uint8)[labels]
    save(picture, Path(f"data/CameraRGB/{number}.png"))
    save(np.dstack([labels, 0 * labels, 0 * labels]), Path(f"data/CameraSeg/{number}.png"))


def domains_of_train_and_test(number: int) -> None:
    picture, labels = scene(number)
    where = f"D{number // 3}/{{}}/{number}.png"
    folder = "aerial_train" if number < 9 else "aerial_test"
    save(picture, Path(f"data/{folder}/{where.format('img')}"))
    save(labels, Path(f"data/{folder}/{where.format('msk')}"))


def names_of_what_is_in_the_pictures(number: int) -> None:
    picture, labels = scene(number, 2)
    edge = np.array(Image.fromarray(labels * 255).filter(ImageFilter.SMOOTH))
    save(picture, Path(f"data/images/{number}.png"))
    save(edge, Path(f"data/segmentations/{number}.png"))
    Path("data/classes.txt").write_text("1 Albatross\n2 Bunting\n3 Cardinal\n")


def val_and_test_alone(number: int) -> None:
    picture, labels = scene(number)
    for side, pixels in (("images", picture), ("labels", labels)):
        save(pixels, Path(f"data/{side}/{'val' if number < 8 else 'test'}/{number}.png"))


def a_table_of_patients_and_a_file_a_class(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/set/s{number:04}/ct.png"))
    for label, organ in enumerate(("heart", "liver"), 1):
        folder = f"data/set/s{number:04}/segmentations"
        save((labels == label) * np.uint8(255), Path(folder, f"{organ}.png"))
    with Path("data/set/meta.csv").open("a") as file:
        file.write("image_id;age;split\n" * (number == 0))
        file.write(f"s{number:04};50;{'train' if number < 7 else 'val' if number < 10 else 'test'}\n")


def lists_and_a_folder_a_class(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/images/{number:03}.png"))
    save(picture // 2, Path(f"data/vis/{number:03}.png"))
    for label, name in enumerate(("hair", "skin"), 1):
        save((labels == label) * np.uint8(255), Path(f"data/masks/{name}/{number:03}.png"))
    Path("data/sets").mkdir(exist_ok=True)
    with Path(f"data/sets/{'train' if number < 7 else 'val'}.txt").open("a") as file:
        file.write(f"{number:03}\n")


def trained_ids_in_folders_of_splits(number: int) -> None:
    picture, labels = scene(number)
    split = "train" if number < 8 else "val"
    save(picture, Path(f"data/images/{split}/{number}.png"))
    save(labels, Path(f"data/labels/{split}/{number}_train_id.png"))


def splits_below_train_and_val(number: int) -> None:
    picture, labels = scene(number)
    split = "train" if number < 8 else "val"
    save(picture, Path(f"data/TrainVal_images/{split}_images/{number}.png"))
    save(labels, Path(f"data/TrainVal_annotations/{split}_segmentations/{number}.png"))
    with Path(f"data/TrainVal_images/{split}_id.txt").open("a") as file:
        file.write(f"{number}\n")


def splits_called_differently(number: int) -> None:
    picture, labels = scene(number, 2)
    folder = "ABCTrain4KSmall" if number < 8 else "ABC-Test"
    save(picture, Path(f"data/{folder}/ShadowImages/{number}.png"))
    save(labels * 255, Path(f"data/{folder}/ShadowMasks/{number}.png"))


def objects_of_some_pictures(number: int) -> None:
    picture, labels = scene(number, 2)
    save(picture, Path(f"data/Image/{number}.png"))
    save(labels * 255, Path(f"data/GT_Object/{number}.png"))
    if number % 4:
        save(labels[..., None] * np.array([236, 122, 90], np.uint8), Path(f"data/GT_Instance/{number}.png"))


def people_and_classes(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/Images/{number}.png"))
    save(labels, Path(f"data/Category_ids/{number}.png"))
    save(RGB[(labels > 0) * (1 + (np.arange(64) > 20 + number))], Path(f"data/Human/{number}.png"))


def parts_that_overlap(number: int) -> None:
    picture, labels = scene(number)
    save(picture.repeat(2, 0).repeat(2, 1), Path(f"data/img/{number}.png"))
    skin, eye = labels > 0, labels == 2
    for name, part in (("skin", skin), ("eye", eye), ("nose", np.roll(eye, 12, 0) & skin & ~eye)):
        save(part * np.uint8(255), Path(f"data/parts/{number:03}_{name}.png"))


def lists_of_other_years(number: int) -> None:
    picture, labels = scene(number, 2)
    objects = labels * (1 + np.arange(64) // 5 % (1 + number // 2 % 3)).astype(np.uint8)
    save(picture, Path(f"data/frames/film_{number // 2}/{number}.png"))
    save(objects, Path(f"data/Annotations/film_{number // 2}/{number}.png"))
    for year, every in ((2016, 5), (2017, 2)):
        Path(f"data/lists/{year}").mkdir(parents=True, exist_ok=True)
        with Path(f"data/lists/{year}/{'val' if number > 7 else 'train'}.txt").open("a") as file:
            file.write(f"film_{number // 2}\n" * (number % every == 0))


def arrays_in_a_deeper_folder(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/photos/{number}.png"))
    Path("data/annotations/pixels").mkdir(parents=True, exist_ok=True)
    np.savez(f"data/annotations/pixels/{number}.npz", truth=labels)


def a_folder_a_person(number: int) -> None:
    picture, labels = scene(number)
    person = ("Ann", "Bob_Smith", "Cy")[number % 3]
    save(picture, Path(f"data/faces/{person}/{person}_{number // 3}.png"))
    save(RGB[labels], Path(f"data/parts_of_faces/{person}_{number // 3}.png"))


def splits_deeper_than_train(number: int) -> None:
    picture, labels = scene(number)
    folder = "train" if number < 6 else ("test/hard", "validation/easy")[number % 2]
    save(picture, Path(f"data/{folder}/images/{number}.png"))
    save(labels, Path(f"data/{folder}/masks/{number}.png"))


def splits_of_two_letters(number: int) -> None:
    picture, labels = scene(number)
    name = "SET-TR" if number < 8 else "SET-TE"
    save(picture, Path(f"data/{name}/{name}-Image/{number}.png"))
    save(labels, Path(f"data/{name}/{name}-Mask/{number}.png"))


def tasks_of_one_challenge(number: int) -> None:
    (picture, labels), split = scene(number), "Training" if number < 9 else "Validation"
    save(picture, Path(f"data/Task1-2_{split}_Input/{number}.jpg"))
    save((labels == 1) * np.uint8(255), Path(f"data/Task1_{split}_Truth/{number}_segmentation.png"))
    for name, shown in (("dots", labels[:24] == 2), ("lines", labels[24:] == 2)) if number < 9 else ():
        mask = np.zeros(labels.shape, np.uint8)
        mask[slice(24) if name == "dots" else slice(24, 48)] = shown * np.uint8(255)
        save(mask, Path(f"data/Task2_Training_Truth_v3/{number}_attribute_{name}.png"))


def splits_that_begin_names(number: int) -> None:
    (picture, labels), split = scene(number), ("train", "testA", "testB")[max(0, number // 2 - 3)]
    save(picture, Path(f"data/Released 2016/{split}_{number % 8}.bmp"))
    save(labels, Path(f"data/Released 2016/{split}_{number % 8}_anno.bmp"))


def splits_before_annot(number: int) -> None:  # as CamVid of SegNet
    (picture, labels), split = scene(number), ("train", "val", "test")[number % 3]
    save(picture, Path(f"data/{split}/0016E5_{number:05}.png"))
    save(labels, Path(f"data/{split}annot/0016E5_{number:05}.png"))
    with Path(f"data/{split}.txt").open("a") as file:
        place = f"/SegNet/CamVid/{split}"
        file.write(f"{place}/0016E5_{number:05}.png {place}annot/0016E5_{number:05}.png\n")


def splits_in_an_order(number: int) -> None:
    (picture, labels), split = scene(number), "a. Training Set" if number < 9 else "b. Testing Set"
    save(picture, Path(f"data/images/{split}/eye_{number:02}.jpg"))
    for label, name in ((1, "1. Dots"), (2, "2. Discs")):
        save((labels == label) * np.uint8(255), Path(f"data/truth/{split}/{name}/eye_{number:02}_{name[3:5]}.png"))


def two_masks_of_some(number: int) -> None:
    picture, labels = scene(number)
    save(picture, Path(f"data/lump ({number}).png"))
    for label, end in ((1, ""), (2, "_1")) if number in (3, 8) else ((1, ""),):
        save((labels == label) * np.uint8(255), Path(f"data/lump ({number})_mask{end}.png"))


def all_in_two_formats(number: int) -> None:
    picture, labels = scene(number)
    for suffix in ("png", "tif"):
        save(picture, Path(f"data/{suffix.upper()}/Original/{number}.{suffix}"))
        save((labels > 0) * np.uint8(255), Path(f"data/{suffix.upper()}/Ground Truth/{number}.{suffix}"))


def names_with_and_without_a_word(number: int) -> None:
    for name, end in (("CHN", "_mask"), ("MCU", "")):
        picture, labels = scene(number + 50 * (name == "MCU"))
        save(picture, Path(f"data/CXR_png/{name}CXR_{number:04}_{number % 2}.png"))
        if (name, number) != ("MCU", 5):
            save((labels > 0) * np.uint8(255), Path(f"data/masks/{name}CXR_{number:04}_{number % 2}{end}.png"))


@pytest.mark.parametrize(
    ("write", "expected", "questions"),
    [
        (splits_deeper_than_train, {"images": "{split}/images", "val": 0.15}, 2),
        (splits_of_two_letters, {"fractions": [0.7, 0.15, 0.15]}, 1),
        (trained_ids_in_folders_of_splits, {"masks": "labels/{split}/{id}_train_id.png"}, 0),
        (splits_below_train_and_val, {"images": "TrainVal_images/{split}_images"}, 0),
        (splits_called_differently, {"images": "ABC*{split}*/ShadowImages", "val": 0.15}, 0),
        (objects_of_some_pictures, {"name": "folder", "masks": "GT_Object"}, 0),
        (people_and_classes, {"masks": "Category_ids"}, 1),
        (parts_that_overlap, {"name": "layers", "resize_masks": True, "overlap": "smallest"}, 1),
        (lists_of_other_years, {"lists": "lists/2017/{split}.txt", "classes": ["background", "object"]}, 2),
        (arrays_in_a_deeper_folder, {"images": "photos", "masks": "annotations/pixels/{id}.npz#truth"}, 0),
        (a_folder_a_person, {"images": "faces/*", "masks": "parts_of_faces"}, 0),
        (tasks_of_one_challenge, {"masks": "Task1_{split}_Truth/{id}_segmentation.png"}, 1),
        (splits_that_begin_names, {"images": "Released 2016/{split}{id}.bmp", "val": 0.15}, 0),
        (splits_before_annot, {"pairs": "{split}.txt"}, 0),
        (splits_in_an_order, {"annotations": "truth/*. {split} Set/{class}/{id}_D*.png", "val": 0.15}, 0),
        (two_masks_of_some, {"name": "layers", "annotations": "{id})_mask*.png"}, 1),
        (all_in_two_formats, {"name": "folder", "group": "/{group}."}, 0),
        (names_with_and_without_a_word, {"masks": "masks/{id}_mask.png", "skip_unpaired": True}, 2),
        (val_and_test_alone, {"images": "images/*/{id}", "fractions": [0.7, 0.15, 0.15]}, 0),
        (a_table_of_patients_and_a_file_a_class, {"name": "layers", "lists": "set/meta.csv"}, 0),
        (lists_and_a_folder_a_class, {"name": "layers", "lists": "sets/{split}.txt"}, 0),
        (volumes_in_parts, {"images": "part*/vol-{id}.png", "masks": "truth/seg-{id}.png"}, 0),
        (splits_of_masks, {"images": "frames/{id}.png", "masks": "labels/{split}/{id}.png", "val": 0.15}, 0),
        (masks_of_another_kind, {"masks": "video/{id}_mask.png"}, 0),
        (lists_in_folders_of_splits, {"images": "{split}/Images", "masks": "{split}/Category_ids"}, 0),
        (two_cameras, {"images": "left_frames"}, 0),
        (parts_of_several_products, {"images": "{folder}/test/{folder2}/{id}.png"}, 0),
        (numbers_in_red, {"classes": [f"class_{each}" for each in range(7)]}, 0),
        (domains_of_train_and_test, {"group": "aerial_*/{group}/"}, 0),
        (names_of_what_is_in_the_pictures, {"classes": ["background", "foreground"]}, 0),
        (in_two_formats, {"images": "png_images/img_{id}.png"}, 1),
        (twice, {"images": "{split}/images", "masks": "{split}/masks"}, 0),
        (tissue_and_cells, {"images": "images/tissue"}, 1),
        (matting, {"images": "original", "masks": "mask"}, 0),
        (boxes_too, {"name": "folder", "masks": "masks"}, 0),
        (rows_of_tables, {"lists": "{split}.csv"}, 0),
        (lists_of_pairs, {"pairs": "set/lists/{split}.txt"}, 0),
        (a_file_where_a_class_is, {"annotations": "masks/{id}_{class}"}, 0),
        (two_dates, {"images": "im{folder}/{id}.png", "group": "/{group}.png"}, 0),
        (numbers_of_classes, {"classes": ["class_0", "class_1", "class_2", "class_3"]}, 0),
        (without_val, {"annotations": "{split}/label/{class}/{id}", "val": 0.15}, 0),
        (both_in_a_folder, {"images": "trainval/{split}/image", "masks": "trainval/{split}/label"}, 0),
        (train_and_val, {"images": "{split}-image", "masks": "{split}-mask", "val": 0.15}, 0),
        (thumbnails, {"images": "{id}/S2.tif", "masks": "{id}/label.png"}, 1),
        (parts, {"images": "images_part_*", "masks": "lesions/{id}_segmentation.png"}, 0),
        (other_words, {"images": "{split}/image*", "masks": "{split}/*"}, 0),
        (classes_and_objects, {"masks": "Semantic_masks/{id}_instance_color_RGB.png"}, 0),
        (volume, {"images": "train-volume.tif#{id}", "masks": "train-labels.tif#{id}"}, 0),
        (archive, {"images": "slices/{id}.npz#image", "masks": "slices/{id}.npz#label"}, 0),
        (annotators, {"images": "{id}.jpg", "masks": "{id}_1stHO.png"}, 1),
        (overlays, {"images": "images", "masks": "labels"}, 0),
        (classes_apart, {"name": "layers", "images": "Originals", "annotations": "Truth/{class}/{id}_*.tif"}, 0),
        (vegetation, {"images": "images/{id}_image.png", "masks": "annotations/{id}_annotation.png"}, 0),
        (unlabelled, {"images": "{split}/{id}_sat.jpg", "masks": "{split}/{id}_mask.png", "val": 0.15}, 0),
        (runs, {"name": "rle", "annotations": "train.csv"}, 0),
        (grey, {"images": "images/rgb", "masks": "semantics"}, 1),
        (matrices, {"images": "images", "masks": "labels/{id}.regions.txt"}, 0),
    ],
)
def test_what_lies_as_in_public_data_sets_is_read_with_few_questions(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    write: Callable[[int], None],
    expected: dict[str, Any],
    questions: int,
) -> None:
    for number in range(12):
        write(number)
    status, printed = init(capsys, "--yes")
    assert status == 0, printed
    assert printed.count("\n  --yes: ") == questions, printed
    assert "not read: 12 .npz" not in printed
    assert {key: dataset(place)[key] for key in expected} == expected


def test_one_mask_of_another_size_than_all_others_is_asked_about(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs(12)
    mask = Path("data/masks/5.png")
    save(np.asarray(Image.open(mask))[:24, :32], mask)
    status, printed = init(capsys)
    assert status == 1
    assert "image and mask differ in size" in printed
    assert "data/masks/5.png" in printed
    assert 'leave these files out: data.on_bad = "skip"' in printed
    assert "or: resize_masks = true" in " ".join(printed.split())
    assert init(capsys, "--yes")[0] == 0
    assert "resize_masks" not in dataset(place)


def test_masks_smaller_than_their_images_are_scaled_and_cut_ones_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        picture, labels = scene(number)
        save(np.kron(picture, np.ones((3, 3, 1), np.uint8)), Path(f"data/images/{number}.png"))
        save(labels, Path(f"data/masks/{number}.png"))
    status, printed = init(capsys)
    assert status == 0
    assert "shows the whole image; taken: resize_masks = true" in " ".join(printed.split())
    found = dataset(place)
    assert found.pop("resize_masks") is True
    del found["name"]
    train = FolderDataset(**found, resize_masks=True, split="train")
    shown = scene(int(train.names[0]))[1]
    assert (train[0].mask.numpy() == np.kron(shown, np.ones((3, 3), np.uint8))).all()
    with pytest.raises(LabelError, match="or set resize_masks = true where it shows the whole image"):
        FolderDataset(**found, split="train")[0]
    for number in range(12):  # 1.5 times smaller, or what a network without padding leaves of the middle
        picture, labels = scene(number)
        save(np.kron(picture, np.ones((3, 3, 1), np.uint8)), Path(f"data/images/{number}.png"))
        save(np.kron(labels, np.ones((2, 2), np.uint8)), Path(f"data/masks/{number}.png"))
    status, printed = init(capsys, "--overwrite")
    assert status == 1
    assert "masks show whole images: resize by nearest neighbour" in printed
    for number in range(12):
        save(scene(number)[1][:40], Path(f"data/masks/{number}.png"))
    with pytest.raises(LabelError, match="export the mask at its image's size"):
        FolderDataset(**found, resize_masks=True, split="train")[0]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("classes.json", '{"classes": [{"title": "sea", "color": "#804080"}, {"title": "mud (wet)", "color": "#464646"}'
         ', {"title": "Unlabeled", "color": "#00008E"}]}'),
        ("labels.json", '[{"name": "sea", "color": [128, 64, 128], "classid": 0}, {"name": "mud (wet)", "classid": 1,'
         ' "color": [70, 70, 70]}, {"name": "void", "color": [0, 0, 142], "classid": 2}]'),
        ("dataset.json", '{"labels": {"sea": 0, "mud (wet)": 1, "void": 2}, "channel_names": {"0": "R"}}'),
        ("class_list.json", '{"#804080": "sea", "#464646": "mud (wet)", "#00008e": "void"}'),
        ("colours.json", '{"sea": [128, 64, 128], "mud (wet)": [70, 70, 70], "void": [0, 0, 142]}'),
        ("config.json", '{"labels": [{"color": [128, 64, 128], "readable": "sea"}, {"color": [70, 70, 70], '
         '"readable": "mud (wet)"}, {"color": [0, 0, 142], "readable": "void"}], "version": 1}'),
        ("names.json", '["sea", "mud (wet)", "void"]'),
        ("deep/meta/gt_codes.tsv", "label\tGT_code\nsea\t0\nmud (wet)\t1\nvoid\t2\n"),
    ],
)  # fmt: skip
def test_names_of_classes_as_json_and_tables_have_them(
    place: Path, capsys: pytest.CaptureFixture[str], file: str, content: str
) -> None:
    for number in range(12):
        picture, labels = scene(number)
        save(picture, Path(f"data/deep/images/{number}.png"))
        save(
            RGB[labels] if "color" in content or "#" in content or "[1" in content else labels,
            Path(f"data/deep/masks/{number}.png"),
        )
    Path("data", file).parent.mkdir(parents=True, exist_ok=True)
    Path("data", file).write_text(content)
    assert init(capsys)[0] == 0
    assert dataset(place)["classes"] == ["sea", "mud (wet)"]


def test_images_without_a_defect_may_be_blank(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture, labels = scene(number, 2)
        defect = ("scratch", "hole")[number % 2]
        save(picture, Path(f"data/test/{defect}/{number:03}.png"))
        save(labels * 255, Path(f"data/ground_truth/{defect}/{number:03}_mask.png"))
        save(scene(number + 50, 1)[0], Path(f"data/test/good/{number:03}.png"))
    assert init(capsys)[0] == 1
    assert init(capsys, "--yes")[0] == 0
    found = dataset(place)
    assert (found["images"], found["blank_unpaired"]) == ("test/{folder}/{id}.png", True)


@pytest.mark.parametrize(
    ("channels", "shown"),
    [(("nir", "Red", "green", "blue"), [2, 3, 4]), (("band 1", "band 2", "band 3", "band 4"), [3, 2, 1])],
)
def test_bands_that_are_called_as_colours_are_shown_as_these(channels: tuple[str, ...], shown: list[int]) -> None:
    (question,) = bands_asked(channels)
    assert question.answers[0].options == {"data.rgb": shown}


@pytest.mark.parametrize("mask", ["img_{}_mask_{}.png", "masks/img_{}_{}.png"])
@pytest.mark.parametrize("of_some", [False, True])
def test_numbers_of_masks_may_begin_at_1_and_lie_beside_the_images(
    place: Path, capsys: pytest.CaptureFixture[str], mask: str, of_some: bool
) -> None:
    folder = Path("data", "" if mask.startswith("img") else "images")
    for number in range(10, 22):
        picture, labels = scene(number)
        save(picture, folder / f"img_{number}.png")
        for label in (1, 2) if number % 3 == 0 or not of_some else (1,):
            save((labels == label) * np.uint8(255), Path("data", mask.format(number, label)))
    status, printed = init(capsys, "--yes")
    assert status == 0, printed
    found = dataset(place)
    assert (found["name"], found["annotations"]) == ("layers", mask.replace("img_{}", "{id}").replace("{}", "*"))


def test_masks_with_numbers_for_names_may_be_of_objects(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(10, 22):
        picture, labels = scene(number)
        save(picture, Path(f"data/images/{number}.jpg"))
        for label in (1, 2):
            save((labels == label) * np.uint8(255), Path(f"data/parts/{number}_0{label}.png"))
    status, printed = init(capsys)
    assert status == 1
    assert '--yes: annotations = "parts/{id}_0*.png"' in printed
    assert 'or:    annotations = "parts/{id}_0{class}.png"' in printed


def test_of_many_masks_some_are_looked_at_and_the_scan_finds_the_labels_of_the_others(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segkit_init.stored._MOST_PIXELS", 12 * 48 * 64)
    for number in range(40):
        picture, labels = scene(number)
        labels = np.where(labels == 2, {17: 3, 18: 4, 29: 255}.get(number, 2), labels).astype(np.uint8)
        save(picture, place / f"data/images/{number}.png")
        save(labels, place / f"data/masks/{number}.png")
    status, text = init(capsys)
    assert status == 0
    assert re.search(r"note +1[0-4] of 40 masks were looked at", text)
    assert len(dataset(place)["classes"]) == 5
    assert "255 marks unlabelled pixels" in text
