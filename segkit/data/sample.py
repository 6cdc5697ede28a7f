"""The contract of a dataset: its samples, what it may say about itself, and the batches made of its samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from segkit.errors import DataError, Issue, first_few

if TYPE_CHECKING:
    from segkit.data.statistics import SampleStatistics

SPLITS = ("train", "val", "test")
RGB = ("red", "green", "blue")
Colour = tuple[int, int, int]


class Sample(NamedTuple):
    """One image with its labels.

    Attributes:
        image: ``[C,H,W]``: uint8 for 8 bits a channel, else float32 with the values as they are stored; any C.
        mask: class indices, void included, uint8 ``[H,W]``.
        name: what messages, pictures and predictions call it.
    """

    image: Tensor
    mask: Tensor
    name: str


class Dataset:
    """One split of a data set (see :func:`segkit.hookspecs.segkit_datasets`).

    A dataset need not subclass this: classes, palette, ignore_index, a length and ``[i]`` are enough, and
    :class:`segkit.data.subset.Subset` adds the members below. These are what a dataset may know beyond its samples;
    their defaults say that it knows nothing.

    Attributes:
        classes: names, in the order of the label values 0, 1, 2, ...
        palette: one RGB triple a class.
        ignore_index: the label of void pixels, outside ``range(len(classes))``.
        channels: names of the images' channels; the model is given their number.
        splits: the splits that exist.
        names: of the samples, if they are known without reading them.
        reading: all besides the files that decides the labels, as text. With it and ``files``, what was found out about
            a sample holds until its files or this text change. None: not known.
        stored: for each class the labels, or RGB triples, that masks store for it; None: not known.
        image_files: patterns of the files of one image, where its channels lie in several: ``red/{id}.tif``.
        no_data: as ``data.no_data``; but for "stop", NaN in an image are pixels without data, and void in the mask.
    """

    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_index: int = 255
    channels: tuple[str, ...] = RGB
    splits: Sequence[str] = SPLITS
    names: Sequence[str] | None = None
    reading: str | None = None
    stored: list[list[Any]] | None = None
    image_files: tuple[str, ...] = ()
    no_data: float | str = "stop"

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int, /) -> Sample:
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """Module and name of the class that reads the samples."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def files(self, index: int) -> tuple[Path, ...]:
        """The files that sample ``index`` is read from."""
        return ()

    def in_split(self, split: str) -> Dataset | None:
        """Another split, where all of them were read to build this one; None: it is built anew.

        Raises:
            DataError: there is none of that name, or it cannot be used.
        """
        return None

    def set_bands(self, bands: Sequence[int] | None, no_data: float | str) -> bool:
        """Read only these ``data.bands``, and pixels as ``data.no_data`` has them; False where others see to that."""
        return False

    def inspect(self, index: int) -> tuple[Sample, Mapping[str, Any]]:
        """Sample ``index``, and what its files say beside it, as JSON holds it: :meth:`judge` is given that.

        Asked once for each version of the files. It also checks what reading does not, as checksums.

        Raises:
            DataError: a file is damaged.
        """
        return self[index], {}

    def judge(
        self, splits: Mapping[str, Sequence[tuple[Sequence[Path], SampleStatistics]]], left_out: Sequence[Issue]
    ) -> Iterable[Issue]:
        """What only this dataset can tell: labels that may mean something else than was read, files that are odd.

        Args:
            splits: by split the files and the statistics of each sample.
            left_out: what is wrong with samples that cannot be used.
        """
        return ()


@dataclass(frozen=True)
class ImageFormat:
    """How a run's images are read and shown, for ``config.json``.

    Attributes:
        channels: names, as the network sees them.
        bands: as ``data.bands``.
        no_data: as ``data.no_data``.
        rgb: as ``data.rgb``.
        files: as :attr:`Dataset.image_files`.
    """

    channels: tuple[str, ...] = RGB
    bands: tuple[int, ...] | None = None
    no_data: float | Literal["stop", "void"] = "stop"
    rgb: tuple[int, ...] | None = None
    files: tuple[str, ...] = ()


RGB_IMAGES = ImageFormat()


class Batch(NamedTuple):
    """What a step or an evaluation gets: stored pixels, which are normalised on the device.

    Attributes:
        image: uint8 or float32 ``[B,C,H,W]``.
        mask: uint8 ``[B,H,W]``; in evaluation at the mask's own size, not the resized image's.
        colour: float32 ``[B,3,4]`` or ``[B,C,2]``, a change of colours (see
            :meth:`segkit.data.normalise.Normalisation.normalise`); None: colours stay.
        names: one a sample.
    """

    image: Tensor
    mask: Tensor
    colour: Tensor | None
    names: list[str]

    @property
    def tensors(self) -> list[Tensor]:
        """Those that lie on a device."""
        return [each for each in self[:3] if each is not None]

    def to(self, device: torch.device) -> Batch:
        """The batch on the device; the copy does not block where memory is pinned."""
        moved = [each if each is None else each.to(device, non_blocking=True) for each in self[:3]]
        return Batch._make([*moved, self.names])

    def parts(self, count: int) -> list[Batch]:
        """The batch in ``count`` micro-batches, for gradient accumulation; fewer if it has fewer images."""
        size = -(-len(self.names) // count)
        slices = [slice(start, start + size) for start in range(0, len(self.names), size)]
        return [Batch._make(each if each is None else each[part] for each in self) for part in slices]


def channel_names(count: int) -> tuple[str, ...]:
    """What channels are called where nobody says it: red, green and blue, or grey, or band 1, band 2, ..."""
    return {1: ("grey",), 3: RGB}.get(count) or tuple(f"band {number}" for number in range(1, count + 1))


def checked(sample: Sample, channels: Sequence[str]) -> Sample:
    """The sample itself.

    Args:
        sample: of a dataset.
        channels: as the dataset names them.

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

    def broken(part: str, value: object, beside: str = "") -> DataError:
        found = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        advice = "a dataset gives tensors: uint8 [C,H,W], or float32 of more than 8 bits, and its mask uint8 [H,W]"
        return DataError(Issue("contract", name, f"its {part} is {found}{beside}", advice))

    is_image = isinstance(image, Tensor) and image.dtype in (torch.uint8, torch.float32) and image.ndim == 3
    if not is_image or not image.numel():
        raise broken("image", image)
    if len(image) != len(channels):
        advice = f"the channels of its data set are {first_few(channels, 12)}; all images must have the same"
        raise DataError(Issue("channels", name, "an image of other channels", advice, f"it has {len(image)}"))
    if not isinstance(mask, Tensor) or mask.dtype != torch.uint8 or mask.shape != image.shape[1:]:
        raise broken("mask", mask, f" beside an image of {list(image.shape)}")
    return sample


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


def voc_palette(count: int) -> tuple[Colour, ...]:
    """Pascal VOC's colours: the bits of a label, dealt in turn to the high bits of red, green and blue.

    Neighbouring labels look unlike each other and label 255 becomes (224, 224, 192), the cream of VOC's borders.

    Args:
        count: how many colours, at most 256.
    """

    def channel(label: int, offset: int) -> int:
        return sum((label >> (3 * bit + offset) & 1) << (7 - bit) for bit in range(8))

    return tuple((channel(label, 0), channel(label, 1), channel(label, 2)) for label in range(count))
