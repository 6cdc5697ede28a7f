"""YOLO text files of normalised polygons, one per image, with a data.yaml."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from segkit.data.sample import SPLITS
from segkit.errors import DataError, Issue, refuse
from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages
from segkit_annotations.draw import Shape, numbers
from segkit_annotations.files import Drawn
from segkit_annotations.records import Record
from segkit_folder.splits import read_text, split_called

_NAMES = ("classes.txt", "obj.names", "names.txt", "labels.txt")  # files with one class name per line
_POLYGONS = re.compile(r"\d+(\.0+)?(\s+-?[\d.]+(e-\d+)?){6,}\s*|\s*")


class YoloDataset(AnnotatedImages):
    """YOLO segmentation text as Ultralytics reads it: of overlapping shapes the smallest counts.

    docs.ultralytics.com/datasets/segment: ``labels/train/cat.txt`` beside ``images/train/cat.jpg``; each line holds a
    class and the corners of a polygon in 0 to 1. An image without such a file is all background. Polygons are drawn as
    in COCO. ``annotations`` is the YAML file, which also gives the image folders instead of ``images``. Without a YAML
    file it is a file with one class name per line, or the folder of the labels if the classes have no names.
    """

    rule = "smallest"
    in_shares = True
    expected = "data.yaml with `names`, `train` and `val`, or classes.txt beside folders of images and labels"
    miniature = "images/{split}"

    def _read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Record]]:
        path, entries, issues = root / annotations, [], []
        is_yaml = path.suffix in (".yaml", ".yml")
        names, found = _of_yaml(root, path) if is_yaml else _of_folders(root, path)
        advice = f"a line holds a class from 0 to {max(names, default=0)} and the corners of a polygon"
        for split, image in found:
            labels, shapes = _label_file(image), []
            for line in read_text(labels).splitlines() if labels.is_file() else ():
                label, corners = _parsed(line)
                if label in names:
                    shapes.append(Shape(names[label], "polygon", [numbers(corners)]))
                elif line.strip():
                    what = "a line that is no polygon of a known class"
                    issues.append(Issue("line", str(labels), what, advice, line[:60]))
            source = labels if labels.is_file() else path
            entries.append(Record(image, shapes, None, split, sources=(source,)))
        refuse(issues)
        return [*names.values()], entries

    @classmethod
    def _find(cls, root: Path) -> list[Path]:
        found = [path for ending in ("*.yaml", "*.yml") for path in files.walk(root, ending)]
        keys = {path: {line.partition(":")[0].strip() for line in files.head(path).splitlines()} for path in found}
        known = [path for path in found if {"names", "train"} <= keys[path]]
        if known or not (labels := _labels_in(root)):
            return known
        folder = next((each for each in labels[0].relative_to(root).parents if each.name == "labels"), None)
        named = [path for path in files.walk(root, "*") if path.name in _NAMES]
        return named[:1] or [labels[0].parent if folder is None else root / folder]

    @classmethod
    def _sample(cls, split: str, drawn: Sequence[Drawn]) -> Iterator[tuple[str, Any]]:
        for path, objects in drawn:
            shares = [" ".join(f"{x / 40} {y / 30}" for x, y in corners) for _, corners in objects]
            yield f"labels/{split}/{path.stem}.txt", "\n".join(f"{n} {each}" for n, each in enumerate(shares))
        yield "data.yaml", "names: [square, triangle]\n" + "".join(f"{x}: images/{x}\n" for x in SPLITS)


def _of_yaml(root: Path, path: Path) -> tuple[dict[int, str], list[tuple[str | None, Path]]]:
    """Return the class names by label, and (split, image) of all images, from Ultralytics' YAML."""
    text = read_text(path)
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(Issue("broken", str(path), "no valid YAML", detail=" ".join(str(error).split()))) from None
    with files.malformed(path, "YOLO"):
        names = yaml.load(text, yaml.BaseLoader)["names"]  # as text, because YAML 1.1 reads yes and no as booleans
        numbered = names if isinstance(names, dict) else dict(enumerate(names))
        named = {int(label): _name(name) for label, name in numbered.items()}
        folders = {split: each for word, each in content.items() if each and (split := split_called(word))}
        return named, [
            (split, image)
            for split, given in folders.items()
            for each in (given if isinstance(given, list) else [given])
            for image in _images(root, path, content, each)
        ]


def _of_folders(root: Path, path: Path) -> tuple[dict[int, str], list[tuple[str | None, Path]]]:
    """Like :func:`_of_yaml`, with names from a file or made up, and images beside their labels or in images/."""
    lines = [line.strip() for line in read_text(path).splitlines()] if path.is_file() else []
    names = dict(enumerate(filter(None, lines)))
    labels = _labels_in(root)
    if not names:
        used = [_parsed(line)[0] for each in labels for line in read_text(each).splitlines()]
        names = {label: f"class_{label}" for label in range(max([0, *used]) + 1)}
    places = {each.parent for each in labels}
    return names, [
        (next(filter(None, map(split_called, image.relative_to(root).parts)), None), image)
        for image in files.pictures(root)
        if _label_file(image).parent in places
    ]


def _parsed(line: str) -> tuple[int, list[str]]:
    """Return the class, which some programs write as 1.0, and the corners of a line; -1 if it begins otherwise."""
    label, *corners = re.sub(r"^(\d+)\.0+(?=\s)", r"\1", line.strip()).split() or [""]
    return int(label) if label.isdecimal() else -1, corners


def _labels_in(root: Path) -> list[Path]:
    """Return all text files below ``root`` if each holds YOLO polygons; else an empty list."""
    found = [path for path in files.walk(root, "*.txt") if path.name not in _NAMES]
    lines = [files.head(path, 4096).split("\n")[0] for path in found]
    are_shares = any("." in line for line in lines)  # label matrices hold whole numbers only
    return found if are_shares and all(map(_POLYGONS.fullmatch, lines)) else []


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a class name must be text, not {type(value).__name__}")
    return value


def _images(root: Path, path: Path, content: Mapping[str, Any], given: str) -> list[Path]:
    """Return the images of a folder, or of a text file with one per line, found in the data set as by Ultralytics."""
    whole = str(content.get("path") or "").replace("\\", "/")  # may be another computer's
    bases = [path.parent / whole, path.parent / whole.rpartition("/")[2], path.parent, root]

    def place(text: str) -> Path:
        parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", "..")]
        ends = ["/".join(parts[first:]) for first in range(max(1, len(parts) - 1))]  # two parts or more
        own = [text, *ends]  # paths of Roboflow and CVAT, or the end of a path of another computer
        tried = [base / each for each in own for base in bases]
        there = [each for each in tried if each.exists() and files.is_inside(each, root, path.parent)]
        return there[0] if there else path.parent / text.rpartition("/")[2]

    folder = place(given)
    if folder.is_dir():
        return sorted(files.pictures(folder))
    if folder.is_file():
        return [place(line.strip()) for line in read_text(folder).splitlines() if line.strip()]
    warnings.warn(f"{path} names {folder}, which does not exist and is left out", stacklevel=4)
    return []


def _label_file(image: Path) -> Path:
    """Return ``labels/train/cat.txt`` for ``images/train/cat.jpg``; only the last ``images`` folder is replaced.

    Where no folder has that name, another one beside ``labels`` may hold the images.
    """
    before, images, after = image.as_posix().rpartition("/images/")
    own = Path(f"{before}/labels/{after}" if images else after).with_suffix(".txt")
    others = (folder.with_name("labels") / own.relative_to(folder) for folder in [*own.parents][:-1] if not images)
    return next((each for each in (own, *others) if each.is_file()), own)
