"""The rules of datasets: splits that share no picture, samples as promised, the same each time and in every process."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from segkit.data.sample import RGB, SPLITS, Dataset, checked
from segkit.errors import DataError, first_few
from segkit.testing.check import CheckFailed, NotAsked, failing, require
from segkit.testing.reading import DatasetSubject, in_another_process, read, require_same


def writes_a_sample(case: DatasetSubject) -> None:
    """write_sample(root) writes a miniature of the files it reads, for tests, and returns the options that read it."""
    if not case.reads_files:
        raise NotAsked("it reads no files: it has neither root nor write_sample")
    case.write_sample()
    require(any(path.is_file() for path in case.folder.rglob("*")), "write_sample(root) left no file in root")


def has_splits(case: DatasetSubject) -> None:
    """There are train and val at least, and none of its splits is empty."""
    there = tuple(getattr(case.splits["train"], "splits", SPLITS))
    require({"train", "val"} <= {*there}, f"splits = {there}; a run needs train and val")
    empty = [split for split, dataset in case.splits.items() if not len(dataset)]
    require(not empty, f"{first_few(empty)} is empty")


def sample_types(case: DatasetSubject) -> None:
    """Each item is a segkit.Sample: image uint8 or float32 [C,H,W], mask uint8 [H,W], and a name of its own."""
    names: dict[tuple[Any, str], str] = {}
    for place, dataset, index in case.samples():
        with failing(place):
            name = checked(dataset[index], getattr(dataset, "channels", RGB)).name
        require(name, f"the name of {place} is {name!r}; messages and pictures need a text")
        other = names.setdefault((id(dataset), name), place)
        require(other == place, f"{other} and {place} are both called '{name}'")


def classes_and_palette(case: DatasetSubject) -> None:
    """The classes are distinct names, 1 to 255 of them, and the palette has a distinct RGB triple for each."""
    classes, palette = case.splits["train"].classes, case.splits["train"].palette
    _distinct_names("classes", classes)
    require(1 <= len(classes) <= 255, f"there are {len(classes)} classes; a mask of 8 bits has room for 1 to 255")
    require(len(palette) == len(classes), f"the palette has {len(palette)} colours for {len(classes)} classes")
    pairs = list(zip(classes, palette, strict=True))
    for name, colour in pairs:
        whole = len(colour) == 3 and all(isinstance(part, int) and 0 <= part <= 255 for part in colour)
        require(whole, f"the colour of {name} is {colour!r}; it is three whole numbers from 0 to 255")
        same = [other for other, its in pairs if tuple(its) == tuple(colour)]
        require(len(same) == 1, f"{' and '.join(same)} have the same colour {colour!r}; give each its own")


def channels_have_names(case: DatasetSubject) -> None:
    """The channels, where it says them, are distinct names: red, green and blue of pictures as cameras take them."""
    channels = getattr(case.splits["train"], "channels", RGB)
    require(len(channels), "there are no channels; leave them out where images are RGB")
    _distinct_names("channels", channels)


def _distinct_names(what: str, names: Any) -> None:
    texts = isinstance(names, tuple | list) and all(isinstance(name, str) and name.strip() for name in names)
    require(texts, f"{what} = {names!r}; they are a tuple of names")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    require(not twice, f"two {what} are called {first_few(twice)}")


def void_is_no_class(case: DatasetSubject) -> None:
    """ignore_index is a whole number outside the classes that fits into 8 bits."""
    void, count = case.splits["train"].ignore_index, len(case.splits["train"].classes)
    fits = isinstance(void, int) and count <= void <= 255
    require(fits, f"ignore_index = {void!r} beside {count} classes; allowed is {count} to 255")


def labels(case: DatasetSubject) -> None:
    """Masks hold nothing but the indices of classes, and ignore_index; and more than one class where there are more."""
    found: set[int] = set()
    for place, dataset, index in case.samples():
        classes = range(len(dataset.classes))
        _, mask, name = dataset[index]
        stored = set(np.unique(mask).tolist())
        found |= stored & set(classes)
        wrong = first_few([str(label) for label in sorted(stored - {*classes, dataset.ignore_index})])
        allowed = f"allowed are 0 to {len(classes) - 1} and ignore_index = {dataset.ignore_index}"
        require(not wrong, f"the mask of {place} ('{name}') holds {wrong}; {allowed}")
    names = case.splits["train"].classes
    only = " or ".join([*(repr(names[label]) for label in found), "void"])
    advice = "is a stored label not mapped to its class?"
    require(len(found) > 1 or len(names) < 2, f"every pixel of every split is {only}: {advice}")


def same_classes_in_all_splits(case: DatasetSubject) -> None:
    """The splits have the same classes, palette, ignore_index and channels."""
    for (first, one), (other, another) in pairwise(case.splits.items()):
        for fact in ("classes", "palette", "ignore_index", "channels"):
            its, others = getattr(one, fact, RGB), getattr(another, fact, RGB)
            require(_tuples(its) == _tuples(others), f"{fact} of {first} is {its!r}, and of {other} {others!r}")


def _tuples(value: Any) -> Any:
    """Tuples for lists and arrays, which know no simple =="""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def disjoint_splits(case: DatasetSubject) -> None:
    """No picture is in two splits, pixel by pixel; of those that are nearly the same the label scan of a run tells."""
    samples = [read({split: dataset}) for split, dataset in case.splits.items()]
    pictures = [{sample["image"]: place for place, sample in each.items()} for each in samples]
    for one, another in combinations(pictures, 2):
        both = [f"{one[digest]} and {another[digest]}" for digest in one if digest in another]
        require(not both, f"the same picture, pixel by pixel: {first_few(both)}; what was trained on is no test")


def same_each_time(case: DatasetSubject) -> None:
    """An item is the same whenever it is asked for, and in whatever order."""
    before = read(case.splits)
    require_same(read(case.splits, backwards=True), before, "asked twice")


def tensors_to_keep(case: DatasetSubject) -> None:
    """The tensors of a sample are the caller's own, clones of what is kept: to change them changes no other sample."""
    for split, dataset in case.splits.items():
        one, other = (dataset[0], dataset[0]) if len(dataset) else ((), ())
        for part, first, second in zip(("image", "mask"), one, other, strict=False):
            # not by writing: a file that is mapped into memory read-only would end the process
            same = isinstance(first, Tensor) and first.data_ptr() == second.data_ptr()
            require(not same, f"{split}[0] asked twice is twice the same memory, of the {part}")


def index_error(case: DatasetSubject) -> None:
    """An index beyond the end raises IndexError, which ends a for loop."""
    for split, dataset in case.splits.items():
        for index in (len(dataset), -len(dataset) - 1):
            with failing(f"{split} has {len(dataset)} samples: [{index}] must raise IndexError"), suppress(IndexError):
                dataset[index]
                raise CheckFailed("it returns a sample")


def files_are_there(case: DatasetSubject) -> None:
    """files(i), where it is offered, are the files that [i] is read from; beside it, ``reading`` is text."""
    train = case.splits["train"]
    if not hasattr(train, "files") or type(train).files is Dataset.files:
        raise NotAsked("it does not offer files(i)")
    for place, dataset, index in case.samples():
        paths = [Path(path) for path in dataset.files(index)]
        absent = [str(path) for path in paths if not path.is_file()]
        what = f"files({index}) of {place.partition('[')[0]}"
        require(paths, f"{what} names no file; leave files out where there are none")
        require(not absent, f"{what}: there is no file {first_few(absent)}")
        reading = getattr(dataset, "reading", "")
        require(isinstance(reading, str), f"reading is a {type(reading).__name__}; the label scan compares texts")


def unknown_split(case: DatasetSubject) -> None:
    """A split that is not there is a DataError with its name and those there are."""
    _names_in_data_error(case, "split = 'trian'", ["trian", *case.splits], split="trian")


def missing_folder(case: DatasetSubject) -> None:
    """A root that is not there is a DataError that names it, when the dataset is built."""
    if not case.has_option("root"):
        raise NotAsked("it has no option root")
    with tempfile.TemporaryDirectory() as folder:
        absent = Path(folder) / "not_there"
        _names_in_data_error(case, "a missing root", [str(absent)], root=case.as_root(absent), split="train")


def _names_in_data_error(case: DatasetSubject, what: str, words: Sequence[str], **options: Any) -> None:
    """Building it has to raise a DataError with these words."""
    reader = replace(case.reader, options={**case.reader.options, **options})
    with failing(f"of {what} the constructor has to raise a segkit.errors.DataError that names it"):
        try:
            reader.build()
        except DataError as error:
            lacking = [word for word in words if word not in str(error)]
            require(not lacking, f"the message lacks {first_few(lacking)}: {error}")
        else:
            raise CheckFailed("it is built all the same")


def picklable(case: DatasetSubject) -> None:
    """It can be pickled, as for the workers of a loader, and its copy gives the same samples."""
    with failing("it cannot be pickled"):
        pickled = pickle.loads(pickle.dumps(case.splits))
    require_same(read(pickled), read(case.splits), "and that of a pickled copy")


def same_in_another_process(case: DatasetSubject) -> None:
    """In a new process its copy, and one that is built anew, give the same samples."""
    for how, there in in_another_process(case).items():
        require_same(there, read(case.splits), f"here and {how} in another process")
