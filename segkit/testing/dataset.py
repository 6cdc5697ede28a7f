"""Rules of datasets: splits and samples keep the contract, and are the same at each access and in every process."""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from segkit.data.sample import RGB, SPLITS, check_splits, checked
from segkit.errors import DataError, first_few
from segkit.testing.check import CheckFailed, NotAsked, Rule, Same, Subject, failing, require

MOST = 256  # most samples read per split; a miniature has fewer
SECONDS = 600  # time limit of another process that imports torch and reads the samples, even on a busy machine


@dataclass(frozen=True)
class DatasetSubject(Subject):
    """A dataset that reads its option ``root``, or else the miniature that it writes itself.

    Attributes:
        folder: folder for the miniature; deleted after each check.
    """

    folder: Path = Path()

    def ask(self, rule: Rule) -> None:
        """Check a rule with a new temporary folder, without the warnings of datasets that leave out files."""
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            super(DatasetSubject, replace(self, folder=Path(folder))).ask(rule)

    def write_sample(self) -> Mapping[str, Any]:
        """Let the dataset write its miniature; return the constructor options that read it."""
        write = getattr(self.factory, "write_sample", None)
        require(callable(write), f"{self.name} has no class method write_sample(root)")
        options = (write and write(self.folder)) or {}
        known = isinstance(options, Mapping) and all(map(self.has_option, options))
        require(known, f"write_sample(root) returned {options!r}; it must return options of the constructor, or None")
        return options

    def as_root(self, folder: Path) -> str | Path:
        """Convert a folder to the type that a config passes: ``Path`` if the type hint says so, else ``str``."""
        hint = inspect.signature(self.factory).parameters["root"].annotation
        return folder if hint in (Path, "Path", "pathlib.Path") else str(folder)

    @cached_property
    def reader(self) -> Subject:
        """The dataset with the options that read its files.

        Raises:
            NotAsked: the dataset cannot write a miniature.
        """
        options: dict[str, Any] = {}
        if "root" not in self.options and (self.has_option("root") or hasattr(self.factory, "write_sample")):
            try:
                options = dict(self.write_sample())
            except Exception as error:
                raise NotAsked("it has no sample to check: see writes_a_sample") from error
            if self.has_option("root"):
                options = {"root": self.as_root(self.folder), **options}
        return Subject(self.kind, self.name, self.factory, {**options, **self.options})

    @cached_property
    def splits(self) -> dict[str, Any]:
        """The splits that a run reads: train, and val and test if they exist."""
        train = self.reader.build(split="train")
        there = getattr(train, "splits", SPLITS)
        with failing("splits are train, val and test unless splits = (...) lists others"):
            others = {split: self.reader.build(split=split) for split in SPLITS[1:] if split in there}
        return {"train": train, **others}

    def instance(self) -> Any:
        """Return the splits."""
        return self.splits

    def outputs(self, splits: Mapping[str, Any]) -> Any:
        """Return names and digests of the samples of the splits."""
        return read(splits)


def places(splits: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """Yield ``("train[0]", dataset, 0)`` and so on: at most :data:`MOST` samples per split, evenly spread."""
    for split, dataset in splits.items():
        for index in range(0, len(dataset), max(1, -(-len(dataset) // MOST))):
            yield f"{split}[{index}]", dataset, index


def read(splits: Mapping[str, Any], backwards: bool = False) -> dict[str, dict[str, Any]]:
    """Return for each place, such as ``train[0]``, the sample's name and digests of its image and mask."""
    found = {}
    for place, dataset, index in list(places(splits))[:: -1 if backwards else 1]:
        image, mask, name = dataset[index]
        arrays = {part: np.ascontiguousarray(pixels) for part, pixels in (("image", image), ("mask", mask))}
        described = {part: f"{each.dtype} {each.shape} ".encode() + each.tobytes() for part, each in arrays.items()}
        found[place] = {part: hashlib.sha256(each).hexdigest() for part, each in described.items()} | {"name": name}
    return found


def writes_a_sample(case: DatasetSubject) -> None:
    """write_sample(root) writes a miniature of the layout on disk, for tests, and returns the options that read it."""
    if not case.has_option("root") and not hasattr(case.factory, "write_sample"):
        raise NotAsked("it reads no files: it has neither root nor write_sample")
    case.write_sample()
    require(any(path.is_file() for path in case.folder.rglob("*")), "write_sample(root) left no file in root")


def splits(case: DatasetSubject) -> None:
    """train and val exist, no split is empty, and all have the same classes, palette, ignore_index and channels."""
    train = case.splits["train"]
    there = tuple(getattr(train, "splits", SPLITS))
    require({"train", "val"} <= {*there}, f"splits = {there}; a run needs train and val")
    empty = [split for split, dataset in case.splits.items() if not len(dataset)]
    require(not empty, f"{first_few(empty)} is empty")
    check_splits(case.splits)
    for what in ("classes", "channels"):
        names = getattr(train, what, RGB)
        texts = isinstance(names, tuple | list) and all(isinstance(each, str) and each.strip() for each in names)
        distinct = texts and 0 < len(names) == len({*names})
        require(distinct, f"{what} = {names!r}; it must be a tuple of distinct names")
    colours = {tuple(colour) for colour in train.palette}
    whole = all(len(each) == 3 and all(isinstance(n, int) and 0 <= n <= 255 for n in each) for each in colours)
    problem = f"palette = {train.palette!r}; give each of the {len(train.classes)} classes a distinct colour"
    distinct = whole and len(colours) == len(train.palette) == len(train.classes)
    require(distinct, f"{problem}, three whole numbers from 0 to 255")
    for split, other in case.splits.items():
        for what in ("palette", "channels"):
            one, another = (np.asarray(getattr(each, what, RGB)).tolist() for each in (train, other))
            require(one == another, f"{what} of train is {one!r}, but of {split} {another!r}")


def samples(case: DatasetSubject) -> None:
    """Each is a segkit.Sample: image uint8 or float32 [C,H,W], mask uint8 [H,W] of allowed labels, and a name."""
    names: set[tuple[int, str]] = set()
    found: set[int] = set()
    classes, void = case.splits["train"].classes, case.splits["train"].ignore_index
    for place, dataset, index in places(case.splits):
        with failing(place):
            _, mask, name = checked(dataset[index], getattr(dataset, "channels", RGB))
            require(name and (id(dataset), name) not in names, f"its name {name!r} is empty or occurs twice")
            names.add((id(dataset), name))
            stated = getattr(dataset, "names", None) or {index: name}
            require(stated[index] == name, f"its name is {name!r}, but names[{index}] is {stated[index]!r}")
            found |= (stored := set(np.unique(mask).tolist()))
            wrong = [str(label) for label in sorted(stored - {*range(len(classes)), void})]
            allowed = f"0 to {len(classes) - 1} and ignore_index = {void}"
            require(not wrong, f"its mask holds {first_few(wrong)}; allowed are {allowed}")
    only = " or ".join([*(repr(classes[label]) for label in found - {void}), "void"])
    advice = "check that stored labels are mapped to classes"
    require(len(found - {void}) > 1 or len(classes) < 2, f"every pixel of every split is {only}: {advice}")


def disjoint_splits(case: DatasetSubject) -> None:
    """No image occurs, pixel by pixel, in two splits: training images must not be used for testing."""
    found: dict[str, str] = {}
    for place, sample in read(case.splits).items():
        first = found.setdefault(sample["image"], place)
        same = first.partition("[")[0] == place.partition("[")[0]
        require(same, f"{first} and {place} are the same image, pixel by pixel")


def same_each_time(case: DatasetSubject) -> Iterator[Same]:
    """A sample is the same at each access, in any order, and returned in new tensors (clones)."""
    before = read(case.splits)
    yield "asked twice", read(case.splits, backwards=True), before
    for split, dataset in case.splits.items():
        one, other = dataset[0], dataset[0]  # not tested by writing: that would crash on memory-mapped files
        same = [name for name in ("image", "mask") if getattr(one, name).data_ptr() == getattr(other, name).data_ptr()]
        require(not same, f"reading {split}[0] twice returns the same memory for the {first_few(same)}")


def names_what_is_wrong(case: DatasetSubject) -> None:
    """The constructor raises a DataError for an unknown split or a missing root, and names it."""
    absent = case.folder / "not_there"
    cases: dict[str, dict[str, Any]] = {"trian": {"split": "trian"}}
    if case.has_option("root"):
        cases[str(absent)] = {"split": "train", "root": case.as_root(absent)}
    for name, options in cases.items():
        with failing(f"for the missing {name} the constructor must raise a segkit.errors.DataError that names it"):
            try:
                replace(case.reader, options={**case.reader.options, **options}).build()
            except DataError as error:
                require(name in str(error), f"its message is: {error}")
            else:
                raise CheckFailed("it raises nothing")


def same_in_another_process(case: DatasetSubject) -> Iterator[Same]:
    """Built in another process, with another hash seed for strings, the dataset has the same samples."""
    # not multiprocessing, which would run again a script that calls the checks at its top level
    code = f"import sys; sys.path[:] = {sys.path!r}; from segkit.testing.dataset import answer; answer()"
    environment = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"}
    with failing("it cannot be pickled"):
        question = pickle.dumps((case.reader, [*case.splits]))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=question, capture_output=True, env=environment, timeout=SECONDS, check=False)
    last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"])[-1]
    require(not done.returncode, f"it cannot be read in another process: {last}")
    yield "built in another process", pickle.loads(done.stdout), read(case.splits)


def answer() -> None:
    """In the other process: build the dataset pickled on standard input, and write its samples' digests."""
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a dataset may print
    warnings.simplefilter("ignore")
    reader, splits = pickle.load(sys.stdin.buffer)
    out.buffer.write(pickle.dumps(read({split: reader.build(split=split) for split in splits})))
