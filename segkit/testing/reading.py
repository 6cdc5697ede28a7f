"""How the rules of datasets read one: its own sample is written, its splits are built, samples are compared."""

from __future__ import annotations

import hashlib
import inspect
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segkit.data.splits import SPLITS
from segkit.errors import SegkitError, first_few
from segkit.testing.check import CheckFailed, NotAsked, Subject, require

MOST = 256  # samples of a split that are read: all of a miniature, some of a whole data set


@contextmanager
def own_sample(subject: Subject) -> Iterator[Subject]:
    """The subject with the options that read its own sample, which is written and afterwards deleted."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # a dataset may say what it left out
        needed = subject.has_option("root") or hasattr(subject.target, "write_sample")
        if "root" in subject.options or not needed:
            yield subject
            return
        try:
            options = dict(write_sample(subject, Path(folder)))
        except Exception as error:
            raise NotAsked("it has no sample to ask with: see writes_a_sample") from error
        if subject.has_option("root"):
            options = {"root": as_root(subject, Path(folder)), **options}
        yield replace(subject, options={**options, **subject.options})


@contextmanager
def splits_of(subject: Subject) -> Iterator[dict[str, Any]]:
    """The splits that a run reads, of its own sample."""
    with own_sample(subject) as reader:
        yield built(reader)


def built(reader: Subject) -> dict[str, Any]:
    """The splits that a run reads: train, and of val and test those that it has."""
    train = reader.build(split="train")
    splits = {"train": train}
    for split in SPLITS[1:]:
        if split in getattr(train, "splits", SPLITS):
            try:
                splits[split] = reader.build(split=split)
            except SegkitError as error:
                if hasattr(train, "splits"):
                    raise
                raise CheckFailed(f"{error}; say which splits there are: splits = ('train', 'val')") from error
    return splits


def write_sample(subject: Subject, root: Path) -> Mapping[str, Any]:
    """Have it write its sample; the options that read it.

    Raises:
        CheckFailed: it cannot write one, or returns something else.
    """
    write = getattr(subject.target, "write_sample", None)
    require(
        callable(write),
        f"{subject.name} has no class method write_sample(root), which writes a miniature of its files: for tests, "
        "and for people to compare their own with",
    )
    options = subject.target.write_sample(root)  # type: ignore[attr-defined]
    require(
        options is None or isinstance(options, Mapping),
        f"write_sample(root) returned a {type(options).__name__}; it returns options, as {{'classes': 'classes.txt'}}, "
        "or nothing",
    )
    unknown = [name for name in options or {} if not subject.has_option(name)]
    require(not unknown, f"write_sample(root) returned {options}: the constructor has no option {first_few(unknown)}")
    return options or {}


def as_root(subject: Subject, root: Path) -> str | Path:
    """As a config gives it: text, but a path where the type hint says so."""
    hint = inspect.signature(subject.target).parameters["root"].annotation
    return root if hint in (Path, "Path", "pathlib.Path") else str(root)


def places(split: str, dataset: Any) -> Iterator[tuple[str, int]]:
    """``("train[0]", 0)`` and so on, evenly spread where there are many."""
    for index in range(0, len(dataset), max(1, -(-len(dataset) // MOST))):
        yield f"{split}[{index}]", index


def parts(sample: Any) -> dict[str, str]:
    """What tells whether two samples are the same."""
    image, mask, name = sample
    return {"name": str(name), "image": _digest(image), "mask": _digest(mask)}


def _digest(pixels: Any) -> str:
    array = np.ascontiguousarray(pixels)
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()


def require_same(found: Mapping[str, str], expected: Mapping[str, str], what: str) -> None:
    """``what`` says which two samples they are, of which the :func:`parts` are given."""
    other = [part for part, value in expected.items() if found[part] != value]
    names = f": '{expected['name']}' and '{found['name']}'" if "name" in other else ""
    require(not other, f"{what}: not the same {' and '.join(other)}{names}")


def require_tensor(
    what: str, value: Any, shape: tuple[int | None, ...], dtypes: Sequence[torch.dtype] = (torch.uint8,)
) -> None:
    """Of one of the types, and of a shape in which None is any height or width."""
    names = " or ".join(str(each).removeprefix("torch.") for each in dtypes)
    wanted = f"{names} [{','.join('HW'[place - len(shape)] if n is None else str(n) for place, n in enumerate(shape))}]"
    require(isinstance(value, Tensor), f"{what} is a {type(value).__name__}; it is to be a torch tensor, {wanted}")
    fits = len(value.shape) == len(shape) and all(n in (None, own) for n, own in zip(shape, value.shape, strict=True))
    require(
        value.dtype in dtypes and fits and value.numel(),
        f"{what} is {value.dtype} {list(value.shape)}; it is to be {wanted}",
    )
