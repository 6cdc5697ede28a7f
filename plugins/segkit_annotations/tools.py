"""Polygons in the JSON of further tools, which differ in the keys of images, names and objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segkit.errors import DataError
from segkit_annotations import files
from segkit_annotations.draw import Shape, numbers
from segkit_annotations.records import Record


class Tool(NamedTuple):
    """The keys of a tool's JSON; nested keys are joined by a dot, as in ``item.name``, and ``*`` stands for all items.

    Attributes:
        sign: words that the first characters of this tool's files contain, and no other tool's all contain.
        images: key of the images.
        name: key of an image's file name; "": the image has the name of the JSON file.
        size: key of the object that holds an image's width and height.
        objects: key of an image's objects; an image without this key is not annotated.
    """

    sign: str
    images: str
    name: str
    size: str
    objects: str


TOOLS = (
    Tool('"data_row"', "*", "data_row.external_id", "media_attributes", "projects.*.labels.0.annotations.objects"),
    Tool('"item" "slots"', "", "item.name", "item.slots.0", "annotations"),  # Darwin 2 of V7, and Darwin 1
    Tool('"image" "original_filename"', "", "image.filename", "image", "annotations"),
    Tool('"item1"', "", "", "", ""),  # DeepFashion2
    Tool('"ISAT"', "", "info.name", "info", "objects"),
    Tool('"label_classes"', "images.*", "image_name", "", "labels"),  # Hasty
    Tool('"params" "attachment"', "*", "params.attachment", "", "response.annotations"),  # Scale
    Tool('"className" "points"', "", "metadata.name", "metadata", "instances"),  # SuperAnnotate
    Tool('"datasetId" "coordinates"', "", "filename", "metadata.system", "annotations"),  # Dataloop
    Tool('"imgHeight" "polygon"', "", "", "", "objects"),  # Cityscapes and India Driving
    Tool('"asset" "regions"', "", "asset.name", "asset.size", "regions"),  # VoTT
)
REFUSED = {
    '"segmentation_bitmap"': "a release of Segments.ai, whose masks lie on its server; fetch them with its package: "
    "segments.utils.export_dataset(dataset, 'semantic')",
    '"items" "label_id"': "of Datumaro; convert it to COCO with `datum convert -if datumaro -i FOLDER -f "
    "coco_instances`",
}
"""Sign -> message for formats that are not read."""
_LABELS = ("className", "class_name", "category_name", "category", "label", "tags", "name")
_CORNERS = ("polygon", "segmentation", "vertices", "points", "coordinates")
_OTHERS = ("mask", "raster_layer", "line", "polyline", "ellipse", "keypoint", "point", "bounding_box", "bbox")
_NO_AREAS = ("polyline", "line", "point", "bbox", "rbbox", "box", "ellipse", "cuboid", "template", "binary")
"""Types of objects whose points, if they have any, are not the corners of an area."""


def is_known(head: str) -> bool:
    """Whether a file's first characters are those of a supported tool or of a format that is refused by name."""
    return any(_has(head, sign) for sign in (*(tool.sign for tool in TOOLS), *REFUSED))


def records(path: Path) -> Iterator[Record]:
    """Yield a record per annotated image of a JSON or JSON-lines file; only the first labels of each Labelbox image.

    Raises:
        DataError: it is no JSON, or of a format that is not read.
    """
    head = files.head(path)
    if refused := [text for sign, text in REFUSED.items() if _has(head, sign)]:
        raise DataError(f"{path} is {refused[0]}")
    tool = next(each for each in TOOLS if _has(head, each.sign))
    is_lines = tool.sign == '"data_row"' and head.lstrip()[:1] == "{"  # one JSON object per image
    content = [*map(json.loads, filter(None, path.read_bytes().splitlines()))] if is_lines else files.load(path)
    for image in _held(content, tool.images):
        if objects := _held(image, tool.objects):
            shapes = [shape for its in _held(objects, "*.*") if isinstance(its, dict) for shape in _shape(its)]
            sizes = [(each["height"], each["width"]) for each in _held(image, tool.size) if "height" in each]
            name = str(_held(image, tool.name)[0]) if tool.name else path
            yield Record(name, shapes, (*sizes, None)[0])


def _has(head: str, sign: str) -> bool:
    """Whether a file's first characters contain all words of a sign, and are no GeoJSON, whose properties might."""
    return '"Feature"' not in head and all(word in head for word in sign.split())


def _held(content: Any, keys: str) -> list[Any]:
    """Return all values under a dotted key; empty if a key is missing."""
    found = [content]
    for key in filter(None, keys.split(".")):
        if key in ("*", "0"):
            several = [[*each.values()] if isinstance(each, dict) else each for each in found]
            found = [value for each in several for value in (each if key == "*" else each[:1])]
        else:
            found = [each[key] for each in found if key in each]
    return found


def _shape(its: Mapping[str, Any]) -> Iterator[Shape]:
    """Yield the shape of an object; nothing for an entry about the whole image, or a deleted one."""
    if its.get("deleted") == 1:
        return
    label = next((its[key] for key in _LABELS if its.get(key)), "object")
    label = " and ".join(map(str, label)) if isinstance(label, list) else str(label)
    kind = str(its.get("type", "")).lower()
    corners = next((its[key] for key in _CORNERS if its.get(key)), None) if kind not in _NO_AREAS else None
    other = next((key for key in _OTHERS if its.get(key)), "box" if "left" in its else "")  # the latter is Scale's
    other = kind if kind in _NO_AREAS else other
    if isinstance(corners, dict):  # Darwin: further rings are holes or separate parts
        yield Shape(
            label, "rings", [ring for each in (corners.get("paths") or [corners["path"]]) for ring in _rings(each)]
        )
    elif corners and its.get("exclude"):  # SuperAnnotate: holes
        yield Shape(label, "rings", [*_rings(corners), *_rings(its["exclude"])])
    elif corners or other:
        yield Shape(label, "polygon" if corners else f"{other} without a polygon", _rings(corners) if corners else None)


def _rings(corners: Sequence[Any]) -> list[Any]:
    """Return the rings of ``[{x, y}, ...]``, ``[[x, y], ...]`` or ``[x, y, x, y, ...]``, or of a list of these."""
    if isinstance(corners[0], dict):
        return [numbers([[each["x"], each["y"]] for each in corners])]
    is_one = not isinstance(corners[0], list) or len(corners[0]) == 2
    return [numbers(corners)] if is_one else [ring for each in corners for ring in _rings(each)]
