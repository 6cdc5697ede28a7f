"""The rules of a dataset about its samples: as promised, the same each time, here and in another process."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segkit.data.sample import Sample
from segkit.errors import first_few
from segkit.testing.another_process import samples_there
from segkit.testing.check import CheckFailed, NotAsked, Subject, require
from segkit.testing.reading import built, own_sample, parts, places, require_same, require_tensor, splits_of


def sample_types(subject: Subject) -> None:
    """Each item is a segkit.Sample: image uint8 or float32 [3,H,W], mask uint8 [H,W], and a name of its own."""
    with splits_of(subject) as splits:
        for split, dataset in splits.items():
            names: dict[str, str] = {}
            for place, index in places(split, dataset):
                sample = dataset[index]
                require(
                    isinstance(sample, Sample),
                    f"{place} is a {type(sample).__name__}; a dataset gives segkit.Sample(image, mask, name)",
                )
                require_tensor(f"the image of {place}", sample.image, (3, None, None), (torch.uint8, torch.float32))
                require_tensor(f"the mask of {place}", sample.mask, tuple(sample.image.shape[1:]))
                name = sample.name
                require(
                    isinstance(name, str) and name,
                    f"the name of {place} is {name!r}; messages and pictures need a text",
                )
                require(name not in names, f"{names.get(name)} and {place} are both called '{name}'")
                names[name] = place


def labels(subject: Subject) -> None:
    """Masks hold nothing but the indices of classes, and ignore_index; and more than one class where there are more."""
    with splits_of(subject) as splits:
        found: set[int] = set()
        for split, dataset in splits.items():
            classes = range(len(dataset.classes))
            for place, index in places(split, dataset):
                _, mask, name = dataset[index]
                stored = set(np.unique(mask).tolist())
                found |= stored & set(classes)
                wrong = sorted(stored - {*classes, dataset.ignore_index})
                require(
                    not wrong,
                    f"the mask of {place} ('{name}') holds {first_few([str(label) for label in wrong])}; allowed are 0 "
                    f"to {len(classes) - 1} and ignore_index = {dataset.ignore_index}",
                )
        classes = splits["train"].classes
        require(
            len(found) > 1 or len(classes) < 2,
            f"every pixel of every split is {' or '.join(repr(classes[label]) for label in found) or 'void'}"
            f"{' or void' if found else ''}: is a stored label not mapped to its class?",
        )


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
        if not any(hasattr(dataset, "mask") for dataset in splits.values()):
            raise NotAsked("it does not offer mask(i)")
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
        if not any(hasattr(dataset, "files") for dataset in splits.values()):
            raise NotAsked("it does not offer files(i)")
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
