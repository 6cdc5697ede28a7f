"""What is noted of one sample when its labels are scanned."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkit.data.files import palettes_noted
from segkit.data.leaks import Fingerprint, fingerprint
from segkit.data.places import histograms, places_of
from segkit.data.read import are_turned_apart
from segkit.data.sample import Dataset, checked
from segkit.data.seams import Seams, seams
from segkit.data.stamps import files_at
from segkit.data.tiff import contents
from segkit.errors import DataError, Issue


class Facts(NamedTuple):
    """One sample in short; what a field's type says is what :class:`segkit.data.scan_cache.ScanCache` keeps of it.

    Attributes:
        name: what the dataset calls it.
        size: height and width, pixels.
        counts: int64 ``[C+1]``, pixels of each class, then of void.
        places: class -> some of its pixels, as flat indices.
        fingerprint: by which the same picture is known again.
        seams: how often labels lie in between those of two neighbours.
        drawn: stored label -> the colour, uint8 ``[3]``, in which the mask's palette draws it.
        dtype: of the image, ``uint8`` or ``float32``.
        channels: float64 ``[C,2]``, mean and variance of each channel of a float32 image; none of others.
        mark: a value of a float32 image far from all its others, as -9999 for no data; NaN where there is none.
        constant: whether all pixels of the image are the same.
        turned: whether the files of image and mask, of the same shape, say that they are to be turned differently.
        white_is_zero: whether the mask is a TIFF whose 0 viewers show as white.
    """

    name: str
    size: tuple[int, int]
    counts: NDArray[np.int64]
    places: dict[int, NDArray[np.int32]]
    fingerprint: Fingerprint
    seams: Seams
    drawn: dict[int, NDArray[np.uint8]]
    dtype: str
    channels: NDArray[np.float64]
    mark: float
    constant: bool
    turned: bool
    white_is_zero: bool


def look_at(dataset: Dataset, index: int, split: str) -> Facts | list[Issue]:
    """Read one sample as training will, image and mask, and note what it holds, or what is wrong with it."""
    try:
        with palettes_noted() as drawn:
            sample = checked(dataset[index])
    except (Exception, SystemExit) as error:  # a dataset of somebody else's may raise what it likes
        faults = [_fault(dataset, index, split, error)]
        if hasattr(dataset, "mask"):  # its mask may be wrong too
            try:
                dataset.mask(index)
            except (Exception, SystemExit) as second:
                faults += [fault for fault in [_fault(dataset, index, split, second)] if fault != faults[0]]
        return faults
    image, mask = sample.image.numpy(), sample.mask.numpy()
    files = files_at(dataset, index)
    if image.dtype == np.float32 and not np.isfinite(image).all():
        what, advice = "pixels that are no numbers", "fill them with numbers, or leave the picture out"
        return [Issue("no_numbers", str(files[0]) if files else f"{split}/{sample.name}", what, advice)]
    classes = len(dataset.classes)
    bands = histograms(mask)
    pixels = bands.sum(axis=0)  # [256]
    stored = {value: int(pixels[value]) for value in np.flatnonzero(pixels).tolist()}
    wrong = {value: count for value, count in stored.items() if value >= classes and value != dataset.ignore_index}
    if wrong:
        advice = f"allowed are 0 to {classes - 1} and {dataset.ignore_index} (void)"
        place = f"{split}/{sample.name}"
        return [Issue("values", place, "labels that are not allowed", advice, wrong=wrong, stored=stored)]
    return Facts(
        name=str(sample.name),
        size=(mask.shape[0], mask.shape[1]),
        counts=np.append(pixels[:classes], pixels[dataset.ignore_index]),
        places=places_of(mask, classes, bands),
        fingerprint=fingerprint(np.stack([*image], axis=-1)),  # as permute, without slow strides
        seams=seams(mask),
        drawn={label: np.array(colour, np.uint8) for label, colour in drawn.items()},
        dtype=str(image.dtype),
        channels=moments(image) if image.dtype == np.float32 else np.empty((0, 2)),
        mark=_mark(image[0]) if image.dtype == np.float32 else math.nan,
        constant=bool((image == image[:, :1, :1]).all()),
        turned=len(files) == 2 and are_turned_apart(*files),
        white_is_zero=len(files) == 2 and bool((held := contents(files[1])) and held.white_is_zero),
    )


def moments(image: NDArray[Any]) -> NDArray[np.float64]:
    """Mean and variance of each channel of float32 ``[C,H,W]``, in float64: values may be large and alike."""
    means = image.mean(axis=(1, 2), dtype=np.float64)
    squares = [
        sum(float(np.square(row.astype(np.float64) - mean).sum()) for row in channel)
        for channel, mean in zip(image, means, strict=True)
    ]
    return np.stack([means, np.array(squares) / image[0].size], axis=1)


def _mark(channel: NDArray[Any]) -> float:
    """The least or the largest value where it is a thousandth of the pixels and further away than the others' range."""
    least, largest = channel.min(), channel.max()
    for mark, others in ((least, channel[channel > least]), (largest, channel[channel < largest])):
        if 0.5 * channel.size < others.size < 0.999 * channel.size:
            low, high = float(others.min()), float(others.max())
            if max(low - float(mark), float(mark) - high) > high - low > 0:
                return float(mark)
    return math.nan


def _fault(dataset: Dataset, index: int, split: str, error: BaseException) -> Issue:
    if isinstance(error, DataError) and error.issue:
        return error.issue
    files = files_at(dataset, index)
    told = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
    place = str(files[0]) if files else f"{split}: {type(dataset).__name__}[{index}]"
    return Issue("unusable", place, "cannot be read by its dataset", detail=told)
