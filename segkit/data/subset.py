"""Wrap datasets: select samples or channels, or convert (image, mask) pairs to samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils import data

from segkit.data.read import of_pillow, with_holes
from segkit.data.sample import RGB, Colour, Dataset, Sample, channel_names, check_splits, voc_palette
from segkit.errors import DataError, Issue
from segkit.settings import DataSettings

_REQUIRED = ("classes", "palette", "ignore_index")
_SHARED = (*_REQUIRED, "no_data", "splits", "names", "reading", "stored")


class Subset(Dataset):
    """Wraps a dataset and exposes a selection of its samples or channels; other attributes are the wrapped dataset's.

    The wrapped dataset need not be a :class:`segkit.data.sample.Dataset`. Pairs ``(image, mask)`` become samples:
    images may be tensors ``[C,H,W]``, arrays ``[H,W,C]`` or Pillow images, of 8 or 16 bits or float32; masks may be
    integer tensors or arrays ``[H,W]`` or ``[1,H,W]``, or Pillow images.

    Args:
        dataset: an object with a length and ``[i]``.
        indices: the samples to use, in this order; default: all.
        bands: the channels to use, as ``data.bands``; default: all.
        no_data: value of ``data.no_data``; default: the dataset's own.
        split: name of the split; a pair is named ``split-index``.
        attributes: the attributes to set instead of all those of the wrapped dataset.

    Raises:
        DataError: the images lack one of the bands.
    """

    def __init__(
        self,
        dataset: Any,
        indices: Sequence[int] | None = None,
        *,
        bands: Sequence[int] | None = None,
        no_data: float | str | None = None,
        split: str = "",
        **attributes: Any,
    ) -> None:
        self.dataset, self.split = dataset, split
        self.indices = range(len(dataset)) if indices is None else list(indices)
        for name, value in (attributes or {name: _member(dataset, name) for name in _SHARED}).items():
            if value is not None:
                setattr(self, name, value)
        known = self.names or ()  # a third-party dataset may use `names` for something else
        self.names = [known[index] for index in self.indices] if len(known) == len(dataset) else None
        self._bands, self._selects = bands, bands is not None or no_data is not None
        if self._selects:
            self.no_data = self.no_data if no_data is None else no_data
            self.reading = self.reading and f"{self.reading} {bands} {no_data}"
            if bands and max(bands) > len(dataset.channels):
                there = ", ".join(dataset.channels)
                raise DataError(f"data.bands = {bands}: the images have {len(dataset.channels)}: {there}")

    @cached_property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the selected channels; for a dataset of pairs, their number is that of the first readable image."""
        names = self.dataset.channels if isinstance(self.dataset, Dataset) else RGB
        for index in range(0 if isinstance(self.dataset, Dataset) else len(self)):
            with suppress(Exception):  # the scan reports it
                image = self[index].image
                if isinstance(image, Tensor) and image.ndim == 3:
                    names = channel_names(len(image))
                    break
        return tuple(names[band - 1] for band in self._bands or range(1, len(names) + 1))

    @property
    def whole(self) -> Any:
        """The innermost dataset."""
        return self.dataset.whole if isinstance(self.dataset, Dataset) else self.dataset

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Sample:
        return self._sample(self.dataset[self.indices[index]], index)

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files of sample ``index``."""
        files = _member(self.dataset, "files")
        return files(self.indices[index]) if files else ()

    def verify(self, index: int) -> None:
        """Check the files of sample ``index``."""
        if verify := _member(self.dataset, "verify"):
            verify(self.indices[index])

    def _sample(self, item: Any, index: int) -> Sample:
        name = item.name if isinstance(item, Sample) else f"{self.split}-{index}"
        if not isinstance(item, tuple | list) or (len(item) != 2 and not isinstance(item, Sample)):
            found = type(item).__name__ + (f" of {len(item)}" if isinstance(item, tuple | list) else "")
            raise DataError(Issue("contract", name, f"the dataset returns {found}", "it must return (image, mask)"))
        sample = item if isinstance(item, Sample) else Sample(_image(item[0], name), _mask(item[1], name), name)
        if not self._selects:
            return sample
        image = sample.image[[band - 1 for band in self._bands or range(1, len(sample.image) + 1)]]  # a copy
        pixels, holes = with_holes(image.permute(1, 2, 0).numpy(), None, self.no_data, name)
        mask = sample.mask if holes is None else torch.where(torch.from_numpy(holes), self.ignore_index, sample.mask)
        return Sample(torch.from_numpy(pixels).permute(2, 0, 1), mask, name)


def _member(dataset: Any, name: str) -> Any:
    """Return a member of a dataset, or None if it is missing or not callable where ``Dataset``'s is, or vice versa."""
    member = getattr(dataset, name, None)
    return member if callable(member) is callable(getattr(Dataset, name, None)) else None


def with_bands(dataset: Dataset, settings: DataSettings) -> Dataset:
    """Apply ``data.bands`` and ``data.no_data`` to a dataset."""
    bands, no_data = settings.bands, settings.no_data
    if bands is None and no_data == "stop":
        return dataset
    if isinstance(dataset, Subset):
        whole: Any = dataset.dataset
        parts: Any = whole.datasets if isinstance(whole, data.ConcatDataset) else [whole]
        own, theirs = ([getattr(each, name, None) for name in _REQUIRED] for each in (dataset, parts[0]))
        if own == theirs and all(isinstance(each, Dataset) for each in parts):  # they may select bands as they read
            chosen: Any = [with_bands(each, settings) for each in parts]
            if whole is parts[0]:
                return Subset(chosen[0], dataset.indices)
            return as_dataset(data.ConcatDataset(chosen), dataset.split)
    if dataset.set_bands(bands, no_data):
        return dataset
    return Subset(dataset, bands=bands, no_data=no_data)


def as_dataset(
    given: Any,
    split: str,
    classes: Sequence[str] | None = None,
    palette: Sequence[Sequence[int]] | None = None,
    ignore_index: int = 255,
) -> Dataset:
    """Convert what a user passed for a split to a :class:`segkit.data.sample.Dataset`.

    A torch Subset or ConcatDataset gets its classes from the datasets that it wraps.

    Args:
        given: an object with a length and ``[i]``.
        classes: class names in the order of the labels, for a dataset of pairs (image, mask).
        palette, ignore_index: for pairs: one RGB triple per class (default: Pascal VOC's), and the label of void.

    Raises:
        DataError: ``given`` is not a dataset, its classes are unknown, or those of concatenated parts differ.
    """
    for needed, what in (("__len__", "length"), ("__getitem__", "[i]")):
        if not hasattr(given, needed):
            raise DataError(f"{split}: {type(given).__name__} has no {what}; a dataset has a length and [i]")
    if classes is not None:
        names, colours = _classes(classes, palette)
        return Subset(given, split=split, classes=names, palette=colours, ignore_index=ignore_index)
    if isinstance(given, data.Subset):
        return Subset(as_dataset(given.dataset, split), given.indices)
    if isinstance(given, data.ConcatDataset):
        numbered = enumerate(given.datasets, 1)
        parts = {f"{split}, part {number}": as_dataset(each, f"{split}, part {number}") for number, each in numbered}
        check_splits(parts)
        first, names = next(iter(parts.values())), (*_REQUIRED, "channels", "no_data")
        return Subset(given, split=split, **{name: getattr(first, name) for name in names})
    if missing := [name for name in _REQUIRED if not hasattr(given, name)]:
        raise DataError(
            f"{split}: {type(given).__name__} has no {', no '.join(missing)}; pass fit(classes=[...]), and palette= "
            "and ignore_index= unless they are Pascal VOC's colours and 255"
        )
    if isinstance(given, Dataset):
        return given
    adapted = Subset(given, split=split)
    adapted.channels = getattr(given, "channels", RGB)
    return adapted


def _classes(classes: Any, palette: Any) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Check the class names and colours that a user passed.

    Raises:
        DataError: they are not names or colours, or differ in number.
    """
    names = () if isinstance(classes, str) or not isinstance(classes, Iterable) else tuple(classes)
    if not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"classes = {classes!r:.80}: give names in the order of the labels, ['background', 'cat']")
    colours: Any = voc_palette(len(names)) if palette is None else tuple(tuple(colour) for colour in palette)
    if wrong := [colour for colour in colours if len(colour) != 3 or not set(colour) <= set(range(256))]:
        raise DataError(f"palette holds {wrong[0]!r:.80}; a colour is three numbers of 0 to 255, (255, 0, 0)")
    if len(colours) != len(names):
        raise DataError(f"palette has {len(colours)} colours for {len(names)} classes; give one per class")
    return names, colours


def _image(value: Any, name: str) -> Any:
    """Convert an image to ``[C,H,W]`` where possible; ``checked`` refuses anything else."""
    if isinstance(value, Image.Image):
        value = of_pillow(value, name)
    if isinstance(value, np.ndarray) and value.ndim == 3:
        value = torch.from_numpy(np.array(value)).permute(2, 0, 1)
    return value.float() if getattr(value, "dtype", None) in (torch.int16, torch.uint16) else value


def _mask(value: Any, name: str) -> Any:
    """Convert a mask to uint8 ``[H,W]`` where possible; ``checked`` refuses anything else."""
    if isinstance(value, Image.Image | np.ndarray):
        value = torch.from_numpy(np.array(value))
    if not isinstance(value, Tensor) or value.is_floating_point() or value.is_complex():
        return value
    value = value.long()  # torch has no min() for uint16 and uint32
    if value.ndim == 3 and len(value) == 1:
        value = value[0]  # [H,W]
    if value.numel() and not 0 <= int(value.min()) <= int(value.max()) <= 255:
        advice = "labels are 0 to 255, void included: store void as another label, and pass it as ignore_index="
        what, held = "its mask holds labels that are not allowed", f"{int(value.min())} to {int(value.max())}"
        raise DataError(Issue("contract", name, what, advice, held))
    return value.to(torch.uint8)
