"""Which data set can read a folder, and how: what the data sets say, less what the masks rule out."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import segkit
from segkit.compose import build_splits
from segkit.config import Config, read_config
from segkit.errors import DataError, LabelError, SegkitError, cause, first_few, reason
from segkit.options import options_of
from segkit_folder.splits import SUFFIXES, folders_in
from segkit_init.findings import Answer, Question
from segkit_init.stored import Labels, read_labels, stored_labels, threshold_of
from segkit_init.text import options_text

_FEW = 12  # masks of each reading that are compared
_OF_OBJECTS = re.compile("(?i)inst|object|panoptic|track")  # what masks of single objects are called
_AGREE = 0.5  # intersection over union of labels that two people have drawn
_SAME = 0.97  # share of equal pixels in masks that are one picture, as DRIVE's fields of view


class Reading(NamedTuple):
    """A data set that may read a folder, its options, and whether it has to be told the classes."""

    dataset: str
    options: Mapping[str, Any]
    asks_for_classes: bool


def readings_of(root: Path, notes: list[str], questions: list[Question]) -> list[Reading]:
    """How the data sets that are installed can read a folder or, where none can, the folders in it.

    Those that know their classes go before those that have to be told. What fails, and what is ruled out, is noted; of
    lists that fit no files it is asked whether they are lists of splits.

    Raises:
        DataError: none can; with what lies there.
    """
    try:
        inside = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        advice = "; give the folder that it lies in" if root.is_file() else ""
        raise DataError(f"{root} cannot be looked into: {reason(error)}{advice}") from error
    for asks_for_classes in (False, True):
        for places in ([root], inside):
            found = [each for place in places for each in _asked(place, asks_for_classes, notes)]
            if found:
                return _judged(found, notes, questions) if asks_for_classes else found
    raise DataError(_nothing(root))


def said(reading: Reading, others: Sequence[Reading]) -> str:
    """What sets a reading apart from the others."""
    own = {key: value for key, value in reading.options.items() if any(o.options.get(key) != value for o in others)}
    name = "" if len({each.dataset for each in others}) == 1 else f"the data set {reading.dataset} "
    return f"{name}{options_text(own)}"


def config_of(dataset: str, options: Mapping[str, Any]) -> Config:
    """A config with these options of ``[dataset]`` and ``[data]``, and a model and a loss that do not matter."""
    tables: dict[str, Any] = {"dataset": {"name": dataset}, "model": {"name": "unet"}, "data": {}}
    for key, value in options.items():
        tables["data" if key.startswith("data.") else "dataset"][key.removeprefix("data.")] = value
    return read_config({**tables, "loss": [{"name": "cross_entropy"}]})


def files_of(reading: Reading, side: int) -> list[Path]:
    """The images of all splits, where ``side`` is 0, or the masks, where it is -1."""
    needed = {"classes": ["?", "??"]} if reading.asks_for_classes else {}
    splits, *_ = build_splits(config_of(reading.dataset, {**reading.options, **needed}))
    return [data.files(index)[side] for data in splits.values() for index in range(len(data))]


def _asked(place: Path, asks_for_classes: bool, notes: list[str]) -> Iterator[Reading]:
    """The readings of a folder by the data sets that have to be told the classes, or by those that have not."""
    for component in segkit.datasets.components():
        try:
            required = {each.name for each in options_of(component) if each.required and not each.given}
            recognise = getattr(component.load(), "recognise", None)
            if recognise and asks_for_classes is ("classes" in required):
                for options in recognise(place):
                    own = {"root": str(place), **options}
                    yield Reading(
                        segkit.datasets.shortest_name(component), own, asks_for_classes and "classes" not in own
                    )
        except Exception as error:  # a plugin of somebody else's may raise what it likes
            notes.append(f"{component} could not look at {place}: {cause(error)}")


def _judged(readings: Sequence[Reading], notes: list[str], questions: list[Question]) -> list[Reading]:
    """The readings that their masks do not rule out.

    Raises:
        LabelError: not one has masks that can be read.
    """
    files: dict[int, list[Path]] = {}
    errors: dict[int, str] = {}
    for place, reading in enumerate(readings):
        try:
            files[place] = files_of(reading, -1)
        except SegkitError as error:
            errors[place] = str(error)
    whole = {place: {*map(repr, readings[place].options.items())} for place in files}
    kept: list[tuple[Reading, list[Labels], set[Path]]] = []
    for place, own in whole.items():
        if any(own < other for other in whole.values()):  # more options overlook nothing, such as lists of the splits
            continue
        reading = readings[place]
        try:
            reading, masks = _looked_at(reading, files[place][:: -(-len(files[place]) // _FEW)])
        except SegkitError as error:
            errors[place] = str(error)
            continue
        apart = [(at, others) for at, (_, others, those) in enumerate(kept) if those != {*files[place]}]
        twin = next((at for at, others in apart if _divide_alike(masks, others)), None)
        if twin is None and any(_agree(others, masks) for _, others in apart):
            notes.append(f"not read, as they say nearly the same as others: {said(reading, readings)}")
        elif len(readings) > 1 and _are_one_picture(masks):
            notes.append(f"no labels, as they are nearly the same for every image: {said(reading, readings)}")
        elif twin is None:
            kept.append((reading, masks, {*files[place]}))
        else:  # labels say which class is the first one, colours do not; and small labels are no ids of objects
            pair = [kept[twin], (reading, masks, {*files[place]})]
            pair.sort(key=lambda each: max(int(mask.max()) for mask in each[1]))
            kept[twin] = pair[0]
            notes.append(f"not read, as they divide the images as others do: {said(pair[1][0], readings)}")
    if not kept:
        raise LabelError("\n".join(errors.values()))
    questions += [_lists_asked(readings[place], error) for place, error in errors.items() if place not in files]
    parts = [{*re.split("[/#]", str(each[0].options.get("masks", "")))} for each in kept]
    differing = [" ".join(each - set.intersection(*parts)) for each in parts]
    of_objects = [
        reading
        for (reading, masks, _), words in zip(kept, differing, strict=True)
        if _OF_OBJECTS.search(words) or stored_labels(masks).of_objects
    ]
    if 0 < len(of_objects) < len(kept):
        notes += [f"not read, as they number single objects: {said(each, readings)}" for each in of_objects]
        kept = [each for each in kept if each[0] not in of_objects]
    return [reading for reading, *_ in kept]


def _looked_at(reading: Reading, files: Sequence[Path]) -> tuple[Reading, list[Labels]]:
    """A reading and some of its masks; with a threshold, where they can be read with one alone.

    Raises:
        DataError: they cannot.
    """
    try:
        return reading, read_labels(files)
    except LabelError:
        threshold = threshold_of(files)
        if threshold is None:
            raise
        return reading._replace(options={**reading.options, "threshold": threshold}), read_labels(files, threshold)


def _lists_asked(reading: Reading, error: str) -> Question:
    """Whether files that are called as lists of splits, and name nothing that is there, are such."""
    own = {key: value for key, value in reading.options.items() if key in ("lists", "pairs")}
    ignore = Answer("no: they are not read")
    mend = Answer("yes: mend them first, and start again", own)
    return Question(f"{error}: is this a list of splits?", (ignore, mend), "root")


def _are_one_picture(masks: Sequence[Labels]) -> bool:
    """Whether masks are all but equal, as the field of view of one camera is."""
    first, *others = masks
    same = [each.shape == first.shape and bool((each == first).mean() > _SAME) for each in others]
    return len(same) >= 3 and all(same) and bool((first != first.flat[0]).mean() > 0.05)


def _agree(masks: Sequence[Labels], others: Sequence[Labels]) -> bool:
    """Whether two sets of masks with the same labels have them mostly at the same pixels, as those of two people do."""
    known = [{label for each in those for label in np.unique(each).tolist()} for those in (masks, others)]
    if known[0] != known[1] or [each.shape for each in masks] != [each.shape for each in others]:
        return False
    a, b = (np.concatenate([each.ravel() for each in those]) for those in (masks, others))
    shares = sorted(((a == label) & (b == label)).sum() / ((a == label) | (b == label)).sum() for label in known[0])
    return len(shares) > 1 and float(np.mean(shares[:-1])) > _AGREE  # all but the best, which is the background


def _divide_alike(masks: Sequence[Labels], others: Sequence[Labels]) -> bool:
    """Whether two sets of masks divide their pictures into the same regions."""

    def regions(*labels: Labels) -> int:
        return len(np.unique(np.stack(labels).reshape(len(labels), -1), axis=1).T)

    return [each.shape for each in masks] == [each.shape for each in others] and all(
        regions(one, other) == regions(one) == regions(other) for one, other in zip(masks, others, strict=True)
    )


def pictures_in(root: Path) -> dict[str, int]:
    """How many pictures lie in each folder that holds any, by its path below the root; hidden ones aside."""
    held = {folder: sum(name.lower().endswith(SUFFIXES) for name in names) for folder, names in folders_in(root)}
    return {folder.relative_to(root).as_posix(): number for folder, number in held.items() if number}


def _nothing(root: Path) -> str:
    """What lies in a folder that nobody can read, and what to do about it."""
    closed = [str(path) for path in root.rglob("*") if path.is_dir() and not os.access(path, os.R_OK | os.X_OK)]
    if closed:
        return f"{root}: no permission to look into {first_few(closed)}"
    endings = sorted(
        Path(name).suffix.lower() or "without an ending" for _, names in folders_in(root) for name in names
    )
    held = first_few([f"{number} {suffix}" for suffix, number in Counter(endings).most_common()], 4)
    if not (found := pictures_in(root)):
        advice = "unpack archives, and give the folder of images and masks"
        return f"{root} holds no pictures, but {held}; {advice}" if held else f"{root} holds no files"
    held = first_few([f"{number} in {name}" for name, number in found.items()])
    return (
        f"{root} holds pictures ({held}), and nothing says which are the masks of which images: give both the same "
        "names in two folders, images and masks, or names that differ in one part, as cat.jpg and cat_mask.png; "
        "`show dataset folder` has patterns for all else"
    )
