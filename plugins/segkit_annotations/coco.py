"""COCO JSON: polygons and run-length encodings of objects, or segments of panoptic masks; one file per split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.data.read import opened
from segkit.errors import DataError, Issue, LabelError
from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages
from segkit_annotations.draw import Shape, Size, numbers
from segkit_annotations.files import Drawn
from segkit_annotations.records import CROWD, Record
from segkit_folder.pairs import natural

_FIRST = re.compile(r'\s*{\s*"(info|licenses|images|annotations|categories|type)"\s*:')  # files may be gigabytes


class CocoDataset(AnnotatedImages):
    """COCO JSON: polygons and RLE, drawn as pycocotools draws them; of overlapping shapes the smallest counts.

    Lin et al., "Microsoft COCO: Common Objects in Context", arXiv 1405.0312; the format: cocodataset.org/#format-data.
    COCO does not order its objects; of two that overlap, the one with fewer pixels is mostly in front, like a window in
    front of its house. Groups drawn as one (``iscrowd``) have their objects' class, or are void with
    ``class_map = {"* (crowd)" = "void"}``. In a panoptic mask, red + 256 green + 65536 blue is the id of a segment, and
    ``background = "void"`` is for pixels without one (Kirillov et al., "Panoptic Segmentation", arXiv 1801.00868).
    """

    rule = "smallest"
    may_be_undrawn = True
    tool = "COCO"
    expected = "a COCO JSON file, such as {split}/_annotations.coco.json or annotations/instances_{split}2017.json"

    def _records(self, path: Path, names: dict[str, None]) -> Iterator[Record]:
        content, key = files.load(path, _packed), self.attribute or "name"
        categories = sorted(content["categories"], key=lambda each: natural(str(each["id"])))
        called = _by_id(path, "categories", ((each["id"], files.text(each[key])) for each in categories))
        images = _by_id(path, "images", ((each["id"], str(each["file_name"])) for each in content["images"]))
        shapes: dict[str, list[Shape]] = {number: [] for number in images}
        masks: dict[str, tuple[Path, Path]] = {}
        if any("segments_info" in each for each in content["annotations"]):
            near = (self.root, path.parent, path.with_suffix(""))  # masks in the last are the likeliest
            there = {each.name: each for place in near for each in files.walk(place, "*.png")}
            for each in content["annotations"]:
                own = there.get(each["file_name"], path.with_suffix("") / each["file_name"])
                masks[str(each["image_id"])] = own, path
            content["annotations"] = [
                {**part, "image_id": each["image_id"], "segmentation": part["id"]}
                for each in content["annotations"]
                for part in each["segments_info"]
            ]
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
            number = str(each["id"])
            yield Record(str(each["file_name"]), shapes[number], size, folder=folder, sources=masks.get(number, ()))

    def _draw(self, entry: Record, size: Size) -> NDArray[np.uint8]:
        if len(entry.sources) > 1:
            with opened(entry.sources[0]) as raster:
                stored = np.atleast_3d(np.asarray(raster[...]))[..., :3]
            ids = stored.astype(np.int64) @ (1, 256, 65536)[: stored.shape[2]]  # [H,W]
            if not np.isin(ids, [each.data for each in entry.shapes]).any():
                what, advice = "no pixel is of a segment that its JSON lists", "put the panoptic masks beside that JSON"
                raise LabelError(Issue("segments", str(entry.sources[0]), what, advice, entry.sources[1].name))
            entry = entry._replace(shapes=[Shape(label, "bits", ids == number) for label, _, number in entry.shapes])
        return super()._draw(entry, size)

    @classmethod
    def recognise(cls, root: Path) -> list[dict[str, str]]:
        """See :func:`segkit.hookspecs.segkit_datasets`."""
        rest = {"background": "void"} if any(map(_is_panoptic, cls._find(root))) else {}
        return [each | rest for each in super().recognise(root)]

    @classmethod
    def _find(cls, root: Path) -> list[Path]:
        keys = ('"file_name"', '"image_id"', '"supercategory"')
        found = [path for path in files.holding(root, "*.json", keys) if _FIRST.match(files.head(path))]
        plain = [path for path in found if not _is_panoptic(path)]
        return [path for path in plain if path.stem.startswith("instances")] or plain or found

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


def _is_panoptic(path: Path) -> bool:
    return "panoptic" in path.stem or '"segments_info"' in files.head(path)


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
        return {key: value for key, value in each.items() if key not in ("area", "bbox")}
    outline = each["segmentation"]
    if isinstance(outline, list):
        outline = outline if not outline or isinstance(outline[0], list) else [outline]
        outline = [numbers(part) for part in outline]
    return {key: each[key] for key in ("image_id", "category_id", "iscrowd") if key in each} | {"segmentation": outline}


def _shape(label: str, outline: Any) -> Shape:
    """Return a shape of one or more polygons, of a run-length encoding, compressed or not, or of a segment."""
    if isinstance(outline, int):
        return Shape(label, "segment", outline)
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
