"""Several mask files per image, merged into one mask: one file per object, or one file per class."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.read import opened, read_header
from segkit.errors import DataError, DataWarning, Issue, LabelError, first_few, refuse
from segkit_annotations.dataset import AnnotatedImages
from segkit_annotations.draw import Shape, Size
from segkit_annotations.files import Drawn
from segkit_annotations.layers_in import recognised
from segkit_annotations.records import NOT_SHOWN, Record
from segkit_folder.pairs import LEFT_OUT, Found, Pattern, natural, numbered

Key = Callable[[Mapping[str, str]], tuple[str, ...]]
_BESIDE = re.compile(r"\{(id|class)\}([^{}/*]+)\{(id|class)\}")


class LayersDataset(AnnotatedImages):
    """Several masks per image, each of a single object or a single class; every label except 0 is the object.

    Args:
        annotations: a pattern for mask paths, in which ``{id}`` is shared with the image and ``{class}`` is the class:
            "masks/{id}/*", "masks/{class}/{id}.png", "masks/{id}_{class}.png". Without ``{class}`` all masks are the
            class "object", which ``class_map`` can rename; the bands of arrays ``[H,W,C]`` are the classes "band 1",
            "band 2", ... Numbers match with or without leading zeros.
        images: a pattern for image paths, such as "images/{id}.jpg".
    """

    rule = "error"
    may_be_undrawn = True
    expected = 'masks such as those of images = "images/{id}", annotations = "masks/{id}/*" or "masks/{class}/{id}"'
    miniature = "images/{split}"

    def _read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Record]]:
        sides = Pattern(root, images or "images/{id}"), Pattern(root, annotations, "annotations")
        found, masks = ({each.path: each for each in side.files()} for side in sides)
        for path in found.keys() & masks.keys():  # the pattern that fixes more letters of the name wins
            (found if sides[1].letters > sides[0].letters else masks).pop(path)
        for side, those in zip(sides, (found, masks), strict=True):
            if not those:
                raise DataError(side.nothing())
        shared = sorted(sides[0].words & sides[1].words)
        self._bands = 0 if "class" in sides[1].words else _bands(next(iter(masks)))
        key = _key([each.values for each in found.values()], shared)
        ids = {key(each.values): each.path for each in found.values()}
        layers: dict[tuple[str, ...], list[Found]] = {}
        for mask in masks.values():
            each = _told_apart(mask, _BESIDE.search(annotations), ids, key)
            layers.setdefault(key(each.values), []).append(each)
        entries = []
        labelled = {each.values.get("split") for each in masks.values()}
        for image in [each for each in found.values() if each.values.get("split") in labelled or None in labelled]:
            own = layers.pop(key(image.values), [])
            shapes = [Shape(each.values.get("class", "object"), "file", each.path) for each in own]
            if self._bands:
                shapes = [Shape(f"band {n + 1}", "bits", (each.path, n)) for each in own for n in range(self._bands)]
            sources = tuple(each.path for each in own) or (image.path,)
            entries.append(Record(image.path, shapes, None, image.values.get("split"), sources=sources))
        for text in _lacking(entries) if "class" in sides[1].words and not self.blank_unpaired else ():
            warnings.warn(DataWarning(text, NOT_SHOWN), stacklevel=4)
        what, advice = "mask without an image", f"its image is expected at {sides[0]}"
        lonely = [] if self.skip_unpaired else [str(those[0].path) for those in layers.values()]
        refuse([Issue("mask_without_image", path, what, advice, ways=LEFT_OUT) for path in lonely])
        return sorted({shape.label for entry in entries for shape in entry.shapes}, key=natural), entries

    def _size(self, entry: Record) -> Size | None:
        return read_header(entry.sources[0]).size if entry.shapes else None

    def _draw(self, entry: Record, size: Size) -> NDArray[np.uint8]:
        if self._bands and entry.shapes:
            with opened(entry.sources[0]) as raster:
                stored = np.asarray(raster[...])
            if stored.shape[2:] != (self._bands,):
                what, advice = f"no mask of {self._bands} bands, as the others are", "save all masks with equal bands"
                raise LabelError(Issue("bands", str(entry.sources[0]), what, advice, f"{[*stored.shape]}"))
            shapes = [Shape(each.label, "bits", stored[..., each.data[1]] != 0) for each in entry.shapes]
            entry = entry._replace(shapes=shapes)
        return super()._draw(entry, size)

    recognise = staticmethod(recognised)

    @classmethod
    def _sample(cls, split: str, drawn: Sequence[Drawn]) -> Iterator[tuple[str, Any]]:
        for path, objects in drawn:
            for name, corners in objects:
                (left, top), (right, bottom) = np.min(corners, 0), np.max(corners, 0)
                mask = np.zeros((30, 40), np.uint8)
                mask[top:bottom, left:right] = 255
                yield f"masks/{split}/{name}/{path.name}", Image.fromarray(mask)


def _lacking(entries: Sequence[Record]) -> list[str]:
    """Return warnings about images that lack the mask of a class that most have, where each file is one class."""
    held = {entry.image: [shape.label for shape in entry.shapes] for entry in entries}
    if any(len(own) > len({*own}) for own in held.values()):
        return []
    known = sorted({label for own in held.values() for label in own}, key=natural)
    without = {label: [image.name for image, own in held.items() if label not in own] for label in known}
    if all(without.values()) and 10 * sum(map(len, without.values())) > len(held) * len(known):
        return []  # files seem to be written only for classes that an image shows
    end = "that class is background there; if these images do not show it, set blank_unpaired = true"
    return [
        f"{len(those)} of {len(held)} images have no mask of '{label}', as the others have: {first_few(those)}; {end}"
        for label, those in without.items()
        if 0 < 2 * len(those) < len(held)
    ]


def _key(images: Sequence[Mapping[str, str]], words: Sequence[str]) -> Key:
    """Return the key function that pairs an image and its masks; it drops leading zeros unless images then collide."""

    def exact(values: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(values[word] for word in words)

    def loose(values: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(map(numbered, exact(values)))

    return loose if len({*map(loose, images)}) == len({*map(exact, images)}) else exact


def _bands(path: Path) -> int:
    """Return the number of bands of an array; 0 for a picture or an array of one band."""
    with opened(path) as raster:
        return raster.shape[2] if not hasattr(raster, "has_colours") and raster.shape[2:] > (1,) else 0


def _told_apart(mask: Found, beside: re.Match[str] | None, ids: Mapping[tuple[str, ...], Path], key: Key) -> Found:
    """Split a mask's name into class and the longest id that an image has, if the class contains the separator too."""
    if not beside or key(mask.values) in ids:
        return mask
    one, between, other = beside.groups()
    parts = (mask.values[one] + between + mask.values[other]).split(between)
    for at in range(1, len(parts)) if one == "class" else range(len(parts) - 1, 0, -1):
        values = {**mask.values, one: between.join(parts[:at]), other: between.join(parts[at:])}
        if key(values) in ids:
            return mask._replace(values=values)
    return mask
