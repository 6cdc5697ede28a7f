"""Class files in the forms that tools write, and those that are refused by their line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DataError
from segkit_folder.class_file import parse
from segkit_folder.dataset import FolderDataset

COLOURS = [(0, 0, 0), (224, 64, 64), (64, 224, 9)]
NAMES = ["background", "cheetah", "traffic light"]


@pytest.mark.parametrize(
    "text",
    [
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncheetah:224,64,64::\ntraffic light:64,224,9::\n",  # CVAT
        "name,r,g,b\nbackground,0,0,0\ncheetah,224,64,64\ntraffic light,64,224,9\n",
        "class_name,class_color\nbackground,0 0 0\ncheetah,224 64 64\ntraffic light,64 224 9\n",  # V7
        'background, 0, 0, 0\ncheetah, 224, 64, 64\n"traffic light", 64, 224, 9\n',
        "background 0 0 0\ncheetah 224 64 64\ntraffic light 64 224 9\n",
        "0 0 0\tbackground\r\n224 64 64\t\tcheetah\r\n64 224 9\ttraffic light\r\n",  # CamVid's label_colors.txt
        "id;name;red;green;blue\n0;background;0;0;0\n2;traffic light;64;224;9\n1;cheetah;224;64;64\n",
        "0 background 0 0 0\n1 cheetah 224 64 64\n2 traffic light 64 224 9\n",
        "background #000000\ncheetah #E04040  # a cat\ntraffic light #40e009\n",
        "Desc;Label;R;G;B\nbackground;0;0;0;0\ncheetah;1;224;64;64\ntraffic light;2;64;224;9\n",
        "Pixels\tTitle\tB\tG\tR\n9\tbackground\t0\t0\t0\n8\tcheetah\t64\t64\t224\n7\ttraffic light\t9\t224\t64\n",
        "colour,of,name\n#000000,all,background\n#E04040,cats,cheetah\n#40e009,cars,traffic light\n",
        'name,hex,r\nbackground,000000,1\ncheetah,E04040,2\n"traffic light",40e009,3\n',
        'label,rgb\nbackground,"(0, 0, 0)"\ncheetah,"(224, 64, 64)"\ntraffic light,"(64, 224, 9)"\n',
    ],
)
def test_names_and_colours(text: str) -> None:
    assert parse(text, "x") == (NAMES, None, COLOURS)


@pytest.mark.parametrize(
    "text",
    [
        "0 background\n1 cheetah\n2 traffic light\n",
        "0: background\n1: cheetah\n2: traffic light\n",
        "2,traffic light\n0,background\n1,cheetah\n",
        "background,0\ncheetah,1\ntraffic light,2\n",
        "class\tid\nbackground\t0\ncheetah\t1\ntraffic light\t2\n",
        "# mine\n\nbackground\n cheetah \ntraffic light",
        "background  # all else\ncheetah // a cat\ntraffic light #\n",
        "cheetah 1\ntraffic light 2\nbackground 0\n",
        "__ignore__\nbackground\ncheetah\ntraffic light\n",  # labelme counts from -1
    ],
)
def test_names_in_the_order_of_their_labels(text: str) -> None:
    assert parse(text, "x") == (NAMES, None, None)


def test_numbers_that_are_not_0_1_2_are_the_stored_labels() -> None:
    assert parse("7 road\n11 building\n8 sidewalk\n", "x") == (["road", "sidewalk", "building"], [7, 8, 11], None)
    for text in ("1: cat\n2: dog\n", "1. cat\n2. dog\n", "1) cat\n2) dog\n", "dog 2\ncat 1\n"):
        assert parse(text, "x") == (["cat", "dog"], [1, 2], None)


@pytest.mark.parametrize(
    "names",
    [
        ["class 1", "class 2"],
        ["road, paved", "voie (ferrée)", "2 wheeler"],
        ["0", "1"],
        ["747 B", "C#"],
        ["Boeing 747", "Airbus 380"],
    ],
)
def test_other_names_are_taken_as_they_are(names: list[str]) -> None:
    assert parse("\n".join(names), "x") == (names, None, None)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("background,0,0,0\ncheetah,224,64\n", "line 2: 'cheetah,224,64'"),
        ("0 background\n1 cheetah\ndog\n", "line 3: 'dog'"),
        ("cheetah:224,64,64::\n\n# x\ndog\n", "line 4: 'dog'"),
        ("names:\n  - cat\n", "line 1: 'names:'"),
        ('["cat",\n"dog",]', "line 1"),
        ("- cat\n- dog\n", "line 1: '- cat'"),
        ("background, cat, dog", "line 1"),
        ("background,\ncat,\n", "line 1: 'background,'"),
        ("'background'\n'cat'\n", "line 1"),
        ("<html>404</html>", "line 1: '<html>404</html>'"),
        ("| 0 | cat |\n| 1 | dog |\n", "line 1"),
        ("background -1\ncat 0\n", "line 1"),
        ("3\nbackground\ncat\ndog\n", "line 1: '3'"),
    ],
)
def test_other_lines_are_refused_with_their_number(text: str, line: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(text, 'classes = "labels.txt"')
    assert str(caught.value).startswith(f'classes = "labels.txt", {line}')
    assert "a class name a line; or in every line" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "cat 0 0 0 255 1\ndog 1 1 1 255 1\n",
        "cat 0 0 0 255\ndog 255 0 0 255\n",
        "cat,0,0,0\ncat,1,1,1\n",
        "cat,0,0,300\ndog,1,1,1\n",
        "1: cat\n1: dog\n",
    ],
)
def test_tables_that_contradict_themselves_are_refused(text: str) -> None:
    with pytest.raises(
        DataError, match=r"x: its lines are as '.*'; names and labels must all differ, and colours are 0 to"
    ):
        parse(text, "x")


def folder(root: Path, text: str, mask: Any) -> FolderDataset:
    for name, pixels in (("images", np.zeros((*np.shape(mask)[:2], 3))), ("masks", mask)):
        (root / name).mkdir(exist_ok=True)
        Image.fromarray(np.asarray(pixels, np.uint8)).save(root / name / "0.png")
    (root / "labels.txt").write_text(text)
    return FolderDataset(root, "train", "labels.txt", fractions=[1, 0, 0])


CVAT = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncheetah:224,64,64::\n"


def test_the_colours_of_a_class_file_are_the_palette_and_read_masks_of_colours(tmp_path: Path) -> None:
    coloured = folder(tmp_path, CVAT, [[[0, 0, 0], [224, 64, 64]]])
    assert coloured.mask(0).tolist() == [[0, 1]]
    assert coloured.palette == ((0, 0, 0), (224, 64, 64))
    labels = folder(tmp_path, CVAT, [[0, 1, 1]])
    assert labels.mask(0).tolist() == [[0, 1, 1]]
    assert labels.palette == ((0, 0, 0), (224, 64, 64))
    assert folder(tmp_path, CVAT, [[[1, 1, 1], [0, 0, 0]]]).mask(0).tolist() == [[1, 0]]  # labels, stored as colours


def test_all_splits_are_read_as_the_first_one_though_their_colours_are_greys(tmp_path: Path) -> None:
    text = "background 0 0 0\nroad 255 255 255\ncar 255 0 0\n"
    for split, pixels in (("train", [[0, 0, 0], [255, 0, 0]]), ("val", [[0, 0, 0], [255, 255, 255]])):
        (tmp_path / split).mkdir()
        folder(tmp_path / split, text, [pixels])
    (tmp_path / "labels.txt").write_text(text)
    options = {"images": "{split}/images", "masks": "{split}/masks"}
    train, val = (FolderDataset(tmp_path, split, "labels.txt", **options) for split in ("train", "val"))
    assert (train.mask(0).tolist(), val.mask(0).tolist()) == ([[0, 2]], [[0, 1]])  # white is no void


@pytest.mark.parametrize("greys", [(0, 128, 255), (0, 255, 128), (0, 2, 1), (9, 0, 255)])
def test_greys_that_a_class_file_has_as_colours_are_these_classes(tmp_path: Path, greys: tuple[int, ...]) -> None:
    text = "".join(f"{name} {grey} {grey} {grey}\n" for name, grey in zip(NAMES, greys, strict=True))
    assert folder(tmp_path, text, [[[grey] * 3 for grey in greys]]).mask(0).tolist() == [[0, 1, 2]]
    assert folder(tmp_path, text, [[1, 0, 2]]).mask(0).tolist() == [[1, 0, 2]]  # one value a pixel is a label


def test_the_labels_of_a_class_file_are_believed(tmp_path: Path) -> None:
    assert folder(tmp_path, "7 road\n8 sidewalk\n", [[7, 8, 255]]).mask(0).tolist() == [[0, 1, 255]]
    with pytest.raises(DataError, match=r"labels that are not allowed \(0: 1 pixels\); allowed are 7 -> 0, 8 -> 1"):
        folder(tmp_path, "7 road\n8 sidewalk\n", [[7, 0]]).mask(0)
