"""Label Studio JSON: polygons, rectangles and ellipses in percent of the image, and brushes; one file per data set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from segkit.errors import DataError
from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages
from segkit_annotations.draw import Shape, ellipse, numbers, scaled, turned
from segkit_annotations.files import Drawn
from segkit_annotations.records import Record
from segkit_folder.splits import SUFFIXES

_PICTURE = re.compile(rf"({'|'.join(map(re.escape, SUFFIXES))})(\?|$)", re.IGNORECASE)  # end of a path or URL


class LabelStudioDataset(AnnotatedImages):
    """Label Studio's export "JSON" or "JSON-MIN"; later shapes over earlier ones.

    labelstud.io/guide/export. Of each task the first annotation that is not cancelled is read; tasks without one are
    skipped. Polygons are drawn as in COCO.
    """

    tool = "Label Studio"
    signs: ClassVar = {"*.json": ('"polygonlabels"', '"rectanglelabels"', '"ellipselabels"', '"brushlabels"')}
    expected = "the JSON that Label Studio exports, beside the images or a folder of them"

    def _records(self, path: Path, names: dict[str, None]) -> Iterator[Record]:
        for task in files.load(path):
            fields = task if "annotation_id" in task else task["data"]  # the former in "JSON-MIN"
            image = next((str(each) for each in fields.values() if _PICTURE.search(str(each))), None)
            if image is None:
                raise ValueError("a task without a picture")
            if fields is task:
                every = [each for held in task.values() if isinstance(held, list) for each in held]
                made = [[{**each, "value": each} for each in every if isinstance(each, dict)]]  # others are texts
            else:
                made = [each["result"] for each in task["annotations"] if not each.get("was_cancelled")]
            if not made:
                continue
            drawn = [each for each in made[0] if any(key.endswith("labels") for key in each.get("value", ()))]
            if any(each.get("image_rotation") for each in drawn):
                raise DataError(f"{path}: {image} was rotated in Label Studio; rotate it back there, or remove it")
            if len({each.get("to_name") for each in drawn}) > 1:
                raise DataError(f"{path}: the task of {image} has shapes of several images; use one image per task")
            sizes = [(float(each["original_height"]), float(each["original_width"])) for each in drawn]
            shapes = [_shape(each["value"], *size) for each, size in zip(drawn, sizes, strict=True)]
            yield Record(image, shapes, (*sizes, None)[0])

    @classmethod
    def _sample(cls, split: str, drawn: Sequence[Drawn]) -> Iterator[tuple[str, Any]]:
        tasks = []
        for path, objects in drawn:
            shapes = [([name], [[x / 0.4, y / 0.3] for x, y in corners]) for name, corners in objects]
            values = [{"polygonlabels": names, "points": points} for names, points in shapes]
            results = [{"original_width": 40, "original_height": 30, "value": value} for value in values]
            tasks.append({"data": {"image": f"/data/upload/1/{path.name}"}, "annotations": [{"result": results}]})
        yield f"{split}/project.json", tasks


def _shape(value: Mapping[str, Any], height: float, width: float) -> Shape:
    kind = next(key for key in value if key.endswith("labels"))
    label = " and ".join(value[kind])
    if "rle" in value:
        return Shape(label, "brush", bytes(value["rle"]))
    if "points" in value:
        return Shape(label, "polygon", scaled([numbers(value["points"])], width / 100, height / 100))
    if not {"radiusX", "height"} & {*value}:
        return Shape(label, kind, None)
    x, y, turn = value["x"] * width / 100, value["y"] * height / 100, value.get("rotation") or 0
    across, down = (value[key] / 100 for key in (("width", "height") if "height" in value else ("radiusX", "radiusY")))
    across, down = across * width, down * height
    if "height" not in value:
        return Shape(label, "polygon", [ellipse(x, y, across, down, turn)])
    right, below = across * np.array([0, 1, 1, 0]), down * np.array([0, 0, 1, 1])
    return Shape(label, "polygon", [turned(x, y, right, below, turn)])  # about its upper left corner
