"""Decode a split once and keep it in host or device memory."""

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
    """Return the number of bytes that a decoded split takes."""
    value = 1 if statistics[0].dtype == "uint8" else 4
    return sum(
        value * channels * math.prod(resized_size(*each.size, resize)) + math.prod(each.size) for each in statistics
    )


class DecodedSource(SampleSource):
    """A split decoded into host memory, which worker processes share, or into device memory.

    Batches of a split in device memory are built on the device, without worker processes.

    Args:
        source: the split.
        statistics: the scan's statistics of each sample.
        device: the device whose memory holds the samples.
        keep_masks: keep the masks on the CPU too; random transforms that depend on them need not wait for the device.
        description: label of the progress bar; without it no bar is shown.

    Raises:
        DataError: a sample cannot be read, or its size has changed since the scan.
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
        self._mask_sizes = [each.size for each in statistics]
        self._image_sizes = [resized_size(*size, self.resize) for size in self._mask_sizes]
        # two flat tensors, not thousands of small ones: each one shared with a spawned worker takes a file descriptor
        self._image_at, self._mask_at = (
            np.cumsum([0, *map(math.prod, sizes)]).tolist() for sizes in (self._image_sizes, self._mask_sizes)
        )
        shape, dtype = (self._image_at[-1], len(self.dataset.channels)), getattr(torch, statistics[0].dtype)
        self._images = torch.empty(shape, dtype=dtype, device=device)  # [pixels,C]
        self._masks = torch.empty(self._mask_at[-1], dtype=torch.uint8, device=device)
        masks: list[Tensor] = []
        # a dataset without `reading` may not be thread-safe: it may read from a single open file
        threads = 1 if self.dataset.reading is None else own_cores()
        for index, sample in enumerate(read_ahead(source.__getitem__, range(len(self)), description, threads)):
            size = tuple(sample.mask.shape)
            if size != tuple(self._mask_sizes[index]):
                scanned = list(self._mask_sizes[index])
                raise DataError(f"{sample.name} is {list(size)}, but was {scanned} when scanned; start the run again")
            kept = self[index]
            kept.image.copy_(sample.image)
            kept.mask.copy_(sample.mask)
            masks += [sample.mask] if keep_masks else []
        self.masks = masks or None

    def __getitem__(self, index: int) -> Sample:
        """Return a sample, see :meth:`SampleSource.__getitem__`; its tensors are views that must not be written to."""
        image = self._images[slice(*self._image_at[index : index + 2])].view(*self._image_sizes[index], -1)  # [H,W,C]
        mask = self._masks[slice(*self._mask_at[index : index + 2])].view(self._mask_sizes[index])
        return Sample(image.permute(2, 0, 1), mask, self.names[index])
