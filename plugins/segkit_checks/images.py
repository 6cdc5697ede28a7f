"""Checks for suspicious images: blank, of another bit depth or unit, or with no-data values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

import segkit
from segkit.data.normalise import Normalisation
from segkit.data.statistics import SampleStatistics
from segkit.errors import Issue
from segkit_folder.files import PairedFiles, about

_ODD = {
    "no_data": (
        "hold a value far from all their others",
        "if it marks pixels without data, it dominates what the network sees: data.no_data = that value makes such "
        "pixels void",
    ),
    "holes": ("have pixels without data", "these pixels are void, and the network sees the mean there"),
    "constant_image": (
        "hold the same value at every pixel, so nothing can be seen in them",
        "export them again, or leave them out",
    ),
}
"""Kind -> description of the problem, advice."""


class Images:
    """Images that are blank, hold a value that may mark pixels without data, or are of another depth or unit."""

    def measure(self, sample: segkit.Sample, dataset: Any, index: int) -> dict[str, str]:
        """Return the problems of an image by kind, with a detail or ""."""
        image, found = sample.image.numpy(), {}
        if image.dtype == np.float32:
            if (mark := no_data_value(image[0])) and mark != _declared(dataset, index):
                found["no_data"] = mark
            if holes := int(np.isnan(image).any(0).sum()):
                found["holes"] = f"{holes / image[0].size:.1%}"
        return found if (image != image[:, :1, :1]).any() else found | {"constant_image": ""}

    def judge(
        self, splits: Mapping[str, Sequence[tuple[SampleStatistics, dict[str, str]]]], *_: Any
    ) -> Iterator[Issue]:
        """Yield an issue for each kind and split."""
        every = [each for those in splits.values() for each, _ in those]
        train = [each for each, _ in splits.get("train", ())]
        wide = train and {(each.dtype, len(each.channels)) for each in every} == {("float32", len(train[0].channels))}
        unit = Normalisation.of(nn.Identity(), train) if wide else None
        for split, those in splits.items():
            for kind, (what, advice) in _ODD.items():
                odd = [(each.name, found[kind]) for each, found in those if kind in found]
                if odd:
                    stop = (kind, split, len(odd)) == ("constant_image", "train", len(those))
                    yield about(kind, split, odd, len(those), what, advice, error=stop)
            usual = Counter(each.dtype for each in every).most_common(1)[0][0] if every else ""
            if other := [(each.name, "") for each, _ in those if each.dtype != usual]:
                like = next(each.name for each in every if each.dtype == usual)
                what = f"have more or fewer bits a channel than {like}"
                advice = "values of different bit depths cannot be compared: save all images with the same depth; to "
                advice += "convert full 16 bits to 8 in NumPy: (pixels / 257).round().astype('uint8')"
                yield about("mixed_depth", split, other, len(those), what, advice, error=True)
            seen = [each for each, found in those if "constant_image" not in found]
            far = [(each.name, "") for each in seen if unit and unit.is_far(each.channels)]
            if unit and split != "train" and 2 * len(far) > len(those):  # a few outliers are normal
                what = "have values of another range than those of train, which have a mean of "
                what += f"{unit.mean[0]:.4g} and a deviation of {unit.std[0]:.4g}"
                advice = "the network cannot know what it sees there: save all images in the same unit"
                yield about("other_range", split, far, len(those), what, advice)


def _declared(dataset: Any, index: int) -> str:
    """Return the value that an image's file declares as no data, about which the check ``classes`` warns, or ""."""
    value = dataset.headers(index)[0].no_data if isinstance(dataset, PairedFiles) else None
    return "" if value is None else f"{value:g}"


def no_data_value(channel: NDArray[Any]) -> str | None:
    """Return a value of ``[H,W]`` far from all others, such as -9999, that may mark pixels without data; or None.

    It is the minimum or maximum, held by more than 0.1 % and less than half of the pixels, and its distance to the
    other values is larger than their range.
    """
    least, largest = channel.min(), channel.max()
    for value, others in ((least, channel[channel > least]), (largest, channel[channel < largest])):
        if 0.5 * channel.size < others.size < 0.999 * channel.size:
            low, high = float(others.min()), float(others.max())
            if max(low - float(value), float(value) - high) > high - low > 0:
                return f"{value:g}"
    return None
