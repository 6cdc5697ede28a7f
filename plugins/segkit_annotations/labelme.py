"""labelme JSON: one file per image, with polygons, rectangles, circles, lines, points and masks."""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages
from segkit_annotations.draw import Shape, numbers
from segkit_annotations.files import Drawn
from segkit_annotations.records import VOID_NAME, Record
from segkit_folder.class_file import parse
from segkit_folder.splits import read_text

_KINDS = {"polygon": "outline", "rotation": "outline", "rectangle": "rectangle", "line": "line", "linestrip": "line"}
POINT_RADIUS = 5  # pixels, as in labelme's own export


class LabelmeDataset(AnnotatedImages):
    """labelme JSON, drawn as labelme's own export draws it: later shapes over earlier ones, boundaries included.

    The format and its drawing: github.com/wkentaro/labelme, ``labelme/utils/shape.py``. "__ignore__" is void and
    "_background_" the background. The classes come from a labels.txt beside the files, or else from all labels used.
    """

    default_class_map: Mapping[str, str] = {"__ignore__": VOID_NAME, "_background_": "background"}
    tool = "labelme"
    expected = "a folder with labelme's JSON files, one per image"

    def _read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Record]]:
        names, entries = super()._read(root, annotations, images)
        lists = [folder / "labels.txt" for folder in (root, *(place for _, place in files.places(root, annotations)))]
        if listed := [path for path in lists if path.is_file()]:
            names = parse(read_text(listed[0]), str(listed[0])).names
        return names, entries

    def _files(self, place: Path) -> list[Path]:
        return sorted(place.glob("*.json"))

    def _records(self, path: Path, names: dict[str, None]) -> Iterator[Record]:
        content = files.load(path)
        own = content if isinstance(content, dict) else {}  # other JSON files in the folder are ignored
        if name := own.get("imagePath", own.get("imageName")):
            shapes = [_shape(each, files.text(each[self.attribute or "label"])) for each in content["shapes"]]
            yield Record(str(name), shapes, (content.get("imageHeight"), content.get("imageWidth")))

    @classmethod
    def _find(cls, root: Path) -> list[Path]:
        first = {path.parent: path for path in reversed(files.walk(root, "*.json"))}
        keys = ('"shapes"', '"imagePath"', '"imageData"')
        return [folder for folder, path in first.items() if any(key in files.head(path) for key in keys)]

    @classmethod
    def _sample(cls, split: str, drawn: Sequence[Drawn]) -> Iterator[tuple[str, Any]]:
        for path, objects in drawn:
            shapes = [{"label": name, "shape_type": "polygon", "points": corners} for name, corners in objects]
            content = {"shapes": shapes, "imagePath": path.name, "imageHeight": 30, "imageWidth": 40}
            yield f"{split}/{path.stem}.json", content


def _shape(its: Mapping[str, Any], label: str) -> Shape:
    """Return a shape that is drawn like labelme's ``shape_to_mask``."""
    kind, points = its.get("shape_type") or "polygon", its["points"]
    if kind == "mask":
        return Shape(label, "png", (int(points[0][1]), int(points[0][0]), b64decode(its["mask"])))
    if kind in ("circle", "point"):
        (x, y), radius = points[0], math.dist(points[0], points[1]) if kind == "circle" else POINT_RADIUS
        corners = [x - radius, y - radius, x + radius, y + radius]
        return Shape(label, "ellipse", [numbers(corners) if kind == "circle" else corners])
    if kind == "rectangle" and len(points) > 1:  # two or four corners in any order -> upper left, lower right
        points = [[least(axis) for axis in zip(*points, strict=True)] for least in (min, max)]
    return Shape(label, _KINDS.get(kind, kind), [numbers(points)] if kind in _KINDS else None)
