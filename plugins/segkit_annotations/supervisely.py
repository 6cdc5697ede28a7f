"""Supervisely JSON: one file per image in folders ``ann`` beside ``img``, with polygons, bitmaps and rectangles."""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages
from segkit_annotations.draw import Shape, numbers
from segkit_annotations.files import Drawn
from segkit_annotations.records import Record
from segkit_folder.splits import split_called

_MOST_BYTES = 1 << 27  # of an unpacked bitmap, because a few packed bytes could become gigabytes


class SuperviselyDataset(AnnotatedImages):
    """A Supervisely project: later objects over earlier ones; polygons include their boundary and exclude their holes.

    docs.supervisely.com/data-organization/00_ann_format_navi. A folder or an image's tag called train, val or test
    gives the split. Polygons are drawn as by Supervisely, with OpenCV's fillPoly.
    """

    tool = "Supervisely"
    signs: ClassVar = {"meta.json": ('"title"',)}
    expected = "a project: meta.json with `classes`, and one folder per data set with img/ and ann/"
    miniature = "{split}/img"

    def _files(self, place: Path) -> list[Path]:
        return [place, *(path for path in files.walk(place.parent, "*.json") if path.parent.name == "ann")]

    def _records(self, path: Path, names: dict[str, None]) -> Iterator[Record]:
        content = files.load(path)
        if path.parent.name != "ann":  # meta.json
            names |= {str(each["title"]): None for each in content["classes"]}
            return
        size = content["size"]["height"], content["size"]["width"]
        words = [*(str(tag["name"]) for tag in content.get("tags") or ()), path.parent.parent.name]
        split = next((split for word in words if (split := split_called(word))), None)
        image = path.parent.parent / "img" / path.name.removesuffix(".json")
        yield Record(image, [_shape(each) for each in content["objects"]], size, split)

    @classmethod
    def _sample(cls, split: str, drawn: Sequence[Drawn]) -> Iterator[tuple[str, Any]]:
        for path, objects in drawn:
            shapes = [
                {"classTitle": name, "geometryType": "polygon", "points": {"exterior": corners}}
                for name, corners in objects
            ]
            yield f"{split}/ann/{path.name}.json", {"size": {"height": 30, "width": 40}, "objects": shapes}
        yield "meta.json", {"classes": [{"title": name} for name in ("square", "triangle")]}


def _shape(its: Mapping[str, Any]) -> Shape:
    older = "bitmap" if its.get("bitmap") else "polygon"  # before 2019 a shape had no type
    label, kind = files.text(its["classTitle"]), str(its.get("geometryType", older))
    if kind == "bitmap":
        left, top = its["bitmap"]["origin"]
        try:
            png = zlib.decompressobj().decompress(b64decode(its["bitmap"]["data"]), _MOST_BYTES)
        except zlib.error as error:
            raise ValueError(f"a bitmap of {label}: {error}") from None
        return Shape(label, "png", (int(top), int(left), png))
    if kind == "polygon":
        holes = [numbers(each) for each in its["points"].get("interior") or ()]
        return Shape(label, "outline", [numbers(its["points"]["exterior"]), *holes])
    if kind == "rectangle":
        (left, top), (right, bottom) = its["points"]["exterior"]
        return Shape(label, "outline", [numbers([[left, top], [right, top], [right, bottom], [left, bottom]])])
    if kind == "line":
        return Shape(label, "line", [numbers(its["points"]["exterior"])])
    return Shape(label, kind, None)
