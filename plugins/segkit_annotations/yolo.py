"""YOLO's text files of normalised polygons, one an image, beside a data.yaml."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from segkit.data.issues import refuse
from segkit.errors import DataError, Issue
from segkit_annotations.dataset import AnnotatedImages, Rule
from segkit_annotations.draw import Region, Shape, ShapeError, Size, points_of, polygons
from segkit_annotations.places import Entry, head, malformed, miniature, split_named, walk
from segkit_folder.splits import SUFFIXES, read_text


class YoloDataset(AnnotatedImages):
    """YOLO segmentation text as Ultralytics reads it: of overlapping shapes the smallest counts.

    docs.ultralytics.com/datasets/segment: ``labels/train/cat.txt`` beside ``images/train/cat.jpg``, a class and the
    corners of a polygon in 0 to 1 a line. An image without such a file is all background. Polygons are drawn as COCO's.

    Args:
        annotations: the YAML file with names and the folders, or lists, of each split's images; left out: looked for.
        images: not used: the YAML file says it.
    """

    rule: Rule = "smallest"
    expected = "data.yaml with `names`, `train` and `val`"

    def read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Entry]]:
        """See :meth:`AnnotatedImages.read`."""
        path = root / annotations
        try:
            content = yaml.safe_load(read_text(path))
        except yaml.YAMLError as error:
            raise DataError(Issue("broken", str(path), "no YAML", detail=" ".join(str(error).split()))) from None
        entries = []
        with malformed(path, "YOLO"):
            names = content["names"]
            names = [*names.values()] if isinstance(names, dict) else names
            for word, given in content.items():
                if split := split_named(word):
                    for each in given if isinstance(given, list) else [given]:
                        entries += [_entry(image, path, names, split) for image in _images(path, content, each)]
        return [str(name) for name in names], entries

    @classmethod
    def find(cls, root: Path) -> list[str]:
        """See :meth:`AnnotatedImages.find`."""
        files = [path for ending in ("*.yaml", "*.yml") for path in walk(root, ending)]
        return [
            path.relative_to(root).as_posix()
            for path in files
            if {"names", "train"} <= {line.partition(":")[0].strip() for line in head(path).splitlines()}
        ]

    @classmethod
    def write_sample(cls, root: str | Path) -> None:
        """Write a miniature: images/<split>/*.png, labels/<split>/*.txt and data.yaml."""
        for split, drawn in miniature(Path(root), "images/{split}"):
            (Path(root) / "labels" / split).mkdir(parents=True, exist_ok=True)
            for path, objects in drawn:
                lines = [
                    " ".join([str(label), *(f"{x / 40} {y / 30}" for x, y in corners)])
                    for label, (_, corners) in enumerate(objects)
                ]
                _label_file(path).write_text("\n".join(lines))
        content = {"names": ["square", "triangle"], **{split: f"images/{split}" for split in ("train", "val", "test")}}
        (Path(root) / "data.yaml").write_text(yaml.safe_dump(content))


def _images(path: Path, content: Mapping[str, Any], given: str) -> list[Path]:
    """The images of a folder, or of a text file with one a line, where Ultralytics looks for them."""
    bases = [path.parent / str(content.get("path") or ""), path.parent]  # the first may be of another computer

    def place(text: str) -> Path:
        own = [text, text.removeprefix("../"), text.partition("/")[2] or text]  # Roboflow's ../, CVAT's data/
        return next((base / each for each in own for base in bases if (base / each).exists()), path.parent / text)

    folder = place(given)
    if folder.is_dir():
        found = sorted(each for each in folder.rglob("*") if each.suffix.lower() in SUFFIXES)
        return [each for each in found if not each.name.startswith(".")]
    if folder.is_file():
        return [place(line.strip()) for line in read_text(folder).splitlines() if line.strip()]
    warnings.warn(f"{path} names {folder}, which is not there: it is left out", stacklevel=5)
    return []


def _label_file(image: Path) -> Path:
    """``labels/train/cat.txt`` of ``images/train/cat.jpg``: the last folder of that name counts."""
    before, images, after = image.as_posix().rpartition("/images/")
    return Path(f"{before}/labels/{after}" if images else after).with_suffix(".txt")


def _entry(image: Path, path: Path, names: list[str], split: str) -> Entry:
    labels = _label_file(image)
    shapes = []
    for line in read_text(labels).splitlines() if labels.is_file() else ():
        if words := line.split():
            try:
                shapes.append(Shape(str(dict(enumerate(names))[int(words[0])]), _draw, np.array(words[1:], np.float64)))
            except (ValueError, KeyError):
                advice = f"a line is a class of 0 to {len(names) - 1} and the corners of a polygon"
                refuse([Issue("line", str(labels), "a line that is no polygon of a known class", advice, line[:60])])
    return Entry(image, (labels,) if labels.is_file() else (path,), shapes, None, split)


def _draw(data: Any, size: Size) -> Region:
    if len(data) == 4:
        raise ShapeError("a box, not a polygon", f"{len(data)} numbers")
    points = points_of(data)
    if points.min() < -0.01 or points.max() > 1.01:
        raise ShapeError("corners that are not in 0 to 1", f"{points.min():g} to {points.max():g}")
    return polygons([points * (size[1], size[0])], size)
