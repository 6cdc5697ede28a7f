"""A split that is decoded once, and kept in the memory of the machine or of the device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from segkit.data.loader import SampleSource
from segkit.data.parallel import own_cores, read_ahead
from segkit.data.resize import Resize, resized_size
from segkit.data.sample import Sample
from segkit.data.statistics import SampleStatistics
from segkit.errors import DataError


def decoded_bytes(statistics: Sequence[SampleStatistics], channels: int, resize: Resize) -> int:
    """Bytes of a split once it is decoded."""
    value = 1 if statistics[0].dtype == "uint8" else 4
    return sum(
        value * channels * math.prod(resized_size(*each.size, resize)) + math.prod(each.size) for each in statistics
    )


class DecodedSource(SampleSource):
    """A split decoded in memory: the machine's, where the processes that load data share it, or the device's.

    On the device batches are made there, and no process loads any.

    Args:
        source: the split.
        statistics: of each sample, as it was scanned.
        device: in whose memory the samples are kept.
        keep_masks: on the CPU too, for random transforms that depend on them: no device is waited for.
        description: of the progress bar; none is shown without it.

    Raises:
        DataError: a sample cannot be read, or has another size than when it was scanned.
    """

    def __init__(
        self,
        source: SampleSource,
        statistics: Sequence[SampleStatistics],
        device: torch.device,
        *,
        keep_masks: bool = False,
        description: str = "",
    ) -> None:
        super().__init__(source.dataset, source.resize)
        self.on_device, self.names = device.type != "cpu", [each.name for each in statistics]
        self._masks_are = [each.size for each in statistics]
        self._images_are = [resized_size(*size, self.resize) for size in self._masks_are]
        # two rows of pixels, not thousands of tensors: in a process that is spawned each would take a file descriptor
        self._image_at, self._mask_at = (
            np.cumsum([0, *map(math.prod, sizes)]).tolist() for sizes in (self._images_are, self._masks_are)
        )
        shape, dtype = (self._image_at[-1], len(self.dataset.channels)), getattr(torch, statistics[0].dtype)
        self._images = torch.empty(shape, dtype=dtype, device=device)  # [pixels,C]
        self._masks = torch.empty(self._mask_at[-1], dtype=torch.uint8, device=device)
        masks: list[Tensor] = []
        # a dataset that does not say how it reads may hold one file that it reads in
        threads = 1 if self.dataset.reading is None else own_cores()
        for index, sample in enumerate(read_ahead(source.__getitem__, range(len(self)), description, threads)):
            size = tuple(sample.mask.shape)
            if size != tuple(self._masks_are[index]):
                was = list(self._masks_are[index])
                raise DataError(f"{sample.name} is {list(size)}, and was {was} when scanned; start again")
            kept = self[index]
            kept.image.copy_(sample.image)
            kept.mask.copy_(sample.mask)
            masks += [sample.mask] if keep_masks else []
        self.masks = masks or None

    def __getitem__(self, index: int) -> Sample:
        """As :meth:`SampleSource.__getitem__`, in memory that is not to be written to."""
        image = self._images[slice(*self._image_at[index : index + 2])].view(*self._images_are[index], -1)  # [H,W,C]
        mask = self._masks[slice(*self._mask_at[index : index + 2])].view(self._masks_are[index])
        return Sample(image.permute(2, 0, 1), mask, self.names[index])
