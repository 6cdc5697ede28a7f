"""Wrap datasets: select samples, or convert (image, mask) pairs to samples."""

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

from segkit.data.read import of_pillow
from segkit.data.sample import RGB, Colour, Dataset, Sample, channel_names, check_splits, voc_palette
from segkit.errors import ConfigError, DataError, Issue
from segkit.settings import DataSettings

_REQUIRED = ("classes", "palette", "ignore_index")
_SHARED = (*_REQUIRED, "no_data", "splits", "names", "reading", "stored")


class Subset(Dataset):
    """A selection of the samples of a dataset, or of another object with a length and ``[i]``.

    Pairs ``(image, mask)`` become samples: images may be tensors ``[C,H,W]``, arrays ``[H,W,C]`` or Pillow images, of 8
    or 16 bits or float32; masks may be integer tensors or arrays ``[H,W]`` or ``[1,H,W]``, or Pillow images.

    Args:
        dataset: an object with a length and ``[i]``.
        indices: the samples to use, in this order; default: all.
        split: name of the split; a pair is named ``split-index``.
        members: the members to set instead of all those of the dataset.
    """

    def __init__(self, dataset: Any, indices: Sequence[int] | None = None, *, split: str = "", **members: Any) -> None:
        self.dataset, self.split = dataset, split
        self.indices = range(len(dataset)) if indices is None else list(indices)
        self._own = dataset if isinstance(dataset, Dataset) else Dataset()
        for name, value in (members or {name: getattr(dataset, name) for name in _SHARED}).items():
            setattr(self, name, value)
        self.names = [self.names[index] for index in self.indices] if self.names else None

    @cached_property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        """The channels of the dataset; for pairs, their number is that of the first image that can be read."""
        if isinstance(self.dataset, Dataset):
            return self.dataset.channels
        for index in range(len(self)):
            with suppress(Exception):  # the scan reports it
                image = self[index].image
                if isinstance(image, Tensor) and image.ndim == 3:
                    return channel_names(len(image))
        return RGB

    @property
    def whole(self) -> Any:
        """The innermost dataset."""
        return self.dataset.whole if isinstance(self.dataset, Dataset) else self.dataset

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Sample:
        item, name = self.dataset[self.indices[index]], f"{self.split}-{index}"
        if isinstance(item, Sample):
            return item
        if not isinstance(item, tuple | list) or len(item) != 2:
            found = type(item).__name__ + (f" of {len(item)}" if isinstance(item, tuple | list) else "")
            raise DataError(Issue("contract", name, f"the dataset returns {found}", "it must return (image, mask)"))
        return Sample(_image(item[0], name), _mask(item[1], name), name)

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files of sample ``index``."""
        return self._own.files(self.indices[index])

    def verify(self, index: int) -> None:
        """Check the files of sample ``index``."""
        self._own.verify(self.indices[index])

    def set_bands(self, bands: Sequence[int] | None, no_data: float | str) -> bool:
        """Let the dataset select the bands, or each of those that are concatenated."""
        parts = getattr(self.dataset, "datasets", [self.dataset])
        done = all(isinstance(part, Dataset) and part.set_bands(bands, no_data) for part in parts)
        if done:
            self.channels, self.no_data = parts[0].channels, no_data
            self.reading = self.reading and self._own.reading
        return done


def with_bands(dataset: Dataset, settings: DataSettings) -> Dataset:
    """Apply ``data.bands`` and ``data.no_data`` to a dataset.

    Raises:
        ConfigError: the dataset cannot select bands.
    """
    bands, no_data = settings.bands, settings.no_data
    if (bands is not None or no_data != "stop") and not dataset.set_bands(bands, no_data):
        name = type(dataset.whole).__name__
        raise ConfigError(
            f"data.bands = {bands}, data.no_data = {no_data!r}: {name} returns its channels itself; select them, and "
            "make pixels without data void, in its [i], or implement set_bands (see segkit.data.sample.Dataset)"
        )
    return dataset


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
        split: name of the split.
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
        first = next(iter(parts.values()))
        shared = {name: getattr(first, name) for name in (*_REQUIRED, "channels", "no_data")}
        return Subset(given, split=split, **shared)
    if missing := [name for name in _REQUIRED if not hasattr(given, name)]:
        raise DataError(
            f"{split}: {type(given).__name__} has no {', no '.join(missing)}; pass fit(classes=[...]), and palette= "
            "and ignore_index= unless they are Pascal VOC's colours and 255"
        )
    if isinstance(given, Dataset):
        return given
    members: dict[str, Any] = {"channels": RGB}
    members |= {name: getattr(given, name) for name in (*_REQUIRED, "channels", "splits") if hasattr(given, name)}
    return Subset(given, split=split, **members)


def _classes(classes: Any, palette: Any) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Check the class names and colours that a user passed.

    Raises:
        DataError: they are not names or colours, or differ in number.
    """
    names = () if isinstance(classes, str) or not isinstance(classes, Iterable) else tuple(classes)
    if not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"classes = {classes!r:.80}: give names in the order of the labels, ['background', 'cat']")
    colours: Any = voc_palette(len(names)) if palette is None else tuple(map(tuple, palette))
    if len(colours) != len(names) or any(len(each) != 3 or not {*each} <= {*range(256)} for each in colours):
        advice = f"give one colour for each of the {len(names)} classes, three numbers of 0 to 255"
        raise DataError(f"palette = {colours!r:.80}: {advice}")
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
