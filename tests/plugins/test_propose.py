"""What lies in a folder is proposed as options that read it, and a pairing error names those that would mend it."""

from __future__ import annotations

import json
import tomllib
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.errors import ConfigError, DataError
from segkit_folder.dataset import FolderDataset
from segkit_folder.pictures import folders_in
from segkit_folder.propose import propose_layout
from segkit_folder.rows import lines_of

RANDOM = np.random.default_rng(0)
NUMBERS = ("021", "022", "030")


def photographs(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (32, 32, 3), np.uint8)).save(root / name)


def masks(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 2, (32, 32), np.uint8)).save(root / name)


def both(root: Path, image: str, mask: str, numbers: tuple[str, ...] = NUMBERS) -> None:
    photographs(root, *(image.format(*[number] * 3) for number in numbers))
    masks(root, *(mask.format(*[number] * 3) for number in numbers))


@pytest.mark.parametrize(
    ("image", "mask", "options"),
    [
        ("images/{}.jpg", "masks/{}.png", ("images", "masks")),
        ("images/{}.jpg", "masks/mask_{}.png", ("images", "masks/mask_{id}.png")),
        ("a/{}_image.png", "a/{}_annotation.png", ("a/{id}_image.png", "a/{id}_annotation.png")),
        ("i/{}_training.tif", "1st_manual/{}_manual1.gif", ("i/{id}_training.tif", "1st_manual/{id}_manual1.gif")),
        ("i/img-{}.tif", "m/seg-{}-v2.png", ("i/img-{id}.tif", "m/seg-{id}-v2.png")),
        ("i/a{}.png", "m/mask{}.png", ("i/a{id}.png", "m/mask{id}.png")),
        ("i/{}_leftImg8bit.png", "m/{}.png", ("i/{id}_leftImg8bit.png", "m")),
        ("i/test_image_{}.png", "m/test_mask_{}.png", ("i/test_image_{id}.png", "m/test_mask_{id}.png")),
        ("{}.jpg", "{}.png", ("{id}.jpg", "{id}.png")),
        ("all/{}.jpg", "all/{}.png", ("all/{id}.jpg", "all/{id}.png")),
        ("{}/t1.tif", "{}_ST/SEG/man_seg1.tif", ("{id}/t1.tif", "{id}_ST/SEG/man_seg1.tif")),
        ("{}/image.png", "{}/mask.png", ("{id}/image.png", "{id}/mask.png")),
        ("p{}/images/7.png", "p{}/masks/7.png", ("{id}/images/7.png", "{id}/masks/7.png")),
        ("i/a_{}.png", "m/Label_1{}_a_{}.png", ("i/a_{id}.png", "m/Label_*_a_{id}.png")),
        ("i/b {{x}} {}.png", "m/b {{x}} {}.png", ("i", "m")),
        ("1{}/c/1{}_c_{}.png", "1{}/m/1{}_m_{}.png", ("{folder}/c/{id}_c_{part}.png", "{folder}/m/{id}_m_{part}.png")),
    ],
)  # fmt: skip
def test_what_differs_in_the_names_is_a_pattern_that_reads_them(
    tmp_path: Path, image: str, mask: str, options: tuple[str, str]
) -> None:
    both(tmp_path, image, mask)
    found = propose_layout(tmp_path)[0]
    assert (found.options, found.pairs, len(found.layout.issues)) == ({"images": options[0], "masks": options[1]}, 3, 0)
    dataset = FolderDataset(tmp_path, "train", ["a", "b"], **found.options, fractions=[1, 0, 0])
    assert [dataset.mask(index).unique().tolist() for index in range(3)] == [[0, 1]] * 3


def test_numbers_may_have_leading_zeros_on_one_side_alone(tmp_path: Path) -> None:
    numbers = range(8, 12)
    photographs(tmp_path, *(f"images/img_{number:04}.jpg" for number in numbers))
    masks(tmp_path, *(f"masks/mask_{number}.png" for number in numbers))
    found = propose_layout(tmp_path)
    assert [each.options for each in found] == [{"images": "images/img_{id}.jpg", "masks": "masks/mask_{id}.png"}]
    assert {int(a.stem[4:]) - int(b.stem[5:]) for a, b in found[0].layout.masks.items()} == {0}
    photographs(tmp_path, "images/img_8.jpg")  # which of two numbers 8 is meant?
    assert [each.pairs for each in propose_layout(tmp_path)] == [1]  # of equal names


def test_masks_of_many_experts_are_no_images_of_those_in_another_folder(tmp_path: Path) -> None:
    for place in ("Glaucoma", "Normal"):
        for number in NUMBERS:
            photographs(tmp_path, f"{place}/Im{number}.bmp")
            masks(tmp_path, *(f"{place}/Im{number}-exp{expert}.bmp" for expert in range(1, 6)))
    found = [each.options for each in propose_layout(tmp_path)]
    sides = {"images": "{folder}/{id}.bmp"}
    assert found == [sides | {"masks": f"{{folder}}/{{id}}-exp{expert}.bmp"} for expert in range(1, 6)]


def test_what_is_cut_out_of_a_photograph_of_the_same_name_is_a_mask(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"{number}.jpg" for number in NUMBERS))
    for number in NUMBERS:
        cut = RANDOM.integers(0, 256, (32, 32, 4), np.uint8)
        cut[..., 3] = 255 * (cut[..., 3] > 99)
        Image.fromarray(cut).save(tmp_path / f"{number}.png")
    assert [each.options for each in propose_layout(tmp_path)] == [{"images": "{id}.jpg", "masks": "{id}.png"}]


def test_folders_that_both_paths_name_in_other_depths_are_one_placeholder(tmp_path: Path) -> None:
    for place in ("1311_30", "1417_32", "1700_31"):
        both(tmp_path, f"a/10N/{place}/SR/2018-{{}}-01.png", f"labels/{place}/L/R/10N-122/10N-122-2018_{{}}_01.png")
    folders = {"images": "a/10N/{folder}/SR/2018-{id}-01.png"}
    folders["masks"] = "labels/{folder}/L/R/10N-122/10N-122-2018_{id}_01.png"
    assert [(each.options, each.pairs) for each in propose_layout(tmp_path)] == [(folders, 9)]


def test_other_pictures_of_a_series_hide_no_partner(tmp_path: Path) -> None:
    numbers = tuple(map(str, range(14)))
    for window in "ab":
        both(tmp_path, f"sat_2_images/window_{window}/g_{{}}.png", "label_masks/of_3_classes/g_{}.png", numbers)
    masks(tmp_path, *(f"label_masks/objects/g_{number}.png" for number in numbers))
    found = {each.options["masks"] for each in propose_layout(tmp_path)}
    assert found == {"label_masks/of_3_classes", "label_masks/objects"}


def test_scenes_are_folders_whose_names_their_bands_repeat(tmp_path: Path) -> None:
    for scene in ("0ade7", "17ba0", "1b645", "902be1"):
        photographs(tmp_path, *(f"source/v1_source_{scene}/v1_source_{scene}_B0{band}.tif" for band in (1, 2, 3)))
        masks(tmp_path, f"train_labels/v1_labels_train_{scene}.tif")
    assert [each.options for each in propose_layout(tmp_path)] == [
        {"images": f"source/v1_source_{{id}}/v1_source_{{id}}_B0{band}.tif", "masks": labels}
        for band in (1, 2, 3)
        for labels in ["train_labels/v1_labels_train_{id}.tif"]
    ]


def test_a_folder_alone_may_say_what_belongs_together(tmp_path: Path) -> None:
    for number in range(4):
        photographs(tmp_path, f"p{number}/L71{number * 7}098_0{number}.tif")
        masks(tmp_path, f"p{number}/L7_new_mask2015.tif")
    found = propose_layout(tmp_path)[0]
    assert found.options == {"images": "{id}/L*_*.tif", "masks": "{id}/L*_new_mask*.tif"}
    assert found.pairs == 4


def test_names_of_masks_may_begin_with_the_folder_of_the_image(tmp_path: Path) -> None:
    for place in ("field_a", "field_b", "wood"):
        both(tmp_path, f"{place}/I_{{}}.jpg", f"m/{place}_I_{{}}_x.png")
    (found,) = propose_layout(tmp_path)
    assert found.options == {"images": "{folder}/{id}.jpg", "masks": "m/{folder}_{id}_x.png"}
    assert (found.pairs, found.layout.issues) == (9, [])  # field_a is not field, of the mask a_I_021


def test_folders_of_images_share_one_folder_of_masks(tmp_path: Path) -> None:
    for place, number in (("Canon EOS", 1), ("iPhone 12", 4), ("GoPro", 7)):
        both(tmp_path, f"photos/{place}/{{}}.jpg", "masks/{}.png", tuple(f"0{number + each}" for each in range(3)))
    (found,) = propose_layout(tmp_path)
    assert (found.options, found.pairs) == ({"images": "photos/*", "masks": "masks"}, 9)


def test_folders_in_the_unicode_form_of_macos_are_read(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, name) for form, name in (("NFC", "Fotos für"), ("NFD", "Übung"))]
    both(tmp_path, f"{names[0]}/{{}}.jpg", f"{names[1]}/ä/{{}}.png")
    (found,) = propose_layout(tmp_path)
    assert (found.options, found.pairs) == ({"images": "Fotos für", "masks": "Übung/ä"}, 3)


def test_pictures_of_few_greys_are_images_as_well_as_others(tmp_path: Path) -> None:
    masks(tmp_path, *(f"{number}_mask.png" for number in NUMBERS))
    for kind, most in (("0", 99), ("45", 99), ("90", 47)):
        for number in NUMBERS:
            Image.fromarray(RANDOM.integers(0, most, (32, 32), np.uint8)).save(tmp_path / f"{number}_{kind}.tif")
    assert [each.options["images"] for each in propose_layout(tmp_path)] == ["{id}_0.tif", "{id}_45.tif", "{id}_90.tif"]


def test_what_is_called_labels_comes_first(tmp_path: Path) -> None:
    both(tmp_path, "{}_a_aerial.png", "{}_b_roads.png")
    masks(tmp_path, *(f"{number}_h_labels.png" for number in NUMBERS))
    assert [each.options["masks"] for each in propose_layout(tmp_path)] == ["{id}_h_labels.png", "{id}_b_roads.png"]


def test_free_words_and_endings_of_several_kinds(tmp_path: Path) -> None:
    photographs(tmp_path, "photos/cat.jpg", "photos/big dog.png", "photos/owl.JPG")
    masks(tmp_path, *(f"truth/{name} (copy).png" for name in ("cat", "big dog", "owl")))
    assert propose_layout(tmp_path)[0].options == {"images": "photos", "masks": "truth/{id} (copy).png"}


def test_splits_folders_and_several_kinds_of_masks(tmp_path: Path) -> None:
    for split, city in (("train", "aachen"), ("train", "ulm"), ("val", "bonn"), ("val", "trier")):
        for number in range(3):
            stem = f"{split}/{city}/{city}_{number:06}_000019"
            photographs(tmp_path, f"leftImg8bit/{stem}_leftImg8bit.png")
            masks(tmp_path, f"gtFine/{stem}_gtFine_labelIds.png", f"gtFine/{stem}_gtFine_instanceIds.png")
    found = propose_layout(tmp_path)
    assert [each.options["masks"] for each in found] == [
        f"gtFine/{{split}}/{{folder}}/{{id}}_gtFine_{kind}.png" for kind in ("labelIds", "instanceIds")
    ]
    assert found[0].options["images"] == "leftImg8bit/{split}/{folder}/{id}_leftImg8bit.png"
    assert (found[0].pairs, found[0].splits) == (12, {"train": 6, "val": 6})


@pytest.mark.parametrize("called", ["{}Data", "data_{}", "{} Images", "My{}Set"])
def test_splits_are_named_beside_other_words(tmp_path: Path, called: str) -> None:
    for split in ("Train", "Valid"):
        both(tmp_path, f"{called.format(split)}/img/{{}}.png", f"{called.format(split)}/mask/{{}}.png")
    found = propose_layout(tmp_path)[0]
    assert found.splits == {"train": 3, "val": 3}


@pytest.mark.parametrize("name", ["road_{}_{{}}", "{{}}-{}", "{}{{}}"])
def test_splits_are_named_in_the_names_of_files(tmp_path: Path, name: str) -> None:
    for split in ("train", "val"):
        both(tmp_path, f"images/{name.format(split)}.jpg", f"masks/{name.format(split)}.png")
    (found,) = propose_layout(tmp_path)
    assert found.splits == {"train": 3, "val": 3}


def test_splits_are_named_between_other_words_of_folders(tmp_path: Path) -> None:
    for state in ("de", "md"):
        for split in ("train", "val"):
            for kind, save in (("naip", photographs), ("lc", masks)):
                save(tmp_path, *(f"{state}_2013-{split}_tiles/m_{state}{number}_{kind}.tif" for number in NUMBERS))
    found = propose_layout(tmp_path)[0]
    assert found.options["images"] == "{folder}{split}_tiles/{id}_naip.tif"
    assert found.splits == {"train": 6, "val": 6}


def test_a_date_may_be_in_the_names_of_images_alone(tmp_path: Path) -> None:
    for row in range(4):
        for column in range(4):
            photographs(tmp_path, f"s2/32ULU_2020010{row}_S2_{row}_{column}.tif")
            masks(tmp_path, f"truth/32ULU_GR_{row}_{column}.tif")
    found = propose_layout(tmp_path)[0]
    assert found.options == {"images": "s2/{part2}_*_S2_{id}.tif", "masks": "truth/{part2}_GR_{id}.tif"}
    assert (found.pairs, found.layout.issues) == (16, [])


def test_a_folder_a_patient(tmp_path: Path) -> None:
    for patient in range(1, 5):
        both(tmp_path, f"patient{patient:02}/slice_{{}}.png", f"patient{patient:02}/slice_{{}}_mask.png")
    (found,) = propose_layout(tmp_path)
    assert found.options == {"images": "{folder}/{id}.png", "masks": "{folder}/{id}_mask.png"}
    assert found.pairs == 12


def test_suffixes_of_some_files_in_folders_are_in_capitals(tmp_path: Path) -> None:
    both(tmp_path, "{}/image.png", "{}/mask.png")
    (tmp_path / "022/image.png").rename(tmp_path / "022/image.PNG")
    assert propose_layout(tmp_path)[0].pairs == 3


def test_lists_of_names_and_of_pairs(tmp_path: Path) -> None:
    both(tmp_path, "JPEGImages/{}.jpg", "SegmentationClass/{}.png")
    photographs(tmp_path, "JPEGImages/999.jpg")
    lists = tmp_path / "ImageSets"
    lists.mkdir()
    (lists / "train.txt").write_text("021\n022\n")
    (lists / "val.txt").write_text("030\n")
    found = propose_layout(tmp_path)
    assert found[0].options == {
        "images": "JPEGImages", "masks": "SegmentationClass", "lists": "ImageSets/{split}.txt",
    }  # fmt: skip
    assert (found[0].splits, len(found[0].layout.issues)) == ({"train": 2, "val": 1}, 0)
    assert "lists" not in found[1].options
    (lists / "train.txt").write_text("JPEGImages/021.jpg SegmentationClass/022.png\n")
    (lists / "val.txt").write_text("JPEGImages/022.jpg SegmentationClass/021.png\n")
    assert propose_layout(tmp_path)[0].options == {"pairs": "ImageSets/{split}.txt"}


def test_a_table_of_pairs_without_splits(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"set/pics/{name}.jpg" for name in "abc"))
    masks(tmp_path, *(f"set/segs/{name}.png" for name in "xyz"))
    rows = [f"{one},pics/{one}.jpg,segs/{other}.png,sunny" for one, other in zip("abc", "xyz", strict=True)]
    (tmp_path / "set/all.csv").write_text("\n".join(["id,image,mask,weather", *rows]))
    assert [each.options for each in propose_layout(tmp_path)] == [{"pairs": "set/all.csv"}]


def test_lists_in_folders_of_splits(tmp_path: Path) -> None:
    both(tmp_path / "own", "images/{}.png", "masks/{}.png")
    for split, names in (("train", "021\n022"), ("val", "030")):
        (tmp_path / "own/splits" / split).mkdir(parents=True)
        (tmp_path / "own/splits" / split / "ids.txt").write_text(names)
        both(tmp_path / "other" / split, "x/{}.png", "y/9{}.png", tuple(names.split()))
        rows = [json.dumps({"image": f"x/{name}.png", "mask": f"y/9{name}.png"}) for name in names.split()]
        (tmp_path / "other" / split / "metadata.jsonl").write_text("\n".join(rows))
    for place, option in (("own", {**TWO_FOLDERS, "lists": "splits/{split}/ids.txt"}), ("other", None)):
        found = propose_layout(tmp_path / place)[0]
        assert (found.options, found.splits) == (option or {"pairs": "{split}/metadata.jsonl"}, {"train": 2, "val": 1})


@pytest.mark.parametrize("place", ["C:\\data\\x\\", "/home/me/x/", "../", ""])
def test_pairs_of_another_computer(tmp_path: Path, place: str) -> None:
    numbers = ("021", "022", "030", "099")
    photographs(tmp_path, *(f"pics/{number}.jpg" for number in numbers))
    masks(tmp_path, *(f"{folder}/m{number}.png" for folder in ("segs", "old")[: 1 + bool(place)] for number in numbers))
    folders = ("pics/", "segs/") if place else ("", "")
    mask_of = dict(zip(numbers, reversed(numbers), strict=True))
    rows = [f"{place}{folders[0]}{one}.jpg,{place}{folders[1]}m{other}.png" for one, other in mask_of.items()]
    for split, lines in (("train", rows[:3]), ("val", rows[3:])):
        (tmp_path / f"{split}.csv").write_text("\n".join(["image,mask", *lines]))
    found = propose_layout(tmp_path)[0]
    assert (found.options, found.splits) == ({"pairs": "{split}.csv"}, {"train": 3, "val": 1})
    assert {mask.relative_to(tmp_path).as_posix() for mask in found.layout.masks.values()} == {
        f"segs/m{number}.png" for number in numbers
    }
    assert found.layout.masks[tmp_path / "pics/021.jpg"].name == "m099.png"


def test_photographs_alone_are_no_layout(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"shots/day_{day}_{number}.jpg" for day in (1, 2) for number in range(5)))
    assert propose_layout(tmp_path) == []


def test_names_that_repeat_in_other_folders_are_paired_within_their_own(tmp_path: Path) -> None:
    for a in ("left", "right"):
        both(tmp_path, f"raw/2024/{a}/cam 1/{{}}.png", f"labels/2024/{a}/cam 1/{{}}.png")
    (found,) = propose_layout(tmp_path)
    assert found.options == {
        "images": "raw/2024/{folder}/cam 1/{id}.png",
        "masks": "labels/2024/{folder}/cam 1/{id}.png",
    }
    assert found.pairs == 6


def test_images_and_masks_that_are_paired_already_are_not_paired_across_folders(tmp_path: Path) -> None:
    for number, name in enumerate(("needle", "clip") * 2):
        both(tmp_path, f"set_{number}/frames/{{}}.png", f"set_{number}/truth/{name}_labels/{{}}.png")
    found = [each.options for each in propose_layout(tmp_path)]
    assert {each["images"] for each in found} == {"{folder}/frames/{id}.png"}


def test_folders_called_images_and_masks_are_that_whatever_their_colours(tmp_path: Path) -> None:
    photographs(tmp_path / "blended", *(f"{side}/{each}.png" for side in ("images", "masks") for each in NUMBERS))
    masks(tmp_path / "drawings", *(f"images/{each}.png" for each in NUMBERS))
    for number in NUMBERS:
        (tmp_path / "drawings" / "masks").mkdir(exist_ok=True)
        labels = RANDOM.integers(0, 9, (32, 32), np.uint8)
        Image.fromarray(labels).save(tmp_path / "drawings" / "masks" / f"{number}.png")
    for name in ("blended", "drawings"):
        assert [x.options for x in propose_layout(tmp_path / name)] == [{"images": "images", "masks": "masks"}]


def test_links_to_folders_are_followed_and_none_is_entered_twice(tmp_path: Path) -> None:
    both(tmp_path / "real", "images/{}.png", "masks/{}.png")
    place = tmp_path / "data"
    place.mkdir()
    for name, target in (("images", "real/images"), ("masks", "real/masks"), ("loop", "data"), ("up", "data/..")):
        (place / name).symlink_to(tmp_path / target, target_is_directory=True)
    assert [each.options for each in propose_layout(place)] == [{"images": "images", "masks": "masks"}]
    assert [folder.relative_to(place).as_posix() for folder, names in folders_in(place) if names] == ["images", "masks"]


def lists(root: Path, train: list[str], val: list[str], suffix: str = ".txt", encoding: str = "utf-8") -> None:
    for name, lines in (("train", train), ("val", val)):
        (root / f"{name}{suffix}").write_bytes("\r\n".join(lines).encode(encoding))


@pytest.mark.parametrize(
    ("line", "suffix", "encoding", "options"),
    [
        ("{}", ".txt", "utf-16", {"images": "images", "masks": "masks", "lists": "{split}.txt"}),
        ("images\\{}.png", ".txt", "utf-8-sig", {"images": "images", "masks": "masks", "lists": "{split}.txt"}),
        ("images\\{0}.png masks\\{0}.png", ".txt", "utf-8", {"pairs": "{split}.txt"}),
        ('"images\\{0}.png","masks\\{0}.png"', ".csv", "utf-16", {"pairs": "{split}.csv"}),
    ],
)
def test_lists_as_windows_writes_them(
    tmp_path: Path, line: str, suffix: str, encoding: str, options: dict[str, str]
) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png")
    lists(tmp_path, [line.format("021"), line.format("022")], [line.format("030")], suffix, encoding)
    folders = [{"images": "images", "masks": "masks"}] * ("lists" in options)
    assert FolderDataset.recognise(tmp_path) == [options, *folders]
    assert list(FolderDataset(tmp_path, "train", ["a", "b"], **options).names) == ["021", "022"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x{}", r"listed but not there.*x021\.png.*x022\.png"),
        ("images/x{}.png", r"listed but not there.*[^/]/images/x021\.png"),
        ("images/x{0}.png masks/x{0}.png", "listed but not there"),
        ("ä{}", "line 1 is not UTF-8"),
    ],
)
def test_lists_that_are_wrong_are_told_and_not_passed_over(tmp_path: Path, line: str, message: str) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png")
    lists(tmp_path, [line.format("021"), line.format("022")], [line.format("030")], encoding="latin-1")
    assert FolderDataset.recognise(tmp_path) == [{"images": "images", "masks": "masks"}]
    with pytest.warns(UserWarning, match=r"not read, though named like a split: .*train\.txt.*lists = "):
        FolderDataset(tmp_path, "train", ["a", "b"])
    options = {"pairs": "{split}.txt"} if " " in line else {"lists": "{split}.txt"}
    with pytest.raises(DataError, match=message):
        FolderDataset(tmp_path, "train", ["a", "b"], **options)


def test_what_no_list_names_is_train_and_a_table_is_no_list(tmp_path: Path) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png")
    (tmp_path / "train.csv").write_text("id,rle\n021,1 2 3\n")
    assert FolderDataset.recognise(tmp_path) == [{"images": "images", "masks": "masks"}]
    (tmp_path / "valid.txt").write_text("030.png\n")
    options, _ = FolderDataset.recognise(tmp_path)
    assert options == {"images": "images", "masks": "masks", "lists": "{split}.txt"}
    with pytest.warns(UserWarning, match="lists name no train split: the 2 images that none names are train"):
        train = FolderDataset(tmp_path, "train", ["a", "b"], **options)
    assert [*train.names] == ["021", "022"]


def test_invalid_images_are_not_those_in_val(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,invalid\n021,0\n022,0\n030,1\n")
    assert {line.split for line in lines_of(tmp_path, "a.csv")} == {None}


TWO_FOLDERS = {"images": "images", "masks": "masks"}


@pytest.mark.parametrize(
    ("file", "content", "options"),
    [
        ("splits.json", '{"train": ["021", "022.png"], "val": ["masks/030.png"]}', {"lists": "splits.json"}),
        ("splits_final.json", '[{"train": ["021", "022"], "val": ["030"]}, {}]', {"lists": "splits_final.json"}),
        ("meta/split.csv", "file,split\n021,train\n022.png,training\n030,dev\n", {"lists": "meta/split.csv"}),
        ("x.csv", "1;021.png;train\n2;022.png;train\n3;030.png;VAL\n", {"lists": "x.csv"}),
        (
            "data.csv",
            "id,image,mask,split\n7,images/021.png,masks/021.png,train\n8,images/022.png,masks/022.png,train\n"
            "9,images/030.png,masks/030.png,val\n",
            {"pairs": "data.csv"},
        ),
        (
            "dataset.json",
            '{"name": "x", "training": [{"image": "./images/021.png", "label": "./masks/021.png"}, '
            '{"image": "images/022.png", "label": "masks/022.png"}], "val": [["images/030.png", "masks/030.png"]]}',
            {"pairs": "dataset.json"},
        ),
        ("ImageSets/train_ids.txt", "021\n022\n", {"lists": "ImageSets/{split}_ids.txt"}),
        ("trainval.txt", "021 1\n022 1\n", {"lists": {"train": "trainval.txt"}}),
        ("train.txt", "/there/train/021.png /there/gt/021.png\n/there/022.png /x/022.png\n", {"lists": "{split}.txt"}),
        ("train.csv", "filename\n021\n022.png\n", {"lists": "{split}.csv"}),
        ("split.yaml", "name: x\nparts:\n  train: [021, '022']\n  val: [030]\n", {"lists": "split.yaml"}),
        (
            "all.json",
            '{"images": [{"file": "021.png", "n": 1, "split": "train"}, {"file": "022.png", "split": "train"}, '
            '{"file": "030.png", "split": "val"}]}',
            {"lists": "all.json"},
        ),
        ("parts.json", '{"n": 3, "train_ids": ["021", "022"], "val_ids": ["030"]}', {"lists": "parts.json"}),
        (
            "metadata.jsonl",
            "\n".join(
                f'{{"file_name": "images/{name}.png", "mask": "masks/{name}.png", "split": "{split}"}}'
                for name, split in (("021", "train"), ("022", "train"), ("030", "validation"))
            ),
            {"pairs": "metadata.jsonl"},
        ),
        ("partition.txt", "021.png train\n022.png train\n030.png val\n", {"lists": "partition.txt"}),
        ("split.csv", "image,partition\n021,0\n022,0\n030,1\n099,2\n", {"lists": "split.csv"}),
        ("meta.csv", "image,set\n021,TR\n022,TR\n030,VA\n099,\n", {"lists": "meta.csv"}),
        ("a.csv", "image,split\n021,train_set\n022,train_set\n030,val_set\n", {"lists": "a.csv"}),
        ("split.csv", ",train,val\n0,021,030\n1,022,\n", {"lists": "split.csv"}),
        ("lists/train", "021\n022\n", {"lists": "lists/{split}"}),
        ("train.flist", "/there/021.png\n/there/022.png\n", {"lists": "{split}.flist"}),
        ("train_val_split.txt", "021.png 1\n022.png 1\n030.png 0\n", {"lists": "train_val_split.txt"}),
        ("split.json", '{"train": [21, 22], "val": [30]}', {"lists": "split.json"}),
    ],
)
def test_lists_of_all_kinds(tmp_path: Path, file: str, content: str, options: dict[str, Any]) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    found = FolderDataset.recognise(tmp_path)
    expected = options if "pairs" in options else {**TWO_FOLDERS, **options}
    assert found[0] == expected
    assert [*FolderDataset(tmp_path, "train", ["a", "b"], **found[0]).names] == ["021", "022"]
    if "train" not in file or "_val" in file:
        assert [*FolderDataset(tmp_path, "val", ["a", "b"], **found[0]).names] == ["030"]


@pytest.mark.parametrize("name", ["{}", "patient {}", "P{:02}"])
def test_a_number_names_the_patient_of_this_number(tmp_path: Path, name: str) -> None:
    both(tmp_path, "images/patient{}_0.png", "masks/patient{}_0.png", ("001", "002", "010"))
    rows = [
        f"{name.format(number)},{40 + number},{split}" for number, split in ((1, "train"), (2, "val"), (10, "train"))
    ]
    (tmp_path / "patients.csv").write_text("\n".join(["patient,age,split", *rows]))
    options = {**TWO_FOLDERS, "lists": "patients.csv"}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        data = FolderDataset(tmp_path, "train", ["a", "b"], **options)
    assert [*data.names] == ["patient001_0", "patient010_0"]
    assert [str(each.message).rpartition(": ")[2] for each in told] == [f"{name.format(1)} is patient001"] * (
        "patient" not in name
    )


def test_a_row_of_a_table_without_an_image_is_told_by_its_number_and_cells(tmp_path: Path) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png")
    (tmp_path / "a.csv").write_text("file,kind,split\n021.png,CT,train\n022.png,CT,val\n099.png,MR,train\n")
    with pytest.raises(DataError, match=r"[^/]/images/099\.png: listed.*a\.csv, line 4: '099\.png, MR'"):
        FolderDataset(tmp_path, "train", ["a", "b"], **TWO_FOLDERS, lists="a.csv")


def test_lists_differ_in_the_name_of_the_split_between_other_words(tmp_path: Path) -> None:
    both(tmp_path, "S1/{}_S1.png", "gt/{}_gt.png")
    (tmp_path / "splits").mkdir()
    for split, names in (("train", "021 022"), ("valid", "030")):
        lines = [f"{name}_S1.png,{len(name)}" for name in names.split()]
        (tmp_path / f"splits/flood_{split}_data.csv").write_text("\n".join(lines))
    assert propose_layout(tmp_path)[0].options["lists"] == "splits/flood_{split}_data.csv"


def test_what_is_no_list_is_not_proposed(tmp_path: Path) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png")
    for name, content in {
        "a.json": '{"train": 3, "val": [1]}',
        "b.json": "{",
        "c.csv": "021,train\n022,later\n",
        "metrics.csv": "split,loss\ntrain,0.4\nval,0.5\n",
        "train.json": '{"images": [], "annotations": []}',
        "train.txt": "epoch 1, loss 0.4\n",
    }.items():
        (tmp_path / name).write_text(content)
    assert FolderDataset.recognise(tmp_path) == [TWO_FOLDERS]


def test_a_fold_of_several_and_folders_in_a_list(tmp_path: Path) -> None:
    both(tmp_path, "{}/7.png", "{}/7_mask.png")
    (tmp_path / "folds.json").write_text('[{"train": ["021"], "val": ["022"]}, {"train": ["022"], "val": ["030"]}]')
    options = {"images": "{patient}/{id}.png", "masks": "{patient}/{id}_mask.png", "lists": "folds.json"}
    train = FolderDataset(tmp_path, "train", ["a", "b"], **options, fold=1)
    assert [path.parent.name for path, _ in train.pairs] == ["022"]
    with pytest.raises(ConfigError, match=r"fold = 2: .*folds.json has 2 folds, from 0"):
        FolderDataset(tmp_path, "train", ["a", "b"], **options, fold=2)


def test_folds_of_tables_and_of_json_are_read_one_at_a_time(tmp_path: Path) -> None:
    numbers = tuple("abcdef")
    both(tmp_path, "images/{}.png", "masks/{}.png", numbers)
    folds = {fold: [*numbers[fold::3]] for fold in range(3)}
    for file, content in (
        ("a.csv", "image,k_fold\n" + "\n".join(f"{name},{at % 3 + 1}" for at, name in enumerate(numbers))),
        ("a.json", json.dumps([{"image": name, "fold": at % 3} for at, name in enumerate(numbers)])),
        ("b.json", json.dumps({f"fold_{fold}": those for fold, those in folds.items()})),
        ("c.json", json.dumps({f"x{fold}": {"train": folds[(fold + 1) % 3], "val": folds[fold]} for fold in folds})),
    ):
        (tmp_path / file).write_text(content)
        options, _ = FolderDataset.recognise(tmp_path)
        assert options == {**TWO_FOLDERS, "lists": file}
        assert FolderDataset(tmp_path, "val", ["a", "b"], **options).names == ["a", "d"]
        assert FolderDataset(tmp_path, "val", ["a", "b"], **options, fold=2).names == ["c", "f"]
        with pytest.raises(ConfigError, match=r"fold = 3: .* has 3 folds, from 0"):
            FolderDataset(tmp_path, "val", ["a", "b"], **options, fold=3)
        (tmp_path / file).unlink()


@pytest.mark.parametrize("start", [0, 1])
def test_positions_are_read_where_they_leave_no_doubt(tmp_path: Path, start: int) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png", ("a03", "a07", "a11", "a20"))
    np.save(tmp_path / "train_idx.npy", np.array([0, 2]) + start)
    np.save(tmp_path / "val_idx.npy", np.array([[1], [3]]) + start)
    options, _ = FolderDataset.recognise(tmp_path)
    assert options["lists"] == "{split}_idx.npy"
    with pytest.warns(UserWarning, match=f"taken as positions of images in the order of names, from {start}"):
        assert FolderDataset(tmp_path, "val", ["a", "b"], **options).names == ["a07", "a20"]
    for name in ("a03", "a11"):
        for folder in ("images", "masks"):
            (tmp_path / folder / f"{name}.png").rename(tmp_path / folder / f"{name.replace('0', '')}.png")
    assert FolderDataset.recognise(tmp_path) == [TWO_FOLDERS]  # a3, a11: the order may be another


def test_numbers_of_other_meanings_are_no_names_and_no_positions(tmp_path: Path) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png", [str(number) for number in range(8)])
    (tmp_path / "config.yaml").write_text("train_epochs: 7\nval_interval: 1\nsize: [4, 4]\n")
    (tmp_path / "train_val.csv").write_text("image,label\n" + "".join(f"{at}.png,{at % 2}\n" for at in range(8)))
    assert FolderDataset.recognise(tmp_path) == [TWO_FOLDERS]
    for path in [*tmp_path.glob("*/*.png")]:
        path.rename(path.with_name(f"a{path.name}"))
    np.save(tmp_path / "y_train.npy", np.array([0, 1, 0, 1, 1]))
    np.save(tmp_path / "y_val.npy", np.array([0, 1, 1]))
    assert FolderDataset.recognise(tmp_path) == [TWO_FOLDERS]


def test_eval_beside_val_is_not_read(tmp_path: Path) -> None:
    for split in ("training", "validation", "evaluation"):
        both(tmp_path / split, "images/{}.png", "masks/{}.png", ("1", "2"))
    assert FolderDataset.recognise(tmp_path) == [{"images": "{split}/images", "masks": "{split}/masks"}]


def test_a_row_of_a_missing_image_selects_no_others(tmp_path: Path) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png", ("CT_1", "CT_2", "CT_3"))
    rows = ("CT_1.png,CT,train", "CT_2.png,CT,train", "CT_3.png,CT,val", "CT_4.png,CT,test")
    (tmp_path / "a.csv").write_text("\n".join(("image,modality,split", *rows)))
    read = {
        split: FolderDataset(tmp_path, split, ["a", "b"], **TWO_FOLDERS, lists="a.csv") for split in ("train", "val")
    }
    assert [each.names for each in read.values()] == [["CT_1", "CT_2"], ["CT_3"]]


def test_numbers_in_a_list_are_named_by_another_list(tmp_path: Path) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png", ("owl/a", "owl/b", "tit/a"))
    (tmp_path / "images.txt").write_text("1 tit/a.png\n2 owl/a.png\n3 owl/b.png\n")
    (tmp_path / "train_test_split.txt").write_text("1 1\n2 0\n3 1\n")
    options, _ = FolderDataset.recognise(tmp_path)
    assert options["lists"] == "train_test_split.txt"
    assert FolderDataset(tmp_path, "test", ["a", "b"], **options).names == ["owl/a"]


def test_a_list_may_name_what_begins_the_names_of_images(tmp_path: Path) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png", ("p1_0", "p1_1", "p2_0", "p11_0", "p11"))
    (tmp_path / "patients.csv").write_text("patient,split\np1,train\np2,train\np11,val\n")
    options, _ = FolderDataset.recognise(tmp_path)
    assert FolderDataset(tmp_path, "train", ["a", "b"], **options).names == ["p1_0", "p1_1", "p2_0"]
    assert FolderDataset(tmp_path, "val", ["a", "b"], **options).names == ["p11"]


@pytest.mark.parametrize("heading", ["", ",name,split\n"])
def test_numbers_of_rows_before_names_are_not_those_in_names(tmp_path: Path, heading: str) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png", ("img0", "img1", "img2", "img3"))
    (tmp_path / "a.csv").write_text(heading + "0,img2,train\n1,img0,train\n2,img1,val\n3,img3,val\n")
    options = {"images": "images", "masks": "masks", "lists": "a.csv"}
    assert FolderDataset(tmp_path, "val", ["a", "b"], **options).names == ["img1", "img3"]


def test_json_that_names_a_folder_for_each_split_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"train": "train", "val": "val"}')
    assert [each[::3] for each in lines_of(tmp_path, "a.json")] == [("train", "train"), ("val", "val")]
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match=r"lists no names under train, val or test"):
        [*lines_of(tmp_path, "a.json")]


def test_a_line_of_no_split_in_a_table_of_splits_is_told(tmp_path: Path) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png", ("1", "2", "3", "4"))
    options = {"images": "images", "masks": "masks", "lists": "split.csv"}
    for rows, line in (
        (["file,split", "1.png,train", "2.png,val", "3.png,test", "4.png,unused"], "line 5: 'unused'"),
        (["1.png,unused", "2.png,train", "3.png,train", "4.png,val"], "line 1: 'unused'"),  # no names of columns
    ):
        (tmp_path / "split.csv").write_text("\n".join(rows))
        with pytest.raises(DataError, match=f"split.csv, {line} where other lines say train, val or test"):
            FolderDataset(tmp_path, "train", ["a", "b"], **options)


def test_one_split_by_two_names_in_json(tmp_path: Path) -> None:
    both(tmp_path, "images/{}.png", "masks/{}.png", ("1", "2", "3", "4"))
    (tmp_path / "split.json").write_text('{"train": ["1"], "training": ["2"], "val": ["3"], "dev": ["4"]}')
    options = {"images": "images", "masks": "masks", "lists": "split.json"}
    found = [FolderDataset(tmp_path, split, ["a", "b"], **options).names for split in ("train", "val")]
    assert found == [["1", "2"], ["3", "4"]]


def failed(root: Path, **options: Any) -> dict[str, Any]:
    """The options that an error proposes."""
    with pytest.raises(DataError) as caught:
        FolderDataset(root, "train", ["a", "b"], fractions=[1, 0, 0], **options)
    assert len(str(caught.value).split("in [dataset],")) == 2
    return tomllib.loads(str(caught.value).split("in [dataset],")[1])


@pytest.mark.fault("F28")
@pytest.mark.parametrize(
    ("image", "mask", "options", "proposed"),
    [
        ("images/{}.jpg", "masks/{}_label.png", {}, {"masks": "masks/{id}_label.png"}),
        ("images/{}.jpg", "masks/{}_m.png", {"mask_suffix": "_seg"}, {"masks": "masks/{id}_m.png", "mask_suffix": ""}),
        ("images/{}.jpg", "masks/{}.png", {"mask_suffix": "_seg"}, {"mask_suffix": ""}),
        ("images/{}_rgb.jpg", "masks/{}_gt.png", {}, {"images": "images/{id}_rgb.jpg", "masks": "masks/{id}_gt.png"}),
        ("photos/{}.jpg", "labels/{}.png", {}, {"images": "photos", "masks": "labels"}),
        ("images/{}.jpg", "masks/train/{}.png", {}, {"masks": "masks/train"}),
    ],
)  # fmt: skip
def test_an_error_of_pairing_proposes_the_lines_that_mend_it(
    tmp_path: Path, image: str, mask: str, options: dict[str, Any], proposed: dict[str, str]
) -> None:
    both(tmp_path, image, mask)
    assert failed(tmp_path, **options) == proposed
    dataset = FolderDataset(tmp_path, "train", ["a", "b"], fractions=[1, 0, 0], **{**options, **proposed})
    assert len(dataset) == 3


def test_one_image_is_enough(tmp_path: Path) -> None:
    both(tmp_path, "images/{}.png", "masks/{}_gt.png", ("only",))
    assert failed(tmp_path) == {"masks": "masks/{id}_gt.png"}


def test_of_two_kinds_of_masks_one_is_proposed_and_the_other_told(tmp_path: Path) -> None:
    both(tmp_path, "images/{}.jpg", "masks/{}_net.png")
    masks(tmp_path, *(f"masks/{number}_fish.png" for number in NUMBERS))
    with pytest.raises(
        DataError, match=r'`segkit init \S+` shows other ways; 3 images .*\n\nmasks = "masks/{id}_(net|fish)\.png"$'
    ):
        FolderDataset(tmp_path, "train", ["a", "b"])


def test_nothing_is_proposed_where_nothing_pairs_more(tmp_path: Path) -> None:
    both(tmp_path, "images/{}.jpg", "masks/{}.png")
    photographs(tmp_path, "images/044.jpg")
    with pytest.raises(DataError, match=r"044\.jpg: image without a mask; the mask would be .*masks/044\.png$"):
        FolderDataset(tmp_path, "train", ["a", "b"])


def test_images_are_not_proposed_as_masks_of_others(tmp_path: Path) -> None:
    for place in ("Class1", "Class2"):
        masks(tmp_path, *(f"{place}/Label/{number}_label.png" for number in range(2)))
        for number in range(8):
            grey = RANDOM.integers(0, 256, (32, 32), np.uint8)
            Image.fromarray(grey).save(tmp_path / f"{place}/{number}.png")
    options = {"images": "{folder}/{id}.png", "masks": "{folder}/Label/{id}_label.png"}
    with pytest.raises(DataError, match=r"12 files: image without a mask: [^;]*; the mask would be [^;]*\.png$"):
        FolderDataset(tmp_path, "train", ["a", "b"], **options)


def test_images_without_a_mask_are_no_masks_of_images_elsewhere(tmp_path: Path) -> None:
    for place, kinds in (("grid", ("bent", "cut")), ("wood", ("hole", "scratch"))):
        defects = [f"{kind}/{number}" for kind in kinds for number in range(3)]
        masks(tmp_path, *(f"{place}/ground_truth/{defect}_mask.png" for defect in defects))
        for name in (*(f"train/good/{number}" for number in range(8)), *(f"test/{defect}" for defect in defects)):
            (tmp_path / place / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RANDOM.integers(0, 256, (32, 32), np.uint8)).save(tmp_path / place / f"{name}.png")
    images, labels = "{folder}/test/{folder2}/{id}.png", "{folder}/ground_truth/{folder2}/{id}_mask.png"
    assert FolderDataset.recognise(tmp_path)[0] == {"images": images, "masks": labels}


def test_a_folder_is_recognised_with_and_without_val(tmp_path: Path) -> None:
    both(tmp_path, "{}/images/1.jpg", "{}/labels/1.png", ("training", "testing"))
    both(tmp_path, "{}/images/2.jpg", "{}/labels/2.png", ("training",))
    sides = {"images": "{split}/images", "masks": "{split}/labels"}
    assert FolderDataset.recognise(tmp_path) == [sides]
    both(tmp_path, "{}/images/1.jpg", "{}/labels/1.png", ("validation",))
    assert FolderDataset.recognise(tmp_path) == [sides]


def test_files_that_pillow_cannot_read_are_proposed_once(tmp_path: Path) -> None:
    for side in ("bands", "classes"):
        (tmp_path / side).mkdir()
        for number in NUMBERS:
            (tmp_path / side / f"{number}.tif").write_bytes(b"of another program")
    (found,) = propose_layout(tmp_path)
    assert {*found.options.values()} == {"bands", "classes"}


@pytest.mark.parametrize(
    ("stored", "suffix"),
    [
        (np.uint16(10) * RANDOM.integers(40, 296, (32, 32), np.uint16), "png"),
        (np.uint16(10) * RANDOM.integers(40, 296, (32, 32), np.uint16), "tif"),
        (RANDOM.uniform(300, 900, (32, 32)), "tif"),
        (RANDOM.integers(300, 900, (32, 32)), "tif"),
        (np.where(np.arange(32) < 3, np.nan, RANDOM.uniform(300, 900, (32, 32))), "tif"),
        (np.where(np.arange(32) < 3, -9999, RANDOM.integers(300, 900, (32, 32))), "tif"),
    ],
)
def test_pictures_of_more_than_8_bits_are_told_from_masks_by_what_they_store(
    tmp_path: Path, stored: Any, suffix: str
) -> None:
    (tmp_path / "images").mkdir()
    for number in NUMBERS:
        values = stored if stored.dtype == np.uint16 else stored.astype(np.float32)
        Image.fromarray(values).save(tmp_path / "images" / f"{number}.{suffix}")
    masks(tmp_path, *(f"annotated/{number}.png" for number in NUMBERS))  # the first by the alphabet
    assert [found.options for found in propose_layout(tmp_path)] == [{"images": "images", "masks": "annotated"}]


def test_two_stacks_of_grey_pictures_and_groups_of_arrays_are_pairs(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, (9, 16, 20)).astype(np.uint8)  # [N,H,W]
    greys = truth * 60 + random.integers(0, 60, truth.shape, np.uint8)
    (tmp_path / "stacks").mkdir()
    np.save(tmp_path / "stacks/X.npy", greys)
    np.save(tmp_path / "stacks/y.npy", truth)
    (best,) = propose_layout(tmp_path / "stacks")
    assert (best.options, best.pairs) == ({"images": "X.npy#{id}", "masks": "y.npy#{id}"}, 9)
    np.save(tmp_path / "stacks/y.npy", (truth / 2).astype(np.float32))  # resized by interpolation
    assert [each.options for each in propose_layout(tmp_path / "stacks")] == [best.options]
    for number in range(2):  # a picture each: rows are no pictures
        (tmp_path / "single").mkdir(exist_ok=True)
        np.save(tmp_path / f"single/{number}.npy", greys[number, ..., None].repeat(3, 2))
    assert propose_layout(tmp_path / "single") == []
    with pytest.importorskip("h5py").File(tmp_path / "all.h5", "w") as file:
        for number in range(9):
            file[f"case_{number}/scan"], file[f"case_{number}/seg"] = greys[number], truth[number]
    read = [each for each in propose_layout(tmp_path) if "h5" in each.options["images"]]
    assert read[0].options == {"images": "all.h5#{id}/scan", "masks": "all.h5#{id}/seg"}
    assert [each.name for each in read[0].layout.images][:2] == ["all_case_0", "all_case_1"]
