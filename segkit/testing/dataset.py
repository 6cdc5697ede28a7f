"""The rules of datasets: samples as promised, the same each time, in splits that share none.

They are asked of the miniature that a dataset writes itself, in a folder that is gone afterwards, or of the data in the
option ``root``, where that is set.
"""

from __future__ import annotations

import pickle
import tempfile
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from segkit.data.sample import Sample
from segkit.data.split import SPLITS
from segkit.errors import DataError, first_few
from segkit.testing.another_process import samples_there
from segkit.testing.check import CheckFailed, Rule, Subject, require
from segkit.testing.constructor import named_options
from segkit.testing.reading import (
    as_root,
    built,
    own_sample,
    parts,
    places,
    require_same,
    require_tensor,
    splits_of,
    write_sample,
)

WRONG = "trian"  # a split that no dataset has


def writes_a_sample(subject: Subject) -> None:
    """write_sample(root) writes a miniature of the files it reads, and returns the options that read it, if any."""
    if not subject.has_option("root") and not hasattr(subject.target, "write_sample"):
        return  # it reads no files
    with tempfile.TemporaryDirectory() as folder:
        options = write_sample(subject, Path(folder))
        require(any(path.is_file() for path in Path(folder).rglob("*")), "write_sample(root) left no file in root")
    unknown = [name for name in options if not subject.has_option(name)]
    require(not unknown, f"write_sample(root) returned {options}: the constructor has no option {first_few(unknown)}")


def has_splits(subject: Subject) -> None:
    """There are train and val at least, and none of its splits is empty."""
    with splits_of(subject) as splits:
        there = getattr(splits["train"], "splits", SPLITS)
        for needed in ("train", "val"):
            require(needed in there, f"there is no {needed} split: splits = {tuple(there)}; a run needs train and val")
        for split, dataset in splits.items():
            require(len(dataset) > 0, f"{split} is empty")


def sample_types(subject: Subject) -> None:
    """Each item is a segkit.Sample: image uint8 [3,H,W], mask uint8 [H,W], and a name of its own."""
    with splits_of(subject) as splits:
        for split, dataset in splits.items():
            names: dict[str, str] = {}
            for place, index in places(split, dataset):
                sample = dataset[index]
                require(
                    isinstance(sample, Sample),
                    f"{place} is a {type(sample).__name__}; a dataset gives segkit.Sample(image, mask, name)",
                )
                require_tensor(f"the image of {place}", sample.image, (3, None, None))
                require_tensor(f"the mask of {place}", sample.mask, tuple(sample.image.shape[1:]))
                name = sample.name
                require(
                    isinstance(name, str) and name,
                    f"the name of {place} is {name!r}; messages and pictures need a text",
                )
                require(name not in names, f"{names.get(name)} and {place} are both called '{name}'")
                names[name] = place


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


def labels(subject: Subject) -> None:
    """Masks hold nothing but the indices of classes, and ignore_index."""
    with splits_of(subject) as splits:
        for split, dataset in splits.items():
            allowed = {*range(len(dataset.classes)), dataset.ignore_index}
            for place, index in places(split, dataset):
                _, mask, name = dataset[index]
                wrong = sorted(set(np.unique(mask).tolist()) - allowed)
                require(
                    not wrong,
                    f"the mask of {place} ('{name}') holds {first_few([str(label) for label in wrong])}; allowed are 0 "
                    f"to {len(dataset.classes) - 1} and ignore_index = {dataset.ignore_index}",
                )


def same_classes_in_all_splits(subject: Subject) -> None:
    """The splits have the same classes, palette and ignore_index."""
    with splits_of(subject) as splits:
        for (first, one), (other, another) in pairwise(splits.items()):
            for fact in ("classes", "palette", "ignore_index"):
                its, others = getattr(one, fact), getattr(another, fact)
                require(its == others, f"{fact} of {first} is {its!r}, and of {other} {others!r}")


def disjoint_splits(subject: Subject) -> None:
    """No picture is in two splits."""
    with splits_of(subject) as splits:
        pictures = {
            split: {parts(dataset[index])["image"]: place for place, index in places(split, dataset)}
            for split, dataset in splits.items()
        }
        for (_, one), (_, another) in combinations(pictures.items(), 2):
            both = [f"{one[digest]} and {another[digest]}" for digest in one if digest in another]
            require(not both, f"the same picture, pixel by pixel: {first_few(both)}; what was trained on is no test")


def same_each_time(subject: Subject) -> None:
    """An item is the same whenever it is asked for, and in whatever order."""
    with splits_of(subject) as splits:
        for split, dataset in splits.items():
            before = {place: parts(dataset[index]) for place, index in places(split, dataset)}
            for place, index in reversed([*places(split, dataset)]):
                require_same(parts(dataset[index]), before[place], f"{place}, asked twice")


def tensors_to_keep(subject: Subject) -> None:
    """The tensors of a sample are the caller's own: what is written into them is not in the next sample."""
    with splits_of(subject) as splits:
        for split, dataset in splits.items():
            if not len(dataset):
                continue
            one, other = dataset[0], dataset[0]
            for part, first, second in zip(("image", "mask"), one, other, strict=False):
                # Not by writing: a file that is mapped into memory read-only would end the process.
                shared = isinstance(first, Tensor) and first.data_ptr() == second.data_ptr()
                require(
                    not shared,
                    f"{split}[0] asked twice is twice the same memory: whoever changes the {part} in place changes it "
                    "for all who ask later; return a clone()",
                )


def index_error(subject: Subject) -> None:
    """An index beyond the end raises IndexError, which ends a for loop."""
    with splits_of(subject) as splits:
        for split, dataset in splits.items():
            for index in (len(dataset), -len(dataset) - 1):
                said = f"{split} has {len(dataset)} samples: [{index}] must raise IndexError, and"
                try:
                    dataset[index]
                except IndexError:
                    continue
                except Exception as error:
                    raise CheckFailed(f"{said} raises {type(error).__name__}: {error}") from error
                raise CheckFailed(f"{said} returns a sample")


def mask_alone(subject: Subject) -> None:
    """mask(i), where it is offered, is the mask of [i]."""
    with splits_of(subject) as splits:
        for split, dataset in splits.items():
            for place, index in places(split, dataset) if hasattr(dataset, "mask") else ():
                alone, (_, mask, _) = dataset.mask(index), dataset[index]
                require(
                    alone.dtype == mask.dtype and alone.shape == mask.shape and (alone == mask).all(),
                    f"mask({index}) of {split}, {alone.dtype} {list(alone.shape)}, is not the mask of {place}, "
                    f"{mask.dtype} {list(mask.shape)}",
                )


def files_are_there(subject: Subject) -> None:
    """files(i), where it is offered, are the files that [i] is read from; beside it, ``reading`` is text."""
    with splits_of(subject) as splits:
        for split, dataset in splits.items():
            if not hasattr(dataset, "files"):
                continue
            for _, index in places(split, dataset):
                paths = [Path(path) for path in dataset.files(index)]
                absent = [str(path) for path in paths if not path.is_file()]
                require(paths, f"files({index}) of {split} names no file; leave files out where there are none")
                require(not absent, f"files({index}) of {split}: there is no file {first_few(absent)}")
            reading = getattr(dataset, "reading", "")
            require(isinstance(reading, str), f"reading is a {type(reading).__name__}; the label scan compares texts")


def unknown_split(subject: Subject) -> None:
    """A split that is not there is a DataError with its name and those there are."""
    with own_sample(subject) as reader:
        message = _data_error(reader, f"split = '{WRONG}'", split=WRONG)
        lacking = [word for word in (WRONG, *built(reader)) if word not in message]
        require(not lacking, f"the message for split = '{WRONG}' lacks {first_few(lacking)}: {message}")


def missing_folder(subject: Subject) -> None:
    """A root that is not there is a DataError that names it, when the dataset is built."""
    if not subject.has_option("root"):
        return
    with own_sample(subject) as reader, tempfile.TemporaryDirectory() as folder:
        absent = Path(folder) / "not_there"
        reader = replace(reader, options={**reader.options, "root": as_root(subject, absent)})
        message = _data_error(reader, "a root that is not there", split="train")
        require(str(absent) in message, f"the message for a missing root does not name it, {absent}: {message}")


def _data_error(reader: Subject, what: str, **given: Any) -> str:
    """The message of the DataError that building it raises."""
    expected = "expected is a segkit.errors.DataError"
    try:
        reader.build(**given)
    except DataError as error:
        return str(error)
    except Exception as error:
        cause = error.__cause__ or error
        raise CheckFailed(f"{what}: it raises {type(cause).__name__}: {cause}; {expected}") from error
    raise CheckFailed(f"{what}: it is built all the same; {expected}")


def picklable(subject: Subject) -> None:
    """It can be pickled, as for the workers of a loader, and its copy gives the same samples."""
    with splits_of(subject) as splits:
        for split, dataset in splits.items():
            try:
                copy = pickle.loads(pickle.dumps(dataset))
            except Exception as error:
                raise CheckFailed(f"{split} cannot be pickled: {type(error).__name__}: {error}") from error
            require(len(copy) == len(dataset), f"{split} has {len(dataset)} samples, its pickled copy {len(copy)}")
            for place, index in places(split, dataset):
                require_same(parts(copy[index]), parts(dataset[index]), f"{place} and that of a pickled copy")


def same_in_another_process(subject: Subject) -> None:
    """In a new process its copy, and one that is built anew, give the same samples."""
    with own_sample(subject) as reader:
        splits = built(reader)
        answer = samples_there(splits, reader)
        for split, dataset in splits.items():
            here = {place: parts(dataset[index]) for place, index in places(split, dataset)}
            for made, there in answer[split].items():
                where = f"{made} in another process"
                require(len(there) == len(here), f"{split} has {len(here)} samples, and {where} {len(there)}")
                for (place, mine), its in zip(here.items(), there, strict=True):
                    require_same(its, mine, f"{place} here and {where}")


RULES: tuple[Rule, ...] = (
    named_options,
    writes_a_sample,
    has_splits,
    sample_types,
    classes_and_palette,
    void_is_no_class,
    labels,
    same_classes_in_all_splits,
    disjoint_splits,
    same_each_time,
    tensors_to_keep,
    index_error,
    mask_alone,
    files_are_there,
    unknown_split,
    missing_folder,
    picklable,
    same_in_another_process,
)
