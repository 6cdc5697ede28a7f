"""COCO's JSON: polygons and run-length encodings of objects, one file for all images of a split."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from segkit_annotations.dataset import VOID_NAME, AnnotatedImages, Rule
from segkit_annotations.draw import Region, Shape, ShapeError, Size, numbers, polygons, runs
from segkit_annotations.places import Entry, ImageFinder, head, load_json, malformed, miniature, patterns, places, walk


class CocoDataset(AnnotatedImages):
    """COCO JSON: polygons and RLE, drawn as pycocotools draws them; of overlapping shapes the smallest counts.

    Lin et al., "Microsoft COCO: Common Objects in Context", arXiv 1405.0312; the format: cocodataset.org/#format-data.
    It gives no order to its objects: of two that overlap, the one of fewer pixels lies mostly before the other, as a
    window before its house.

    Args:
        annotations: the JSON file, such as "{split}/_annotations.coco.json" or
            "annotations/instances_{split}2017.json"; left out: looked for.
        crowd: what groups of objects that were drawn as one (``iscrowd``) are: of their "class", or "void".
    """

    rule: Rule = "smallest"
    expected = "a COCO JSON file, as {split}/_annotations.coco.json or annotations/instances_{split}2017.json"

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
        crowd: Literal["class", "void"] = "class",
    ) -> None:
        self.crowd = crowd
        shared = (annotations, images, classes, class_map, background, overlap, outside, lists, fractions, split_seed)
        super().__init__(root, split, *shared)

    def read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Entry]]:
        """See :meth:`AnnotatedImages.read`."""
        names: dict[str, None] = {}
        entries: list[Entry] = []
        for split, path in places(root, annotations):
            with malformed(path, "COCO"):
                own, found = self._read(
                    path, load_json(path), ImageFinder(root, path, images, split, path.stem.rpartition("_")[2]), split
                )
            names |= dict.fromkeys(own)
            entries += found
        return [*names], entries

    def _read(
        self, path: Path, content: Mapping[str, Any], finder: ImageFinder, split: str
    ) -> tuple[list[str], list[Entry]]:
        categories = sorted(content["categories"], key=lambda each: each["id"])
        called = {each["id"]: str(each["name"]).strip() for each in categories}
        shapes: dict[Any, list[Shape]] = {each["id"]: [] for each in content["images"]}
        used = set()
        for each in content["annotations"]:
            used.add(each["category_id"])
            label = VOID_NAME if self.crowd == "void" and each.get("iscrowd") else called[each["category_id"]]
            outline = each.get("segmentation")
            outline = [numbers(part) for part in outline] if isinstance(outline, list) else outline
            shapes[each["image_id"]].append(Shape(label, _draw, outline))
        groups = {each.get("supercategory") for each in categories}  # Roboflow's category 0 is no class but a group
        names = [called[each["id"]] for each in categories if each["id"] in used or each["name"] not in groups]
        return names, [
            Entry(
                finder.find(each["file_name"]),
                (path,),
                shapes[each["id"]],
                (each["height"], each["width"]) if each.get("height") else None,
                split,
            )
            for each in content["images"]
        ]

    @classmethod
    def find(cls, root: Path) -> list[str]:
        """See :meth:`AnnotatedImages.find`."""
        found = [path for path in walk(root, "*.json") if _is_coco(path)]
        return patterns(root, [path for path in found if path.stem.startswith("instances")] or found)

    @classmethod
    def write_sample(cls, root: str | Path) -> None:
        """Write a miniature as Roboflow exports it: a folder a split, with its images and _annotations.coco.json."""
        categories = [{"id": 1, "name": "square"}, {"id": 2, "name": "triangle"}]
        for split, drawn in miniature(Path(root), "{split}"):
            images = [
                {"id": number, "file_name": path.name, "width": 40, "height": 30}
                for number, (path, _) in enumerate(drawn)
            ]
            annotations = [
                {
                    "image_id": number,
                    "category_id": category,
                    "segmentation": [[number for corner in corners for number in corner]],
                }
                for number, (_, objects) in enumerate(drawn)
                for category, (_, corners) in enumerate(objects, 1)
            ]
            content = {"images": images, "annotations": annotations, "categories": categories}
            (Path(root) / split / "_annotations.coco.json").write_text(json.dumps(content))


def _is_coco(path: Path) -> bool:
    """By its first bytes, as such a file may be of half a gigabyte."""
    begins = re.match(r'\s*{\s*"(info|licenses|images|annotations|categories|type)"\s*:', start := head(path))
    return bool(begins) and any(f'"{key}"' in start for key in ("file_name", "image_id", "supercategory"))


def _draw(data: Any, size: Size) -> Region:
    """A polygon or several, or a run-length encoding, compressed or not."""
    if isinstance(data, list) and data:
        return polygons(data, size)
    if not isinstance(data, Mapping) or "counts" not in data:
        raise ShapeError("an object without a polygon or RLE, as a box alone")
    counts, own = data["counts"], tuple(data["size"])
    if own != size:
        raise ShapeError("a run-length encoding of another size than its image", f"{own[1]} x {own[0]}")
    return Region(0, 0, runs(_uncompressed(counts) if isinstance(counts, str) else counts, size))


def _uncompressed(text: str) -> list[int]:
    """The runs of COCO's compressed form: five bits a letter, from the third run on as differences to the last but one.

    ``rleFrString`` of pycocotools' ``maskApi.c``.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - 48
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:  # the last letter of this number, whose fifth bit is its sign
            value -= (code & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
