"""How the rules of datasets read one: its own sample is written, its splits are built, here and in another process."""

from __future__ import annotations

import hashlib
import inspect
import json
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

from segkit.data.sample import SPLITS
from segkit.errors import first_few
from segkit.testing.check import NotAsked, Rule, Subject, failing, require

MOST = 256  # samples of a split that are read: all of a miniature, some of a whole data set
SECONDS = 600  # for another process that imports torch and reads the samples, on a machine that has much else to do


@dataclass(frozen=True)
class DatasetSubject(Subject):
    """A dataset, which reads what is in its option ``root``, or the miniature that it writes itself.

    Attributes:
        folder: for the miniature; it is gone when the rule has been asked.
    """

    folder: Path = Path()

    def ask(self, rule: Rule) -> None:
        """Ask with a folder of its own, and without warnings, as a dataset may say what it left out."""
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            rule(replace(self, folder=Path(folder)))

    @property
    def reads_files(self) -> bool:
        """Whether it has a folder to read, or writes one."""
        return self.has_option("root") or hasattr(self.factory, "write_sample")

    def write_sample(self) -> Mapping[str, Any]:
        """Have it write its miniature; the options that read it.

        Raises:
            CheckFailed: it cannot write one, or returns something else.
        """
        write = getattr(self.factory, "write_sample", None)
        require(callable(write), f"{self.name} has no class method write_sample(root)")
        options = self.factory.write_sample(self.folder)  # type: ignore[attr-defined]
        what = f"write_sample(root) returned {options!r}"
        require(options is None or isinstance(options, Mapping), f"{what}; it returns options or nothing")
        unknown = [name for name in options or {} if not self.has_option(name)]
        require(not unknown, f"{what}: the constructor has no option {first_few(unknown)}")
        return options or {}

    def as_root(self, folder: Path) -> str | Path:
        """A folder as a config gives it: text, but a path where the type hint says so."""
        hint = inspect.signature(self.factory).parameters["root"].annotation
        return folder if hint in (Path, "Path", "pathlib.Path") else str(folder)

    @cached_property
    def reader(self) -> Subject:
        """The dataset with the options that read its files.

        Raises:
            NotAsked: it has none.
        """
        options: dict[str, Any] = {}
        if "root" not in self.options and self.reads_files:
            try:
                options = dict(self.write_sample())
            except Exception as error:
                raise NotAsked("it has no sample to ask with: see writes_a_sample") from error
            if self.has_option("root"):
                options = {"root": self.as_root(self.folder), **options}
        return Subject(self.kind, self.name, self.factory, {**options, **self.options})

    @cached_property
    def splits(self) -> dict[str, Any]:
        """The splits that a run reads: train, and of val and test those that it has."""
        train = self.reader.build(split="train")
        there = getattr(train, "splits", SPLITS)
        with failing("splits are train, val and test where splits = (...) does not say which there are"):
            others = {split: self.reader.build(split=split) for split in SPLITS[1:] if split in there}
        return {"train": train, **others}

    def samples(self) -> Iterator[tuple[str, Any, int]]:
        """``("train[0]", dataset, 0)`` and so on, of every split, evenly spread where there are many."""
        for split, dataset in self.splits.items():
            for index in some(len(dataset)):
                yield f"{split}[{index}]", dataset, index


def some(count: int) -> range:
    """Places of at most :data:`MOST` samples of ``count``, evenly spread."""
    return range(0, count, max(1, -(-count // MOST)))


def read(splits: Mapping[str, Any], backwards: bool = False) -> dict[str, dict[str, str]]:
    """Place, as ``train[0]``, -> what tells whether two samples are the same: :func:`parts` of it."""
    places = [(f"{split}[{index}]", each, index) for split, each in splits.items() for index in some(len(each))]
    return {place: parts(dataset[index]) for place, dataset, index in places[:: -1 if backwards else 1]}


def parts(sample: Any) -> dict[str, str]:
    """The name of a sample, and digests of its image and mask."""
    image, mask, name = sample
    found = {"name": str(name)}
    for part, pixels in (("image", image), ("mask", mask)):
        array = np.ascontiguousarray(pixels)
        found[part] = hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()
    return found


def require_same(found: Mapping[str, Any], expected: Mapping[str, Any], how: str) -> None:
    """The same samples, by their places; ``how`` says how those that are found were made."""
    require(len(found) == len(expected), f"{len(expected)} samples {how}: there are {len(found)}")
    for place, sample in expected.items():
        other = [part for part, value in sample.items() if found[place][part] != value]
        names = f": '{sample['name']}' and '{found[place]['name']}'" if "name" in other else ""
        require(not other, f"{place} {how}: not the same {' and '.join(other)}{names}")


def in_another_process(case: DatasetSubject) -> dict[str, dict[str, dict[str, str]]]:
    """How they were made -> the samples, as :func:`read`, in a process where sets of texts have another order.

    Raises:
        CheckFailed: the dataset cannot be pickled, or not be read there.
    """
    # not multiprocessing, which would run a script anew that asks for the checks at its top
    code = f"import sys; sys.path[:] = {sys.path!r}; from segkit.testing.reading import answer; answer()"
    environment = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"}
    with failing("it cannot be pickled"):
        question = pickle.dumps((case.splits, case.reader))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=question, capture_output=True, env=environment, timeout=SECONDS, check=False)
    last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"])[-1]
    require(not done.returncode, f"it cannot be read in another process: {last}")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def answer() -> None:
    """In that process: read the datasets pickled on the standard input, and print what is in them."""
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a dataset may print
    warnings.simplefilter("ignore")
    splits, reader = pickle.load(sys.stdin.buffer)
    anew = {split: reader.build(split=split) for split in splits}
    json.dump({"a pickled copy": read(splits), "one built anew": read(anew)}, out)
