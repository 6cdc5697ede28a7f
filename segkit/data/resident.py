"""A split that lies decoded in the memory of the device: batches are made there, and no process loads any.

Every image takes the room of the largest one, 4 bytes a pixel: three colours and the label.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from segkit.data.augment import part_under
from segkit.data.loader import Draws
from segkit.data.normalise import mean_pixel
from segkit.data.order import BatchOrder, EvaluationOrder, Key
from segkit.data.resize import mask_at, resized_size
from segkit.data.sample import Batch
from segkit.data.samples import Samples
from segkit.data.sampling import Maps, look, resized_parts, row


class Resident:
    """The samples of a split on a device.

    Args:
        samples: the split.
        sizes: height and width of each mask.
        device: where they will lie.
        keep_masks: in the host's memory too, for views that are judged by their masks.
        description: of the progress bar.
        progress: whether to show it.

    Raises:
        DataError: a sample cannot be read.
    """

    def __init__(
        self,
        samples: Samples,
        sizes: Sequence[tuple[int, int]],
        device: torch.device,
        *,
        keep_masks: bool = False,
        description: str = "",
        progress: bool = False,
    ) -> None:
        self.samples, self.device = samples, device
        self.sizes = [resized_size(*size, samples.resize) for size in sizes]
        self.own_sizes = list(sizes)
        self.names: list[str] = []
        self.masks: list[Tensor] | None = [] if keep_masks else None
        self.pixels = torch.empty((len(samples), *largest(self.sizes), 4), dtype=torch.uint8, device=device)
        self.own_masks: Tensor | None = None
        if self.sizes != self.own_sizes:  # scores are taken at a mask's own size
            self.own_masks = torch.empty((len(samples), *largest(sizes)), dtype=torch.uint8, device=device)
        for index, sample in enumerate(samples.each(description, progress)):
            height, width = sample.image.shape[1:]
            mask = mask_at(sample.mask, height, width)
            image = torch.cat([sample.image, mask[None]]).permute(1, 2, 0).numpy()  # [H,W,4]
            below, beside = (most - own for most, own in zip(self.pixels.shape[1:3], (height, width), strict=True))
            # where an image ends, its edge is repeated: what is sampled next to it is not blended with anything
            self.pixels[index] = torch.from_numpy(np.pad(image, ((0, below), (0, beside), (0, 0)), mode="edge"))
            if self.own_masks is not None:
                rows, columns = sample.mask.shape
                self.own_masks[index, :rows, :columns] = sample.mask.to(device)
            if self.masks is not None:
                self.masks.append(mask)
            self.names.append(sample.name)

    def scored(self, numbers: Sequence[int]) -> list[Batch]:
        """Batches of one size each, for an evaluation."""
        groups: dict[tuple[tuple[int, int], tuple[int, int]], list[int]] = defaultdict(list)
        for number in numbers:
            groups[self.sizes[number], self.own_sizes[number]].append(number)
        return [self._alike(those, *sizes) for sizes, those in groups.items()]

    def _alike(self, numbers: list[int], size: tuple[int, int], own_size: tuple[int, int]) -> Batch:
        chosen = to_device(np.array(numbers), self.device)
        pixels = self.pixels.index_select(0, chosen)[:, : size[0], : size[1]]  # [B,h,w,4]
        mask = pixels[..., 3].contiguous()
        if self.own_masks is not None:
            mask = self.own_masks.index_select(0, chosen)[:, : own_size[0], : own_size[1]].contiguous()
        image = pixels[..., :3].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        return Batch(image, mask, None, [self.names[number] for number in numbers])


class ResidentBatches:
    """Training batches of a split on the device, in an order whose ``epoch`` and ``start`` are set before each pass."""

    def __init__(self, resident: Resident, draws: Draws, order: BatchOrder) -> None:
        self.resident, self.draws, self.order = resident, draws, order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.batch, self.order)

    def batch(self, keys: Sequence[Key]) -> Batch:
        """The views of some keys; nothing waits for the device."""
        resident, draws = self.resident, self.draws
        numbers = [draws.number(key) for key in keys]
        masks = [resident.masks[number] if resident.masks is not None else None for number in numbers]
        views = [
            draws.view(key, resident.sizes[number], mask)
            for key, number, mask in zip(keys, numbers, masks, strict=True)
        ]
        sizes = [resident.sizes[number] for number in numbers]
        parts = [part_under(view, *size) for view, size in zip(views, sizes, strict=True)]
        as_stored = all(view.scaled == own for view, own in zip(views, sizes, strict=True))
        # all that is drawn in one copy: [B, 14 + 12]
        drawn = to_device(
            np.stack(
                [
                    np.concatenate([row(view, size, (0, 0) if as_stored else (top, left)), view.colour.reshape(-1)])
                    for view, size, ((top, _), (left, _)) in zip(views, sizes, parts, strict=True)
                ]
            ),
            resident.device,
        )
        maps = Maps.of(drawn[:, :14])
        pixels = resident.pixels.view(torch.int32)[..., 0]  # [N,H,W]: a pixel is one number
        pixels = pixels.index_select(0, to_device(np.array(numbers), resident.device)).view(torch.uint8)
        pixels = pixels.view(len(numbers), *resident.pixels.shape[1:])  # [B,H,W,4]
        images = pixels[..., :3].permute(0, 3, 1, 2)  # [B,3,H,W]
        if not as_stored:
            spans = [(bottom - top, right - left) for (top, bottom), (left, right) in parts]
            images = resized_parts(images, maps, largest([(1, 1), *spans]))
        size = largest([view.size for view in views])
        fill = mean_pixel(resident.device, draws.normalisation)
        image, mask = look(images, pixels[..., 3], maps, size, fill, draws.ignore_index)
        colour = drawn[:, 14:].float().view(-1, 3, 4) if draws.settings.colour > 0 else None
        image = image.contiguous(memory_format=torch.channels_last)
        return Batch(image, mask, colour, [resident.names[number] for number in numbers])


class ResidentEvaluation:
    """The batches of an evaluation, of a split on the device."""

    def __init__(self, resident: Resident, order: EvaluationOrder) -> None:
        self.resident, self.order = resident, order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[list[Batch]]:
        return map(self.resident.scored, self.order)


def bytes_needed(samples: Samples, sizes: Sequence[tuple[int, int]]) -> int:
    """That a split would take on the device."""
    seen = [resized_size(*size, samples.resize) for size in sizes]
    own = math.prod(largest(sizes)) if seen != list(sizes) else 0
    return len(sizes) * (4 * math.prod(largest(seen)) + own)


def largest(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The largest height and the largest width."""
    return max(height for height, _ in sizes), max(width for _, width in sizes)


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """An array on the device, which is not waited for."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
