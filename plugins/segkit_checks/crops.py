"""Are the crops of training larger than most images, so that they are mostly void?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import segkit
from segkit.data.resize import resized_size
from segkit.data.statistics import SampleStatistics
from segkit.errors import Issue

_MOSTLY = 0.5  # of the pixels of a crop


class Crops:
    """Crops of training that are mostly void, as ``augment.crop`` is larger than most images."""

    def __init__(self, settings: Any, augment: Any) -> None:
        self._resize, self._augment = settings.resize, augment

    def measure(self, sample: segkit.Sample) -> None:
        """Nothing: the sizes are known."""

    def judge(self, splits: Mapping[str, Sequence[tuple[SampleStatistics, None]]]) -> Iterator[Issue]:
        """A warning where half of the pixels of the crops would be void."""
        crop, scale = self._augment.crop, math.sqrt(math.prod(self._augment.scale))
        sizes = [resized_size(*each.size, self._resize) for each, _ in splits.get("train", ())]  # [N,2]
        if not crop or not sizes:
            return
        void = 1 - float(np.minimum(np.array(sizes) * scale / crop, 1).prod(axis=1).mean())
        if void >= _MOSTLY:
            text = f"augment.crop = {crop} is larger than most images (after data.resize and augment.scale): "
            yield Issue("large_crop", what=f"{text}{void:.0%} of the crops is void", severity="warning", split="train")
