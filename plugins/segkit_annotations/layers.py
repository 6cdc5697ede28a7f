"""Several masks an image, merged to one map: a file an object, or a file a class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from segkit.data.issues import refuse
from segkit.errors import DataError, Issue, first_few
from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages, Rule
from segkit_annotations.draw import Shape
from segkit_annotations.files import Entry
from segkit_folder.pairs import Found, Pattern
from segkit_folder.splits import SUFFIXES, split_called


class LayersDataset(AnnotatedImages):
    """Masks of single objects or of single classes, several an image; in each every label but 0 is the object.

    Args:
        annotations: a pattern of the masks' paths, in which ``{id}`` is what they have in common with their image, and
            ``{class}`` names the class: "masks/{id}/*", "masks/{class}/{id}.png", "masks/{id}_{class}.png". Without
            ``{class}`` all are the class "object", which ``class_map`` may rename.
        images: a pattern of the images' paths, such as "images/{id}.jpg".
    """

    rule: Rule = "error"
    expected = 'masks as images = "images/{id}", annotations = "masks/{id}/*" or "masks/{class}/{id}" have them'

    def _read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Entry]]:
        sides = Pattern(root, images or "images/{id}"), Pattern(root, annotations, "annotations")
        found, masks = ({each.path: each for each in side.files()} for side in sides)
        for path in found.keys() & masks.keys():  # it belongs to the pattern that says more of the name
            (found if sides[1].letters > sides[0].letters else masks).pop(path)
        for side, those in zip(sides, (found, masks), strict=True):
            if not those:
                raise DataError(side.nothing())
        shared = sorted(sides[0].words & sides[1].words)
        layers: dict[tuple[str, ...], list[Found]] = {}
        for each in masks.values():
            layers.setdefault(tuple(each.values[word] for word in shared), []).append(each)
        entries, without = [], []
        for image in found.values():
            own = layers.pop(tuple(image.values[word] for word in shared), [])
            shapes = [Shape(each.values.get("class", "object"), "file", each.path) for each in own]
            sources = tuple(each.path for each in own) or (image.path,)
            entries.append(Entry(image.path, sources, shapes, None, image.values.get("split")))
            without += [] if own else [image.path.name]
        if without:
            warnings.warn(
                f"{len(without)} images have no mask and are all background: {first_few(without)}", stacklevel=4
            )
        what, advice = "mask without an image", f"the image would be as {sides[0]}"
        lonely = [] if self.skip_unpaired else [str(those[0].path) for those in layers.values()]
        refuse([Issue("mask_without_image", path, what, advice) for path in lonely])
        return sorted({shape.label for entry in entries for shape in entry.shapes}), entries

    @classmethod
    def recognise(cls, root: Path) -> list[dict[str, str]]:
        """See :meth:`segkit.data.sample.Dataset.recognise`."""
        folders: dict[Path, set[str]] = {}
        for path in files.walk(root, "*"):
            if path.suffix.lower() in SUFFIXES:
                folders.setdefault(path.parent, set()).add(path.stem)
        found = {"|".join(each.relative_to(root).as_posix() for each in pair) for pair in _layouts(folders)}
        return [dict(zip(("images", "annotations"), each.split("|"), strict=True)) for each in files.patterns(found)]

    @classmethod
    def write_sample(cls, root: str | Path) -> dict[str, str]:
        """Write a miniature: images/<split>/<id>.png and masks/<split>/<class>/<id>.png."""
        for split, drawn in files.miniature(Path(root), "images/{split}"):
            for path, objects in drawn:
                for name, corners in objects:
                    (left, top), (right, bottom) = np.min(corners, 0), np.max(corners, 0)
                    mask = np.zeros((30, 40), np.uint8)
                    mask[top:bottom, left:right] = 255
                    (Path(root) / "masks" / split / name).mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask).save(Path(root) / "masks" / split / name / path.name)
        return {"images": "images/{split}/{id}", "annotations": "masks/{split}/{class}/{id}"}


def _layouts(folders: Mapping[Path, set[str]]) -> Iterator[tuple[Path, Path]]:
    """Patterns of images and masks: of a folder with both an image, of folders of masks an image, or a class."""
    both = {
        each.parents[1]
        for each in folders
        if each.name == "masks" and len(folders.get(each.with_name("images"), ())) == 1
    }
    yield from ((place / "{id}/images/*", place / "{id}/masks/*") for place in both)
    inside: dict[Path, dict[str, set[str]]] = {}
    for folder, stems in folders.items():
        inside.setdefault(folder.parent, {})[folder.name] = stems
    several = {place: own for place, own in inside.items() if len(own) > 1 and not any(map(split_called, own))}
    for folder, stems in folders.items() if not both else ():
        for place, own in several.items():
            if folder.is_relative_to(place):
                continue
            if stems >= {*own}:
                yield folder / "{id}", place / "{id}/*"
            elif all(stems >= each for each in own.values()):
                yield folder / "{id}", place / "{class}/{id}"
