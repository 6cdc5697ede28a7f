"""Records of annotated images, and what all of them decide: the classes, the splits, and what is told or refused."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from segkit.data.read import file_of
from segkit.errors import ConfigError, DataError, DataWarning, Issue, first_few, refuse
from segkit_annotations.draw import Shape
from segkit_folder.files import VOID, stem_of
from segkit_folder.layout import Layout, Shares, divided
from segkit_folder.pairs import LEFT_OUT, Found
from segkit_folder.splits import SUFFIXES, composed

VOID_NAME = "void"
CROWD = " (crowd)"
"""Suffix of the label of a group of objects drawn as one; it has the objects' class unless class_map maps it."""
NOT_SHOWN: Mapping[str, Mapping[str, Any]] = {"these images show no such object": {"blank_unpaired": True}}
"""The ways of a warning about images without a mask or shape."""


class Record(NamedTuple):
    """The annotations of one image.

    Attributes:
        image: its file, or its name in the annotations.
        shapes: its shapes in the order of the annotations.
        size: (height, width) of the image according to the annotations; None, or either is None, if not given.
        split: the split it belongs to, if the annotations or their path give one.
        folder: a possible name of the image's folder.
        sources: the files that its shapes are read from; empty: the file that the record is read from.
    """

    image: Any
    shapes: Sequence[Shape]
    size: tuple[Any, Any] | None = None
    split: str | None = None
    folder: str = ""
    sources: tuple[Path, ...] = ()


def class_indices(
    entries: Sequence[Record],
    names: Sequence[str],
    classes: Sequence[str] | None,
    class_maps: Sequence[Mapping[str, str]],
    background: str,
) -> tuple[dict[str, int], list[str]]:
    """Return the map from names in the annotations to class indices or void, and the classes.

    ``names`` are those that the annotations declare; of ``class_maps`` the first with a match is used.
    """
    if VOID_NAME in (classes or ()):
        raise ConfigError('classes: "void" is no class; map names to "void" in class_map')
    used = {shape.label: entry.sources[0] for entry in reversed(entries) for shape in entry.shapes}

    def meaning(name: str) -> str:
        known = [meant for maps in class_maps for key, meant in maps.items() if fnmatchcase(name, key)]
        return known[0] if known else meaning(name.removesuffix(CROWD)) if name.endswith(CROWD) else name

    meant = {name: meaning(name) for name in dict.fromkeys([*names, *used])}
    known = [*dict.fromkeys(meant[name] for name in names)] if classes is None else [*classes]
    known = [name for name in known if name != VOID_NAME]
    classes = known if background in (*known, VOID_NAME) else [background, *known]
    what, advice = "a name that is no class", f"the classes are {first_few(classes, 20)}; add it to `classes`, or "
    advice += f'map it in class_map to a class, "{VOID_NAME}" or "{background}"'
    odd = [name for name in used if meant[name] not in (*classes, VOID_NAME)]
    refuse([Issue("unknown_class", str(used[name]), what, advice, f"'{name}'") for name in odd])
    return {name: classes.index(each) if each in classes else VOID for name, each in meant.items()}, classes


def layout_of(
    root: Path, entries: Sequence[Record], lists: str | Mapping[str, str] | None, group: str | None, shares: Shares
) -> Layout:
    """Return the layout of the images of all splits."""
    first: dict[tuple[Path, str | None], Record] = {}
    for entry in entries:
        if (other := first.setdefault((entry.image, entry.split), entry)) is not entry:
            raise DataError(f"{entry.image}: annotated twice, in {other.sources[0]} and {entry.sources[0]}")
    stems = {entry.image: stem_of(entry.image) for entry in entries}
    are_unique = len({composed(stem.name) for stem in stems.values()}) == len(stems)
    masks = {entry.image: entry.sources[0] for entry in entries if file_of(entry.image)[0].is_file()}
    what = "named by the annotations but does not exist"
    advice = "fetch it, set images = FOLDER to where it lies, or leave such images out with skip_unpaired = true"
    found, issues = [], []
    for image, _, _, split, _, sources in entries:
        if image in masks:
            name = composed(stems[image].name if are_unique else Path(os.path.relpath(stems[image], root)).as_posix())
            found.append(Found(image, name, {"id": name}).in_split(split))
        else:
            issue = Issue("mask_without_image", str(image), what, advice, f"in {sources[0]}", ways=LEFT_OUT)
            issues.append((split, issue))
    if not masks:
        refuse([issue for _, issue in issues])
    layout = divided(root, Layout(found, masks, issues), lists, group, shares)
    if layout.splits and (left := [str(each.path) for each in layout.images if "split" not in each.values]):
        warnings.warn(f"not read: {len(left)} annotated images are in no split: {first_few(left)}", stacklevel=4)
    return layout


def warn_blank(entries: Sequence[Record]) -> None:
    """Warn of images without a shape; COCO itself has 1 %, more than a quarter may not be annotated yet."""
    if blank := [entry.image.name for entry in entries if not entry.shapes]:
        are_many = 4 * len(blank) > len(entries)
        what = "images have no object and are all background"
        text = f"{len(blank)} of {len(entries)} {what}: {first_few(blank)}"
        text += "; if that is right, set blank_unpaired = true" * are_many
        warnings.warn(DataWarning(text, NOT_SHOWN if are_many else {}), stacklevel=3)


def warn_unread(entries: Sequence[Record]) -> None:
    """Warn of pictures beside the annotated ones that no annotation names."""
    named = {file_of(path)[0] for entry in entries for path in (entry.image, *entry.sources)}
    folders = [folder for folder in {entry.image.parent for entry in entries} if folder.is_dir()]
    beside = [each for folder in folders for each in folder.iterdir() if each not in named]
    if unread := sorted(str(each) for each in beside if each.suffix.lower() in SUFFIXES):
        warnings.warn(f"not read: {len(unread)} pictures without annotations: {first_few(unread)}", stacklevel=3)
