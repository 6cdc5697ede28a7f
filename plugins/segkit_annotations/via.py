"""VIA JSON or CSV (VGG Image Annotator): polygons, rectangles, circles, ellipses, lines; one file for all images."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from segkit.errors import ConfigError
from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages
from segkit_annotations.draw import Shape, box, ellipse, numbers
from segkit_annotations.files import Drawn
from segkit_annotations.records import Record
from segkit_folder.splits import read_text


class ViaDataset(AnnotatedImages):
    """VIA JSON or CSV (VGG Image Annotator, versions 1 and 2), a project or exported: later shapes over earlier ones.

    A. Dutta and A. Zisserman, "The VIA Annotation Software for Images, Audio and Video", arXiv 1904.10699. Polygons are
    drawn as in COCO, circles and ellipses as polygons, polylines 10 pixels wide. If regions have several attributes,
    ``attribute`` names the one that is the class; a region without it has the class "object".
    """

    tool = "VIA"
    signs: ClassVar = {
        "*.json": ('"_via_', '"shape_attributes"', '"file_attributes"'),
        "*.csv": ("region_shape_attributes",),
    }
    expected = "a VIA JSON file, such as {split}/via_region_data.json"

    def _records(self, path: Path, names: dict[str, None]) -> Iterator[Record]:
        content = _table(path) if path.suffix == ".csv" else files.load(path)
        pictures = [*content.get("_via_img_metadata", content).values()]
        regions = [  # an object with numbers as keys in version 1, a list in version 2
            [*each["regions"].values()] if isinstance(each["regions"], dict) else each["regions"] for each in pictures
        ]
        key = self._attribute(path, [each["region_attributes"] for those in regions for each in those])
        for picture, those in zip(pictures, regions, strict=True):
            named = [(each["shape_attributes"], _name(each["region_attributes"].get(key))) for each in those]
            yield Record(str(picture["filename"]), [_shape(*each) for each in named])

    def _attribute(self, path: Path, attributes: Sequence[Mapping[str, Any]]) -> str:
        there = sorted({name for each in attributes for name in each})
        if self.attribute not in there if self.attribute else len(there) > 1:
            raise ConfigError(
                f"{path}: which attribute of a region is its class? attribute = one of {', '.join(there)}"
            )
        return self.attribute or "".join(there)

    @classmethod
    def _sample(cls, split: str, drawn: Sequence[Drawn]) -> Iterator[tuple[str, Any]]:
        content = {}
        for path, objects in drawn:
            regions = []
            for name, corners in objects:
                x, y = zip(*corners, strict=True)
                shape = {"name": "polygon", "all_points_x": x, "all_points_y": y}
                regions.append({"shape_attributes": shape, "region_attributes": {"class": name}})
            content[path.name] = {"filename": path.name, "regions": regions}
        yield f"{split}/via_region_data.json", content


def _table(path: Path) -> dict[str, Any]:
    """Convert a CSV, with a line per region or per image without regions, to the structure of the JSON."""
    content: dict[str, Any] = {}
    for row in csv.DictReader(read_text(path).removeprefix("#").splitlines()):  # version 1 has "#filename"
        regions = content.setdefault(row["filename"], {"filename": row["filename"], "regions": []})["regions"]
        shape, region = (json.loads(row[f"region_{key}attributes"] or "{}") for key in ("shape_", ""))
        regions += [{"shape_attributes": shape, "region_attributes": region}] if shape else []
    return content


def _name(value: Any) -> str:
    """Return a class name; for a checkbox, {"cat": true}, the ticked names joined."""
    if isinstance(value, dict):
        value = " and ".join(name for name, ticked in value.items() if ticked)
    return str(value).strip() if value not in (None, "") else "object"


def _shape(its: Mapping[str, Any], label: str) -> Shape:
    kind = str(its["name"])
    if kind in ("polygon", "polyline"):
        points = numbers([*zip(its["all_points_x"], its["all_points_y"], strict=True)])
        return Shape(label, "polygon" if kind == "polygon" else "line", [points])
    if kind == "rect":
        return Shape(label, "polygon", [box(its["x"], its["y"], its["x"] + its["width"], its["y"] + its["height"])])
    if kind in ("circle", "ellipse"):
        across, down = (its["r"], its["r"]) if kind == "circle" else (its["rx"], its["ry"])
        turn = math.degrees(its.get("theta") or 0)
        return Shape(label, "polygon", [ellipse(its["cx"], its["cy"], across, down, turn)])
    return Shape(label, kind, None)
