"""What a dataset is: the sample it returns and the facts it knows about its classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from segkit.errors import DataError, Issue, first_few

Palette = tuple[tuple[int, int, int], ...]


class Sample(NamedTuple):
    """One image with its labels.

    Attributes:
        image: RGB, uint8 ``[3,H,W]``; of more than 8 bits a channel float32 with the values as they are stored.
        mask: class indices, void included, uint8 ``[H,W]``.
        name: what messages, pictures and predictions call it.
    """

    image: Tensor
    mask: Tensor
    name: str


@runtime_checkable
class Dataset(Protocol):
    """The contract of a dataset (see :func:`segkit.hookspecs.segkit_datasets`).

    Attributes:
        classes: names, in the order of the label values 0, 1, 2, ...
        palette: one RGB triple a class.
        ignore_index: the label of void pixels, outside ``range(len(classes))``.
    """

    classes: tuple[str, ...]
    palette: Palette
    ignore_index: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


def checked(sample: Sample) -> Sample:
    """The sample itself.

    Raises:
        DataError: image, mask or name has another type or shape than the contract's, or the sizes differ.
    """
    if not isinstance(sample, Sample):
        raise DataError(
            f"a dataset gives segkit.Sample(image, mask, name), not {type(sample).__name__}; of one that gives "
            "(image, mask), segkit.fit(classes=[...]) makes samples"
        )
    image, mask, name = sample
    if not isinstance(name, str):
        raise DataError(f"a sample is named {name!r:.60}; its name is a text, which files and messages call it by")
    for what, value in (("image", image), ("mask", mask)):
        if not isinstance(value, torch.Tensor):
            raise _refused(name, f"its {what} is {type(value).__name__}", "a dataset gives torch tensors")
    if image.dtype not in (torch.uint8, torch.float32) or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        advice = "a dataset gives uint8 [3,H,W], or float32 of more than 8 bits"
        raise _refused(name, f"its image is {image.dtype} {list(image.shape)}", advice)
    if mask.dtype != torch.uint8 or mask.shape != image.shape[1:]:
        advice = f"beside an image of {list(image.shape)} it must be uint8 {list(image.shape[1:])}"
        raise _refused(name, f"its mask is {mask.dtype} {list(mask.shape)}", advice)
    return sample


def _refused(name: str, what: str, advice: str) -> DataError:
    return DataError(Issue("contract", name, what, advice))


def check_splits(splits: Mapping[str, Dataset]) -> None:
    """Refuse splits that are not of one data set.

    Raises:
        DataError: they have different classes, two of one name, or an ignore_index that no uint8 mask can hold beside
            them.
    """
    first, *others = splits
    dataset = splits[first]
    if not len(dataset.classes) <= dataset.ignore_index <= 255:
        raise DataError(
            f"ignore_index = {dataset.ignore_index} of {len(dataset.classes)} classes: masks are uint8, so it must be "
            f"between {len(dataset.classes)} and 255"
        )
    if twice := sorted({name for name in dataset.classes if list(dataset.classes).count(name) > 1}):
        raise DataError(f"several classes are called {first_few(twice)}; each score goes by the name of its class")
    for name in others:
        other = splits[name]
        if tuple(other.classes) != tuple(dataset.classes) or other.ignore_index != dataset.ignore_index:
            raise DataError(f"the splits {first} and {name} have different classes or another ignore_index")


class Batch(NamedTuple):
    """What a step or an evaluation gets.

    Attributes:
        image: uint8, or float32 of more than 8 bits, ``[B,3,H,W]``.
        mask: uint8 ``[B,H,W]``; in evaluation at the mask's own size, not the resized image's.
        colour: float32 ``[B,3,4]``, or None where colours stay.
        names: one a sample.
    """

    image: Tensor
    mask: Tensor
    colour: Tensor | None
    names: list[str]

    @property
    def tensors(self) -> list[Tensor]:
        """Those that lie on a device."""
        return [each for each in (self.image, self.mask, self.colour) if each is not None]

    def to(self, device: torch.device) -> Batch:
        """The batch on the device; the copy does not block where memory is pinned."""
        colour = None if self.colour is None else self.colour.to(device, non_blocking=True)
        image, mask = self.image.to(device, non_blocking=True), self.mask.to(device, non_blocking=True)
        return Batch(image, mask, colour, self.names)

    def parts(self, count: int) -> list[Batch]:
        """The batch in ``count`` parts, for gradient accumulation; fewer where it has fewer images."""
        size = -(-len(self.names) // count)
        starts = range(0, len(self.names), size)
        return [
            Batch(
                self.image[s : s + size],
                self.mask[s : s + size],
                None if self.colour is None else self.colour[s : s + size],
                self.names[s : s + size],
            )
            for s in starts
        ]


def voc_palette(count: int) -> Palette:
    """Pascal VOC's colours: the bits of a label, dealt in turn to the high bits of red, green and blue.

    Neighbouring labels look unlike each other and label 255 becomes (224, 224, 192), the cream of VOC's borders.

    Args:
        count: how many colours, at most 256.
    """
    return tuple(_colour(label) for label in range(count))


def _colour(label: int) -> tuple[int, int, int]:
    channels = [0, 0, 0]
    for position in range(8):
        for channel in range(3):
            channels[channel] |= (label >> (3 * position + channel) & 1) << (7 - position)
    return channels[0], channels[1], channels[2]
