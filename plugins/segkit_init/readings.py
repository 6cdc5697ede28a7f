"""Find the data sets that can read a folder, and their options."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import segkit
from segkit.compose import build_splits
from segkit.data.read import opened
from segkit.errors import DataError, LabelError, SegkitError, cause, first_few, reason
from segkit.options import options_of
from segkit_folder.pictures import folders_in
from segkit_folder.splits import SEVERAL, SUFFIXES, TooFewError, by_suffix
from segkit_init.findings import Question
from segkit_init.judged import select_readings
from segkit_init.reading import Reading, config_of

_DATE = re.compile(r"(.*[^\d])?(19|20)\d\d[-_]?(0[1-9]|1[0-2])([-_]?[0-3]\d)?")


def readings_of(root: Path, notes: list[str], questions: list[Question]) -> list[Reading]:
    """Return how the installed data sets can read a folder or, if none can, the folders in it.

    Data sets that know their classes go before those that require them as an option. Failures and readings that are
    ruled out are added to ``notes``, questions about lists that match no files to ``questions``.

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
        found = [each for place in places for each in _recognised(place, asks_for_classes, notes)]
        found = found if asks_for_classes else [each for each in found if _is_of_its_kind(each, errors)]
        if stage == 1:  # patterns are guesses: those over all folders go before those in one
            found = [each for each in found if not any("{id}" in str(value) for value in each.options.values())]
        if not asks_for_classes:
            unreadable += [each for each in found if not _is_readable(each, errors)]
            found = [each for each in found if each not in unreadable]
        if found:
            failures = [f"not read: {error}" for error in dict.fromkeys(errors)]
            try:
                found = select_readings(found, notes, questions) if asks_for_classes else found
            except SegkitError:
                if not unreadable:
                    raise
            else:
                notes += failures
                return found
    if unreadable:
        return unreadable  # whoever reads it reports what is wrong
    raise DataError("\n".join(dict.fromkeys(errors)) or _nothing(root))


def _is_of_its_kind(reading: Reading, errors: list[str]) -> bool:
    """Whether files have the format of the data set that recognised their names or first bytes; else keep the error."""
    with suppress(SegkitError):  # try again without skip_unpaired
        return bool(reading.files)
    try:
        build_splits(config_of(reading.dataset, reading.options))
    except SegkitError as error:
        issue = getattr(error, "issue", None)
        is_other = isinstance(error, DataError) and (issue is None or issue.kind == "malformed")
        if is_other and not isinstance(error, TooFewError | LabelError):  # these: the right format, unclear labels
            errors.append(str(error))
            return False
    return True


def _is_readable(reading: Reading, errors: list[str]) -> bool:
    """Whether one of the first masks can be read (boxes cannot); else keep the error."""
    data, found = reading.splits["train"], []
    for index in range(min(len(data), 3)):
        try:
            data[index]
        except DataError as error:
            if error.issue and error.issue.kind in ("overlap", "smaller"):  # a question covers these
                return True
            found.append(str(error))
        else:
            return True
    errors += found[:1]
    return not found


def _recognised(place: Path, asks_for_classes: bool, notes: list[str]) -> Iterator[Reading]:
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
            notes.append(f"{component} could not look at {place}: {cause(error)}")


def pictures_in(root: Path) -> dict[str, int]:
    """Return folder (relative to the root) -> number of pictures, where there are any; hidden folders are skipped."""
    held = {folder: sum(name.lower().endswith(SUFFIXES) for name in names) for folder, names in folders_in(root)}
    return {folder.relative_to(root).as_posix(): number for folder, number in held.items() if number}


def _nothing(root: Path) -> str:
    """Describe a folder that no data set can read, and what to do about it."""
    closed = [str(path) for path in root.rglob("*") if path.is_dir() and not os.access(path, os.R_OK | os.X_OK)]
    if closed:
        return f"{root}: no permission to open {first_few(closed)}"
    held = by_suffix(Counter(sorted(Path(name).suffix.lower() for _, names in folders_in(root) for name in names)))
    if not (found := pictures_in(root)):
        first = {path.suffix.lower(): path for path in sorted(root.rglob("*"), reverse=True)}
        for path in [path for suffix, path in first.items() if suffix in SEVERAL]:
            try:
                with opened(path, whole=True):
                    pass
            except DataError as error:
                return f"{root} holds no pictures that can be read, but {held}: {error}"
        advice = "unpack archives, save other formats as .npy, and give the folder of images and masks"
        return f"{root} holds no pictures, but {held}; {advice}" if held else f"{root} holds no files"
    beside, held = held, first_few([f"{number} in {name}" for name, number in found.items()])
    dates = sorted({name for each in found for name in each.split("/") if _DATE.fullmatch(name)})
    if len(dates) > 1:
        series = f"{root} holds pictures of several dates, in folders such as {first_few(dates, 3)}: a time series"
        return f"{series}, which is not read; save one date, or all dates as bands of one file, beside the masks"

    return (
        f"{root} holds pictures ({held}; in all {beside}), but nothing shows which mask belongs to which image: "
        "save labels in text files or other programs' formats as PNG; give image and mask the same name in two "
        "folders, images and masks, or names that differ in one part, such as cat.jpg and cat_mask.png; "
        "`segkit show dataset folder` explains patterns for other layouts"
    )
