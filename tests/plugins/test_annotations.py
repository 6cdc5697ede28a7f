"""The datasets of annotations: what their shapes cover, and what is refused by name."""

from __future__ import annotations

import base64
import io
import json
import tomllib
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from segkit.cli import main
from segkit.data.sample import Dataset
from segkit.data.scan import scan_splits
from segkit.errors import ConfigError, DataError, LabelError, gathered
from segkit.registry import datasets
from segkit.settings import DataSettings
from segkit.testing import checks
from segkit_annotations.draw import Shape, ShapeError, draw, ellipse, points_of
from segkit_annotations.files import image_finder, load
from segkit_checks.classes import Classes
from segkit_folder.splits import split_by_fraction

CHECKS = {"classes": Classes(DataSettings())}

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools

FORMATS = ("coco", "labelme", "labelstudio", "via", "yolo", "cvat", "supervisely", "layers", "rle", "polygons")
SQUARE = [[1, 1], [4, 1], [4, 3], [1, 3]]  # columns 1 to 3 of rows 1 and 2
FLAT = [1, 1, 4, 1, 4, 3, 1, 3]


def full(kind: str, data: Any, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, bool)
    at, bits = draw(Shape("cat", kind, data), size)
    mask[at] = bits
    return mask


def picture(path: Path, size: tuple[int, int] = (5, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (9, 9, 9)).save(path)
    return path


def save(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def rows(dataset: Dataset, index: int = 0) -> list[str]:
    """A mask with a character a pixel, void as a dot."""
    return ["".join("." if label == 255 else str(label) for label in row) for row in dataset.mask(index).tolist()]


def one(name: str, root: Path, **options: Any) -> Dataset:
    """A data set of one image, all of it train; of runs, few of which say it, the first pixel is 1."""
    options = {"first_pixel": 1, **options} if name == "rle" else options
    return datasets[name](root, "train", fractions=(1.0, 0.0), **options)


def coco(root: Path, *objects: dict[str, Any], size: tuple[int, int] = (5, 6), **content: Any) -> Path:
    """One image, a.png of 6 x 5 pixels, with these objects."""
    picture(root / "a.png", size)
    image = {"id": 7, "file_name": "a.png", "height": 5, "width": 6}
    categories = [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}]
    annotations = [{"image_id": 7, **each} for each in objects]
    save(root / "c.json", {"images": [image], "annotations": annotations, "categories": categories, **content})
    return root


def cat(*polygons: list[float], category: int = 1, **more: Any) -> dict[str, Any]:
    return {"category_id": category, "segmentation": [*polygons], **more}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_keeps_the_contract_and_knows_its_own_miniature_alone(name: str, tmp_path: Path) -> None:
    for check in checks("dataset", name):
        if check.name != "same_in_another_process":  # slow, and below
            check()
    datasets[name].write_sample(tmp_path)
    found = {each: datasets[each].recognise(tmp_path) for each in FORMATS}
    assert [each for each in FORMATS if found[each]] == [name]
    assert datasets[name](tmp_path, "val", **found[name][0]).classes == ("background", "square", "triangle")
    assert datasets[name](tmp_path, "train").splits == ("train", "val", "test")
    assert [len(datasets[name](tmp_path, split)) for split in ("train", "val", "test")] == [4, 2, 2]


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_each_format_reads_the_same_in_another_process(name: str) -> None:
    next(check for check in checks("dataset", name) if check.name == "same_in_another_process")()


def test_all_formats_draw_the_same_picture_but_labelme_which_adds_the_boundary(tmp_path: Path) -> None:
    masks = {}
    for name in FORMATS[:-1]:
        datasets[name].write_sample(tmp_path / name)
        masks[name] = datasets[name](tmp_path / name, "train").mask(0).numpy()
    assert all((masks[name] == masks["coco"]).all() for name in ("via", "yolo", "cvat"))
    square = masks["coco"] == 1
    assert square.sum() == 12 * 12
    assert (masks["labelme"] == 1).sum() == 13 * 13


# ---- shapes ----


def test_a_square_covers_the_pixels_between_its_corners() -> None:
    assert full("polygon", [SQUARE], (5, 6)).astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_polygons_are_pycocotools_own() -> None:
    mask = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for number in range(1500):  # outside the image, on whole and half pixels, points that repeat, crossing themselves
        height, width = random.integers(1, 40, 2).tolist()
        points = random.uniform(*((0, 1), (-0.4, 1.4))[number % 2], (random.integers(3, 9), 2)) * [width, height]
        points = np.round(points * 2) / 2 if number % 5 == 0 else np.round(points) if number % 3 == 0 else points
        points[1] = points[0] if number % 7 == 0 else points[1]
        wanted = mask.decode(mask.frPyObjects([points.ravel().tolist()], height, width))[..., 0]
        assert (full("polygon", [points], (height, width)) == wanted).all(), (points.tolist(), height, width)


def test_an_ellipse_is_a_polygon_of_72_corners() -> None:
    drawn = full("polygon", [ellipse(30, 20, 20, 10)], (40, 60))
    row, column = np.mgrid[:40, :60] + 0.5
    inside = ((column - 30) / 20) ** 2 + ((row - 20) / 10) ** 2
    assert drawn[inside < 0.93].all()
    assert not drawn[inside > 1.07].any()
    turned = full("polygon", [ellipse(20, 30, 20, 10, 90)], (60, 40))
    assert (turned != drawn.T).sum() < 20
    slanted = full("polygon", [ellipse(30, 30, 20, 2, 45)], (60, 60))  # clockwise: down to the right
    assert slanted[42, 42]
    assert not slanted[42, 18]


def test_fewer_than_three_points_or_no_numbers_are_no_polygon() -> None:
    for points, what in (
        ([1, 1, 2, 2], "fewer than 3 points"),
        ([1, 1, 2], "no pairs of numbers"),
        (["x", 1] * 3, "no pairs of numbers"),
        ([1, float("nan")] * 3, "no pairs of numbers"),
    ):
        with pytest.raises(ShapeError, match=what):
            points_of(points)


# ---- what overlaps, what is void, which names count ----

LARGE, SMALL = [0, 0, 6, 0, 6, 5, 0, 5], [2, 1, 4, 1, 4, 3, 2, 3]


@pytest.mark.parametrize(
    ("overlap", "middle"), [(None, "112211"), ("smallest", "112211"), ("last", "111111"), ("void", "11..11")]
)
def test_one_rule_says_which_of_overlapping_shapes_counts(overlap: str | None, middle: str, tmp_path: Path) -> None:
    coco(tmp_path, cat(SMALL, category=3), cat(LARGE))
    dataset = one("coco", tmp_path, overlap=overlap)
    assert dataset.classes == ("background", "cat", "dog")
    assert rows(dataset) == ["111111", middle, middle, "111111", "111111"]


def test_corners_are_pixels_or_shares_and_what_is_not_said_is_told(tmp_path: Path) -> None:
    wanted = rows(one("coco", coco(tmp_path, cat(FLAT))))
    shares = [each / side for each, side in zip(FLAT, 4 * (6, 5), strict=True)]
    with pytest.warns(UserWarning, match="corners are read as shares of width and height because all lie in 0 to 1"):
        assert rows(one("coco", coco(tmp_path, cat(shares)))) == wanted
    far = [1000 * each for each in shares]
    with pytest.raises(LabelError, match="by over ten times its size: corners are pixels, or in YOLO shares"):
        one("coco", coco(tmp_path, cat(far))).mask(0)
    picture(coco(tmp_path, cat(FLAT), images=[{"id": 7, "file_name": "a.png"}]) / "a.png", (300, 400))
    with pytest.warns(UserWarning, match="read as pixels, .* the images are far larger; if they are percent, export"):
        assert one("coco", tmp_path).mask(0).sum() == 6


def test_init_asks_in_which_unit_corners_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        picture(tmp_path / f"{number}.png", (300, 400 + number))
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(12)]
    annotations = [{"image_id": number, **cat([number, *FLAT[1:]])} for number in range(12)]
    save(tmp_path / "c.json", {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]})
    assert main(["init", str(tmp_path), "-o", str(tmp_path / "mine.toml")]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "all lie in 0 to 100 and the images are far larger" in printed
    assert "--yes: they are pixels" in printed


def test_of_two_shapes_of_one_size_the_later_counts(tmp_path: Path) -> None:
    coco(tmp_path, cat([0, 0, 3, 0, 3, 1, 0, 1]), cat([1, 0, 4, 0, 4, 1, 1, 1], category=3))
    assert rows(one("coco", tmp_path))[0] == "122200"


def test_overlaps_can_be_refused_but_those_of_one_class_are_none(tmp_path: Path) -> None:
    dataset = one("coco", coco(tmp_path, cat(SMALL, category=3), cat(LARGE)), overlap="error")
    with pytest.raises(LabelError, match=r"a\.png: shapes of several classes cover .* \(4 pixels\); .*smallest"):
        dataset.mask(0)
    dataset = one("coco", coco(tmp_path, cat(SMALL), cat(LARGE)), overlap="error")
    assert rows(dataset) == ["111111"] * 5


def test_crowds_are_of_their_class_or_void(tmp_path: Path) -> None:
    crowd = {
        "category_id": 3,
        "iscrowd": 1,
        "segmentation": {"size": [5, 6], "counts": [5, 5, 20]},
    }  # the second column
    coco(tmp_path, crowd, cat([0, 0, 2, 0, 2, 1, 0, 1]))
    assert rows(one("coco", tmp_path))[:2] == ["110000", "020000"]
    dataset = one("coco", tmp_path, class_map={"* (crowd)": "void"})
    assert (dataset.classes, rows(dataset)[:2]) == (("background", "cat", "dog"), ["110000", "0.0000"])


def test_what_no_shape_covers_is_the_background_or_void(tmp_path: Path) -> None:
    coco(tmp_path, cat(FLAT))
    assert one("coco", tmp_path, background="ground").classes == ("ground", "cat", "dog")
    dataset = one("coco", tmp_path, background="dog")
    assert (dataset.classes, rows(dataset)[1]) == (("cat", "dog"), "100011")
    dataset = one("coco", tmp_path, background="void")
    assert (dataset.classes, rows(dataset)[1]) == (("cat", "dog"), ".000..")


def test_names_may_be_merged_left_out_and_ordered(tmp_path: Path) -> None:
    coco(tmp_path, cat([0, 0, 1, 0, 1, 1, 0, 1]), cat([2, 0, 3, 0, 3, 1, 2, 1], category=3))
    assert rows(one("coco", tmp_path, classes=["dog", "cat"]))[0] == "201000"
    dataset = one("coco", tmp_path, class_map={"cat": "animal", "dog": "animal"})
    assert (dataset.classes, rows(dataset)[0]) == (("background", "animal"), "101000")
    assert rows(one("coco", tmp_path, class_map={"dog": "void"}))[0] == "10.000"
    dataset = one("coco", tmp_path, classes=["dog"], class_map={"*": "background", "dog": "dog"})
    assert rows(dataset)[0] == "000000"  # the first pattern that fits counts
    dataset = one("coco", tmp_path, classes=["dog"], class_map={"dog": "dog", "*": "background"})
    assert (dataset.classes, rows(dataset)[0]) == (("background", "dog"), "001000")
    with pytest.raises(DataError, match=r"c\.json: a name that is no class \('cat'\); the classes are background, dog"):
        one("coco", tmp_path, classes=["dog"])
    with pytest.raises(ConfigError, match='"void" is no class'):
        one("coco", tmp_path, classes=["void", "cat", "dog"])


# ---- COCO ----


def test_runs_compressed_or_not_are_pycocotools_own(tmp_path: Path) -> None:
    tool = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(1)
    wanted = random.random((5, 6)) < 0.4
    counts = tool.encode(np.asfortranarray(wanted.astype(np.uint8)))["counts"].decode()
    coco(tmp_path, {"category_id": 1, "segmentation": {"size": [5, 6], "counts": counts}})
    assert (one("coco", tmp_path).mask(0).numpy() == wanted).all()
    wide = (random.random((300, 700)) < 0.001).repeat(1)  # runs of several letters
    wide = np.maximum.accumulate(wide.reshape(300, 700)[:, ::-1], 1) & (random.random((300, 700)) < 0.9)
    coco(
        tmp_path,
        {
            "category_id": 1,
            "segmentation": {
                "size": [300, 700],
                "counts": tool.encode(np.asfortranarray(wide.astype(np.uint8)))["counts"].decode(),
            },
        },
        size=(300, 700),
        images=[{"id": 7, "file_name": "a.png"}],
    )
    assert (one("coco", tmp_path).mask(0).numpy() == wide).all()


def test_runs_by_hand() -> None:
    assert full("runs", (0, 0, (2, 3), [1, 2, 3], True), (2, 3)).astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert full("runs", (0, 0, (2, 3), [1, 2, 3], False), (2, 3)).astype(int).tolist() == [[0, 1, 1], [0, 0, 0]]
    assert full("runs", (1, 2, (1, 3), [1, 2], False), (2, 5)).astype(int).tolist() == [[0] * 5, [0, 0, 0, 1, 1]]


def test_several_polygons_are_one_object(tmp_path: Path) -> None:
    coco(tmp_path, cat([0, 0, 2, 0, 2, 2, 0, 2], [1, 1, 3, 1, 3, 3, 1, 3]))
    assert rows(one("coco", tmp_path)) == ["110000", "111000", "011000", "000000", "000000"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (cat([1, 1, 2, 2]), r"c\.json: a shape of fewer than 3 points \(number 1 of a\.png, 'cat', 2\)"),
        (cat(), r"covers no pixels or is not known .*a box alone"),
        (
            cat([1, 1, 9, 1, 9, 3]),
            r"goes beyond its image, .*cut.* \(number 1 of a\.png, 'cat', x 1 to 9, .* is 6 x 5\)",
        ),
        ({"category_id": 1, "segmentation": {"size": [5, 5], "counts": [25]}}, "of another size than its image"),
        ({"category_id": 1, "segmentation": {"size": [5, 6], "counts": [25]}}, "does not fill its mask"),
        ({"category_id": 1, "segmentation": 3}, "covers no pixels or is not known .*segment"),
    ],
)
def test_a_shape_that_cannot_be_drawn_is_named(broken: dict[str, Any], message: str, tmp_path: Path) -> None:
    dataset = one("coco", coco(tmp_path, broken))
    with pytest.raises(LabelError, match=message):
        dataset.mask(0)
    issues = scan_splits({"train": dataset}, checks=CHECKS, progress=False).issues
    assert any("c.json" in str(issue) and issue.skippable for issue in issues)


def test_what_goes_beyond_the_image_can_be_cut_off(tmp_path: Path) -> None:
    dataset = one("coco", coco(tmp_path, cat([4, -9, 40, -9, 40, 2, 4, 2])), outside="cut")
    assert rows(dataset) == ["000011", "000011", "000000", "000000", "000000"]
    dataset = one("coco", coco(tmp_path, cat([4, 0, 1e12, 0, 1e12, 2, 4, 2])), outside="cut")  # would fill the memory
    with pytest.raises(LabelError, match="beyond its image, by over ten times its size"):
        dataset.mask(0)
    dataset = one("coco", coco(tmp_path, cat([500_007, 4e6, 500_037, 4e6, 500_037, 4e6 + 9])))
    with pytest.raises(LabelError, match="rasterize shapes in geographic coordinates first"):
        dataset.mask(0)


def test_files_that_are_not_as_they_should_be_are_named(tmp_path: Path) -> None:
    dataset = one("coco", coco(tmp_path, cat(FLAT), size=(6, 5)))
    with pytest.raises(LabelError, match=r"c\.json: image and mask differ in size.* \(6 x 5, .*a\.png is 5 x 6,"):
        dataset.mask(0)
    with pytest.raises(LabelError, match="lies on its side"):
        dataset[0]
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png: named by the annotations but does not exist \(in .*c\.json\)"):
        one("coco", tmp_path)
    coco(tmp_path, cat(FLAT, category=2))
    with pytest.raises(DataError, match=r"c\.json: .* category_id is no id in 'categories' \(category_id 2\)"):
        one("coco", tmp_path)
    coco(tmp_path, cat(FLAT, image_id=9))
    with pytest.raises(DataError, match=r"c\.json: .* image_id is no id in 'images' \(image_id 9\)"):
        one("coco", tmp_path)
    coco(tmp_path, {"category_id": 1, "image_id": 7}, annotations=[{"image_id": 7}])
    with pytest.raises(DataError, match=r"c\.json: not as COCO has it \(KeyError: 'category_id'\)"):
        one("coco", tmp_path)
    save(tmp_path / "c.json", '{"images": [')
    with pytest.raises(DataError, match=r"c\.json: no valid JSON, or cut short \(.*line 1"):
        one("coco", tmp_path, annotations="c.json")
    with pytest.raises(DataError, match=r"d\.json does not exist"):
        one("coco", tmp_path, annotations="d.json")
    save(tmp_path / "c.json", "[]")
    with pytest.raises(
        DataError, match=r"cannot tell which annotations to read: none found; expected a COCO JSON file"
    ):
        one("coco", tmp_path)


def test_of_several_images_of_one_name_the_one_below_the_annotations_counts(tmp_path: Path) -> None:
    coco(tmp_path / "one", cat(FLAT))
    (tmp_path / "one/a.png").unlink()
    places = [picture(tmp_path / name / "photos/here/a.png") for name in ("one", "two")]
    assert one("coco", tmp_path).files(0)[0] == places[0]


def test_ids_may_be_text_on_one_side(tmp_path: Path) -> None:
    image, names = {"id": "7", "file_name": "a.png"}, [{"id": str(n), "name": f"n{n}"} for n in (1, 2, 10)]
    dataset = one("coco", coco(tmp_path, cat(FLAT, category=10), images=[image], categories=names))
    assert (dataset.classes, rows(dataset)[1]) == (("background", "n1", "n2", "n10"), "033300")


def test_segments_of_panoptic_masks_have_the_classes_of_their_json(tmp_path: Path) -> None:
    parts = [{"id": number, "category_id": category} for number, category in ((300, 3), (70_000, 1), (5, 3))]
    coco(tmp_path, {"file_name": "a.png", "segments_info": parts})
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    content = (tmp_path / "c.json").read_text().replace('"a.png", "height"', '"a.jpg", "height"')
    save(tmp_path / "annotations/panoptic.json", content)
    (tmp_path / "c.json").unlink()
    ids = np.zeros((5, 6), int)
    ids[1], ids[2], ids[3] = 300, 70_000, 5
    (tmp_path / "panoptic").mkdir()
    Image.fromarray(np.dstack([ids & 255, ids >> 8 & 255, ids >> 16]).astype(np.uint8)).save(
        tmp_path / "panoptic/a.png"
    )
    assert datasets["coco"].recognise(tmp_path) == [{"annotations": "annotations/panoptic.json", "background": "void"}]
    dataset = one("coco", tmp_path, background="void")
    assert dataset.classes == ("cat", "dog")
    assert rows(dataset) == ["......", "111111", "000000", "111111", "......"]
    picture(tmp_path / "panoptic/a.png")
    with pytest.raises(LabelError, match="no pixel is of a segment that its JSON lists"):
        dataset.mask(0)


def test_a_coco_id_that_stands_for_two_names_is_refused(tmp_path: Path) -> None:
    names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    coco(tmp_path, cat(FLAT), categories=[*names, {"id": 1, "name": "bird"}])
    with pytest.raises(DataError, match=r"c\.json: .* occurs twice in 'categories', .* \(id 1: 'cat' and 'bird'\)"):
        one("coco", tmp_path)
    assert one("coco", coco(tmp_path, cat(FLAT), categories=[*names, names[0]])).classes == ("background", "cat", "dog")
    coco(tmp_path, images=[{"id": 7, "file_name": name} for name in ("a.png", "b.png")])
    with pytest.raises(DataError, match=r"c\.json: .* occurs twice in 'images', .* \(id 7: 'a\.png' and 'b\.png'\)"):
        one("coco", tmp_path)


def test_images_of_coco_without_an_object_are_told_and_asked_about_where_they_are_many(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(4)]
    for drawn, end in ((2, "2.png, .*3.png; .* blank_unpaired = true"), (3, "3.png$")):
        objects = [cat(FLAT, image_id=number) for number in range(drawn)]
        coco(tmp_path, *objects, images=images)
        (tmp_path / "a.png").unlink()
        for number in range(4):
            picture(tmp_path / f"{number}.png")
        with pytest.warns(UserWarning, match=rf"{4 - drawn} of 4 images have no object .*{end}"):
            one("coco", tmp_path)
    with warnings.catch_warnings(action="error"):
        one("coco", tmp_path, blank_unpaired=True)


def test_a_category_that_is_the_group_of_the_others_is_no_class(tmp_path: Path) -> None:
    names = [("objects", "none"), ("cat", "objects"), ("dog", "objects")]
    categories = [{"id": number, "name": name, "supercategory": group} for number, (name, group) in enumerate(names)]
    coco(tmp_path, cat(FLAT), categories=categories)
    assert one("coco", tmp_path).classes == ("background", "cat", "dog")


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_{}2017.json", "{}2017"),
        ("annotations/instances_{}.json", "images/{}"),
        ("{}/_annotations.coco.json", "{}"),
        ("{}/result.json", "{}/images"),
        ("{}.json", "images"),
    ],
)
def test_where_coco_usually_lies_is_found(annotations: str, images: str, tmp_path: Path) -> None:
    for word in ("train", "valid"):
        coco(tmp_path / "made", cat(FLAT))
        picture(tmp_path / "data" / images.format(word) / f"{word}.png")
        content = json.loads((tmp_path / "made" / "c.json").read_text())
        content["images"][0]["file_name"] = f"{word}.png"
        save(tmp_path / "data" / annotations.format(word), content)
    found = datasets["coco"].recognise(tmp_path / "data")
    assert found == [{"annotations": annotations.format("{split}")}]
    for split, word in (("train", "train"), ("val", "valid")):
        dataset = datasets["coco"](tmp_path / "data", split, **found[0])
        assert (dataset.splits, list(dataset.names)) == (("train", "val"), [word])


def test_of_images_of_one_name_the_nearest_is_meant(tmp_path: Path) -> None:
    for version in ("first", "second"):  # of the same images
        for word in ("train", "test"):
            for folder in ("pixels", "sem_seg"):
                picture(tmp_path / version / f"{word}set" / folder / "a.png")
            coco(tmp_path / "made", cat(FLAT))
            save(tmp_path / version / f"{word}set" / "labels.json", (tmp_path / "made" / "c.json").read_text())
    found = datasets["coco"].recognise(tmp_path / "second")
    assert found == [{"annotations": "{split}set/labels.json"}]
    for version in ("first", "second"):
        dataset = datasets["coco"](tmp_path, "test", annotations=f"{version}/{{split}}set/labels.json")
        assert dataset.files(0)[0] == tmp_path / version / "testset/pixels/a.png"


def check_facade(root: Path, most: int) -> int:
    tool = pytest.importorskip("pycocotools.mask")
    count = 0
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        dataset = datasets["coco"](root, split)
        content = json.loads((root / folder / "_annotations.coco.json").read_text())
        called = {each["id"]: each["name"] for each in content["categories"]}
        ids = {each["file_name"]: each["id"] for each in content["images"]}
        for index, name in [*enumerate(path.name for path, _ in dataset.pairs)][:most]:
            objects = []
            for each in content["annotations"]:
                if each["image_id"] == ids[name]:
                    encoded = tool.merge(tool.frPyObjects(each["segmentation"], 1024, 1024))
                    objects.append((tool.decode(encoded).astype(bool), called[each["category_id"]]))
            wanted = np.zeros((1024, 1024), np.uint8)
            for covered, label in sorted(objects, key=lambda each: -int(each[0].sum())):
                wanted[covered] = dataset.classes.index(label)
            assert (dataset.mask(index).numpy() == wanted).all(), name
            count += 1
    return count


def test_masks_of_facade_are_pycocotools_own(real_data: Path) -> None:
    assert check_facade(real_data / "facade", most=2) == 6


@pytest.mark.slow
def test_all_masks_of_facade_are_pycocotools_own(real_data: Path) -> None:
    assert check_facade(real_data / "facade", most=99) == 84


# ---- labelme ----


def labelme(root: Path, *shapes: tuple[str, str, list[list[float]]], name: str = "a", **more: Any) -> Path:
    picture(root / f"{name}.png")
    drawn = [{"label": label, "shape_type": kind, "points": points, "flags": {}} for label, kind, points in shapes]
    content = {"version": "5.3", "shapes": drawn, "imagePath": f"{name}.png", "imageHeight": 5, "imageWidth": 6}
    save(root / f"{name}.json", content | more)
    return root


def test_labelme_draws_boundaries_and_later_shapes_over_earlier_ones(tmp_path: Path) -> None:
    labelme(
        tmp_path,
        ("cat", "polygon", SQUARE),
        ("dog", "rectangle", [[5, 4], [4, 3]]),
        ("__ignore__", "rectangle", [[0, 0], [0, 1]]),
        ("_background_", "rectangle", [[2, 1], [2, 1]]),
        ("cat", "circle", [[5, 0], [5, 0.5]]),
    )
    dataset = one("labelme", tmp_path)
    assert dataset.classes == ("background", "cat", "dog")
    assert rows(dataset) == [".00011", ".10110", "011110", "011122", "000022"]


def test_labelme_masks_points_and_lines(tmp_path: Path) -> None:
    stored = io.BytesIO()
    Image.fromarray(np.array([[1, 0], [1, 1]], np.uint8) * 255).save(stored, "PNG")
    labelme(tmp_path, ("cat", "mask", [[3, 1], [4, 2]]))
    content = json.loads((tmp_path / "a.json").read_text())
    content["shapes"][0]["mask"] = base64.b64encode(stored.getvalue()).decode()
    save(tmp_path / "a.json", content)
    assert rows(one("labelme", tmp_path)) == ["000000", "000100", "000110", "000000", "000000"]
    content["shapes"][0]["points"] = [[5, 1], [6, 2]]
    save(tmp_path / "a.json", content)
    with pytest.raises(LabelError, match="a mask that goes beyond its image"):
        one("labelme", tmp_path).mask(0)
    content["shapes"][0]["mask"] = "QUJD"
    save(tmp_path / "a.json", content)
    with pytest.raises(LabelError, match="a mask that is no PNG"):
        one("labelme", tmp_path).mask(0)
    labelme(tmp_path, ("cat", "line", [[0, 0], [5, 0]]), ("dog", "point", [[5, 4]]))
    assert set(rows(one("labelme", tmp_path))) >= {"222222"}
    drawn = [rows(one("labelme", labelme(tmp_path, ("cat", kind, SQUARE)))) for kind in ("polygon", "rotation")]
    assert drawn[0] == drawn[1]  # the latter is X-AnyLabeling's
    labelme(tmp_path, ("cat", "cuboid", SQUARE))
    with pytest.raises(LabelError, match=r"a\.json: a shape of a kind .* not known .*cuboid"):
        one("labelme", tmp_path).mask(0)


def test_labelme_names_come_from_labels_txt_and_strangers_are_named(tmp_path: Path) -> None:
    labelme(tmp_path, ("cat", "polygon", SQUARE))
    save(tmp_path / "labels.txt", "__ignore__\n_background_\ndog\ncat\n")
    assert one("labelme", tmp_path).classes == ("background", "dog", "cat")
    labelme(tmp_path, ("cow", "polygon", SQUARE), name="b")
    with pytest.raises(DataError, match=r"b\.json: a name that is no class \('cow'\)"):
        one("labelme", tmp_path)


def test_a_broken_file_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    labelme(tmp_path, ("cat", "polygon", SQUARE), name="a")
    for name in ("b", "c"):
        picture(tmp_path / f"{name}.png")
        save(tmp_path / f"{name}.json", '{"shapes": [')
    with pytest.raises(DataError, match=r"2 files: no valid JSON, or cut short .*: .*/b\.json, .*/c\.json"):
        one("labelme", tmp_path)
    with gathered() as issues, pytest.warns(UserWarning, match="2 pictures without annotations"):
        assert len(one("labelme", tmp_path)) == 1
    assert {Path(issue.file).name for issue in issues} == {"b.json", "c.json"}


def test_labelme_images_may_lie_elsewhere(tmp_path: Path) -> None:
    labelme(tmp_path / "json", ("cat", "polygon", SQUARE), imagePath="..\\pictures\\a.png")
    (tmp_path / "json" / "a.png").unlink()
    with pytest.raises(DataError, match="images = FOLDER"):
        one("labelme", tmp_path)
    picture(tmp_path / "pictures" / "a.png")
    assert len(one("labelme", tmp_path)) == 1
    picture(tmp_path / "other" / "a.png")
    dataset = one("labelme", tmp_path, images="other")
    assert dataset.files(0)[0] == tmp_path / "other" / "a.png"


def test_labelme_may_say_the_name_of_the_image(tmp_path: Path) -> None:
    labelme(tmp_path, ("cat", "polygon", SQUARE))
    save(tmp_path / "a.json", (tmp_path / "a.json").read_text().replace("imagePath", "imageName"))
    assert len(one("labelme", tmp_path)) == 1


def test_photographs_of_labelme(real_data: Path) -> None:
    dataset = one("labelme", real_data / "labelme")
    assert dataset.classes == ("background", "bottle", "bus", "car", "chair", "person", "sofa")
    assert dataset.mask(2).shape == (375, 500)
    assert int((dataset.mask(2) == dataset.classes.index("bus")).sum()) == pytest.approx(0.6305 * 375 * 500, rel=1e-3)


# ---- VIA ----


def via(root: Path, *regions: tuple[dict[str, Any], dict[str, Any]], project: bool = False) -> Path:
    picture(root / "a.png")
    drawn: Any = [{"shape_attributes": shape, "region_attributes": name} for shape, name in regions]
    content: Any = {"a.png123": {"filename": "a.png", "size": 123, "regions": drawn, "file_attributes": {}}}
    save(root / "v.json", {"_via_settings": {}, "_via_img_metadata": content} if project else content)
    return root


VIA_SHAPES = {
    "rect": ({"x": 1, "y": 1, "width": 3, "height": 2}, ["000000", "011100", "011100", "000000", "000000"]),
    "polygon": (
        {"all_points_x": [1, 4, 4, 1], "all_points_y": [1, 1, 3, 3]},
        ["000000", "011100", "011100", "000000", "000000"],
    ),
    "circle": ({"cx": 3, "cy": 2, "r": 1}, ["000000", "001100", "001100", "000000", "000000"]),
    "ellipse": ({"cx": 3, "cy": 2, "rx": 2.6, "ry": 1.2}, ["000000", "011110", "011110", "000000", "000000"]),
    "polyline": ({"all_points_x": [0, 5], "all_points_y": [2, 2]}, ["111111"] * 5),
}


@pytest.mark.parametrize("kind", VIA_SHAPES)
def test_shapes_of_via(kind: str, tmp_path: Path) -> None:
    shape, wanted = VIA_SHAPES[kind]
    via(tmp_path, ({"name": kind, **shape}, {"class": "cat"}), project=kind == "rect")
    dataset = one("via", tmp_path)
    assert (dataset.classes, rows(dataset)) == (("background", "cat"), wanted)


def test_via_regions_are_called_by_one_attribute(tmp_path: Path) -> None:
    rect, other = ({"name": "rect", "x": x, "y": 0, "width": 1, "height": 1} for x in (0, 2))
    via(tmp_path, (rect, {}), (other, {}))
    assert one("via", tmp_path).classes == ("background", "object")
    via(tmp_path, (rect, {"kind": {"cat": True, "dog": False}}), (other, {"kind": "dog", "colour": "red"}))
    with pytest.raises(ConfigError, match=r"v\.json: which attribute .*attribute = one of colour, kind"):
        one("via", tmp_path)
    dataset = one("via", tmp_path, attribute="kind")
    assert (dataset.classes, rows(dataset)[0]) == (("background", "cat", "dog"), "102000")
    via(tmp_path, ({"name": "point", "cx": 1, "cy": 1}, {}))
    with pytest.raises(LabelError, match=r"v\.json: a shape of a kind that covers no pixels .*point"):
        one("via", tmp_path).mask(0)


def test_via_tables_and_images_in_a_folder_that_they_do_not_name(tmp_path: Path) -> None:
    picture(tmp_path / "photos/a.png")
    heading = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    shape = '"{""name"":""rect"",""x"":1,""y"":0,""width"":2,""height"":1}"'
    save(tmp_path / "v.csv", f'{heading}\na.png,9,{{}},1,0,{shape},"{{""kind"":""cat""}}"\n')
    assert rows(one("via", tmp_path))[0] == "011000"
    picture(tmp_path / "others/a.png")  # it may be either
    with pytest.raises(DataError, match=r"several images have this name: .*; set `images`"):
        one("via", tmp_path)


# ---- YOLO ----


def yolo(root: Path, *lines: str, **content: Any) -> Path:
    picture(root / "images" / "train" / "a.png", (10, 20))
    save(root / "labels" / "train" / "a.txt", "\n".join(lines))
    settings = {"path": "/elsewhere", "train": "images/train", "val": "images/train", "names": {0: "cat", 1: "dog"}}
    save(root / "data.yaml", yaml.safe_dump(settings | content))
    return root


def test_yolo_polygons_are_shares_of_the_image(tmp_path: Path) -> None:
    yolo(tmp_path, "1 0.1 0.2 0.5 0.2 0.5 0.4 0.1 0.4", "", "0 0 0 0.1 0 0.1 0.1 0 0.1")
    picture(tmp_path / "images" / "train" / "b.png", (10, 20))  # without labels: background
    dataset = datasets["yolo"](tmp_path, "train")
    assert rows(dataset)[:4] == ["11" + "0" * 18, "0" * 20, *["00" + "2" * 8 + "0" * 10] * 2]
    assert (int(dataset.mask(1).sum()), dataset.files(1)[1].name) == (0, "data.yaml")
    assert dataset.classes == ("background", "cat", "dog")


def test_yolo_images_may_lie_in_another_folder_beside_labels(tmp_path: Path) -> None:
    yolo(tmp_path, "0 0 0 1 0 1 1", train="photos/train", val="photos/train")
    (tmp_path / "images").rename(tmp_path / "photos")
    picture(tmp_path / "photos" / "train" / ".ipynb_checkpoints" / "a-checkpoint.png")
    dataset = datasets["yolo"](tmp_path, "train")
    assert [each.name for each in dataset.files(0)] == ["a.png", "a.txt"]
    assert (len(dataset), int(dataset.mask(0).max())) == (1, 1)


def test_yolo_names_are_text_though_yaml_takes_them_for_booleans_and_numbers(tmp_path: Path) -> None:
    yolo(tmp_path, "0 0 0 1 0 1 1")
    for names, expected in (("[yes, no, on]", ("yes", "no", "on")), ("{0: 1.10, 1: ~, 2: 007}", ("1.10", "~", "007"))):
        save(tmp_path / "data.yaml", f"train: images/train\nval: images/train\nnames: {names}\n")
        assert datasets["yolo"](tmp_path, "train").classes[-3:] == expected


def test_yolo_splits_are_folders_or_lists_as_roboflow_and_cvat_write_them(tmp_path: Path) -> None:
    picture(tmp_path / "valid" / "images" / "v.png")
    save(tmp_path / "list.txt", "data/images/train/a.png\n")
    yolo(tmp_path, "0 0 0 1 0 1 1", train=["list.txt"], val="../valid/images", names=["cat"])
    assert list(datasets["yolo"](tmp_path, "train").names) == ["a"]
    assert list(datasets["yolo"](tmp_path, "val").names) == ["v"]
    yolo(tmp_path, "0 0 0 1 0 1 1", val="nowhere")
    with pytest.warns(UserWarning, match=r"data\.yaml names .*nowhere, which does not exist"):
        assert datasets["yolo"](tmp_path, "train").splits == ("train",)


@pytest.mark.parametrize("base", ["/content/drive/MyDrive/proj", "C:\\\\data", ".."])
def test_yolo_folders_of_another_computer_are_found_by_their_last_two_names(base: str, tmp_path: Path) -> None:
    yolo(tmp_path, "1 0 0 0.5 0 0.5 1 0 1", path=None, train=f"{base}/images/train", val=f"{base}/images/train")
    assert rows(one("yolo", tmp_path))[0] == "2" * 10 + "0" * 10
    yolo(tmp_path, train=f"{base}/other/train", val=f"{base}/other/train")
    with pytest.raises(DataError, match="no image with annotations"), pytest.warns(UserWarning, match="does not exist"):
        one("yolo", tmp_path)


def test_a_yaml_beside_its_folder_may_have_an_empty_split(tmp_path: Path) -> None:
    yolo(tmp_path / "mine", "1 0 0 0.5 0 0.5 1 0 1")
    text = (
        "path: ../datasets/mine\ntrain: images/train\nval: images/train\ntest:  # optional\nnames: {0: cat, 1: dog}\n"
    )
    save(tmp_path / "mine.yaml", text)
    (tmp_path / "mine" / "data.yaml").unlink()
    assert rows(one("yolo", tmp_path))[0] == "2" * 10 + "0" * 10


@pytest.mark.parametrize("names", ["classes.txt", "data/obj.names", None])
def test_yolo_without_a_yaml(names: str | None, tmp_path: Path) -> None:
    for split in ("train", "val"):
        picture(tmp_path / "images" / split / "1.jpg")
        save(tmp_path / "labels" / split / "1.txt", "1 0.2 0.2 0.7 0.2 0.7 0.6 0.2 0.6\n")
        picture(tmp_path / "images" / split / "2.jpg")  # all background
    if names:
        save(tmp_path / names, "cat\ndog\n")
    (options,) = datasets["yolo"].recognise(tmp_path)
    assert options == {"annotations": names or "labels"}
    train = datasets["yolo"](tmp_path, "train")
    assert train.splits == ("train", "val")
    assert train.classes[1:] == (("cat", "dog") if names else ("class_0", "class_1"))
    assert [*map("".join, rows(train))][1] == "022200"
    assert len(train) == 2
    save(tmp_path / "labels" / "train" / "notes.txt", "to be done")
    assert not datasets["yolo"].recognise(tmp_path)


def test_classes_as_float_without_a_yaml_are_counted(tmp_path: Path) -> None:
    picture(tmp_path / "images/1.png", (10, 10))
    save(tmp_path / "labels/1.txt", "1.0 0.2 0.2 0.7 0.2 0.7 0.6 0.2 0.6\n")
    dataset = one("yolo", tmp_path)
    assert (dataset.classes, int(dataset.mask(0).max())) == (("background", "class_0", "class_1"), 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7 0 0 1 0 1 1", r"a\.txt: a line that is no polygon of a known class \(7 0 0 1 0 1 1\)"),
        ("0 zero 0 1 0 1 1", "no pairs of numbers"),
        ("0 0.5 0.5 0.2 0.2", "fewer than 3 points"),
        (
            "0 0.5 0.5 20 0.2 7 7",
            "goes beyond its image, by over ten times its size: corners are pixels, or in YOLO shares",
        ),
        ("0 0.5 0.5 0.2", "no pairs of numbers"),
    ],
)
def test_lines_of_yolo_that_are_no_polygon_are_named(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        datasets["yolo"](yolo(tmp_path, line), "train").mask(0)


# ---- CVAT ----


def cvat(root: Path, shapes: str) -> Path:
    picture(root / "images" / "a.png")
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("cat", "dog"))
    image = f'<image id="0" name="a.png" width="6" height="5">{shapes}</image>'
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    save(
        root / "annotations.xml", f'<?xml version="1.0"?><annotations><version>1.1</version>{meta}{image}</annotations>'
    )
    return root


def test_shapes_of_cvat_by_their_order_in_depth(tmp_path: Path) -> None:
    cvat(
        tmp_path,
        '<polygon label="dog" z_order="1" points="0,0;2,0;2,2;0,2"/><box label="cat" xtl="0" ytl="0" xbr="3" ybr="1"/>'
        '<mask label="cat" left="4" top="3" width="2" height="2" rle="1,2,1"/><tag label="dog"/>',
    )
    dataset = one("cvat", tmp_path)
    assert dataset.classes == ("background", "cat", "dog")
    assert rows(dataset) == ["221000", "220000", "000000", "000001", "000010"]
    cvat(tmp_path, '<box label="cat" xtl="1" ytl="1" xbr="5" ybr="3" rotation="90"/>')
    assert rows(one("cvat", tmp_path)) == ["001100"] * 4 + ["000000"]
    cvat(tmp_path, '<ellipse label="cat" cx="3" cy="2" rx="2.6" ry="1.2"/><points label="cat" points="1,1"/>')
    with pytest.raises(LabelError, match=r"annotations\.xml: a shape of a kind that covers no pixels .*points"):
        one("cvat", tmp_path).mask(0)
    save(tmp_path / "annotations.xml", "<annotations><meta><image")
    with pytest.raises(DataError, match=r"annotations\.xml: no valid XML, or cut short"):
        one("cvat", tmp_path, annotations="annotations.xml")


def test_an_export_of_cvat_a_split(tmp_path: Path) -> None:
    for word in ("train", "val"):
        cvat(tmp_path / word, '<box label="cat" xtl="0" ytl="0" xbr="3" ybr="1"/>')
    found = datasets["cvat"].recognise(tmp_path)
    assert found == [{"annotations": "{split}/annotations.xml"}]
    dataset = datasets["cvat"](tmp_path, "val")
    assert (dataset.splits, dataset.files(0)[0]) == (("train", "val"), tmp_path / "val" / "images" / "a.png")


def test_masks_of_cvat_hold_the_colours_of_labelmap(tmp_path: Path) -> None:
    save(
        tmp_path / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:224,64,64::\ndog:1,2,3::\n"
    )
    mask = np.zeros((5, 6, 3), np.uint8)
    mask[1, 1:4], mask[2, 2] = (224, 64, 64), (1, 2, 3)
    (tmp_path / "SegmentationClass").mkdir()
    for name in ("a", "b", "c d"):
        picture(tmp_path / "JPEGImages" / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / "SegmentationClass" / f"{name}.png")
    for split, names in (("Train", "a\nb"), ("Validation", "c d")):
        save(tmp_path / "ImageSets" / "Segmentation" / f"{split}.txt", names)
        (tmp_path / "SegmentationObject").mkdir(exist_ok=True)
        Image.fromarray(mask // 2).save(tmp_path / "SegmentationObject" / f"{names[0]}.png")
    assert datasets["cvat"].recognise(tmp_path) == []
    with pytest.raises(DataError, match=r'labelmap\.txt: the dataset "folder" reads such masks, with classes = "label'):
        one("cvat", tmp_path, annotations="labelmap.txt")
    options = {"images": "JPEGImages", "masks": "SegmentationClass", "lists": "ImageSets/Segmentation/{split}.txt"}
    assert datasets["folder"].recognise(tmp_path)[0] == options
    main(["init", str(tmp_path), "-o", str(tmp_path / "a.toml"), "--yes"])
    found = tomllib.loads((tmp_path / "a.toml").read_text())["dataset"]
    assert {**options, "classes": "labelmap.txt"}.items() <= found.items()
    options["classes"] = "labelmap.txt"
    dataset = datasets["folder"](tmp_path, "train", **options)
    assert (list(dataset.names), dataset.splits) == (["a", "b"], ("train", "val"))
    assert (dataset.classes, rows(dataset)[1:3]) == (("background", "cat", "dog"), ["011100", "002000"])
    mask[0, 0] = 7
    Image.fromarray(mask).save(tmp_path / "SegmentationClass" / "b.png")
    with pytest.raises(LabelError, match=r"b\.png: colours that the colour map lacks .*\[7, 7, 7\]"):
        dataset.mask(1)
    save(tmp_path / "labelmap.txt", "cat:224,64,64::\ndog:224,64,64::\n")
    with pytest.raises(ConfigError, match="two classes share a colour"):
        datasets["folder"](tmp_path, "train", **options)


# ---- Supervisely ----


def data_of(bitmap: io.BytesIO) -> str:
    return base64.b64encode(zlib.compress(bitmap.getvalue())).decode()


def test_shapes_of_supervisely(tmp_path: Path) -> None:
    bitmap = io.BytesIO()
    Image.fromarray(np.array([[1, 0], [1, 1]], np.uint8)).convert("P").save(bitmap, "PNG", transparency=0)
    data = data_of(bitmap)
    polygon = {"exterior": [[0, 0], [4, 0], [4, 4], [0, 4]], "interior": [[[1, 1], [2, 1], [2, 2], [1, 2]]]}
    objects: list[dict[str, Any]] = [
        {"classTitle": "cat", "geometryType": "polygon", "points": polygon},
        {"classTitle": "dog", "geometryType": "rectangle", "points": {"exterior": [[4, 0], [5, 1]]}},
        {"classTitle": "cow", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [4, 3]}},
    ]
    save(tmp_path / "meta.json", {"classes": [{"title": name} for name in ("cat", "dog", "cow")]})
    picture(tmp_path / "ds" / "img" / "1.png")
    content = {"size": {"height": 5, "width": 6}, "tags": [{"name": "train"}], "objects": objects}
    save(tmp_path / "ds" / "ann" / "1.png.json", content)
    dataset = datasets["supervisely"](tmp_path, "train")
    assert dataset.splits == ("train",)
    assert rows(dataset) == ["111122", "100122", "100110", "111130", "111133"]
    drawn = np.array([[[9] * 4, [9, 9, 9, 0]], [[0, 0, 0, 9], [9] * 4]], np.uint8)
    Image.fromarray(drawn).save(bitmap := io.BytesIO(), "PNG")
    objects[2] = {"classTitle": "cow", "bitmap": {"data": data_of(bitmap), "origin": [4, 3]}}  # before 2019: no type
    objects[0] = {"classTitle": "cat", "bitmap": None, "points": polygon}
    save(tmp_path / "ds" / "ann" / "1.png.json", content)
    assert rows(datasets["supervisely"](tmp_path, "train")) == rows(dataset)
    Image.fromarray(drawn | np.array([0, 0, 0, 255], np.uint8)).save(bitmap := io.BytesIO(), "PNG")  # alpha is full
    objects[2]["bitmap"]["data"] = data_of(bitmap)
    save(tmp_path / "ds" / "ann" / "1.png.json", content)
    assert rows(datasets["supervisely"](tmp_path, "train"))[3:] == ["111133", "111113"]
    objects[2]["bitmap"]["data"] = "AAAA"
    save(tmp_path / "ds" / "ann" / "1.png.json", content)
    with pytest.raises(DataError, match=r"1\.png\.json: not as Supervisely has it .*a bitmap of cow"):
        datasets["supervisely"](tmp_path, "train")


# ---- several masks an image ----


def layer(path: Path, *covered: tuple[int, int], size: tuple[int, int] = (5, 6)) -> Path:
    mask = np.zeros(size, np.uint8)
    for row, column in covered:
        mask[row, column] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return path


@pytest.mark.parametrize(
    ("images", "masks", "classes"),
    [
        ("images/{id}", "masks/{id}/*", ("background", "object")),
        ("images/{id}", "masks/{id}/{class}", ("background", "cat", "dog")),
        ("images/{id}.png", "masks/{class}/{id}.png", ("background", "cat", "dog")),
        ("{id}/images/*", "{id}/masks/*", ("background", "object")),
        ("{id}.png", "{id}_{class}.png", ("background", "cat", "dog")),
    ],
)
def test_layers_of_an_image_become_one_map(images: str, masks: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    for image in "ab":
        picture(tmp_path / f"{images.removesuffix('.png').format(id=image).replace('*', image)}.png")
        for row, name in enumerate(("cat", "dog"), 1):
            path = masks.removesuffix(".png").replace("{id}", image).replace("{class}", name).replace("*", image + name)
            layer(tmp_path / f"{path}.png", (row, 1), (row, 2))
    options = {"images": images, "annotations": masks}
    dataset = one("layers", tmp_path, **options)
    numbers = ["1", "1"] if len(classes) == 2 else ["1", "2"]
    assert (dataset.classes, list(dataset.names)) == (classes, ["a", "b"])
    assert rows(dataset)[1:3] == [f"0{number}{number}000" for number in numbers]
    assert len(dataset.files(0)) == 3
    if "_" not in masks:
        bare = {name: text.removesuffix(".png") for name, text in options.items()}
        assert datasets["layers"].recognise(tmp_path) == [bare]
        assert one("layers", tmp_path).classes == classes


@pytest.mark.parametrize(
    ("image", "mask", "images", "annotations"),
    [
        ("img/{id}.png", "anno/{tens}/{id:05}_{name}.png", "img/{id}", "anno/*/{id}_{class}"),
        ("photos/{id}.png", "parts/{name}-{id}.png", "photos/{id}", "parts/{class}-{id}"),
        ("{id}_image.png", "{id}_{name}.png", "{id}_image", "{id}_{class}"),
        ("{split}/{id}.png", "{split}/{id}.{name}.png", "{split}/{id}", "{split}/{id}.{class}"),
    ],
)
def test_masks_that_are_called_as_an_image_and_a_class_are_layers(
    image: str, mask: str, images: str, annotations: str, tmp_path: Path
) -> None:
    for number in range(8):
        split = "train" if number < 5 else "val"
        picture(tmp_path / image.format(id=number, split=split), (6, 8))
        for row, name in enumerate(("left_eye", "hair", "right_eye")):
            path = mask.format(id=number, tens=number // 4, name=name, split=split)
            layer(tmp_path / path, (row, number % 3), size=(6, 8))
    (options,) = datasets["layers"].recognise(tmp_path)
    assert options == {"images": images, "annotations": annotations}
    dataset = datasets["layers"](tmp_path, "train", **options, **({} if "split" in images else {"fractions": (1.0, 0)}))
    assert dataset.classes == ("background", "hair", "left_eye", "right_eye")
    assert rows(dataset, 1)[:3] == ["02000000", "01000000", "03000000"]
    layer(tmp_path / mask.format(id=7, tens=1, name="hair", split="val"), (0, 1), size=(3, 4))
    layer(tmp_path / mask.format(id=7, tens=1, name="left_eye", split="val"), (1, 3), size=(3, 4))
    (tmp_path / mask.format(id=7, tens=1, name="right_eye", split="val")).unlink()
    more: dict[str, Any] = {"split": "val"} if "split" in images else {"split": "train", "fractions": (1.0, 0)}
    more["blank_unpaired"] = True
    with pytest.raises(LabelError, match=r"image and mask differ in size.* set resize_masks = true"):
        datasets["layers"](tmp_path, **options, **more).mask(2 if "split" in images else 7)
    dataset = datasets["layers"](tmp_path, **options, **more, resize_masks=True)
    expected = ["00110000"] * 2 + ["00000022"] * 2 + ["00000000"] * 2
    assert rows(dataset, 2 if "split" in images else 7) == expected


@pytest.mark.parametrize("kind", ["one stack", "channels first", "hdf5", "a file an image", "names of arrays"])
def test_bands_and_arrays_of_a_class_each_are_layers(kind: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.repeat(random.choice(4, (8, 5, 6), p=(0.7, 0.1, 0.1, 0.1)), 2, 1), 2, 2)  # [N,H,W]
    images = np.clip(labels[..., None] * 60 + random.integers(0, 60, (8, 10, 12, 3)), 0, 255).astype(np.uint8)
    planes = np.stack([(labels == each) * (1 + labels) for each in (1, 2, 3, 0)], 3)  # [N,H,W,4], the last what is left
    if kind == "one stack":
        np.save(tmp_path / "images.npy", images)
        np.save(tmp_path / "masks.npy", planes.astype(float))
    elif kind == "channels first":
        np.savez(tmp_path / "all.npz", images=images, masks=planes.transpose(0, 3, 1, 2))
    elif kind == "hdf5":
        with pytest.importorskip("h5py").File(tmp_path / "all.h5", "w") as file:
            file["images"], file["masks"] = images, planes > 0
    for number in range(8) if len(kind) > 14 else ():
        Image.fromarray(images[number]).save(picture(tmp_path / f"images/{number}.png"))
        (tmp_path / "masks").mkdir(exist_ok=True)
        if kind == "a file an image":
            np.save(tmp_path / f"masks/{number}.npy", planes[number])
        else:
            arrays = {name: planes[number, ..., at].astype(np.uint8) for at, name in enumerate(("cat", "dog", "eel"))}
            np.savez(tmp_path / f"masks/{number}.npz", **arrays)
    (options,) = datasets["layers"].recognise(tmp_path)
    dataset = one("layers", tmp_path, **options)
    assert len({*dataset.names}) == len(dataset) == 8
    by_name = kind == "names of arrays"
    expected = ("background", "cat", "dog", "eel") if by_name else ("class_1", "class_2", "class_3", "background")
    assert dataset.classes == expected
    for index in range(8):
        wanted = labels[index] if by_name else (labels[index] + 3) % 4
        np.testing.assert_array_equal(dataset.mask(index).numpy(), wanted)
        np.testing.assert_array_equal(dataset[index].image.permute(1, 2, 0).numpy(), images[index])


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{split}/images/{id}.png", "{split}/masks/{id}.png"),
        ("images/site{split}/{id}.png", "masks/site{split}/{id}.png"),
        ("patient{split}/image/{id}.png", "patient{split}/mask/{id}.png"),
        ("patient{split}/{id}.png", "patient{split}/mask/{id}.png"),
        ("images/{id}{split}.png", "masks/{split}/{id}{split}.png"),
    ],
)
@pytest.mark.parametrize("splits", [("train", "val"), ("train", "val", "test"), ("1", "2", "3")])
def test_masks_of_another_split_site_or_patient_are_no_layers(
    image: str, mask: str, splits: tuple[str, ...], tmp_path: Path
) -> None:
    for split, count in zip(splits, (4, 2, 2), strict=False):
        for number in range(count):
            picture(tmp_path / image.format(split=split, id=number), (9, 9))
            layer(tmp_path / mask.format(split=split, id=number), (1, number))
    assert datasets["layers"].recognise(tmp_path) == []


def test_images_in_a_folder_beside_their_masks_are_no_layers(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / f"top/{number}.png", (9, 9))
        layer(tmp_path / f"{number}.png", (1, number))
    assert datasets["layers"].recognise(tmp_path) == []


def test_one_mask_an_image_beats_layers_beside_it(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.png")
        for row, folder in enumerate(("parts/head", "parts/tail")):
            layer(tmp_path / folder / f"{name}.png", (row, 1))
    assert len(datasets["layers"].recognise(tmp_path)) == 1
    for name in "abc":
        layer(tmp_path / "masks" / f"{name}.png", (1, 1))
    assert datasets["layers"].recognise(tmp_path) == []


def test_masks_of_several_annotators_are_no_layers(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.png")
        layer(tmp_path / "masks" / "anna" / f"{name}.png", (1, 1), (1, 2), (1, 3), (1, 4))
        layer(tmp_path / "masks" / "otto" / f"{name}.png", (1, 1), (1, 2), (1, 3), (1, 4), (1, 5))
    assert datasets["layers"].recognise(tmp_path) == []
    assert {each["masks"] for each in datasets["folder"].recognise(tmp_path)} == {"masks/anna", "masks/otto"}


def test_layers_in_a_folder_a_patient_are_read_together(tmp_path: Path) -> None:
    for patient in ("p1", "p2", "p3"):
        for name in "ab":
            picture(tmp_path / patient / "images" / f"{name}.png")
            layer(tmp_path / patient / "masks" / "cat" / f"{name}.png", (1, 1))
            layer(tmp_path / patient / "masks" / "dog" / f"{name}.png", (2, 1))
    (options,) = datasets["layers"].recognise(tmp_path)
    assert options == {"images": "{folder}/images/{id}", "annotations": "{folder}/masks/{class}/{id}"}
    assert len({*one("layers", tmp_path, **options).names}) == 6


def test_layers_that_overlap_are_refused_unless_a_rule_is_given(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    layer(tmp_path / "masks" / "cat" / "a.png", (0, 0), (0, 1), (0, 2))
    layer(tmp_path / "masks" / "dog" / "a.png", (0, 2), (0, 3))
    options = {"annotations": "masks/{class}/{id}"}
    with pytest.raises(LabelError, match=r"a\.png: shapes of several classes cover .* \(1 pixels\); .*last"):
        one("layers", tmp_path, **options).mask(0)
    found = {rule: rows(one("layers", tmp_path, overlap=rule, **options))[0] for rule in ("smallest", "last", "void")}
    assert found == {"smallest": "112200", "last": "112200", "void": "11.200"}
    layer(tmp_path / "masks" / "dog" / "a.png", (0, 2), (0, 3), size=(4, 6))
    with pytest.raises(LabelError, match=r"a mask of another size than its image .*'dog', 6 x 4"):
        one("layers", tmp_path, **options).mask(0)
    Image.fromarray(np.array([[0, 100, 255, 255, 255, 0]] * 5, np.uint8)).save(tmp_path / "masks" / "dog" / "a.png")
    with pytest.raises(LabelError, match="a mask whose edges were blended"):
        one("layers", tmp_path, **options).mask(0)


def test_init_asks_which_of_overlapping_layers_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(8):
        image = np.random.default_rng(number).integers(0, 256, (5, 6, 3), np.uint8)
        (tmp_path / "data" / "photos").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "data" / "photos" / f"{number}.png")
        layer(tmp_path / "data" / "truth" / "cat" / f"{number}.png", (0, 0), (0, 1), (0, 2))
        layer(tmp_path / "data" / "truth" / "dog" / f"{number}.png", (0, 2), (0, 3))
    config = tmp_path / "mine.toml"
    assert main(["init", str(tmp_path / "data"), "-o", str(config)]) != 0
    assert "shapes of several classes cover the same pixels" in capsys.readouterr().out
    assert main(["init", str(tmp_path / "data"), "-o", str(config), "--yes"]) == 0
    text = config.read_text()
    assert all(line in text for line in ('annotations = "truth/{class}/{id}"', 'overlap = "smallest"'))


@pytest.mark.parametrize(
    ("folders", "files", "found"),
    [(3, 9, ["{class}/{id}"]), (9, 3, ["{id}/*"]), (3, 2, ["{id}/*"]), (9, 9, ["{class}/{id}", "{id}/*"])],
)
def test_numbered_folders_are_of_classes_where_their_files_are_all_images(
    folders: int, files: int, found: list[str], tmp_path: Path
) -> None:
    for number in range(9):
        picture(tmp_path / f"images/{number}.png")
        for folder in range(folders) if number < files else ():
            layer(tmp_path / f"masks/{folder}/{number}.png", (folder % 5, number % 6))
    own = [each["annotations"] for each in datasets["layers"].recognise(tmp_path)]
    assert own == [f"masks/{each}" for each in found]


def test_a_mask_of_a_class_that_most_images_have_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(8):
        image = np.random.default_rng(number).integers(0, 256, (5, 6, 3), np.uint8)
        (tmp_path / "data" / "photos").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "data" / "photos" / f"{number}.png")
        layer(tmp_path / "data" / "truth" / "dog" / f"{number}.png", (0, 2), (0, 3))
        if number not in (3, 5):
            layer(tmp_path / "data" / "truth" / "cat" / f"{number}.png", (0, 0), (0, 1))
    options = {"images": "photos/{id}", "annotations": "truth/{class}/{id}"}
    with pytest.warns(UserWarning, match=r"2 of 8 images have no mask of 'cat', as the others have: 3\.png, 5\.png"):
        one("layers", tmp_path / "data", **options)
    one("layers", tmp_path / "data", blank_unpaired=True, **options)
    config = tmp_path / "mine.toml"
    assert main(["init", str(tmp_path / "data"), "-o", str(config)]) == 1
    assert "--yes: these images show no such object: blank_unpaired = true" in capsys.readouterr().out
    assert main(["init", str(tmp_path / "data"), "-o", str(config), "--yes"]) == 0
    assert "\nblank_unpaired = true" in config.read_text()


def test_numbers_that_differ_in_zeros_alone_are_two_images(tmp_path: Path) -> None:
    for place, name in enumerate(("1", "01")):
        picture(tmp_path / f"images/{name}.png")
        layer(tmp_path / f"masks/{name}_cat.png", (place, 0))
    dataset = one("layers", tmp_path, images="images/{id}", annotations="masks/{id}_{class}")
    assert {name: rows(dataset, at)[:2] for at, name in enumerate(dataset.names)} == {
        "1": ["100000", "000000"],
        "01": ["000000", "100000"],
    }


def test_layers_without_an_image_are_refused_and_images_without_layers_told(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.png")
    layer(tmp_path / "masks" / "a" / "1.png", (0, 0))
    with pytest.warns(UserWarning, match=r"1 of \d images have no object and are all background: b\.png"):
        dataset = one("layers", tmp_path, annotations="masks/{id}/*", class_map={"object": "nucleus"})
    assert dataset.classes == ("background", "nucleus")
    assert (rows(dataset)[0], int(dataset.mask(1).sum())) == ("100000", 0)
    layer(tmp_path / "masks" / "c" / "1.png", (0, 0))
    with pytest.raises(DataError, match=r"c/1\.png: mask without an image; .*images"):
        one("layers", tmp_path, annotations="masks/{id}/*")
    with pytest.raises(DataError, match="expected masks such as those of images"):
        one("layers", tmp_path / "images")


# ---- polygons in a file an image ----


def xy(form: str, corners: Any = SQUARE) -> str:
    return "".join(form.format(x=x, y=y, n=number) for number, (x, y) in enumerate(corners, 1))


INNER = [[2, 1], [3, 1], [3, 2], [2, 2]]
VERTICES = xy("<Vertex X='{x}.0' Y='{y}' Z='0'/>")
HOLE = xy("<Vertex X='{x}' Y='{y}'/>", INNER)
PLACES = xy("<Coordinate Order='{n}' X='{x}' Y='{y}'/>")
POINTS = xy("<pt><x>{x}</x><y>{y}</y></pt>")
NUMBERED = xy("<x{n}>{x}</x{n}><y{n}>{y}</y{n}>")
TRACED: dict[str, tuple[Any, str, list[str]]] = {
    "scope.xml": (
        '<Annotations><Annotation Id="1" Name=""><Attributes><Attribute Name="Description" Value=""/></Attributes>'
        f'<Regions><Region Id="1" NegativeROA="0"><Vertices>{VERTICES}</Vertices></Region>'
        f'<Region Id="2" NegativeROA="1"><Vertices>{HOLE}</Vertices></Region></Regions></Annotation></Annotations>',
        "object",
        ["000000", "010100", "011100"],
    ),
    "layers.xml": (
        '<Annotations><Annotation Id="1"/><Annotation Id="2"><Attributes><Attribute Name="Epithelial"/></Attributes>'
        f"<Regions><Region><Vertices>{VERTICES}</Vertices></Region></Regions></Annotation></Annotations>",
        "Epithelial",
        ["000000", "011100", "011100"],
    ),
    "asap.xml": (
        '<ASAP_Annotations><Annotations><Annotation Name="Annotation 0" Type="Polygon" PartOfGroup="Tumor">'
        f"<Coordinates>{PLACES}</Coordinates></Annotation></Annotations></ASAP_Annotations>",
        "Tumor",
        ["000000", "011100", "011100"],
    ),
    "labelme.xml": (
        "<annotation><filename>x.jpg</filename><object><name>cat</name><deleted>0</deleted><polygon><username>me</username>"
        f"{POINTS}</polygon></object><object><name>dog</name><deleted>1</deleted><polygon>"
        f"{POINTS}</polygon></object>"
        "<imagesize><nrows>5</nrows><ncols>6</ncols></imagesize></annotation>",
        "cat",
        ["000000", "011100", "011100"],
    ),
    "voc.xml": (
        "<annotation><size><width>6</width><height>5</height></size><object><name>cat</name><bndbox><xmin>1</xmin></bndbox>"
        f"<polygon>{NUMBERED}</polygon></object></annotation>",
        "cat",
        ["000000", "011100", "011100"],
    ),
    "qupath.geojson": (
        {
            "type": "FeatureCollection",
            "features": [
                {
                    "geometry": {
                        "type": "MultiPolygon",
                        "coordinates": [[SQUARE, INNER], [[[5, 0], [6, 0], [6, 1], [5, 1]]]],
                    },
                    "properties": {"objectType": "annotation", "classification": {"name": "Tumor", "color": [1, 2, 3]}},
                }
            ],
        },
        "Tumor",
        ["000001", "010100", "011100"],
    ),
    "plain.json": (
        [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [SQUARE]}, "properties": {"Label": "cat"}}],
        "cat",
        ["000000", "011100", "011100"],
    ),
}


@pytest.mark.parametrize("name", TRACED)
def test_polygons_of_many_tools(name: str, tmp_path: Path) -> None:
    content, label, expected = TRACED[name]
    picture(tmp_path / "Tissue Images" / f"{Path(name).stem}.png")
    save(tmp_path / "Annotations" / name, content)
    assert datasets["polygons"].recognise(tmp_path) == [{"annotations": "Annotations"}]
    dataset = one("polygons", tmp_path)
    assert dataset.classes == ("background", label)
    assert rows(dataset) == [*expected, "000000", "000000"]


def test_polygons_that_cannot_be_drawn_are_named_and_the_nearest_image_counts(tmp_path: Path) -> None:
    for split in ("train", "test"):
        picture(tmp_path / split / "a.png", (5, 6) if split == "train" else (9, 9))
        save(tmp_path / split / "a.xml", TRACED["voc.xml"][0])
    assert datasets["polygons"].recognise(tmp_path) == [{"annotations": "."}]
    dataset = datasets["polygons"](tmp_path, "train", annotations=".")
    assert [each.parent.name for each in dataset.files(0)] == ["train", "train"]
    with pytest.raises(LabelError, match="image and mask differ in size"):
        datasets["polygons"](tmp_path, "test", annotations=".").mask(0)
    box = "<annotation><object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object></annotation>"
    save(tmp_path / "train/a.xml", box.replace("</annotation>", "<object><polygon/></object></annotation>"))
    with pytest.raises(LabelError, match=r"a\.xml: a shape of a kind that covers no pixels .*'cat', a box alone"):
        datasets["polygons"](tmp_path, "train", annotations=".").mask(0)
    save(tmp_path / "train/a.xml", "<annotation><polygon>")
    with pytest.raises(DataError, match=r"a\.xml: no valid XML, or cut short"):
        datasets["polygons"](tmp_path, "train", annotations=".")
    (tmp_path / "train/a.xml").unlink()
    save(tmp_path / "train/a.geojson", {"crs": {}, "features": [], "was": "coordinates"})
    with pytest.raises(DataError, match=r"geographic coordinates; draw them into masks with rasterio\.features"):
        datasets["polygons"](tmp_path, "train", annotations=".")
    degrees = [[13.4, 2.5], [13.401, 2.5], [13.401, 2.501], [13.4, 2.5]]  # RFC 7946 has no word that says so
    shape = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [degrees]}, "properties": {}}
    save(tmp_path / "train/a.geojson", {"type": "FeatureCollection", "features": [shape]})
    with pytest.raises(DataError, match="geographic coordinates"):
        datasets["polygons"](tmp_path, "train", annotations=".")


def test_through_a_hole_in_a_layer_the_layers_below_it_show(tmp_path: Path) -> None:
    def region(left: int, right: int, negative: int = 0) -> str:
        corners = [(left, 0), (right, 0), (right, 5), (left, 5)]
        points = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in corners)
        return f'<Region NegativeROA="{negative}"><Vertices>{points}</Vertices></Region>'

    layers = {"tissue": region(0, 6), "tumour": region(1, 5) + region(2, 4, 1)}
    texts = [f'<Annotation Name="{name}"><Regions>{text}</Regions></Annotation>' for name, text in layers.items()]
    save(tmp_path / "a.xml", f"<Annotations>{''.join(texts)}</Annotations>")
    picture(tmp_path / "a.png")
    dataset = one("polygons", tmp_path)
    assert (dataset.classes, rows(dataset)) == (("background", "tissue", "tumour"), ["121121"] * 5)


def test_a_number_in_the_name_of_a_file_of_polygons_is_no_ending(tmp_path: Path) -> None:
    for name in ("a.1.xml", "b.tif.xml", "c.svs.xml"):
        save(tmp_path / name, TRACED["voc.xml"][0])
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png")
    with pytest.warns(UserWarning, match=r"left out .*a\.1\.png|not read: 1 pictures without annotations: .*/a\.png"):
        dataset = one("polygons", tmp_path, skip_unpaired=True)
    assert [each.stem for each, _ in map(dataset.files, range(2))] == ["b", "c"]


# ---- splits ----


XY = [{"x": x, "y": y} for x, y in SQUARE]
INNER_XY = [{"x": x, "y": y} for x, y in INNER]
SIZE = {"width": 6, "height": 5}
TOOLS: dict[str, tuple[str, Any]] = {
    "labelbox": (
        "export.ndjson",
        {
            "data_row": {"id": "c", "external_id": "a.png", "row_data": "https://store/a.png"},
            "media_attributes": SIZE,
            "projects": {
                "p": {
                    "labels": [
                        {"annotations": {"objects": [{"name": "cat", "classifications": [], "polygon": XY}]}},
                        {"annotations": {"objects": [{"name": "of a second person", "polygon": XY}]}},
                    ]
                }
            },
        },
    ),
    "darwin 2": (
        "a.json",
        {
            "version": "2.0",
            "item": {"name": "a.png", "path": "/", "slots": [{"type": "image", "slot_name": "0", **SIZE}]},
            "annotations": [
                {"bounding_box": {"h": 2, "w": 3, "x": 1, "y": 1}, "name": "cat", "polygon": {"paths": [XY]}},
                {"name": "a picture of a cat", "tag": {}},
            ],
        },
    ),
    "darwin 1": (
        "x.json",
        {
            "dataset": "d",
            "image": {"original_filename": "a.png", "filename": "a.png", **SIZE},
            "annotations": [{"name": "cat", "polygon": {"path": XY}}],
        },
    ),
    "deepfashion2": (
        "a.json",
        {"source": "user", "pair_id": 1, "item1": {"segmentation": [FLAT], "category_id": 1, "category_name": "cat"}},
    ),
    "isat": (
        "a.json",
        {
            "info": {"description": "ISAT", "folder": "C:/x", "name": "a.png", **SIZE},
            "objects": [
                {"category": "cat", "group": 1, "segmentation": SQUARE, "layer": 1.0, "bbox": [1, 1, 4, 3]},
                {"category": "__background__", "group": 2, "segmentation": [[5, 3], [6, 3], [6, 5]], "layer": 2.0},
            ],
        },
    ),
    "cities": (
        "a_gtFine_polygons.json",
        {
            "imgHeight": 5,
            "imgWidth": 6,
            "objects": [
                {"label": "cat", "deleted": 0, "polygon": SQUARE},
                {"label": "dog", "deleted": 1, "polygon": SQUARE},
            ],
        },
    ),
    "hasty": (
        "project.json",
        {
            "label_classes": [{"class_name": "cat"}],
            "images": [{"image_name": "a.png", **SIZE, "labels": [{"class_name": "cat", "polygon": SQUARE}]}],
        },
    ),
    "scale": (
        "tasks.json",
        [
            {
                "params": {"attachment": "https://store/a.png"},
                "response": {"annotations": [{"label": "cat", "vertices": XY}]},
            },
            {"params": {"attachment": "https://store/not_done.png"}},
        ],
    ),
    "dataloop": (
        "a.json",
        {
            "filename": "/photos/a.png",
            "annotations": [{"datasetId": "d", "type": "segment", "label": "cat", "coordinates": [XY]}],
            "metadata": {"system": SIZE},
        },
    ),
    "superannotate": (
        "a.png___objects.json",
        {
            "metadata": {"name": "a.png", **SIZE},
            "instances": [{"type": "polygon", "classId": 1, "className": "cat", "points": FLAT}],
        },
    ),
    "vott": (
        "12-asset.json",
        {
            "asset": {"name": "a.png", "size": SIZE},
            "regions": [{"type": "POLYGON", "tags": ["cat"], "boundingBox": {"left": 1}, "points": XY}],
        },
    ),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_polygons_in_the_json_of_further_tools(tool: str, tmp_path: Path) -> None:
    name, content = TOOLS[tool]
    picture(tmp_path / "images/a.png")
    save(tmp_path / "labels" / name, content)
    found = {each: datasets[each].recognise(tmp_path) for each in FORMATS}
    assert {each: those for each, those in found.items() if those} == {"polygons": [{"annotations": "labels"}]}
    dataset = one("polygons", tmp_path)
    assert (dataset.classes, len(dataset)) == (("background", "cat"), 1)
    assert rows(dataset) == ["000000", "011100", "011100", "000000", "000000"]


def test_polygons_of_cities_are_of_the_image_of_their_number_and_folder(tmp_path: Path) -> None:
    content = TOOLS["cities"][1]
    for number in "12":
        picture(tmp_path / "left" / number / "a_1_left.png")
        save(tmp_path / "gt" / number / "a_1_gt_polygons.json", content)
    dataset = one("polygons", tmp_path)
    assert [dataset.files(index)[0].parent.name for index in range(2)] == ["1", "2"]
    for number in "12":  # masks are drawn from these files
        picture(tmp_path / "gt" / number / "a_1_gt_ids.png")
    assert not datasets["polygons"].recognise(tmp_path)


def test_points_of_superannotate_and_dataloop_that_are_no_corners_of_an_area(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    name, content = TOOLS["superannotate"]
    (cat,) = content["instances"]
    save(tmp_path / name, {**content, "instances": [{**cat, "exclude": [[2, 1, 3, 1, 3, 2, 2, 2]]}]})
    assert rows(one("polygons", tmp_path))[1:3] == ["010100", "011100"]
    for kind, points in (("bbox", {"x1": 1, "y1": 1, "x2": 4, "y2": 3}), ("polyline", FLAT)):
        save(tmp_path / name, {**content, "instances": [{**cat, "type": kind, "points": points}]})
        with pytest.raises(LabelError, match=f"a shape of a kind .*'cat', {kind} without a polygon"):
            one("polygons", tmp_path).mask(0)
    (tmp_path / name).unlink()
    name, content = TOOLS["dataloop"]
    painted = {**content["annotations"][0], "type": "binary", "coordinates": "data:image/png;base64,iVBO"}
    save(tmp_path / name, {**content, "annotations": [painted]})
    with pytest.raises(LabelError, match="'cat', binary without a polygon"):
        one("polygons", tmp_path).mask(0)


def test_objects_without_a_polygon_and_formats_that_are_not_read_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    name, content = TOOLS["labelbox"]
    labels = content["projects"]["p"]["labels"]
    labels = [{"annotations": {"objects": [{"name": "cat", "mask": {"url": "https://api"}}]}}]
    save(tmp_path / name, {**content, "projects": {"p": {"labels": labels}}})
    with pytest.raises(LabelError, match=r"export\.ndjson: a shape of a kind .*'cat', mask without a polygon"):
        one("polygons", tmp_path).mask(0)
    save(tmp_path / name, {**content, "media_attributes": {"width": 60, "height": 50}})
    with pytest.raises(LabelError, match="image and mask differ in size"):
        one("polygons", tmp_path).mask(0)
    save(tmp_path / name, f"{json.dumps(content)}\n{json.dumps(content).replace('a.png', 'b.png')}\n")
    with pytest.raises(DataError, match=r"b\.png: named by the annotations but does not exist"):
        one("polygons", tmp_path)
    (tmp_path / name).unlink()
    rings = {"name": "cat", "polygon": {"paths": [XY, INNER_XY]}}
    save(tmp_path / "a.json", {**TOOLS["darwin 2"][1], "annotations": [rings]})
    assert rows(one("polygons", tmp_path))[1:3] == ["010100", "011100"]
    save(tmp_path / "a.json", {"x": [{"segmentation_bitmap": 1}]})
    with pytest.raises(DataError, match=r"a\.json is .*segments.utils.export_dataset"):
        one("polygons", tmp_path)
    assert main(["init", str(tmp_path), "-o", str(tmp_path / "a.toml")]) == 2


def test_words_of_a_tool_in_files_of_other_formats_change_nothing(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    area = {"type": "Polygon", "coordinates": [[[1, 1], [4, 1], [4, 3], [1, 3], [1, 1]]]}
    for word in ("items", "label_id", "asset", "regions", "slots", "original_filename", "segments_info"):
        its = {word: 1, "items": 2, "classification": {"name": "cat"}}
        save(tmp_path / "a.geojson", [{"type": "Feature", "properties": its, "geometry": area}])
        assert rows(one("polygons", tmp_path))[1:3] == ["011100"] * 2, word
    (tmp_path / "a.geojson").unlink()
    coco(tmp_path, {"category_id": 1, "segmentation": [FLAT], "label_id": 1}, info={"original_filename": "x"})
    assert not datasets["polygons"].recognise(tmp_path)
    (tmp_path / "c.json").unlink()
    box = {"label": "cat", "type": "box", "left": 0, "top": 1, "width": 2, "height": 2}
    tasks = [{"params": {"attachment": "https://store/a.png"}, "response": {"annotations": [box]}}]
    save(tmp_path / "tasks.json", tasks)
    with pytest.raises(LabelError, match="'cat', box without a polygon"):
        one("polygons", tmp_path).mask(0)


@pytest.mark.parametrize("first", [0, 1])
def test_pixels_are_counted_so_that_objects_at_an_edge_do_not_go_beyond_it(first: int, tmp_path: Path) -> None:
    rows_of = {0: (0, 2), 1: (3, 5)}[first]  # an object that the upper edge cuts, or the lower one
    lines = ["ImageId,EncodedPixels"]
    for name in "abc":
        picture(tmp_path / f"{name}.png")
        runs = " ".join(f"{column * 5 + rows_of[0] + first} 2" for column in (1, 2, 4))
        lines.append(f"{name}.png,{runs}")
    save(tmp_path / "t.csv", "\n".join(lines))
    if first:
        dataset = one("rle", tmp_path, first_pixel=None)
    else:
        with pytest.warns(UserWarning, match="counted from 0 because objects at the borders of the images show it"):
            dataset = one("rle", tmp_path, first_pixel=None)
    assert [number for number, row in enumerate(rows(dataset)) if "1" in row] == [*range(*rows_of)]


def test_images_are_dealt_by_folders_lists_or_fractions(tmp_path: Path) -> None:
    for name in "abcdefgh":
        labelme(tmp_path / "all", ("cat", "polygon", SQUARE), name=name)
    cls = datasets["labelme"]
    dealt = {split: list(cls(tmp_path, split, split_seed=3).names) for split in ("train", "val", "test")}
    assert dealt == split_by_fraction("abcdefgh", (0.7, 0.15, 0.15), 3)  # as of the dataset folder
    assert sum(len(cls(tmp_path, split, folds=4, fold=1)) for split in ("train", "val")) == 8
    grouped = cls(tmp_path, "train", group="all/{group}.", fractions=(0.5, 0.5))
    assert len(grouped) == 4
    save(tmp_path / "lists" / "train.txt", "b\nall/a.png\n")
    save(tmp_path / "lists" / "val.txt", "c")
    lists = "lists/{split}.txt"
    assert list(cls(tmp_path, "train", lists=lists).names) == ["b", "a"]
    assert cls(tmp_path, "val", lists=lists).splits == ("train", "val")
    save(tmp_path / "lists" / "val.txt", "x")
    with pytest.raises(DataError, match=r"x: listed but not there .*val\.txt"):
        cls(tmp_path, "val", lists=lists)
    for name in "ij":
        labelme(tmp_path / "half" / "Validation", ("cat", "polygon", SQUARE), name=name)
        labelme(tmp_path / "half" / "train", ("dog", "polygon", SQUARE), name=f"{name}{name}")
    assert list(cls(tmp_path / "half", "val", annotations="{split}").names) == ["i", "j"]
    assert cls(tmp_path / "half", "val").classes == ("background", "cat", "dog")  # those of all splits
    with pytest.raises(DataError, match=r"no split 'test' in .*; there are train, val"):
        cls(tmp_path / "half", "test")


def test_masks_that_predictions_are_compared_with_are_class_indices(tmp_path: Path) -> None:
    dataset = one("coco", coco(tmp_path / "data", cat(FLAT)))
    mask = np.array([[0, 1, 2, 255, 0, 0]] * 5, np.uint8)
    Image.fromarray(mask).save(tmp_path / "a.png")
    dataset.pairs = [(tmp_path / "data" / "a.png", tmp_path / "a.png")]  # as `predict --compare-with` does
    assert rows(dataset) == ["012.00"] * 5
    assert dataset.files(0)[1] == tmp_path / "a.png"


def test_annotations_without_an_image_may_be_left_out_and_images_without_annotations_are_told(tmp_path: Path) -> None:
    for name in "abc":
        labelme(tmp_path, ("cat", "polygon", SQUARE), name=name)
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png: named by the annotations but does not exist .*skip_unpaired = true"):
        one("labelme", tmp_path)
    with pytest.warns(UserWarning, match=r"left out because of skip_unpaired: 1 masks without image: .*b\.png"):
        assert list(one("labelme", tmp_path, skip_unpaired=True).names) == ["a", "c"]
    (tmp_path / "b.json").unlink()
    picture(tmp_path / "d.png")
    with pytest.warns(UserWarning, match=r"not read: 1 pictures without annotations: .*d\.png"):
        assert len(one("labelme", tmp_path)) == 2


def test_annotations_cannot_name_what_lies_outside_the_data_set(tmp_path: Path) -> None:
    secret = picture(tmp_path / "secret" / "s.png")
    root = tmp_path / "data"
    for name in ("../secret/s.png", str(secret)):
        labelme(root, ("cat", "polygon", SQUARE), imagePath=name)
        (root / "a.png").unlink()
        with pytest.raises(DataError, match=r"data/s\.png: named by the annotations but does not exist"):
            one("labelme", root)
    assert len(one("labelme", root, images=str(secret.parent))) == 1  # a config may
    (root / "a.json").unlink()
    for path in (str(tmp_path), "../"):
        yolo(root, "0 0 0 1 0 1 1", path=path, val="secret")
        with pytest.warns(UserWarning, match="which does not exist"):
            assert datasets["yolo"](root, "train").splits == ("train",)


def test_an_image_that_is_annotated_twice_is_refused(tmp_path: Path) -> None:
    labelme(tmp_path, ("cat", "polygon", SQUARE))
    save(tmp_path / "b.json", (tmp_path / "a.json").read_text())
    with pytest.raises(DataError, match=r"a\.png: annotated twice, in .*a\.json and .*b\.json"):
        one("labelme", tmp_path)


def test_what_was_read_holds_until_the_annotations_or_the_options_change(tmp_path: Path) -> None:
    dataset = one("coco", coco(tmp_path, cat(FLAT)))
    assert dataset.files(0) == (tmp_path / "a.png", tmp_path / "c.json")
    readings = {
        one("coco", tmp_path, **options).reading
        for options in (
            {},
            {"overlap": "last"},
            {"background": "dog"},
            {"class_map": {"cat": "void"}},
            {"outside": "cut"},
        )
    }
    assert len(readings) == 5


def test_a_file_of_annotations_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr("segkit_folder.pictures._SETTLED", -1 << 60)  # else a file of this second may change unseen
    monkeypatch.setattr("segkit_annotations.coco.files.load", lambda *each: read.append(each) or load(*each))
    datasets["coco"].write_sample(tmp_path)
    for _ in range(2):
        for split in ("train", "val"):
            datasets["coco"](tmp_path, split)
    assert len(read) == 3
    path = tmp_path / "train/_annotations.coco.json"
    path.write_text(path.read_text().replace("square", "quad"))
    assert datasets["coco"](tmp_path, "train").classes == ("background", "quad", "triangle", "square")
    assert len(read) == 4


def test_runs_in_a_table_are_drawn_down_the_columns(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / f"train/{name}.jpg")
    picture(tmp_path / "test/d.jpg")
    save(tmp_path / "sample_submission.csv", "ImageId,EncodedPixels\nd.jpg,1 1\n")
    save(tmp_path / "train.csv", "ImageId,ClassId,EncodedPixels\na.jpg,2,2 3 7 3\na.jpg,1,26 2\nb.jpg,,\n")
    assert datasets["rle"].recognise(tmp_path) == [{"annotations": "train.csv"}]
    with pytest.warns(UserWarning, match=r"1 images without a line in the table are all background: c\.jpg"):
        dataset = one("rle", tmp_path, annotations="train.csv")
    assert dataset.classes == ("background", "class_1", "class_2")
    assert rows(dataset, dataset.names.index("a")) == ["000001", "220001", "220000", "220000", "000000"]
    assert rows(dataset, dataset.names.index("b")) == ["000000"] * 5
    save(
        tmp_path / "train.csv",
        "Image_Label,EncodedPixels\na.jpg_Fish,8 4 14 4 20 4\nb.jpg_Fish,29 3\nc.jpg_Fish,8 4 14 4\n",
    )
    dataset = one("rle", tmp_path, annotations="train.csv")  # what lies on its side is frayed
    assert rows(dataset, dataset.names.index("a")) == ["000000", "011110", "011110", "011110", "000000"]
    with pytest.raises(LabelError, match=r"runs that go beyond their image \(number 1 of b\.jpg, 'Fish', 31 pixels\)"):
        dataset.mask(dataset.names.index("b"))
    save(tmp_path / "masks/a.png", "")
    Image.new("L", (6, 5)).save(tmp_path / "masks/a.png")
    Image.new("L", (6, 5)).save(tmp_path / "masks/b.png")
    Image.new("L", (6, 5)).save(tmp_path / "masks/c.png")
    assert datasets["rle"].recognise(tmp_path) == []


@pytest.mark.parametrize(
    ("heading", "order", "form"),
    [
        ("id,class,segmentation", (0, 1, 2), "{}"),
        ("no,category,encoding,scan", (3, 1, 2), "{}"),
        ("mask_rle,picture", (1, 0), "[{}]"),
    ],
)
def test_tables_may_name_images_by_words_of_their_paths(
    heading: str, order: tuple[int, ...], form: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    lines, expected = [heading], {}
    for case, day, cut in ((1, 1, 7), (1, 2, 7), (2, 1, 12), (2, 2, 12)):
        labels = np.zeros((16, 16), int)
        labels[3:5, 4 : 8 + case], labels[9:14, 2 + day : 6] = 1, 2
        image = (labels * 90 + np.arange(16)).astype(np.uint16)
        path = tmp_path / f"train/case{case}/case{case}_day{day}/scans/slice_{cut:04}_16_12_1.50.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(image).save(path)
        expected[path] = labels if "class" in heading or "category" in heading else (labels > 0)
        for name, own in (("bowel", labels == 1), ("stomach", labels == 2)):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], own.ravel(), [0]])))  # along the rows
            runs = " ".join(map(str, np.stack([edges[::2] + 1, edges[1::2] - edges[::2]], 1).ravel()))
            cells = [
                f"case{case}_day{day}_slice_{cut:04}",
                name,
                form.format(runs.replace(" ", ", " * (form != "{}") or " ")),
            ]
            row = dict(zip(order, (cells if len(order) == 3 else cells[::2]), strict=True))
            quoted = [f'"{row.get(place, len(lines))}"' for place in range(len(heading.split(",")))]
            lines.append(",".join(quoted))
    save(tmp_path / "train.csv", "\n".join(lines))
    assert datasets["rle"].recognise(tmp_path) == [{"annotations": "train.csv"}]
    dataset = one("rle", tmp_path)
    assert any("runs are read along the rows" in str(each.message) for each in recwarn)
    names = ("bowel", "stomach") if len(order) == 3 else ("object",)
    assert dataset.classes == ("background", *names)
    for index in range(4):
        np.testing.assert_array_equal(dataset.mask(index).numpy(), expected[dataset.files(index)[0]])


def test_runs_of_images_of_one_name_are_those_of_the_split_of_the_table(tmp_path: Path) -> None:
    for folder in ("test_images", "train_images", "val/images"):
        for name in "abc":
            picture(tmp_path / folder / f"{name}.jpg")
    table = "ImageId,EncodedPixels\na.jpg,2 3\nb,3 1\nc.jpg,\n"
    save(tmp_path / "train.csv", table)
    dataset = one("rle", tmp_path, annotations="train.csv")
    assert {dataset.files(index)[0].parent.name for index in range(3)} == {"train_images"}
    save(tmp_path / "labels.csv", table)
    what = r"labels\.csv: several images have this name: .*test_images/a\.jpg.*; set `images` to the folder to use"
    with pytest.raises(DataError, match=what):
        one("rle", tmp_path, annotations="labels.csv")
    dataset = one("rle", tmp_path, annotations="labels.csv", images="val")
    assert dataset.files(0)[0].parent == tmp_path / "val/images"
    (tmp_path / "train_images").rename(tmp_path / "pictures")
    assert one("rle", tmp_path, annotations="train.csv").files(0)[0].parent.name == "pictures"
    picture(tmp_path / "train/a.jpg")
    picture(tmp_path / "train/small/a.jpg")
    with pytest.raises(DataError, match=r"train\.csv: several images have this name: .*train/small/a\.jpg"):
        one("rle", tmp_path, annotations="train.csv")


def test_runs_of_an_image_that_is_not_there_are_no_other_images(tmp_path: Path) -> None:
    for name in ("img_7_5", "img_6_1", "a/scan/slice_0003_266_1.5", "img_8"):
        picture(tmp_path / f"train/{name}.jpg")
    lines = [f"{name},1 2" for name in ("img_5", "5", "img_6", "img_6_1", "a_slice_3", "a_slice_266", "a_slice_0003")]
    save(tmp_path / "train.csv", "\n".join(["ImageId,EncodedPixels", *lines]))
    with pytest.warns(UserWarning, match=r"do not exist|all background") as told:
        dataset = one("rle", tmp_path)
    absent = "names 5 images that do not exist: 5, a_slice_266, a_slice_3, img_5, img_6"
    assert any(absent in str(each.message) for each in told)
    covered = {name: int(dataset.mask(place).sum()) for place, name in enumerate(dataset.names)}
    assert covered == {"img_6_1": 2, "img_7_5": 0, "img_8": 0, "slice_0003_266_1.5": 2}


def test_runs_go_one_way_in_all_splits_and_are_of_the_size_that_a_table_says(tmp_path: Path) -> None:
    lines = {"train": ["ImageId,EncodedPixels,img_height,img_width"]}
    lines["val"] = [*lines["train"]]
    for number, split in enumerate(["train"] * 4 + ["val"]):
        labels = np.zeros((16, 16), np.uint8)
        labels[3 + number : 5 + number, 2:13] = 1
        stripes = labels.T if split == "val" else labels  # an edge that would mislead, seen alone
        path = tmp_path / f"{split}/{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(stripes * 200).save(path)
        runs = " ".join(f"{16 * row + 3} 11" for row in (3 + number, 4 + number))
        lines[split].append(f"{number}.png,{runs},16,16")
    for split, those in lines.items():
        save(tmp_path / f"{split}.csv", "\n".join(those))
    with pytest.warns(UserWarning, match="runs are read along the rows"):
        dataset = datasets["rle"](tmp_path, "val", first_pixel=1)
    assert dataset.mask(0)[7:9, 2:13].all()
    Image.new("RGB", (32, 32)).save(tmp_path / "val/4.png")
    with pytest.warns(UserWarning, match="runs are read along the rows"):
        dataset = datasets["rle"](tmp_path, "val", first_pixel=1)
    with pytest.raises(LabelError, match=r"image and mask differ in size.* set resize_masks = true"):
        dataset.mask(0)


def test_what_a_table_says_of_whole_images_is_no_class_of_their_objects(tmp_path: Path) -> None:
    lines = ["id,organ,sex,rle"]
    for number, organ in enumerate(("lung", "spleen", "lung", "spleen")):
        picture(tmp_path / f"{number}.jpg")
        lines += [f"{number},{organ},F,2 3", f"{number},{organ},F,12 2"]
    save(tmp_path / "train.csv", "\n".join(lines))
    assert one("rle", tmp_path).classes == ("background", "object")


def test_pixels_are_counted_from_0_where_a_run_starts_there(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    save(tmp_path / "t.csv", "ImageId,EncodedPixels\na.jpg,0 3 5 3\nb.jpg,6 2 11 2\n")
    with pytest.warns(UserWarning, match="pixels are counted from 0 because runs start at 0"):
        dataset = one("rle", tmp_path, first_pixel=None)
    assert [rows(dataset, at) for at in (0, 1)] == [
        ["110000", "110000", "110000", "000000", "000000"],
        ["000000", "011000", "011000", "000000", "000000"],
    ]
    with pytest.raises(LabelError, match=r"runs that start before their image; .*first_pixel = 0"):
        one("rle", tmp_path, first_pixel=1).mask(0)
    save(tmp_path / "t.csv", "ImageId,EncodedPixels\na.jpg,6 2 11 2\nb.jpg,\n")
    assert rows(one("rle", tmp_path, first_pixel=0))[1] == "011000"


@pytest.mark.parametrize("none", ["", "NaN", "nan", "None", "-1", "[]"])
def test_a_table_says_in_many_words_that_there_is_no_object(none: str, tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    save(tmp_path / "t.csv", f"picture,runs\na.jpg,1 2\nb.jpg,{none}\n")
    dataset = one("rle", tmp_path, first_pixel=1)
    assert [int(dataset.mask(at).sum()) for at in (0, 1)] == [2, 0]


def test_a_table_of_runs_is_read_as_csv_and_has_no_empty_class(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    save(tmp_path / "t.csv", '\ufeff"ImageId", "EncodedPixels","Class"\n"a.jpg","6 5","a ""big"", cat"\n\n')
    dataset = one("rle", tmp_path, annotations="t.csv")
    assert (dataset.classes, rows(dataset)) == (("background", 'a "big", cat'), ["010000"] * 5)
    long = "1" + " " * 140_000 + "1"  # more than the csv module takes by itself
    save(tmp_path / "t.csv", f"ImageId,EncodedPixels\na.jpg,{long}\n")
    assert rows(one("rle", tmp_path, annotations="t.csv"))[0] == "100000"
    for line, what in {
        "a.jpg,1 1,": "line 2: no class; each line with runs needs both",
        "a.jpg,1 1": "line 2: 2 cells; a line needs 3",
        ",1 1,cat": "line 2: no image",
        'a.jpg,"1 3, 30 2",cat': "runs",
    }.items():
        save(tmp_path / "t.csv", f"ImageId,EncodedPixels,Class\n{line}\n")
        with pytest.raises(DataError, match=what):
            one("rle", tmp_path, annotations="t.csv").mask(0)


def test_shapes_of_label_studio_are_percents_and_turn_about_their_corner(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.jpg", (10, 20))

    def result(kind: str, **value: Any) -> dict[str, Any]:
        size = {"original_width": 20, "original_height": 10}
        return {"type": f"{kind}labels", **size, "value": {f"{kind}labels": [kind], **value}}

    results = [
        result("polygon", points=[[0, 0], [10, 0], [10, 20], [0, 20]]),
        result("rectangle", x=50, y=0, width=10, height=50, rotation=90),
        {"type": "choices", "value": {"choices": ["x"]}},
    ]
    task = {"data": {"image": "/data/local-files/?d=there/a.jpg"}, "annotations": [{"result": results}, {"result": []}]}
    save(tmp_path / "export.json", [task])
    dataset = one("labelstudio", tmp_path)
    assert dataset.classes == ("background", "polygon", "rectangle")
    assert rows(dataset)[:3] == ["11000222220000000000"[:5] + "22222" + "0" * 10, "1100022222" + "0" * 10, "0" * 20]
    cancelled, done = {"was_cancelled": True, "result": results[1:2]}, task["annotations"][0]
    tasks = [{"data": {"image": f"{name}.jpg"}, "annotations": [cancelled]} for name in "bc"]
    save(tmp_path / "export.json", [*tasks, {**task, "annotations": [cancelled, done]}])
    picture(tmp_path / "images/b.jpg")
    with pytest.warns(UserWarning, match=r"not read: 1 pictures without annotations: .*b\.jpg"):
        assert rows(one("labelstudio", tmp_path))[0][:2] == "11"
    (tmp_path / "images/b.jpg").unlink()
    save(tmp_path / "export.json", [{**task, "annotations": [{"result": [results[0], result("keypoint", x=1, y=2)]}]}])
    with pytest.raises(LabelError, match=r"covers no pixels .*keypointlabels"):
        one("labelstudio", tmp_path).mask(0)
    own = {**results[0]["value"], "original_width": 20, "original_height": 10}
    save(tmp_path / "export.json", [{"image": "/data/upload/1/0a1b2c3d-a.jpg", "label": [own], "annotator": 1}])
    with pytest.raises(DataError, match=r"not as Label Studio has it .*data"):  # JSON-MIN
        one("labelstudio", tmp_path)
    task["data"] = {"image": "/data/upload/1/0a1b2c3d-a.jpg"}
    related = {"type": "relation", "from_id": "x", "to_id": "y", "direction": "right", "labels": ["part of"]}
    save(tmp_path / "export.json", [{**task, "annotations": [{"result": [*results[1:], related]}]}])
    assert one("labelstudio", tmp_path).classes == ("background", "rectangle")


@pytest.mark.parametrize(
    ("orientation", "said", "size", "told"),
    [
        (3, True, (30, 40), True),
        (1, True, (30, 40), False),
        (6, True, (30, 40), False),
        (6, False, (30, 40), True),
        (6, True, (30, 30), True),
    ],
)
def test_a_turned_image_whose_shapes_may_be_of_the_stored_pixels_is_told(
    tmp_path: Path, orientation: int, said: bool, size: tuple[int, int], told: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, (9, 9, 9)).save(tmp_path / "a.png", exif=exif)
    upright = size if orientation == 1 else size[:: -1 if orientation > 4 else 1]
    shape = {"label": "cat", "shape_type": "polygon", "points": SQUARE}
    named = {"imageWidth": upright[0], "imageHeight": upright[1]} if said else {}
    save(tmp_path / "a.json", {"imagePath": "a.png", "shapes": [shape], **named})
    issues = scan_splits({"train": one("labelme", tmp_path)}, checks=CHECKS, progress=False).issues
    assert [each.files for each in issues if each.kind == "turned_image"] == ([("a",)] if told else [])


def test_shapes_whose_y_runs_upwards_below_0_are_refused_though_they_would_be_cut(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    ring = {"type": "Polygon", "coordinates": [[[x, -y] for x, y in [*SQUARE, SQUARE[0]]]]}
    save(tmp_path / "a.geojson", {"features": [{"type": "Feature", "properties": {}, "geometry": ring}]})
    with pytest.raises(DataError, match=r"a\.geojson: shapes above the image: y points upwards"):
        one("polygons", tmp_path, outside="cut")


def of_coco(**image: Any) -> dict[str, Any]:
    objects = [{"image_id": 1, "category_id": 1, "segmentation": image.pop("segmentation", [FLAT])}]
    images = [{"id": 1, "file_name": "a.png", **image}]
    return {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}


def of_geojson(kind: str, **geometry: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"type": kind, **geometry}}]}


RING = [[*corner, 0.5] for corner in [*SQUARE, SQUARE[0]]]  # with heights
VIA_1 = (
    "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\r\n"
    'a.png,1,"{}",1,0,"{""name"":""polygon"",""all_points_x"":[1,4,4,1],""all_points_y"":[1,1,3,3]}","{}"\r\n'
)
PAINTED = {"points": [[100 / 6, 20], [400 / 6, 20], [400 / 6, 60], [100 / 6, 60]], "polygonlabels": ["cat"]}
RESULT = {"original_width": 6.0, "original_height": 5, "value": PAINTED}
ODD = {  # format, its file, the picture, what stands in the file
    "a mark of UTF-8": ("coco", "c.json", "a.png", "\ufeff" + json.dumps(of_coco())),
    "sizes as float and text": ("coco", "c.json", "a.png", of_coco(height=5.0, width="6")),
    "a polygon that is no list of polygons": ("coco", "c.json", "a.png", of_coco(segmentation=FLAT)),
    "pairs in a polygon": ("coco", "c.json", "a.png", of_coco(segmentation=[SQUARE])),
    "a path of Windows": ("coco", "c.json", "images/b/a.png", of_coco(file_name="b\\a.png")),
    "an umlaut of a Mac": ("coco", "c.json", "Ba\u0308r 1.png", of_coco(file_name="B\u00e4r 1.png")),
    "capital letters": ("coco", "c.json", "IMG.PNG", of_coco(file_name="img.png")),
    "an address": ("coco", "c.json", "b c.png", of_coco(file_name="https://host/x/b%20c.png?key=a/b")),
    "heights": ("polygons", "a.geojson", "a.png", of_geojson("Polygon", coordinates=[RING])),
    "a collection": (
        "polygons",
        "a.geojson",
        "a.png",
        of_geojson("GeometryCollection", geometries=[{"type": "MultiPolygon", "coordinates": [[RING]]}]),
    ),
    "version 1 and lines of Windows": ("via", "v.csv", "a.png", VIA_1),
    "a class as float": ("yolo", "labels/train/a.txt", "images/train/a.png", "0.0 .17 .2 .66 .2 .66 .6 .17 .6\r\n"),
    "a file on a server": (
        "labelstudio",
        "p.json",
        "b c.png",
        [{"data": {"image": "/data/local-files/?d=x%2Fb%20c.png"}, "annotations": [{"result": [RESULT]}]}],
    ),
    "a signed address": (
        "labelstudio",
        "p.json",
        "a.png",
        [{"data": {"image": "s3://x/a.png?key=1"}, "annotations": [{"result": [RESULT]}]}],
    ),
    "semicolons": ("rle", "t.csv", "images/a.png", "ImageId;EncodedPixels\r\na.png;7 2 12 2 17 2\r\n"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_but_legal_is_read(kind: str, tmp_path: Path) -> None:
    name, file, image, content = ODD[kind]
    picture(tmp_path / image)
    save(tmp_path / file, content)
    if name == "yolo":
        save(tmp_path / "data.yaml", "names: [cat]\ntrain: images/train")
    assert rows(one(name, tmp_path)) == ["000000", "011100", "011100", "000000", "000000"]


def test_a_rectangle_of_labelme_may_have_four_corners(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    shape = {"label": "cat", "shape_type": "rectangle", "points": SQUARE}
    save(tmp_path / "a.json", {"imagePath": "a.png", "shapes": [shape]})
    assert rows(one("labelme", tmp_path))[1:4] == ["011110"] * 3


def test_what_cannot_be_meant_is_refused_by_the_name_of_its_file(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    save(tmp_path / "a.json", {"imagePath": "a.png", "shapes": [{"label": None, "points": SQUARE}]})
    with pytest.raises(DataError, match=r"a\.json: .*an object or class without a name"):
        one("labelme", tmp_path)
    save(tmp_path / "p.json", [{"data": {"text": "x"}, "annotations": [{"result": [RESULT]}]}])
    with pytest.raises(DataError, match=r"p\.json: .*a task without a picture"):
        one("labelstudio", tmp_path, annotations="p.json")
    for odd, message in (({"image_rotation": 90}, "was rotated"), ({"to_name": "other"}, "shapes of several images")):
        results = [{**RESULT, "to_name": "image"}, {**RESULT, "to_name": "image", **odd}]
        save(tmp_path / "p.json", [{"data": {"image": "a.png"}, "annotations": [{"result": results}]}])
        with pytest.raises(DataError, match=rf"p\.json: .*a\.png {message}|p\.json: .*a\.png has {message}"):
            one("labelstudio", tmp_path, annotations="p.json")
    save(tmp_path / "v.xml", "<annotations><version>1.1</version><track label='cat'/></annotations>")
    with pytest.raises(DataError, match=r"v\.xml: CVAT for video; export it as CVAT for images"):
        one("cvat", tmp_path)
    with pytest.raises(ShapeError, match="no pairs of numbers"):
        points_of(np.zeros((4, 3)))
    for kind in ("file", "brush", 3):  # ours, not labelme's; no name
        save(
            tmp_path / "a.json",
            {"imagePath": "a.png", "shapes": [{"label": "x", "shape_type": kind, "points": SQUARE}]},
        )
        with pytest.raises(LabelError, match=f"a kind that covers no pixels or is not known .*{kind}"):
            one("labelme", tmp_path).mask(0)


def packed(rgba: np.ndarray, sizes: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """As Label Studio packs a painted mask: every second chunk is one of values that differ."""
    values, bits = rgba.ravel().tolist(), [f"{rgba.size:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in sizes)]
    while values:
        length = next((at for at, value in enumerate(values) if value != values[0]), len(values))
        length = min(length, 1 << sizes[-1])
        which = next(at for at, size in enumerate(sizes) if length <= 1 << size)
        count = length if length > 1 or len(values) < 3 else 3
        bits += ["1" if length > 1 else "0", f"{which:02b}", f"{count - 1:0{sizes[which]}b}"]
        bits += [f"{value:08b}" for value in (values[:1] if length > 1 else values[:count])]
        values = values[count:]
    text = "".join(bits)
    return [int(text[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(text), 8)]


def test_label_studios_json_min(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    its = {"original_width": 6, "original_height": 5, **PAINTED}
    task = {"image": "/data/upload/1/0123abcd-a.png", "label": [its], "notes": ["dark", "wet"], "annotation_id": 3}
    save(tmp_path / "x.json", [task])
    assert rows(one("labelstudio", tmp_path)) == ["000000", "011100", "011100", "000000", "000000"]


def test_what_a_brush_of_label_studio_has_painted(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (10, 20))
    alpha = np.random.default_rng(0).choice([0, 0, 0, 90, 255], (10, 20))
    alpha[3:6] = 255
    rgba = np.stack([np.full((10, 20), each) for each in (7, 8, 9)] + [alpha], 2)

    def task(rle: list[int], kind: str = "brushlabels") -> list[dict[str, Any]]:
        result = {"original_width": 20, "original_height": 10, "value": {"format": "rle", "rle": rle, kind: ["cat"]}}
        return [{"data": {"image": "a.png"}, "annotations": [{"result": [result]}]}]

    for drawn in (rgba, alpha[..., None].repeat(4, 2)):
        save(tmp_path / "export.json", task(packed(drawn)))
        assert (one("labelstudio", tmp_path).mask(0).numpy() == (alpha > 127)).all()
    whole = packed(rgba)
    for rle, message in ((whole[:-20], "damaged or cut short"), (packed(rgba[:9]), "another size than its image")):
        save(tmp_path / "export.json", task(rle))
        with pytest.raises(LabelError, match=f"a brush's mask .*{message}"):
            one("labelstudio", tmp_path).mask(0)


@pytest.mark.parametrize(("name", "found"), [("0ab1c2d3-7.png", "7.png"), ("20230101-7.png", "20230101-7.png")])
def test_the_name_of_an_upload_is_taken_off_and_a_date_is_not(tmp_path: Path, name: str, found: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "7.png")
    assert image_finder(tmp_path, "", tmp_path, None)(name) == tmp_path / found
