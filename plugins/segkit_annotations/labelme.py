"""labelme's JSON: a file an image, with polygons, rectangles, circles, lines, points and masks."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segkit.data.issues import refuse
from segkit.errors import DataError, Issue
from segkit_annotations.dataset import VOID_NAME, AnnotatedImages, Rule
from segkit_annotations.draw import Region, Shape, ShapeError, Size, numbers, pillow, points_of, stored
from segkit_annotations.places import Entry, ImageFinder, head, load_json, malformed, miniature, patterns, places, walk
from segkit_folder.class_file import parse
from segkit_folder.splits import read_text

POINT_RADIUS = 5  # pixels, in labelme's own export
_LEAST = {"polygon": 3, "point": 1}  # points of a shape


class LabelmeDataset(AnnotatedImages):
    """labelme JSON, drawn as labelme's own export draws it: later shapes over earlier ones, boundaries included.

    The format and how it is drawn: github.com/wkentaro/labelme, ``labelme/utils/shape.py``. "__ignore__" is void and
    "_background_" the background. Classes are those of a labels.txt beside the files, or else all names in them.

    Args:
        annotations: the folder of the JSON files, such as "{split}"; left out: looked for.
    """

    rule: Rule = "last"
    usual: Mapping[str, str] = {"__ignore__": VOID_NAME, "_background_": "background"}
    expected = "a folder with labelme's JSON files, one an image"

    def read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Entry]]:
        """See :meth:`AnnotatedImages.read`."""
        entries: list[Entry] = []
        issues: list[Issue] = []
        lists = [root / "labels.txt"]
        for split, folder in places(root, annotations):
            lists.append(folder / "labels.txt")
            for path in sorted(folder.glob("*.json")):
                try:
                    content = load_json(path)
                    if not isinstance(content, dict) or "imagePath" not in content:
                        continue
                    with malformed(path, "labelme"):
                        entries.append(_entry(path, content, ImageFinder(root, path, images, split), split))
                except DataError as error:
                    issues += [error.issue] if error.issue else []
        refuse(issues)
        if listed := [path for path in lists if path.is_file()]:
            return parse(read_text(listed[0]), str(listed[0])).names, entries
        return sorted({shape.label for entry in entries for shape in entry.shapes}), entries

    @classmethod
    def find(cls, root: Path) -> list[str]:
        """See :meth:`AnnotatedImages.find`."""
        first = {path.parent: path for path in reversed(walk(root, "*.json"))}
        keys = ('"shapes"', '"imagePath"', '"imageData"')
        return patterns(root, [folder for folder, path in first.items() if any(key in head(path) for key in keys)])

    @classmethod
    def write_sample(cls, root: str | Path) -> None:
        """Write a miniature: a folder a split, with a JSON file beside each image."""
        for _, drawn in miniature(Path(root), "{split}"):
            for path, objects in drawn:
                shapes = [{"label": name, "shape_type": "polygon", "points": corners} for name, corners in objects]
                content = {"shapes": shapes, "imagePath": path.name, "imageHeight": 30, "imageWidth": 40}
                path.with_suffix(".json").write_text(json.dumps(content))


def _entry(path: Path, content: Mapping[str, Any], finder: ImageFinder, split: str) -> Entry:
    shapes = []
    for each in content["shapes"]:
        data = (each.get("shape_type") or "polygon", numbers(each["points"]), each.get("mask"))
        shapes.append(Shape(str(each["label"]), _draw, data))
    height, width = content.get("imageHeight"), content.get("imageWidth")
    return Entry(
        finder.find(content["imagePath"]), (path,), shapes, (height, width) if height and width else None, split
    )


def _draw(data: tuple[str, Any, str | None], size: Size) -> Region:
    """As ``shape_to_mask`` of labelme."""
    kind, given, mask = data
    points = points_of(given, _LEAST.get(kind, 2))
    if kind == "mask":
        (left, top), bits = (
            points[0].astype(int).tolist(),
            np.asarray(Image.open(io.BytesIO(base64.b64decode(mask or "")))),
        )
        return stored((top, left, bits != 0), size)
    if kind in ("circle", "point"):
        radius = math.dist(points[0], points[1]) if kind == "circle" else POINT_RADIUS
        return pillow("ellipse", np.stack([points[0] - radius, points[0] + radius]), size)
    if kind == "rectangle":
        return pillow("rectangle", np.stack([points.min(0), points.max(0)]), size)
    if kind not in ("polygon", "line", "linestrip"):
        raise ShapeError("a shape of a kind that is not known", kind)
    return pillow(kind.removesuffix("strip"), points, size)
