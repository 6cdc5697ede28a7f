"""A batch: what a step or an evaluation gets, as it is stored; it is normalised on the device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


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
