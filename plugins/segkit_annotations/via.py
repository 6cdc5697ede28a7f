"""VIA's JSON (VGG Image Annotator): polygons, rectangles, circles, ellipses and lines, one file for all images."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from segkit.errors import ConfigError
from segkit_annotations.dataset import AnnotatedImages, Rule
from segkit_annotations.draw import Region, Shape, ShapeError, Size, box, ellipse, line, numbers, polygons
from segkit_annotations.places import Entry, ImageFinder, head, load_json, malformed, miniature, patterns, places, walk


class ViaDataset(AnnotatedImages):
    """VIA JSON (VGG Image Annotator, versions 1 and 2): later shapes over earlier ones.

    A. Dutta and A. Zisserman, "The VIA Annotation Software for Images, Audio and Video", arXiv 1904.10699. Polygons are
    drawn as COCO's, of circles and ellipses the pixels whose centre is inside, polylines 10 pixels wide.

    Args:
        annotations: the JSON file, a project or exported annotations; left out: looked for.
        attribute: that of a region which names its class; left out: the only one. Regions without it are "object".
    """

    rule: Rule = "last"
    expected = "a VIA JSON file, such as {split}/via_region_data.json"

    def __init__(
        self,
        root: str | Path,
        split: str,
        annotations: str = "",
        images: str = "",
        classes: list[str] | None = None,
        class_map: Mapping[str, str] | None = None,
        background: str = "background",
        overlap: Rule | None = None,
        outside: Literal["error", "cut"] = "error",
        lists: str = "",
        fractions: Sequence[float] = (0.7, 0.15, 0.15),
        split_seed: int = 0,
        attribute: str = "",
    ) -> None:
        self.attribute = attribute
        shared = (annotations, images, classes, class_map, background, overlap, outside, lists, fractions, split_seed)
        super().__init__(root, split, *shared)

    def read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Entry]]:
        """See :meth:`AnnotatedImages.read`."""
        entries: list[Entry] = []
        for split, path in places(root, annotations):
            content, finder = load_json(path), ImageFinder(root, path, images, split)
            with malformed(path, "VIA"):
                pictures = [*content.get("_via_img_metadata", content).values()]
                regions = [_values(picture["regions"]) for picture in pictures]
                attribute = self._attribute(path, [region for those in regions for region in those])
                for picture, those in zip(pictures, regions, strict=True):
                    shapes = [
                        Shape(
                            _name(region["region_attributes"].get(attribute)), _draw, _data(region["shape_attributes"])
                        )
                        for region in those
                    ]
                    entries.append(Entry(finder.find(picture["filename"]), (path,), shapes, None, split))
        return sorted({shape.label for entry in entries for shape in entry.shapes}), entries

    def _attribute(self, path: Path, regions: Sequence[Mapping[str, Any]]) -> str:
        there = sorted({name for region in regions for name in region["region_attributes"]})
        if self.attribute not in there if self.attribute else len(there) > 1:
            raise ConfigError(
                f"{path}: which attribute of a region is its class? attribute = one of {', '.join(there)}"
            )
        return self.attribute or "".join(there)

    @classmethod
    def find(cls, root: Path) -> list[str]:
        """See :meth:`AnnotatedImages.find`."""
        known = ('"_via_', '"regions"', '"shape_attributes"')
        return patterns(root, [path for path in walk(root, "*.json") if any(each in head(path) for each in known)])

    @classmethod
    def write_sample(cls, root: str | Path) -> None:
        """Write a miniature: a folder a split, with its images and via_region_data.json."""
        for split, drawn in miniature(Path(root), "{split}"):
            content = {}
            for path, objects in drawn:
                regions = [
                    {
                        "shape_attributes": {
                            "name": "polygon",
                            "all_points_x": [x for x, _ in corners],
                            "all_points_y": [y for _, y in corners],
                        },
                        "region_attributes": {"class": name},
                    }
                    for name, corners in objects
                ]
                content[path.name] = {"filename": path.name, "size": path.stat().st_size, "regions": regions}
            (Path(root) / split / "via_region_data.json").write_text(json.dumps(content))


def _values(regions: Any) -> list[Any]:
    """Version 1 numbers them in an object, version 2 has a list."""
    return [*regions.values()] if isinstance(regions, dict) else regions


def _name(value: Any) -> str:
    """Of a checkbox, {"cat": true}, the names that are ticked."""
    if isinstance(value, dict):
        value = " and ".join(name for name, ticked in value.items() if ticked)
    return str(value).strip() if value not in (None, "") else "object"


def _data(attributes: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """The attributes, and where there are any the points as an array."""
    if "all_points_x" not in attributes:
        return attributes, None
    return {"name": attributes["name"]}, numbers(
        [*zip(attributes["all_points_x"], attributes["all_points_y"], strict=True)]
    )


def _draw(data: tuple[Mapping[str, Any], Any], size: Size) -> Region:
    its, points = data
    kind = its["name"]
    if kind in ("polygon", "polyline"):
        return polygons([points], size) if kind == "polygon" else line(points, size)
    if kind == "rect":
        return box((its["x"], its["y"], its["x"] + its["width"], its["y"] + its["height"], 0), size)
    if kind == "circle":
        return ellipse((its["cx"], its["cy"], its["r"], its["r"], 0), size)
    if kind == "ellipse":
        return ellipse((its["cx"], its["cy"], its["rx"], its["ry"], math.degrees(its.get("theta") or 0)), size)
    raise ShapeError("a shape without an area", kind)
