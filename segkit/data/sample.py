"""The dataset contract: samples, the attributes and methods of a dataset, and batches of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from segkit.errors import DataError, Issue, first_few

SPLITS = ("train", "val", "test")
RGB = ("red", "green", "blue")
Colour = tuple[int, int, int]


class Sample(NamedTuple):
    """One image with its labels.

    Attributes:
        image: ``[C,H,W]``, any C: uint8 for 8-bit images, else float32 with the stored values.
        mask: class indices and void, uint8 ``[H,W]``.
        name: identifies the sample in messages, pictures and predictions.
    """

    image: Tensor
    mask: Tensor
    name: str


class Dataset:
    """One split of a data set (see :func:`segkit.hookspecs.segkit_datasets`).

    A dataset need not subclass this if it has no more than ``classes``, ``palette``, ``ignore_index``, ``channels``,
    ``splits``, a length and ``[i]``. The default of the other members means "unknown".

    Attributes:
        classes: class names, in the order of the label values 0, 1, 2, ...
        palette: one RGB triple per class.
        ignore_index: the label of void pixels, outside ``range(len(classes))``.
        channels: names of the image channels; their number is the model's ``in_channels``.
        splits: names of the existing splits.
        names: names of the samples, if they are known without reading the samples.
        reading: everything except the files that determines the labels, as text. The scan reuses its cached results for
            a sample until the sample's files or this text change. None: unknown, no caching.
        stored: for each class, the labels or RGB triples that stand for it in the mask files; None: unknown.
        no_data: value of ``data.no_data``; unless it is "stop", NaN pixels have no data and are void in the mask.
    """

    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_index: int = 255
    channels: tuple[str, ...] = RGB
    splits: Sequence[str] = SPLITS
    names: Sequence[str] | None = None
    reading: str | None = None
    stored: list[list[Any]] | None = None
    no_data: float | str = "stop"

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int, /) -> Sample:
        raise NotImplementedError

    @property
    def whole(self) -> Any:
        """The dataset that reads the samples: another one if this is a selection of its samples."""
        return self

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files that sample ``index`` is read from."""
        return ()

    def set_bands(self, bands: Sequence[int] | None, no_data: float | str) -> bool:
        """Apply ``data.bands`` and ``data.no_data`` when reading; False: this dataset cannot, and they are refused."""
        return False

    def verify(self, index: int) -> None:
        """Check what reading sample ``index`` skips, such as checksums; called once per version of its files.

        Raises:
            DataError: a file is damaged.
        """


@dataclass(frozen=True)
class ImageFormat:
    """How a run reads and displays its images; stored in ``config.json``.

    Attributes:
        channels: names of the network's input channels.
        bands: value of ``data.bands``.
        no_data: value of ``data.no_data``.
        rgb: value of ``data.rgb``.
    """

    channels: tuple[str, ...] = RGB
    bands: tuple[int, ...] | None = None
    no_data: float | Literal["stop", "void"] = "stop"
    rgb: tuple[int, ...] | None = None


RGB_IMAGES = ImageFormat()


class Batch(NamedTuple):
    """A batch of stored pixels; they are normalised on the device.

    Attributes:
        image: uint8 or float32 ``[B,C,H,W]``.
        mask: uint8 ``[B,H,W]``; in evaluation at the mask's original size, even where the image was resized.
        colour: float32 ``[B,3,4]`` or ``[B,C,2]``, the colour jitter (see
            :meth:`segkit.data.normalise.Normalisation.normalise`); None: no jitter.
        names: one per sample.
    """

    image: Tensor
    mask: Tensor
    colour: Tensor | None
    names: list[str]

    def to(self, device: torch.device) -> Batch:
        """Move the batch to a device; the copy does not block if the memory is pinned."""
        moved = [each if each is None else each.to(device, non_blocking=True) for each in self[:3]]
        return Batch._make([*moved, self.names])

    def parts(self, count: int) -> list[Batch]:
        """Split the batch into ``count`` micro-batches for gradient accumulation; fewer if it has fewer images."""
        size = -(-len(self.names) // count)
        slices = [slice(start, start + size) for start in range(0, len(self.names), size)]
        return [Batch._make(each if each is None else each[part] for each in self) for part in slices]


def channel_names(count: int) -> tuple[str, ...]:
    """Return default channel names: grey for one, red, green and blue for three, else band 1, band 2, ..."""
    return {1: ("grey",), 3: RGB}.get(count) or tuple(f"band {number}" for number in range(1, count + 1))


def checked(sample: Sample, channels: Sequence[str]) -> Sample:
    """Return the sample if it keeps the contract.

    Args:
        sample: a sample of a dataset.
        channels: the dataset's channel names.

    Raises:
        DataError: the image, mask or name has a wrong type or shape, or the sizes differ.
    """
    if not isinstance(sample, Sample):
        raise DataError(
            f"a dataset must return segkit.Sample(image, mask, name), not {type(sample).__name__}; a dataset of "
            "(image, mask) pairs can be passed to segkit.fit(classes=[...])"
        )
    image, mask, name = sample
    if not isinstance(name, str):
        raise DataError(f"the name of a sample is {name!r:.60}; it must be a string")
    are_tensors = isinstance(image, Tensor) and isinstance(mask, Tensor)
    types = (image.dtype, mask.dtype) if are_tensors else ()
    fits = types in ((torch.uint8, torch.uint8), (torch.float32, torch.uint8)) and mask.ndim == 2
    if not fits or image.shape[1:] != mask.shape or not image.numel():
        found = [f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__ for x in (image, mask)]
        advice = "a dataset returns tensors: the image uint8 (8 bits) or float32 [C,H,W], the mask uint8 [H,W]"
        what, held = "its image or mask has a wrong type or shape", " and ".join(found)
        raise DataError(Issue("contract", name, what, advice, held))
    if len(image) != len(channels):
        advice = f"the dataset has the channels {first_few(channels, 12)}; all images must have the same channels"
        raise DataError(Issue("channels", name, "a wrong number of channels", advice, f"it has {len(image)}"))
    return sample


def check_splits(splits: Mapping[str, Dataset]) -> None:
    """Refuse splits that do not belong to the same data set.

    Raises:
        DataError: the classes or ignore_index differ, two classes have the same name, or ignore_index is a class or
            does not fit into uint8.
    """
    first, *others = splits
    dataset = splits[first]
    if not len(dataset.classes) <= dataset.ignore_index <= 255:
        raise DataError(
            f"ignore_index = {dataset.ignore_index} with {len(dataset.classes)} classes: masks are uint8, so it must "
            f"be between {len(dataset.classes)} and 255"
        )
    if twice := sorted({name for name in dataset.classes if list(dataset.classes).count(name) > 1}):
        raise DataError(f"several classes are called {first_few(twice)}; class names must be unique")
    for name in others:
        other = splits[name]
        if tuple(other.classes) != tuple(dataset.classes) or other.ignore_index != dataset.ignore_index:
            raise DataError(f"the splits {first} and {name} differ in their classes or ignore_index")


def voc_palette(count: int) -> tuple[Colour, ...]:
    """Return Pascal VOC's colours: the bits of a label go in turn to the high bits of red, green and blue.

    Neighbouring labels get distinct colours; label 255 is (224, 224, 192), the cream of VOC's object borders.

    Args:
        count: number of colours, at most 256.
    """

    def channel(label: int, offset: int) -> int:
        return sum((label >> (3 * bit + offset) & 1) << (7 - bit) for bit in range(8))

    return tuple((channel(label, 0), channel(label, 1), channel(label, 2)) for label in range(count))
