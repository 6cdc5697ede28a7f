"""The rules of datasets: what they say of themselves, and splits that share no picture.

They are asked of the miniature that a dataset writes itself, in a folder that is gone afterwards, or of the data in the
option ``root``, where that is set.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from segkit.data.splits import SPLITS
from segkit.errors import DataError, first_few
from segkit.testing import samples
from segkit.testing.check import CheckFailed, NotAsked, Rule, Subject, require
from segkit.testing.constructor import named_options
from segkit.testing.reading import as_root, built, own_sample, parts, places, splits_of, write_sample

WRONG = "trian"  # a split that no dataset has


def writes_a_sample(subject: Subject) -> None:
    """write_sample(root) writes a miniature of the files it reads, and returns the options that read it, if any."""
    if not subject.has_option("root") and not hasattr(subject.target, "write_sample"):
        raise NotAsked("it reads no files: it has neither root nor write_sample")
    with tempfile.TemporaryDirectory() as folder:
        write_sample(subject, Path(folder))
        require(any(path.is_file() for path in Path(folder).rglob("*")), "write_sample(root) left no file in root")


def has_splits(subject: Subject) -> None:
    """There are train and val at least, and none of its splits is empty."""
    with splits_of(subject) as splits:
        there = getattr(splits["train"], "splits", SPLITS)
        for needed in ("train", "val"):
            require(needed in there, f"there is no {needed} split: splits = {tuple(there)}; a run needs train and val")
        for split, dataset in splits.items():
            require(len(dataset) > 0, f"{split} is empty")


def classes_and_palette(subject: Subject) -> None:
    """The classes are distinct names, 1 to 255 of them, and the palette has a distinct RGB triple for each."""
    with splits_of(subject) as splits:
        classes, palette = splits["train"].classes, splits["train"].palette
        require(
            isinstance(classes, tuple | list) and all(isinstance(name, str) and name.strip() for name in classes),
            f"classes = {classes!r}; they are a tuple of names",
        )
        require(1 <= len(classes) <= 255, f"there are {len(classes)} classes; a mask of 8 bits has room for 1 to 255")
        twice = sorted({name for name in classes if list(classes).count(name) > 1})
        require(not twice, f"two classes are called {first_few(twice)}")
        require(len(palette) == len(classes), f"the palette has {len(palette)} colours for {len(classes)} classes")
        for name, colour in zip(classes, palette, strict=True):
            require(
                len(colour) == 3 and all(isinstance(part, int) and 0 <= part <= 255 for part in colour),
                f"the colour of {name} is {colour!r}; it is three whole numbers from 0 to 255",
            )
            same = [other for other, its in zip(classes, palette, strict=True) if tuple(its) == tuple(colour)]
            require(len(same) == 1, f"{' and '.join(same)} have the same colour {colour!r}; give each its own")


def void_is_no_class(subject: Subject) -> None:
    """ignore_index is a whole number outside the classes that fits into 8 bits."""
    with splits_of(subject) as splits:
        void, count = splits["train"].ignore_index, len(splits["train"].classes)
        require(
            isinstance(void, int) and count <= void <= 255,
            f"ignore_index = {void!r} beside {count} classes; allowed is {count} to 255",
        )


def same_classes_in_all_splits(subject: Subject) -> None:
    """The splits have the same classes, palette and ignore_index."""
    with splits_of(subject) as splits:
        for (first, one), (other, another) in pairwise(splits.items()):
            for fact in ("classes", "palette", "ignore_index"):
                its, others = getattr(one, fact), getattr(another, fact)
                require(_plain(its) == _plain(others), f"{fact} of {first} is {its!r}, and of {other} {others!r}")


def _plain(value: Any) -> Any:
    """Tuples for lists and arrays, which know no simple =="""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def disjoint_splits(subject: Subject) -> None:
    """No picture is in two splits, pixel by pixel; of those that are nearly the same the label scan of a run tells."""
    with splits_of(subject) as splits:
        pictures = {
            split: {parts(dataset[index])["image"]: place for place, index in places(split, dataset)}
            for split, dataset in splits.items()
        }
        for (_, one), (_, another) in combinations(pictures.items(), 2):
            both = [f"{one[digest]} and {another[digest]}" for digest in one if digest in another]
            require(not both, f"the same picture, pixel by pixel: {first_few(both)}; what was trained on is no test")


def unknown_split(subject: Subject) -> None:
    """A split that is not there is a DataError with its name and those there are."""
    with own_sample(subject) as reader:
        message = _data_error(reader, f"split = '{WRONG}'", split=WRONG)
        lacking = [word for word in (WRONG, *built(reader)) if word not in message]
        require(not lacking, f"the message for split = '{WRONG}' lacks {first_few(lacking)}: {message}")


def missing_folder(subject: Subject) -> None:
    """A root that is not there is a DataError that names it, when the dataset is built."""
    if not subject.has_option("root"):
        raise NotAsked("it has no option root")
    with own_sample(subject) as reader, tempfile.TemporaryDirectory() as folder:
        absent = Path(folder) / "not_there"
        reader = replace(reader, options={**reader.options, "root": as_root(subject, absent)})
        message = _data_error(reader, "a root that is not there", split="train")
        require(str(absent) in message, f"the message for a missing root does not name it, {absent}: {message}")


def _data_error(reader: Subject, what: str, **given: Any) -> str:
    """The message of the DataError that building it raises."""
    expected = (
        "expected is a segkit.errors.DataError that names it: look in the constructor, before anything is read, and "
        "raise DataError(f'...')"
    )
    try:
        reader.build(**given)
    except DataError as error:
        return str(error)
    except Exception as error:
        cause = error.__cause__ or error
        raise CheckFailed(f"{what}: it raises {type(cause).__name__}: {cause}; {expected}") from error
    raise CheckFailed(f"{what}: it is built all the same; {expected}")


RULES: tuple[Rule, ...] = (
    named_options,
    writes_a_sample,
    has_splits,
    samples.sample_types,
    classes_and_palette,
    void_is_no_class,
    samples.labels,
    same_classes_in_all_splits,
    disjoint_splits,
    samples.same_each_time,
    samples.tensors_to_keep,
    samples.index_error,
    samples.mask_alone,
    samples.files_are_there,
    unknown_split,
    missing_folder,
    samples.picklable,
    samples.same_in_another_process,
)
