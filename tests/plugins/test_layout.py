"""Folders as they lie: patterns on both sides, lists, pairs, groups, shares and folds."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.compose import build_splits
from segkit.config import read_config
from segkit.errors import ConfigError, DataError, LabelError, gathered
from segkit_folder.dataset import FolderDataset
from segkit_folder.masks import read_mask
from segkit_folder.pictures import listing

RANDOM = np.random.default_rng(0)


def put(root: Path, *names: str) -> Path:
    """Write a photograph where the name is none of a mask's, else a mask of 0 and 1."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        is_mask = any(word in name for word in ("mask", "manual", "gtFine", "label", "Class"))
        pixels = RANDOM.integers(0, 2 if is_mask else 256, (16, 16) if is_mask else (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return root


def names(root: Path, split: str = "train", **options: Any) -> list[str]:
    """The names of a split, once each mask was seen to belong to its image."""
    dataset = FolderDataset(root, split, ["a", "b"], **options)
    assert dataset.names is not None
    for index in range(len(dataset)):
        assert set(dataset.mask(index).unique().tolist()) <= {0, 1}
    return list(dataset.names)


def test_names_that_differ_on_both_sides_and_a_share_of_train_for_val(tmp_path: Path) -> None:
    for number in range(1, 11):
        put(tmp_path, f"training/images/{number + 20}_training.tif", f"training/1st_manual/{number + 20}_manual1.gif")
        put(tmp_path, f"testing/images/{number:02}_test.tif", f"testing/1st_manual/{number:02}_manual1.gif")
        put(tmp_path, f"training/mask/{number + 20}_training_mask.gif")
    sides = {"images": "{split}/images/{id}_{split}.tif", "masks": "{split}/1st_manual/{id}_manual1.gif"}
    with pytest.raises(DataError, match=r"no split 'val' in .*; there are train, test; val = 0\.15 takes a share"):
        names(tmp_path, "val", **sides)
    with pytest.raises(DataError, match=r"the mask would be .*/training/1st_manual/21_training\.png;"):
        names(tmp_path, val=0.2, images="{split}/images", masks="{split}/1st_manual")
    found = {split: names(tmp_path, split, val=0.2, **sides) for split in ("train", "val", "test")}
    assert [len(each) for each in found.values()] == [8, 2, 10]
    assert sorted(found["train"] + found["val"]) == [f"{number}_training" for number in range(21, 31)]
    assert found["test"][:2] == ["01_test", "02_test"]
    dataset = FolderDataset(tmp_path, "test", ["a", "b"], val=0.2, **sides)
    assert [path.name for path in dataset.pairs[0]] == ["01_test.tif", "01_manual1.gif"]
    assert found["val"] != names(tmp_path, "val", val=0.2, split_seed=1, **sides)
    everything = {split: names(tmp_path, split, val=0.2, train_on_val=True, **sides) for split in found}
    assert everything == {**found, "train": found["train"] + found["val"]}  # the very same val
    put(tmp_path, "training/images/31_test.tif")  # of another split than its folder
    with pytest.warns(UserWarning, match=r"not read: .*training/images/31_test\.tif; read are the images of"):
        assert [len(names(tmp_path, split, val=0.2, **sides)) for split in found] == [8, 2, 10]
    (tmp_path / "training/images/31_test.tif").unlink()
    with pytest.raises(ConfigError, match=r"val = 1\.5: give a share of train between 0 and 1"):
        names(tmp_path, val=1.5, **sides)


def test_folders_within_the_splits_and_a_word_that_stands_twice(tmp_path: Path) -> None:
    for split, city in (("train", "aachen"), ("train", "ulm"), ("val", "bonn")):
        for number in ("000000_000019", "000001_000019"):
            stem = f"{split}/{city}/{city}_{number}"
            put(tmp_path, f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelIds.png")
            put(tmp_path, f"gtFine/{stem}_gtFine_color.png")
    sides = {
        "images": "leftImg8bit/{split}/{city}/{city}_{id}_leftImg8bit.png",
        "masks": "gtFine/{split}/{city}/{city}_{id}_gtFine_labelIds.png",
    }
    assert names(tmp_path, **sides) == [
        "aachen/aachen_000000_000019_leftImg8bit",
        "aachen/aachen_000001_000019_leftImg8bit",
        "ulm/ulm_000000_000019_leftImg8bit",
        "ulm/ulm_000001_000019_leftImg8bit",
    ]
    assert len(names(tmp_path, "val", **sides)) == 2
    put(tmp_path, "leftImg8bit/train/ulm/bonn_000000_000019_leftImg8bit.png")  # of another city than its folder
    with pytest.warns(
        UserWarning, match=r"not read: .*ulm/bonn_000000_000019_leftImg8bit\.png; read are the images of"
    ):
        assert len(names(tmp_path, **sides)) == 4


def test_no_patient_is_on_two_sides(tmp_path: Path) -> None:
    for patient in range(1, 9):
        for number in range(1, 4):
            put(
                tmp_path,
                f"patient{patient:02}/slice_{number:02}.png",
                f"patient{patient:02}/slice_{number:02}_mask.png",
            )
    sides = {"images": "patient{group}/slice_{id}.png", "masks": "patient{group}/slice_{id}_mask.png"}
    found = {split: names(tmp_path, split, **sides) for split in ("train", "val", "test")}
    assert found["val"] == [f"patient{x}/slice_{number:02}" for x in ("03",) for number in range(1, 4)]
    patients = [{name.split("/")[0] for name in each} for each in found.values()]
    assert [len(each) for each in patients] == [6, 1, 1]
    assert len(set.union(*patients)) == 8
    other = {"images": "{folder}/slice_{id}.png", "masks": "{folder}/slice_{id}_mask.png"}
    assert {split: names(tmp_path, split, **other, group="patient{group}") for split in found} == found
    assert len(names(tmp_path, "train", **other)) == 16  # without a group slices are dealt
    folds = [names(tmp_path, "val", **sides, folds=4, fold=fold) for fold in range(4)]
    assert [len(each) for each in folds] == [6] * 4
    assert sorted(name for each in folds for name in each) == sorted(name for each in found.values() for name in each)
    assert not {*names(tmp_path, "train", **sides, folds=4, fold=1)} & {*folds[1]}
    assert {name.split("/")[0] for name in names(tmp_path, "val", **sides, val=0.25)} == {"patient03", "patient04"}
    with pytest.raises(
        DataError, match=r'group = "case\{group\}": nothing in the paths of 24 images matches: .*slice_01'
    ):
        names(tmp_path, **other, group="case{group}")
    with pytest.raises(ConfigError, match=r'group = "patient": it must hold \{group\} once'):
        names(tmp_path, **other, group="patient")
    with pytest.raises(DataError, match=r"cannot divide 8 into 9 folds"):
        names(tmp_path, **sides, folds=9)
    with pytest.raises(ConfigError, match=r"folds = 2, fold = 2: two folds or more, and one of 0, 1"):
        names(tmp_path, **sides, folds=2, fold=2)
    with pytest.raises(ConfigError, match="val and folds: one fold is val already"):
        names(tmp_path, **sides, folds=2, val=0.5)


def test_a_group_ends_where_the_text_after_it_begins(tmp_path: Path) -> None:
    for stem in ("patient1_a_1", "patient1_b_1", "patient2_a_1", "patient3_a_1"):
        put(tmp_path, f"images/{stem}.png", f"masks/{stem}.png")
    val = [names(tmp_path, "val", group="patient{group}_", folds=3, fold=fold) for fold in range(3)]
    assert sorted(val) == [["patient1_a_1", "patient1_b_1"], ["patient2_a_1"], ["patient3_a_1"]]


def test_a_group_may_be_in_a_table(tmp_path: Path) -> None:
    put(tmp_path, *(f"{side}/{name}.png" for side in ("images", "masks") for name in "abcd"))
    (tmp_path / "meta.csv").write_text("n,file,patient\n1,images/a.png,P1\n2,b.png,P2\n3,c.png,P1\n4,d.png,P3\n")
    val = [names(tmp_path, "val", group="meta.csv#patient", folds=3, fold=fold) for fold in range(3)]
    assert sorted(val) == [["a", "c"], ["b"], ["d"]]
    with pytest.raises(DataError, match=r'group = "meta.csv#who": no table .*meta.csv with a column who that names'):
        names(tmp_path, group="meta.csv#who")
    (tmp_path / "meta.csv").write_text("n,file,patient\n1,images/a.png,P1\n2,b.png,P2\n3,c.png,P1\n")
    with pytest.raises(DataError, match=r"the table names no group for 1 images: .*d\.png"):
        names(tmp_path, group="meta.csv#patient")


def test_a_list_in_another_form_of_unicode_names_the_same(tmp_path: Path) -> None:
    put(
        tmp_path,
        *(
            unicodedata.normalize("NFD", f"{side}/\u00fc{number}.png")
            for side in ("images", "masks")
            for number in (1, 2)
        ),
    )
    (tmp_path / "all.txt").write_text("\u00fc1\n", "utf-8")
    assert names(tmp_path, lists={"train": "all.txt"}) == ["\u00fc1"]


@pytest.mark.parametrize(("group", "ends"), [("x_{group}?.", ("L", "R")), ("x_{group}[_.]", ("", "_flip"))])
def test_a_group_may_end_before_any_letter_or_one_of_several(tmp_path: Path, group: str, ends: tuple[str, str]) -> None:
    for number in range(3):
        for end in ends:
            put(tmp_path, f"images/x_{number}{end}.png", f"masks/x_{number}{end}.png")
    val = [names(tmp_path, "val", group=group, folds=3, fold=fold) for fold in range(3)]
    assert sorted(val) == [[f"x_{number}{end}" for end in ends] for number in range(3)]


def test_a_group_in_two_folders_of_splits_is_refused(tmp_path: Path) -> None:
    for name in ("train/p1_1", "train/p2_1", "val/p2_2", "val/p3_1"):
        put(tmp_path, f"images/{name}.png", f"masks/{name}.png")
    assert len(names(tmp_path)) == 2
    with pytest.raises(DataError, match="1 groups are in two splits: p2; each belongs in one"):
        names(tmp_path, group="/{group}_")
    for option in ({"val": 0.5}, {"folds": 2}):
        with pytest.raises(ConfigError, match=r"(val|folds): there is a val split already, of 2 images; leave it out"):
            names(tmp_path, **option)


def test_lists_of_names_choose_the_images_of_each_split(tmp_path: Path) -> None:
    put(tmp_path, *(f"JPEGImages/{number}.jpg" for number in range(1, 9)))
    put(tmp_path, *(f"SegmentationClass/{number}.png" for number in range(1, 7)))
    lists = tmp_path / "ImageSets"
    lists.mkdir()
    (lists / "train.txt").write_text("1\n 3.jpg \n\n")
    (lists / "validation.txt").write_text("JPEGImages/2.jpg\n")
    (lists / "trainval.txt").write_text("1\n2\n3\n")
    sides = {"images": "JPEGImages", "masks": "SegmentationClass"}
    of_both = {"lists": "ImageSets/{split}.txt", **sides}
    assert (names(tmp_path, **of_both), names(tmp_path, "val", **of_both)) == (["1", "3"], ["2"])
    assert FolderDataset(tmp_path, "train", ["a", "b"], **of_both).splits == ("train", "val")
    (lists / "all.json").write_text('{"trainval": ["1", "2", "3"], "val": ["2"]}')
    with pytest.warns(UserWarning, match=r"1 images are in two splits; .*entry 1: '2' is in .*all\.json, entry 2, too"):
        assert names(tmp_path, lists="ImageSets/all.json", **sides) == ["1", "3"]
    (lists / "all.json").write_text('{"trainval": ["1", "3"], "val": ["2"]}')
    of_json = {"lists": "ImageSets/all.json", **sides}
    assert (names(tmp_path, **of_json), names(tmp_path, "val", **of_json)) == (["1", "3"], ["2"])
    (lists / "eval.txt").write_text("4\n")
    with pytest.warns(UserWarning, match=r"eval\.txt is not read beside the list of val"):
        assert names(tmp_path, "val", **of_both) == ["2"]
    (lists / "eval.txt").unlink()
    (lists / "trainaug.txt").write_text("5\n6\n4\n1\n")
    augmented = {"train": "ImageSets/trainaug.txt", "val": "ImageSets/validation.txt"}
    assert names(tmp_path, lists=augmented, **sides) == ["5", "6", "4", "1"]
    assert len(names(tmp_path, lists="ImageSets/trainaug.txt", fractions=[0.5, 0.5], **sides)) == 2
    with pytest.raises(ConfigError, match="trainval is no split; lists are given for train, val, test"):
        names(tmp_path, lists={"trainval": "x.txt"}, **sides)
    with pytest.raises(
        DataError, match=r'"none/\{split\}\.txt": no such file in .*none for any of train, training, trn, val'
    ):
        names(tmp_path, lists="none/{split}.txt", **sides)
    (lists / "train.txt").write_text("1\nnine\n7\n2\n")
    with (
        gathered(),
        pytest.warns(UserWarning, match=r"txt, line 1: 'JPEGImages/2\.jpg' is in .*train\.txt, line 4, too"),
    ):
        assert names(tmp_path, "val", **of_both) == ["2"]
    (lists / "validation.txt").write_text("4\n")
    with gathered() as issues:
        assert names(tmp_path, **of_both) == ["1", "2"]
    assert [(issue.kind, Path(issue.file).name) for issue in issues] == [
        ("missing", "nine.png"),
        ("image_without_mask", "7.jpg"),
    ]


def test_lists_overrule_the_folders_of_splits(tmp_path: Path) -> None:
    put(tmp_path, *(f"{side}/{split}/{split}{number}.png" for side in ("images", "masks") for split in ("train", "val")
                    for number in (1, 2)))  # fmt: skip
    (tmp_path / "train.txt").write_text("train1\nval/val2\nval1.png\n")
    (tmp_path / "val.txt").write_text("images/train/train2.png\n")
    lists = {"lists": "{split}.txt"}
    assert (names(tmp_path, **lists), names(tmp_path, "val", **lists)) == (["train1", "val2", "val1"], ["train2"])
    with pytest.warns(UserWarning, match="not read, though named like a split"):
        assert len(names(tmp_path)) == 2


def test_a_list_may_name_groups_and_must_not_be_ambiguous(tmp_path: Path) -> None:
    for name in ("p1/1", "p1/2", "p2/1"):
        put(tmp_path, f"{name}.jpg", f"{name}_mask.png")
    (tmp_path / "train.txt").write_text("p1\n")
    (tmp_path / "val.txt").write_text("p2/1.jpg\n")
    sides = {"images": "{group}/{id}.jpg", "masks": "{group}/{id}_mask.png", "lists": "{split}.txt"}
    assert (names(tmp_path, **sides), names(tmp_path, "val", **sides)) == (["p1/1", "p1/2"], ["p2/1"])
    (tmp_path / "val.txt").write_text("1\n")
    with pytest.raises(DataError, match=r"val\.txt, line 1: '1' may be .*p1/1\.jpg, .*p2/1\.jpg; list the path"):
        names(tmp_path, **sides)


def test_lists_of_pairs(tmp_path: Path) -> None:
    put(tmp_path, *(f"{place}/{number}.png" for number in range(4) for place in ("left", "right/masks")))
    (tmp_path / "train.csv").write_text('image,mask\n"left/0.png",right/masks/1.png\n/left/1.png,/right/masks/0.png\n')
    (tmp_path / "val.csv").write_text("left/2.png right/masks/2.png\n")
    dataset = FolderDataset(tmp_path, "train", ["a", "b"], pairs="{split}.csv")
    assert [(a.name, b.name) for a, b in dataset.pairs] == [("0.png", "1.png"), ("1.png", "0.png")]
    assert (dataset.names, dataset.splits) == (["0", "1"], ("train", "val"))
    assert len(names(tmp_path, "val", pairs={"train": "val.csv", "val": "train.csv"})) == 2
    assert len(names(tmp_path, pairs="train.csv", fractions=[0.5, 0.5])) == 1
    with pytest.raises(ConfigError, match="pairs and lists"):
        names(tmp_path, pairs="train.csv", lists="train.csv")
    for line, message in (
        ("left/3.png right/masks/2.png", "2.png is listed as the mask of 2 images; give each image its own mask"),
        ("left/0.png", "line 2: 'left/0.png'; a line is an image and its mask, as paths below"),
        ("../x/left/0.png right/masks/0.png", "line 2: .*; a line is an image and its mask, as paths below"),
        ("left/2.png right/masks/3.png", r"line 2: .*: left/2\.png has a mask already, .*masks/2\.png; give one"),
        ("left/9.png right/masks/3.png", r"left/9\.png: listed but not there \(.*val\.csv\); correct the list"),
    ):
        (tmp_path / "val.csv").write_text(f"left/2.png right/masks/2.png\n{line}\n")
        with pytest.raises(DataError, match=message):
            names(tmp_path, "val", pairs="{split}.csv")


def test_images_without_a_mask_are_left_out_where_that_is_asked(tmp_path: Path) -> None:
    put(tmp_path, *(f"images/{number}.png" for number in range(8)), *(f"masks/{number}.png" for number in range(2, 10)))
    options = {"fractions": [1, 0, 0]}
    with pytest.warns(UserWarning, match="left out") as caught:
        assert names(tmp_path, skip_unpaired=True, **options) == [str(number) for number in range(2, 8)]
    assert [str(each.message) for each in caught] == [
        f"left out because of skip_unpaired: 2 images without mask: {tmp_path}/images/0.png, {tmp_path}/images/1.png",
        f"left out because of skip_unpaired: 2 masks without image: {tmp_path}/masks/8.png, {tmp_path}/masks/9.png",
    ]
    with pytest.raises(DataError, match=r"2 files: image without a mask: .*/0\.png, .*/1\.png"):
        names(tmp_path, **options)


def test_masks_of_all_splits_may_lie_in_one_folder(tmp_path: Path) -> None:
    put(
        tmp_path, "images/train/1.png", "images/train/2.png", "images/val/3.png", *(f"masks/{x}.png" for x in (1, 2, 3))
    )
    assert (names(tmp_path), names(tmp_path, "val")) == (["1", "2"], ["3"])
    put(tmp_path, "images/val/1.png")
    with pytest.raises(DataError, match=r"images/train/1\.png: another file has the same name, .*\(1\.png\); keep one"):
        names(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "images/{id"}, r'images = "images/\{id": a placeholder is a word in braces'),
        ({"images": "images/{}.png"}, "a placeholder is a word in braces"),
        ({"images": "images/*.png"}, r'images = "images/\*\.png": no \{id\} in it, which stands for what an image and'),
        ({"masks": "masks/{id}_{kind}.png"}, r'masks = .*: \{kind\} is only in this option; add it to images'),
        ({"images": "{slit}/{id}.png"}, r"\{slit\} is only in this option; .*; did you mean 'split'"),
        ({"masks": "masks/{id}.png", "mask_suffix": "_m"}, r'mask_suffix = "_m": write it into the pattern'),
        ({"images": "{id}.png", "masks": "{id}.png"}, "the same files|holds no|is called"),
    ],
)  # fmt: skip
def test_patterns_that_are_none(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    put(tmp_path, "images/1.png", "masks/1.png")
    with pytest.raises((ConfigError, DataError), match=message):
        names(tmp_path, **options)


def test_folders_elsewhere_and_of_one_name(tmp_path: Path) -> None:
    put(tmp_path, *(f"a/{x}.png" for x in range(3)), *(f"b/{x}_mask.png" for x in range(3)), "c/9.png")
    found = names(tmp_path / "a", images=".", masks="../b", mask_suffix="_mask")
    assert (len(found), found) == (1, names(tmp_path, images="a/", masks=str(tmp_path / "b"), mask_suffix="_mask"))


def test_stars_need_not_agree_and_endings_may_be_left_out(tmp_path: Path) -> None:
    put(tmp_path, "a/1_x7.JPG", "a/2_x9.jpeg", "b/y1/1_mask.png", "b/y2/2_mask.png")
    options = {"images": "a/{id}_*.jpg", "masks": "b/*/{id}_mask", "fractions": [1, 0, 0]}
    with (
        pytest.warns(UserWarning, match=r"not read: .*a/2_x9\.jpeg; read are the images of .*a/\{id\}_\*\.jpg"),
        pytest.raises(DataError, match=r"2_mask\.png: mask without an image"),
    ):
        names(tmp_path, **options)
    assert names(tmp_path, **{**options, "images": "a/{id}_*"}) == ["1_x7", "2_x9"]


def test_a_mask_that_has_lost_its_image_is_none_of_another_kind(tmp_path: Path) -> None:
    put(tmp_path, *(f"images/{each}.png" for each in range(4)), *(f"masks/{each}.png" for each in range(4)))
    put(tmp_path, "masks/3_left.png")
    with pytest.raises(DataError, match=r"3_left\.png: mask without an image"):
        names(tmp_path, images="images", masks="masks")
    put(tmp_path, *(f"masks/{each}_left.png" for each in range(3)))
    with pytest.warns(UserWarning, match=r"not read: .*0_left\.png"):
        assert len(names(tmp_path, images="images", masks="masks", fractions=[1, 0, 0])) == 4


def test_names_that_differ_in_case_say_so(tmp_path: Path) -> None:
    put(tmp_path, "images/cat.png", "images/dog.png", "masks/Cat.png", "masks/dog.png", "other/cat_Mask.png")
    with pytest.raises(
        DataError, match=r"images/cat\.png: the name of the mask differs in .* case \(Cat\.png\); rename"
    ):
        names(tmp_path)
    with pytest.raises(DataError, match=r"cat\.png: the name of the mask differs in .* case \(cat_Mask\.png\); rename"):
        names(tmp_path, masks="other/{id}_mask.png")


def test_pictures_in_files_of_several_are_paired_by_page_and_by_array(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    volume = RANDOM.integers(0, 256, (7, 16, 12), np.uint8)
    tifffile.imwrite(tmp_path / "volume.tif", volume)
    tifffile.imwrite(tmp_path / "labels.tif", volume % 2)
    stack = {"images": "volume.tif#{id}", "masks": "labels.tif#{id}"}
    every = [name for split in ("train", "val", "test") for name in names(tmp_path, split, **stack)]
    assert sorted(every) == [f"volume_{number}" for number in range(1, 8)]
    dataset = FolderDataset(tmp_path, "train", ["a", "b"], **stack)
    for index, name in enumerate(dataset.names):
        page = volume[int(name.rpartition("_")[2]) - 1]
        assert dataset.channels == ("grey",)
        np.testing.assert_array_equal(dataset[index].image[0], page)
        np.testing.assert_array_equal(dataset[index].mask, page % 2)
    with pytest.raises(ConfigError, match=r'of a file of several pictures, images = "volume\.tif#\{id\}"'):
        names(tmp_path, images="volume.tif", masks="labels.tif")
    for number in range(4):
        page = volume[number]
        (tmp_path / "npz").mkdir(exist_ok=True)
        np.savez(tmp_path / f"npz/{number}.npz", image=page.astype(np.float32), label=page % 2)
    arrays = {"images": "npz/{id}.npz#image", "masks": "npz/{id}.npz#label", "fractions": [0.5, 0.5]}
    assert len(names(tmp_path, **arrays)) == 2
    (tmp_path / "all").mkdir()
    np.savez(tmp_path / "all/all.npz", x=np.stack([volume] * 3, 3), y=volume % 2)
    assert len(names(tmp_path, images="all/all.npz#x/{id}", masks="all/all.npz#y/{id}", fractions=[0.7, 0.3])) == 5


def test_channels_in_several_files_are_one_image(tmp_path: Path) -> None:
    bands = {name: RANDOM.integers(0, 256, (6, 16, 12), np.uint8) for name in ("red", "nir")}
    for number in range(6):
        put(tmp_path, f"masks/{number}.png")
        Image.fromarray(bands["nir"][number] % 2).save(tmp_path / f"masks/{number}.png")
        for name, pixels in bands.items():
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(pixels[number]).save(tmp_path / name / f"{name}_{number}.png")
    sides = {"images": ["red/red_{id}.png", "nir/nir_{id}.png"], "masks": "masks/{id}.png"}
    dataset = FolderDataset(tmp_path, "train", ["a", "b"], **sides)
    assert dataset.channels == ("band 1", "band 2")
    number = int(dataset.names[1].rpartition("_")[2])
    np.testing.assert_array_equal(dataset[1].image, np.stack([each[number] for each in bands.values()]))
    assert [path.name for path in dataset.files(1)] == [f"red_{number}.png", f"nir_{number}.png", f"{number}.png"]
    dataset.set_bands([2], "stop")
    np.testing.assert_array_equal(dataset[1].image, bands["nir"][number][None])
    (tmp_path / "nir/nir_0.png").unlink()
    (tmp_path / "red/red_1.png").unlink()
    whole = FolderDataset(tmp_path, "train", ["a", "b"], **sides, fractions=[1, 0])
    for number in range(2):
        with pytest.raises(DataError, match=rf"{['nir', 'red'][number]}_{number}\.png: no such file"):
            whole[[str(mask.stem) for _, mask in whole.pairs].index(str(number))]
    for path in (tmp_path / "masks/1.png", *(tmp_path / "nir").iterdir()):
        path.unlink()
    (tmp_path / "nir").rmdir()
    sides["images"] = ["r*d/red_{id}.png", "nir/nir_{id}.png"]
    assert len(FolderDataset(tmp_path, "train", ["a", "b"], **sides, fractions=[1, 0])) == 5  # it is told when read
    with pytest.raises(ConfigError, match=r'images: "nir/nir_\{id\}\.png" has no \{group\}'):
        names(tmp_path, images=["red/{group}_{id}.png", "nir/nir_{id}.png"], masks="masks/{id}.png")


def test_values_between_two_are_divided_at_a_threshold(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path, f"images/{number}.png", f"masks/{number}.png")
        ramp = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (16, 1))
        Image.fromarray(ramp).convert("RGB").save(tmp_path / f"masks/{number}.png", "JPEG", quality=100)
    with pytest.raises(DataError, match="the mask is a JPEG"):
        names(tmp_path)
    mask = FolderDataset(tmp_path, "train", ["a", "b"], threshold=120).mask(0)
    assert mask[0].tolist() == [0] * 8 + [1] * 8


def test_a_threshold_divides_what_a_mask_shows(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (16, 1))
    grey, stored = Image.fromarray(ramp), {0: [0] * 8, 255: [255] * 8}
    divided = stored[0] + stored[255]
    grey.quantize(16).save(tmp_path / "a.png")  # a palette: the brightest greys first
    grey.quantize(16).save(tmp_path / "a.gif")
    Image.fromarray(ramp >= 128).save(tmp_path / "b.png")
    Image.fromarray(ramp >= 128).save(tmp_path / "b.tif")
    Image.fromarray(255 - ramp).save(tmp_path / "white.tif", tiffinfo={262: 0})
    for name in ("a.png", "a.gif", "b.png", "b.tif"):
        assert read_mask(tmp_path / name, threshold=120)[0].tolist() == divided, name
    np.save(tmp_path / "b.npy", ramp >= 128)
    assert read_mask(tmp_path / "b.npy", threshold=120)[0].tolist() == divided
    as_stored = read_mask(tmp_path / "white.tif")[0]
    assert read_mask(tmp_path / "white.tif", threshold=120)[0].tolist() == np.where(as_stored < 120, 0, 255).tolist()
    np.save(tmp_path / "nan.npy", np.where(ramp < 16, np.nan, ramp))
    with pytest.raises(LabelError, match=r"nan\.npy: the mask holds NaN or infinity"):
        read_mask(tmp_path / "nan.npy", threshold=120)
    colours = {"a": [0, 0, 0], "b": [255, 0, 0]}
    put(tmp_path, "images/1.png", "masks/1.png")
    with pytest.raises(ConfigError, match="threshold and colour_map: a threshold divides greys"):
        FolderDataset(tmp_path, "train", ["a", "b"], threshold=120, colour_map=colours, fractions=[1, 0])


def test_images_without_a_mask_may_be_blank(tmp_path: Path) -> None:
    put(tmp_path, *(f"images/{number}.png" for number in range(6)), *(f"masks/{number}.png" for number in range(3)))
    with pytest.warns(UserWarning, match="3 images without a mask are all of the first class"):
        dataset = FolderDataset(tmp_path, "train", ["a", "b"], blank_unpaired=True, fractions=[1.0, 0.0])
    assert [bool(dataset.mask(index).any()) for index in range(6)] == [True] * 3 + [False] * 3


def test_an_image_that_is_listed_as_its_own_mask_is_not_blank(tmp_path: Path) -> None:
    put(tmp_path, *(f"{side}/{number}.png" for side in ("images", "masks") for number in range(4)))
    lines = [f"images/{number}.png {'images' if number == 3 else 'masks'}/{number}.png\n" for number in range(4)]
    (tmp_path / "pairs.txt").write_text("".join(lines))
    options = {"pairs": "pairs.txt", "fractions": [1.0, 0.0], "value_map": {"1": 1}, "blank_unpaired": True}
    dataset = FolderDataset(tmp_path, "train", ["a", "b"], **options)
    with pytest.raises(LabelError, match=r"images/3\.png"):
        dataset.mask(3)


def test_a_mark_of_pictures_in_files_may_stand_in_the_name_of_a_folder(tmp_path: Path) -> None:
    for folder in ("v1.0#2", "a.tif#2"):
        put(tmp_path, *(f"{folder}/{number}.png" for number in range(4)))
    put(tmp_path, *(f"masks/{number}.png" for number in range(4)))
    for images in ("v1.0#2", "v1.0#2/{id}.png", "a.tif#2", "a.tif#2/{id}.png"):
        assert len(names(tmp_path, images=images, fractions=[1.0, 0.0])) == 4


def test_an_empty_list_of_train_is_refused_and_ragged_tables_are_read(tmp_path: Path) -> None:
    put(tmp_path, *(f"{side}/{number}.png" for side in ("images", "masks") for number in range(4)))
    (tmp_path / "train.txt").write_text("\n")
    (tmp_path / "val.txt").write_text("1\n")
    with pytest.raises(DataError, match=r"train\.txt is empty; list the training images, or leave the list out"):
        names(tmp_path, lists="{split}.txt")
    (tmp_path / "all.csv").write_text("image,split,mask\n0,train,masks/0.png\n1,val\n2,train,masks/2.png\n3,val\n")
    assert names(tmp_path, "val", lists="all.csv") == ["1", "3"]


def test_a_split_may_be_called_with_a_year(tmp_path: Path) -> None:
    put(tmp_path, *(f"{side}/{split}2017/{split}.png" for side in ("images", "masks") for split in ("train", "val")))
    assert (names(tmp_path), names(tmp_path, "val")) == (["train"], ["val"])


def test_what_a_folder_warns_of_is_of_all_its_splits(tmp_path: Path) -> None:
    put(
        tmp_path, *(f"{part}/{number}{end}.png" for number in range(9) for part, end in (("images", ""), ("masks", "")))
    )
    (tmp_path / "images" / "notes.xyz").write_text("1")
    config = read_config(
        {
            "dataset": {"name": "folder", "root": str(tmp_path), "classes": ["a", "b"]},
            "model": {"name": "unet"},
            "loss": [{"name": "cross_entropy"}],
        }
    )
    splits, issues = build_splits(config)
    assert [*splits] == ["train", "val", "test"]
    assert [(issue.split, "1 of 10 files" in issue.what) for issue in issues] == [(name, True) for name in splits]


def test_a_folder_is_looked_into_again_where_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "images/1.png", "masks/1_mask.png")
    with monkeypatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: time.time() * 1e9 + 1e10)
        assert listing(tmp_path / "images") is listing(tmp_path / "images")
    put(tmp_path, "images/2.png")  # within the same tick of a clock, it may be
    assert listing(tmp_path / "images") == ((), ("1.png", "2.png"))
    put(tmp_path, "images/3.png", "images/.hidden.png", "images/more/4.png")
    assert listing(tmp_path / "images") == (("more",), ("1.png", "2.png", "3.png"))
    assert listing(tmp_path / "no") == ((), ())
