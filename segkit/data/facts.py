"""What is noted of one sample when its labels are scanned."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkit.data.leaks import Fingerprint, fingerprint
from segkit.data.palette import palettes_noted
from segkit.data.places import histograms, places_of
from segkit.data.sample import Dataset, checked
from segkit.data.seams import Seams, seams
from segkit.errors import DataError, Fault


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
    """

    name: str
    size: tuple[int, int]
    counts: NDArray[np.int64]
    places: dict[int, NDArray[np.int32]]
    fingerprint: Fingerprint
    seams: Seams
    drawn: dict[int, NDArray[np.uint8]]


def look_at(dataset: Dataset, index: int, split: str) -> Facts | list[Fault]:
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
    mask = sample.mask.numpy()
    classes = len(dataset.classes)
    bands = histograms(mask)
    pixels = bands.sum(axis=0)  # [256]
    stored = {value: int(pixels[value]) for value in np.flatnonzero(pixels).tolist()}
    wrong = {value: count for value, count in stored.items() if value >= classes and value != dataset.ignore_index}
    if wrong:
        advice = f"allowed are 0 to {classes - 1} and {dataset.ignore_index} (void)"
        place = f"{split}/{sample.name}"
        return [Fault("values", place, "labels that are not allowed", advice, wrong=wrong, stored=stored)]
    return Facts(
        name=str(sample.name),
        size=(mask.shape[0], mask.shape[1]),
        counts=np.append(pixels[:classes], pixels[dataset.ignore_index]),
        places=places_of(mask, classes, bands),
        fingerprint=fingerprint(np.stack([*sample.image.numpy()], axis=-1)),  # as permute, without slow strides
        seams=seams(mask),
        drawn={label: np.array(colour, np.uint8) for label, colour in drawn.items()},
    )


def _fault(dataset: Dataset, index: int, split: str, error: BaseException) -> Fault:
    if isinstance(error, DataError) and error.fault:
        return error.fault
    files = dataset.files(index) if hasattr(dataset, "files") else ()
    told = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
    place = str(files[0]) if files else f"{split}: {type(dataset).__name__}[{index}]"
    return Fault("unusable", place, "cannot be read by its dataset", detail=told)
