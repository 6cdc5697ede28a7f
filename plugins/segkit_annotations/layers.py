"""Several masks an image, merged to one map: a file an object, or a file a class."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from segkit.data.issues import refuse
from segkit.errors import DataError, Issue, LabelError, first_few
from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages, Rule
from segkit_annotations.draw import Shape
from segkit_annotations.files import Entry
from segkit_folder.masks import read_mask
from segkit_folder.pairs import Found, Pattern
from segkit_folder.propose import propose_layout
from segkit_folder.splits import SUFFIXES, split_called

_NO_IMAGES = re.compile(r"(?i)mask|label|annot|boundar|(?<![a-z])(gt|seg)")  # words of folders
_FEW = 5  # images whose masks are compared
_SAME = 0.75  # of the pixels of two masks, where they are two opinions and no two objects


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
        labelled = {each.values.get("split") for each in masks.values()}
        for image in [each for each in found.values() if each.values.get("split") in labelled or None in labelled]:
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
        """See :func:`segkit.hookspecs.segkit_datasets`."""
        folders: dict[Path, set[str]] = {}
        for path in files.walk(root, "*"):
            if path.suffix.lower() in SUFFIXES:
                folders.setdefault(path.parent.relative_to(root), set()).add(path.stem)
        ways = [(f"{images.as_posix()}|{masks.as_posix()}", is_sure) for images, masks, is_sure in _layouts(folders)]
        paired = [each.options.get("masks", "") for each in propose_layout(root)] if ways else []
        merged = _merged(files.patterns({way for way, is_sure in ways if is_sure or not paired}))
        found = [each.split("|") for each in merged]
        return [  # where a mask an image lies elsewhere, that is the mask
            {"images": images, "annotations": masks}
            for images, masks in found
            if not any(map(_NO_IMAGES.search, {*images.split("/")} - {*masks.split("/")}))
            if not paired
            or (all(mask.startswith(masks.split("{")[0]) for mask in paired) and not _cover_the_same(root, masks))
        ]

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


def _layouts(folders: Mapping[Path, set[str]]) -> Iterator[tuple[Path, Path, bool]]:
    """Patterns of images and masks; and whether an image has several masks.

    Of a folder with both an image, of folders of masks an image, or a class.

    Args:
        folders: path below the root -> stems of the pictures in it.
    """
    both = {
        each: len(stems)
        for each, stems in folders.items()
        if each.name == "masks" and len(folders.get(each.with_name("images"), ())) == 1
    }
    for place in {each.parents[1] for each in both if len(each.parts) > 1}:
        counts = [count for each, count in both.items() if each.parents[1] == place]
        yield place / "{id}/images/*", place / "{id}/masks/*", sum(counts) > len(counts)
    inside: dict[Path, dict[str, set[str]]] = {}
    for folder, stems in folders.items():
        inside.setdefault(folder.parent, {})[folder.name] = stems
    several = {place: own for place, own in inside.items() if len(own) > 1 and not any(map(split_called, own))}
    for folder, stems in folders.items() if not both else ():
        for place, own in several.items():
            if not _belong_together(folder, place):
                continue
            number = sum(map(len, own.values()))
            if stems >= {*own}:
                yield folder / "{id}", place / "{id}/*", number > len(own)
            elif all(stems >= each for each in own.values()):
                yield folder / "{id}", place / "{class}/{id}", number > len({*()}.union(*own.values()))


def _merged(ways: list[str]) -> list[str]:
    """Ways that differ in one folder alone, such as a patient's, as one."""
    rows = [[side.split("/") for side in way.split("|")] for way in ways]
    for place in range(min((len(side) for row in rows for side in row), default=1) - 1):
        if len(rows) > 1 and all(images[place] == masks[place] for images, masks in rows):
            one = {"|".join("/".join((*x[:place], "{folder}", *x[place + 1 :])) for x in row) for row in rows}
            if len(one) == 1:
                return [*one]
    return ways


def _cover_the_same(root: Path, masks: str) -> bool:
    """Whether the masks of an image cover nearly the same pixels, as those of several annotators do."""
    of: dict[tuple[str, ...], list[Path]] = {}
    for each in Pattern(root, masks, "annotations").files():
        of.setdefault(tuple(text for word, text in each.values.items() if word != "class"), []).append(each.path)
    shares = []
    for one, other, *_ in [those for those in of.values() if len(those) > 1][:_FEW]:
        with suppress(DataError, LabelError):  # told when it is read
            pair = [read_mask(path) != 0 for path in (one, other)]
            if pair[0].shape == pair[1].shape and (covered := (pair[0] | pair[1]).sum()):
                shares.append((pair[0] & pair[1]).sum() / covered)
    return bool(shares) and float(np.median(shares)) > _SAME


def _belong_together(images: Path, masks: Path) -> bool:
    """Whether folders are one below the other, or called alike but for one word that is no split's and no number."""
    if images.is_relative_to(masks) or masks.is_relative_to(images):
        return masks.parent == images
    apart = [each for each in zip(images.parts, masks.parts, strict=False) if each[0] != each[1]]
    return (
        len(images.parts) == len(masks.parts)
        and len(apart) == 1
        and not any(map(split_called, apart[0]))
        and (len({re.sub(r"\d", "", each) for each in apart[0]}) == 2)
    )
