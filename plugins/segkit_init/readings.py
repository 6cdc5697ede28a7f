"""Which data sets can read a folder, and how."""

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
from segkit_folder.propose import drawn_share
from segkit_folder.splits import SEVERAL, SUFFIXES, TooFewError, by_suffix
from segkit_init.findings import Question
from segkit_init.judged import judged
from segkit_init.reading import Reading, config_of

_DATE = re.compile(r"(.*[^\d])?(19|20)\d\d[-_]?(0[1-9]|1[0-2])([-_]?[0-3]\d)?")


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
    errors: list[str] = []
    unreadable: list[Reading] = []
    stages = ((False, [root]), (False, inside), (True, [root]), (False, inside), (True, inside))
    for stage, (asks_for_classes, places) in enumerate(stages):
        found = [each for place in places for each in _asked(place, asks_for_classes, notes)]
        found = found if asks_for_classes else [each for each in found if _is_of_its_kind(each, errors)]
        if stage == 1:  # patterns are a guess, and those of all folders together go before those of one
            found = [each for each in found if not any("{id}" in str(value) for value in each.options.values())]
        if not asks_for_classes:
            unreadable += [each for each in found if not _is_readable(each, errors)]
            found = [each for each in found if each not in unreadable]
        if found:
            told = [f"not read: {error}" for error in dict.fromkeys(errors)]
            try:
                found = judged(found, notes, questions) if asks_for_classes else found
            except SegkitError:
                if not unreadable:
                    raise
            else:
                notes += told
                return found
    if unreadable:
        return unreadable  # whoever reads it tells what is wrong
    raise DataError("\n".join(dict.fromkeys(errors)) or _nothing(root))


def _is_of_its_kind(reading: Reading, errors: list[str]) -> bool:
    """Whether files are made as the data set expects that knows them by name or first bytes; else the error is kept."""
    with suppress(SegkitError):  # which may be of what was left out
        return bool(reading.files)
    try:
        build_splits(config_of(reading.dataset, reading.options))
    except SegkitError as error:
        issue = getattr(error, "issue", None)
        is_other = isinstance(error, DataError) and (issue is None or issue.kind == "malformed")
        if is_other and not isinstance(error, TooFewError | LabelError):  # of this kind, with labels that are not plain
            errors.append(str(error))
            return False
    return True


def _is_readable(reading: Reading, errors: list[str]) -> bool:
    """Whether one of the first labels can be read, as boxes cannot; else the error is kept."""
    data, found = reading.splits["train"], []
    for index in range(min(len(data), 3)):
        try:
            data[index]
        except DataError as error:
            if error.issue and error.issue.kind in ("overlap", "smaller"):  # which are asked about
                return True
            found.append(str(error))
        else:
            return True
    errors += found[:1]
    return not found


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


def pictures_in(root: Path) -> dict[str, int]:
    """How many pictures lie in each folder that holds any, by its path below the root; hidden ones aside."""
    held = {folder: sum(name.lower().endswith(SUFFIXES) for name in names) for folder, names in folders_in(root)}
    return {folder.relative_to(root).as_posix(): number for folder, number in held.items() if number}


def _nothing(root: Path) -> str:
    """What lies in a folder that nobody can read, and what to do about it."""
    closed = [str(path) for path in root.rglob("*") if path.is_dir() and not os.access(path, os.R_OK | os.X_OK)]
    if closed:
        return f"{root}: no permission to look into {first_few(closed)}"
    held = by_suffix(Counter(sorted(Path(name).suffix.lower() for _, names in folders_in(root) for name in names)))
    if not (found := pictures_in(root)):
        first = {path.suffix.lower(): path for path in sorted(root.rglob("*"), reverse=True)}
        for path in [path for suffix, path in first.items() if suffix in SEVERAL]:
            try:
                with opened(path, whole=True):
                    pass
            except DataError as error:
                return f"{root} holds no pictures that can be read, but {held}: {error}"
        advice = "unpack archives, save what is of other formats as .npy, and give the folder of images and masks"
        return f"{root} holds no pictures, but {held}; {advice}" if held else f"{root} holds no files"
    beside, held = held, first_few([f"{number} in {name}" for name, number in found.items()])
    dates = sorted({name for each in found for name in each.split("/") if _DATE.fullmatch(name)})
    if len(dates) > 1:
        series = f"{root} holds pictures of several dates, in folders as {first_few(dates, 3)}: a series in time"
        return f"{series}, which is not read; save those of one date, or of all as bands of one file, beside the masks"
    for folder in found:
        path = min(path for path in (root / folder).iterdir() if path.name.lower().endswith(SUFFIXES))
        if share := drawn_share(path):
            what = (
                f"{path} is of a few colours in {share:.0%} of its pixels, and of many mixtures in the others, as masks"
            )
            advice = "export the masks again without smooth edges, one colour or number a class"
            return f"{root}: {what} with blended edges are; {advice}"
    return (
        f"{root} holds pictures ({held}; in all {beside}), and nothing says which are the masks of which images: save "
        "labels that lie there as text, or of another program, as PNG; give both the same "
        "names in two folders, images and masks, or names that differ in one part, as cat.jpg and cat_mask.png; "
        "`show dataset folder` has patterns for all else"
    )
