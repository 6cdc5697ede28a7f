"""COCO JSON: polygons and run-length encodings of objects, one file per split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segkit.errors import DataError, Issue
from segkit_annotations import files
from segkit_annotations.dataset import CROWD, AnnotatedImages
from segkit_annotations.draw import Shape, numbers
from segkit_annotations.files import Drawn, Record
from segkit_annotations.rasterizer import Rule
from segkit_folder.pairs import natural

_FIRST = re.compile(r'\s*{\s*"(info|licenses|images|annotations|categories|type)"\s*:')  # files may be gigabytes


class CocoDataset(AnnotatedImages):
    """COCO JSON: polygons and RLE, drawn as pycocotools draws them; of overlapping shapes the smallest counts.

    Lin et al., "Microsoft COCO: Common Objects in Context", arXiv 1405.0312; the format: cocodataset.org/#format-data.
    COCO does not order its objects; of two that overlap, the one with fewer pixels is mostly in front, like a window in
    front of its house. Groups drawn as one (``iscrowd``) have their objects' class, or are void with
    ``class_map = {"* (crowd)" = "void"}``.
    """

    rule: Rule = "smallest"
    may_be_undrawn = True
    tool = "COCO"
    expected = "a COCO JSON file, such as {split}/_annotations.coco.json or annotations/instances_{split}2017.json"

    def _records(self, path: Path, names: dict[str, None]) -> Iterator[Record]:
        content, key = files.load(path, _packed), self.attribute or "name"
        categories = sorted(content["categories"], key=lambda each: natural(str(each["id"])))
        called = _by_id(path, "categories", ((each["id"], files.text(each[key])) for each in categories))
        images = _by_id(path, "images", ((each["id"], str(each["file_name"])) for each in content["images"]))
        shapes: dict[str, list[Shape]] = {number: [] for number in images}
        for each in content["annotations"]:
            for field, part, known in (("category_id", "categories", called), ("image_id", "images", images)):
                if str(each[field]) not in known:
                    what = f"an annotation whose {field} is no id in {part!r}"
                    raise DataError(Issue("malformed", str(path), what, "export it again", f"{field} {each[field]!r}"))
            name = called[str(each["category_id"])] + (CROWD if each.get("iscrowd") else "")
            shapes[str(each["image_id"])].append(_shape(name, each.get("segmentation")))
        used = {str(each["category_id"]) for each in content["annotations"]}
        groups = {each.get("supercategory") for each in categories}  # Roboflow's category 0 is a group, not a class
        for each in categories:
            if str(each["id"]) in used or each["name"] not in groups:
                names[called[str(each["id"])]] = None
        folder = path.stem.rpartition("_")[2]  # train2017 of instances_train2017.json
        for each in content["images"]:
            size = each.get("height"), each.get("width")
            yield Record(str(each["file_name"]), shapes[str(each["id"])], size, folder=folder)

    @classmethod
    def _find(cls, root: Path) -> list[Path]:
        keys = ('"file_name"', '"image_id"', '"supercategory"')
        found = [path for path in files.holding(root, "*.json", keys) if _FIRST.match(files.head(path))]
        found = [path for path in found if not ("panoptic" in path.stem or '"segments_info"' in files.head(path))]
        return [path for path in found if path.stem.startswith("instances")] or found

    @classmethod
    def _sample(cls, split: str, drawn: Sequence[Drawn]) -> Iterator[tuple[str, Any]]:
        images = [{"id": n, "file_name": path.name, "width": 40, "height": 30} for n, (path, _) in enumerate(drawn)]
        objects = [
            {"image_id": n, "category_id": label, "segmentation": [[side for corner in corners for side in corner]]}
            for n, (_, those) in enumerate(drawn)
            for label, (_, corners) in enumerate(those)
        ]
        categories = [{"id": label, "name": name} for label, name in enumerate(("square", "triangle"))]
        content = {"images": images, "annotations": objects, "categories": categories}
        yield f"{split}/_annotations.coco.json", content


def _by_id(path: Path, part: str, named: Iterable[tuple[Any, str]]) -> dict[str, str]:
    """Return id -> name of a file's categories or images.

    Raises:
        DataError: an id has two names.
    """
    found: dict[str, str] = {}
    for number, name in named:
        if (other := found.setdefault(str(number), name)) != name:
            what, advice = f"an id occurs twice in {part!r}, with two names", "give each entry its own id"
            detail = f"id {number!r}: {other!r} and {name!r}"
            raise DataError(Issue("malformed", str(path), what, f"{advice}, or export it again", detail))
    return found


def _packed(each: dict[str, Any]) -> dict[str, Any]:
    """Keep only the needed keys of an annotation, with polygons as arrays: 100,000 whole ones would take gigabytes."""
    if "segmentation" not in each:
        return each
    outline = each["segmentation"]
    if isinstance(outline, list):
        outline = outline if not outline or isinstance(outline[0], list) else [outline]
        outline = [numbers(part) for part in outline]
    return {key: each[key] for key in ("image_id", "category_id", "iscrowd") if key in each} | {"segmentation": outline}


def _shape(label: str, outline: Any) -> Shape:
    """Return a shape of one or more polygons, or of a run-length encoding, compressed or not."""
    if isinstance(outline, Mapping):
        counts, (height, width) = outline["counts"], outline["size"]
        counts = _uncompressed(counts) if isinstance(counts, str) else counts
        return Shape(label, "runs", (0, 0, (height, width), counts, True))
    return Shape(label, "polygon" if outline else "a box alone", outline or [])


def _uncompressed(text: str) -> list[int]:
    """Decode the runs of COCO's compressed form, like ``rleFrString`` of pycocotools' ``maskApi.c``.

    Each letter holds five bits; from the third run on, a number is the difference to the run two before.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - 48
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:  # the last letter of this number; its fifth bit is the sign
            value -= (code & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
