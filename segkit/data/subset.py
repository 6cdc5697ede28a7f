"""Datasets made of others: a part of one, and one of somebody else's whose pairs (image, mask) become samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils import data

from segkit.data.read import as_rgb
from segkit.data.sample import Dataset, Palette, Sample, check_splits, voc_palette
from segkit.errors import DataError, Issue

_FACTS = ("classes", "palette", "ignore_index")


class Subset:
    """The samples of a dataset at ``indices``, in that order, with the dataset's classes, palette and void."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        inner = dataset if isinstance(dataset, Subset) else None  # the files are known to the whole one alone
        self.dataset: Dataset = inner.dataset if inner else dataset
        self.indices: list[int] = [inner.indices[index] for index in indices] if inner else list(indices)
        self.classes, self.palette, self.ignore_index = dataset.classes, dataset.palette, dataset.ignore_index

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]


def whole_of(dataset: Any) -> Any:
    """What a part was taken from, or the dataset itself."""
    return dataset.dataset if isinstance(dataset, Subset) else dataset


class Labelled:
    """A dataset of anybody's, with classes, a palette and void; its pairs ``(image, mask)`` become samples.

    Images are uint8 tensors ``[3,H,W]``, arrays ``[H,W,3]`` or Pillow's; masks integers ``[H,W]`` or ``[1,H,W]``, of
    tensors, arrays or Pillow's. A sample that the dataset gives itself stays as it is.

    Args:
        dataset: with a length and ``[i]``.
        split: which samples are named after, with their number.
        classes: names, in the order of the labels.
        palette: an RGB triple a class; left out: Pascal VOC's.
        ignore_index: the label of void.
    """

    def __init__(
        self,
        dataset: Any,
        split: str,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]] | None = None,
        ignore_index: int = 255,
    ) -> None:
        names = () if isinstance(classes, str) or not isinstance(classes, Iterable) else tuple(classes)
        if not names or not all(isinstance(name, str) for name in names):
            raise DataError(f"classes = {classes!r:.80}: give names in the order of the labels, ['background', 'cat']")
        self.dataset, self.split, self.classes, self.ignore_index = dataset, split, names, ignore_index
        given: Any = voc_palette(len(names)) if palette is None else tuple(tuple(colour) for colour in palette)
        self.palette: Palette = given
        if wrong := [colour for colour in given if len(colour) != 3 or not set(colour) <= set(range(256))]:
            raise DataError(f"palette holds {wrong[0]!r:.80}; a colour is three numbers of 0 to 255, (255, 0, 0)")
        if len(self.palette) != len(self.classes):
            raise DataError(
                f"palette has {len(self.palette)} colours for {len(self.classes)} classes; give one a class"
            )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        item = self.dataset[index]
        if isinstance(item, Sample):
            return item
        name = f"{self.split}-{index}"
        if not isinstance(item, tuple | list) or len(item) != 2:
            found = type(item).__name__ + (f" of {len(item)}" if isinstance(item, tuple | list) else "")
            raise DataError(Issue("contract", name, f"the dataset gives {found}", "it is to give (image, mask)"))
        return Sample(_image(item[0], name), _mask(item[1], name), name)


def as_dataset(
    given: Any,
    split: str,
    classes: Sequence[str] | None = None,
    palette: Sequence[Sequence[int]] | None = None,
    ignore_index: int = 255,
) -> Dataset:
    """What somebody has passed for a split, as a dataset that keeps the contract.

    torch's Subset and ConcatDataset have the classes of what they are made of.

    Raises:
        DataError: it is none, its parts do not fit together, or nothing says which classes it has.
    """
    for needed, what in (("__len__", "length"), ("__getitem__", "[i]")):
        if not hasattr(given, needed):
            raise DataError(f"{split}: {type(given).__name__} has no {what}; a dataset has a length and [i]")
    if classes is not None:
        return Labelled(given, split, classes, palette, ignore_index)
    if isinstance(given, data.Subset):
        return Subset(as_dataset(given.dataset, split), list(given.indices))
    if isinstance(given, data.ConcatDataset):
        names = [f"{split}, part {number + 1}" for number in range(len(given.datasets))]
        parts = {name: as_dataset(each, name) for name, each in zip(names, given.datasets, strict=True)}
        check_splits(parts)
        first = next(iter(parts.values()))
        return Labelled(given, split, first.classes, first.palette, first.ignore_index)
    if missing := [name for name in _FACTS if not hasattr(given, name)]:
        raise DataError(
            f"{split}: {type(given).__name__} has no {', no '.join(missing)}; say fit(classes=[...]), palette= and "
            "ignore_index= where they are not Pascal VOC's and 255"
        )
    dataset: Dataset = given
    return dataset


def _image(value: Any, name: str) -> Any:
    """An image that may become ``[3,H,W]``; what it is otherwise is for the contract to refuse."""
    if isinstance(value, Image.Image):
        value = as_rgb(value, name)
    if isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[2] == 3:
        return torch.from_numpy(np.array(value)).permute(2, 0, 1)
    return value


def _mask(value: Any, name: str) -> Any:
    """Likewise a mask, uint8 ``[H,W]``."""
    if isinstance(value, Image.Image | np.ndarray):
        value = torch.from_numpy(np.array(value))
    if not isinstance(value, Tensor) or value.is_floating_point() or value.is_complex():
        return value
    value = value.long()  # of unsigned ones torch knows no least
    if value.ndim == 3 and len(value) == 1:
        value = value[0]  # [H,W]
    if value.numel() and not 0 <= int(value.min()) <= int(value.max()) <= 255:
        advice = "labels are 0 to 255, void included: give void another label, and ignore_index="
        what, held = "its mask holds labels that are not allowed", f"{int(value.min())} to {int(value.max())}"
        raise DataError(Issue("contract", name, what, advice, held))
    return value.to(torch.uint8)
