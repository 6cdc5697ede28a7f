"""Datasets made of others: a part of one, and one of somebody else's whose pairs (image, mask) become samples."""

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

from segkit.data.read import of_pillow
from segkit.data.sample import RGB, Dataset, Palette, Sample, channel_names, check_splits, voc_palette
from segkit.errors import DataError, Issue
from segkit.settings import DataSettings

_REQUIRED = ("classes", "palette", "ignore_index")
_OPTIONAL = ("no_data", "splits", "names", "reading", "stored")
_OF_ALL = ("advice", "adviser", "judge")
_METHODS = (*_OF_ALL, "set_bands", "files", "mask", "inspect")


class Subset(Dataset):
    """The samples of a dataset at ``indices``, in that order, with all that the dataset says about itself."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, list(indices)
        for name in (*_REQUIRED, *_OPTIONAL, *_OF_ALL):
            setattr(self, name, getattr(dataset, name))
        self.names = self.names and [self.names[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Sample:
        return self.dataset[self.indices[index]]

    @property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the whole dataset, as the properties below."""
        return self.dataset.channels

    @property
    def kind(self) -> str:
        """Module and name of the class that reads the samples."""
        return self.dataset.kind

    def set_bands(self, bands: Sequence[int] | None, no_data: float | str) -> bool:
        """See :class:`segkit.data.sample.Dataset`, as of the methods below."""
        taken = self.dataset.set_bands(bands, no_data)
        self.no_data, self.reading = self.dataset.no_data, self.dataset.reading
        return taken

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of sample ``index``."""
        return self.dataset.files(self.indices[index])

    def mask(self, index: int) -> Tensor:
        """The mask of sample ``index`` alone, uint8 ``[H,W]``."""
        return self.dataset.mask(self.indices[index])

    def inspect(self, index: int) -> tuple[Sample, Mapping[str, Any]]:
        """Sample ``index``, and what its files say beside it."""
        return self.dataset.inspect(self.indices[index])


class ChosenBands(Subset):
    """A dataset with some of its channels, NaN in which are void (see :meth:`segkit.data.sample.Dataset.set_bands`)."""

    def __init__(self, dataset: Dataset, bands: Sequence[int] | None, no_data: float | str) -> None:
        super().__init__(dataset, range(len(dataset)))
        self.no_data, count = no_data, len(dataset.channels)
        self.bands = [band - 1 for band in bands or range(1, count + 1)]
        if max(self.bands) >= count:
            raise DataError(f"data.bands = {bands}: the images have {count}: {', '.join(dataset.channels)}")
        self.reading = self.reading and f"{self.reading} {bands} {no_data}"

    @property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those that were chosen."""
        return tuple(self.dataset.channels[band] for band in self.bands)

    def __getitem__(self, index: int, /) -> Sample:
        return self._chosen(super().__getitem__(index))

    def inspect(self, index: int) -> tuple[Sample, Mapping[str, Any]]:
        """Sample ``index``, and what its files say beside it."""
        sample, found = super().inspect(index)
        return self._chosen(sample), found

    def _chosen(self, sample: Sample) -> Sample:
        image, mask = sample.image[self.bands], sample.mask
        if self.no_data != "stop":
            holes = (image == self.no_data).all(0) if isinstance(self.no_data, float) else torch.zeros_like(mask).bool()
            image = torch.where(holes, torch.nan, image) if image.is_floating_point() else image
            mask = torch.where(holes | image.isnan().any(0), self.ignore_index, mask)
        return Sample(image, mask, sample.name)

    def mask(self, index: int) -> Tensor:
        """The mask of sample ``index`` alone; void follows from the image too."""
        return self[index].mask if self.no_data != "stop" else super().mask(index)


def with_bands(dataset: Dataset, settings: DataSettings) -> Dataset:
    """The dataset as ``data.bands`` and ``data.no_data`` have it."""
    asked = settings.bands is not None or settings.no_data != "stop"
    if not asked or dataset.set_bands(settings.bands, settings.no_data):
        return dataset
    return ChosenBands(dataset, settings.bands, settings.no_data)


class AdaptedDataset(Dataset):
    """A dataset that is no :class:`segkit.data.sample.Dataset`; its pairs ``(image, mask)`` become samples.

    Images are tensors ``[C,H,W]``, arrays ``[H,W,C]`` or Pillow's, of 8 or 16 bits or float32; masks integers
    ``[H,W]`` or ``[1,H,W]``, of tensors, arrays or Pillow's. A sample that the dataset gives itself stays as it is.

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

    @classmethod
    def with_own_members(cls, dataset: Any, split: str) -> AdaptedDataset:
        """A dataset that keeps the contract without subclassing, and what it offers of the optional members."""
        adapted = cls(dataset, split, *(getattr(dataset, name) for name in _REQUIRED))
        adapted.channels = getattr(dataset, "channels", RGB)
        for name in (*_OPTIONAL, *_METHODS):
            member = getattr(dataset, name, None)
            if member is not None and callable(member) is (name in _METHODS):
                setattr(adapted, name, member)
        return adapted

    @cached_property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        """As many as the first sample has."""
        image = self[0].image if len(self) else None
        return channel_names(len(image)) if isinstance(image, Tensor) and image.ndim == 3 else RGB

    @property
    def kind(self) -> str:
        """That of the dataset which was adapted."""
        return f"{type(self.dataset).__module__}.{type(self.dataset).__qualname__}"

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int, /) -> Sample:
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
        return AdaptedDataset(given, split, classes, palette, ignore_index)
    if isinstance(given, data.Subset):
        return Subset(as_dataset(given.dataset, split), list(given.indices))
    if isinstance(given, data.ConcatDataset):
        names = [f"{split}, part {number + 1}" for number in range(len(given.datasets))]
        parts = {name: as_dataset(each, name) for name, each in zip(names, given.datasets, strict=True)}
        check_splits(parts)
        first = next(iter(parts.values()))
        return AdaptedDataset(given, split, first.classes, first.palette, first.ignore_index)
    if missing := [name for name in _REQUIRED if not hasattr(given, name)]:
        raise DataError(
            f"{split}: {type(given).__name__} has no {', no '.join(missing)}; say fit(classes=[...]), palette= and "
            "ignore_index= where they are not Pascal VOC's and 255"
        )
    return given if isinstance(given, Dataset) else AdaptedDataset.with_own_members(given, split)


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
