"""Find the data sets that can read a folder, and their options."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import segkit
from segkit.data.read import ALPHA, opened
from segkit.errors import DataError, SegkitError, cause, first_few, reason
from segkit.options import options_of
from segkit_folder.pictures import certain_parts, folders_in
from segkit_folder.splits import CONTAINERS, SEVERAL, SUFFIXES, by_suffix
from segkit_init.issues import TEXTS
from segkit_init.judged import select_readings
from segkit_init.questions import Question
from segkit_init.reading import Reading

_SHAPES = (".shp", ".geojson", ".gpkg", ".kml")
_TOLD = ("", *SUFFIXES, *SEVERAL, *TEXTS, *_SHAPES)


def readings_of(root: Path, asked: list[Question]) -> list[Reading]:
    """Return how the installed data sets can read a folder or, if none can, the folders in it.

    Data sets that know their classes go before those that require them as an option. Failures, readings that are
    ruled out, and questions about lists that match no files are added to ``asked``.

    Raises:
        DataError: no data set can read it; with what the folder holds.
    """
    try:
        inside = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        advice = "; give the folder that contains it" if root.is_file() else ""
        raise DataError(f"{root} cannot be opened: {reason(error)}{advice}") from error
    errors: list[str] = []
    unreadable: list[Reading] = []
    stages = ((False, [root]), (False, inside), (True, [root]), (False, inside), (True, inside))
    for stage, (asks_for_classes, places) in enumerate(stages):
        found = [each for place in places for each in _recognised(place, asks_for_classes, asked)]
        if stage == 1:  # patterns are guesses: those over all folders go before those in one
            found = [each for each in found if not any("{id}" in str(value) for value in each.options.values())]
        if asks_for_classes and found:
            try:
                found = select_readings(found, asked)
            except SegkitError as error:
                if not unreadable:
                    raise DataError(f"{error}{_shapes(root)}") from error
                continue
        elif not asks_for_classes:
            found = [each.with_lists() for each in found if _is_readable(each, errors, unreadable)]
        if found:
            asked += [Question(f"not read: {error}") for error in dict.fromkeys(errors)]
            return found
    if unreadable:
        return unreadable  # whoever reads it reports what is wrong
    raise DataError("\n".join(dict.fromkeys(errors)) or _nothing(root))


def _is_readable(reading: Reading, errors: list[str], unreadable: list[Reading]) -> bool:
    """Whether a data set finds its files, and one of the first masks can be read; else keep the error."""
    try:
        data = reading.splits["train"]
    except SegkitError as error:
        errors.append(str(error))
        return False
    found = []
    for index in range(min(len(data), 3)):
        try:
            data[index]
        except DataError as error:
            if error.issue and error.issue.ways:  # a question covers it
                return True
            found.append(str(error))
        else:
            return True
    errors += found[:1]
    unreadable += [reading] if found else []
    return not found


def _recognised(place: Path, asks_for_classes: bool, asked: list[Question]) -> Iterator[Reading]:
    """Yield the readings of a folder by data sets that require the option ``classes``, or by those that do not."""
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
        except Exception as error:  # a third-party plugin may raise anything
            asked.append(Question(f"{component} could not look at {place}: {cause(error)}"))


def _shapes(root: Path) -> str:
    """Say what to do about shapes in files of maps; "" if a folder has none."""
    every = Counter(Path(name).suffix.lower() for _, names in folders_in(root) for name in names)
    held = by_suffix(Counter({suffix: every[suffix] for suffix in _SHAPES if suffix in every}))
    return f"\nnot read: {held}; draw such shapes into masks, as rasterio.features.rasterize does" if held else ""


def _without_labels(root: Path) -> str:
    """Say what to do about files that might hold labels: objects in structures, or cut out of photographs."""
    first = {path.suffix.lower(): path for path in sorted(root.rglob("*.*"), reverse=True)}
    for suffix, path in first.items():
        with suppress(DataError), opened(path, whole=True) as raster:
            if suffix in CONTAINERS and not certain_parts(path):
                return f"{path} holds no array of the size of a picture: write its objects into one array of labels; "
            if ALPHA in getattr(raster, "channels", ()):
                what = f"{path} has transparency: if it was cut out of a photograph, put that photograph into images"
                return f"{what} and its alpha into masks, in Pillow Image.open(file).getchannel('A').save(mask); "
    return ""


def _nothing(root: Path) -> str:
    """Describe a folder that no data set can read, and what to do about it."""
    closed = [str(path) for path in root.rglob("*") if path.is_dir() and not os.access(path, os.R_OK | os.X_OK)]
    if closed:
        return f"{root}: no permission to open {first_few(closed)}"
    files = [
        (folder.relative_to(root).as_posix(), name.lower()) for folder, names in folders_in(root) for name in names
    ]
    every = Counter(sorted(Path(name).suffix for _, name in files))
    held, others = by_suffix(every), by_suffix(Counter({each: every[each] for each in every if each not in _TOLD}))
    advice = "unpack archives, save pictures and labels as PNG or TIFF, and arrays as .npy"
    if not (found := Counter(folder for folder, name in files if name.endswith(SUFFIXES))):
        first = {path.suffix.lower(): path for path in sorted(root.rglob("*"), reverse=True)}
        for path in [path for suffix, path in first.items() if suffix in SEVERAL]:
            try:
                with opened(path, whole=True):
                    pass
            except DataError as error:
                return f"{root} holds no pictures that can be read, but {held}: {error}"
        advice += ", and give the folder of images and masks"
        return f"{root} holds no pictures, but {held}; {advice}" if held else f"{root} holds no files"
    beside, held = held, first_few([f"{number} in {name}" for name, number in found.items()])
    unread = f"{others} are not read: {advice}; " if others else ""
    return (
        f"{root} holds pictures ({held}; in all {beside}), but nothing shows which mask belongs to which image: "
        f"{unread}{_without_labels(root)}save labels in text files or other programs' formats as PNG; give image and "
        "mask the same name in two folders, images and masks, or names that differ in one part, such as cat.jpg and "
        "cat_mask.png; "
        f"`segkit show dataset folder` explains patterns for other layouts{_shapes(root)}"
    )
