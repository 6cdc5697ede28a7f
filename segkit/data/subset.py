"""Datasets made of others: some of the samples, some of the channels, or pairs (image, mask) that become samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
_SHARED = (*_REQUIRED, "no_data", "splits", "names", "reading", "stored", "image_files", "judge")


class Subset(Dataset):
    """A dataset made of another, which says about itself what the other does.

    The other need not be a :class:`segkit.data.sample.Dataset`, and its pairs ``(image, mask)`` become samples: images
    are tensors ``[C,H,W]``, arrays ``[H,W,C]`` or Pillow's, of 8 or 16 bits or float32; masks integers ``[H,W]`` or
    ``[1,H,W]``, of tensors, arrays or Pillow's.

    Args:
        dataset: with a length and ``[i]``.
        indices: of its samples, in this order; left out: all.
        bands: its channels, as ``data.bands``; left out: all.
        no_data: as ``data.no_data``; left out: as the dataset has it.
        split: which pairs are named after, with their number.
        own: what it says about itself, in place of all that the other does.

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
        **own: Any,
    ) -> None:
        self.dataset, self.split = dataset, split
        self.indices = range(len(dataset)) if indices is None else list(indices)
        for name, value in (own or {name: _member(dataset, name) for name in _SHARED}).items():
            if value is not None:
                setattr(self, name, value)
        known = self.names or ()  # of somebody's dataset names may be something else
        self.names = [known[index] for index in self.indices] if len(known) == len(dataset) else None
        self._bands, self._chooses = bands, bands is not None or no_data is not None
        if self._chooses:
            self.no_data = self.no_data if no_data is None else no_data
            self.reading = self.reading and f"{self.reading} {bands} {no_data}"
            if bands and max(bands) > len(dataset.channels):
                there = ", ".join(dataset.channels)
                raise DataError(f"data.bands = {bands}: the images have {len(dataset.channels)}: {there}")

    @cached_property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those that were chosen; of pairs there are as many as the first image has."""
        if isinstance(self.dataset, Dataset):
            names = self.dataset.channels
        else:
            image = self[0].image if len(self) else None
            names = channel_names(len(image)) if isinstance(image, Tensor) and image.ndim == 3 else RGB
        return tuple(names[band - 1] for band in self._bands or range(1, len(names) + 1))

    @property
    def kind(self) -> str:
        """Module and name of the class that reads the samples."""
        whole = self.dataset
        return whole.kind if isinstance(whole, Dataset) else f"{type(whole).__module__}.{type(whole).__qualname__}"

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Sample:
        return self._sample(self.dataset[self.indices[index]], index)

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of sample ``index``."""
        files = _member(self.dataset, "files")
        return files(self.indices[index]) if files else ()

    def inspect(self, index: int) -> tuple[Sample, Mapping[str, Any]]:
        """Sample ``index``, and what its files say beside it."""
        if not (inspect := _member(self.dataset, "inspect")):
            return self[index], {}
        item, found = inspect(self.indices[index])
        return self._sample(item, index), found

    def _sample(self, item: Any, index: int) -> Sample:
        name = item.name if isinstance(item, Sample) else f"{self.split}-{index}"
        if not isinstance(item, tuple | list) or (len(item) != 2 and not isinstance(item, Sample)):
            found = type(item).__name__ + (f" of {len(item)}" if isinstance(item, tuple | list) else "")
            raise DataError(Issue("contract", name, f"the dataset gives {found}", "it is to give (image, mask)"))
        sample = item if isinstance(item, Sample) else Sample(_image(item[0], name), _mask(item[1], name), name)
        if not self._chooses:
            return sample
        image = sample.image[[band - 1 for band in self._bands or range(1, len(sample.image) + 1)]]  # a copy
        pixels, holes = with_holes(image.permute(1, 2, 0).numpy(), None, self.no_data, name)
        mask = sample.mask if holes is None else torch.where(torch.from_numpy(holes), self.ignore_index, sample.mask)
        return Sample(torch.from_numpy(pixels).permute(2, 0, 1), mask, name)


def _member(dataset: Any, name: str) -> Any:
    """A member of a dataset, None where it has none of the kind that :class:`segkit.data.sample.Dataset` declares."""
    member = getattr(dataset, name, None)
    return member if callable(member) is callable(getattr(Dataset, name, None)) else None


def with_bands(dataset: Dataset, settings: DataSettings) -> Dataset:
    """The dataset as ``data.bands`` and ``data.no_data`` have it."""
    bands, no_data = settings.bands, settings.no_data
    if bands is None and no_data == "stop":
        return dataset
    if isinstance(dataset, Subset) and isinstance(dataset.dataset, Dataset):  # which may know its files
        return Subset(with_bands(dataset.dataset, settings), dataset.indices)
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
    """What somebody has passed for a split, as a dataset that keeps the contract.

    torch's Subset and ConcatDataset have the classes of what they are made of.

    Args:
        given: with a length and ``[i]``.
        split: its name.
        classes: of pairs (image, mask): names, in the order of the labels; ``palette`` and ``ignore_index`` likewise.

    Raises:
        DataError: it is none, its parts do not fit together, or nothing says which classes it has.
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
        return Subset(given, split=split, **{name: getattr(first, name) for name in (*_REQUIRED, "channels")})
    if missing := [name for name in _REQUIRED if not hasattr(given, name)]:
        raise DataError(
            f"{split}: {type(given).__name__} has no {', no '.join(missing)}; say fit(classes=[...]), palette= and "
            "ignore_index= where they are not Pascal VOC's and 255"
        )
    if isinstance(given, Dataset):
        return given
    adapted = Subset(given, split=split)
    adapted.channels = getattr(given, "channels", RGB)
    return adapted


def _classes(classes: Any, palette: Any) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Names and colours of classes as somebody has given them.

    Raises:
        DataError: they are none, or not as many.
    """
    names = () if isinstance(classes, str) or not isinstance(classes, Iterable) else tuple(classes)
    if not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"classes = {classes!r:.80}: give names in the order of the labels, ['background', 'cat']")
    colours: Any = voc_palette(len(names)) if palette is None else tuple(tuple(colour) for colour in palette)
    if wrong := [colour for colour in colours if len(colour) != 3 or not set(colour) <= set(range(256))]:
        raise DataError(f"palette holds {wrong[0]!r:.80}; a colour is three numbers of 0 to 255, (255, 0, 0)")
    if len(colours) != len(names):
        raise DataError(f"palette has {len(colours)} colours for {len(names)} classes; give one a class")
    return names, colours


def _image(value: Any, name: str) -> Any:
    """An image that may become ``[C,H,W]``; what it is otherwise is for the contract to refuse."""
    if isinstance(value, Image.Image):
        value = of_pillow(value, name)
    if isinstance(value, np.ndarray) and value.ndim == 3:
        value = torch.from_numpy(np.array(value)).permute(2, 0, 1)
    return value.float() if getattr(value, "dtype", None) in (torch.int16, torch.uint16) else value


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
