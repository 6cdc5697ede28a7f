"""The memory that a run needs: tried out on a GPU, and estimated on a CPU, where running out kills the process.

The estimate measures which tensors the forward pass of two small batches keeps for the backward pass, and assumes that
they grow linearly with the pixels of a batch.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from statistics import median
from typing import Any

import torch
from torch import Tensor

from segkit.data.resize import resized_size
from segkit.engine.inputs import TrainerInputs
from segkit.engine.precision import free_memory
from segkit.errors import ConfigError
from segkit.inference.window_grid import MAX_WHOLE_PIXELS

_SIDES = (64, 96)  # pixels; sides of the two small batches of two images: multiples of 32 for networks of stride 32
_MOST_PER_PIXEL = 16 << 10  # bytes; networks need less, so most runs can skip the estimate
_SCORING = 0.3  # memory of scoring a pixel relative to training on it; measured were 0.28 to 0.44
_STATES = {"sgd": 1}  # optimizer state values per weight; 2 for all others
_FILLED = 0.8  # share of the free memory to use; the estimate errs by up to a third, and the data needs some
_GIB = 1 << 30


class Memory:
    """The free memory of a run's device, and the memory that the run needs.

    Args:
        inputs: the trainer inputs of the run.
        processes: the number of processes that share a batch.
    """

    def __init__(self, inputs: TrainerInputs, processes: int = 1) -> None:
        self.inputs, device = inputs, inputs.precision.device
        self.parts = inputs.train.accumulate * processes  # a process computes 1 / parts of a batch at once
        self.cpu, rows_of, cache = device.type == "cpu", inputs.scan.statistics, inputs.data.cache
        self.sizes = {
            name: [resized_size(*each.size, inputs.data.resize) for each in rows] for name, rows in rows_of.items()
        }
        self.kept = 0  # bytes of all images and masks if they are cached in memory before the first step
        if self.cpu and cache in ("ram", "device"):
            value = len(inputs.splits["train"].channels) * (1 if rows_of["train"][0].dtype == "uint8" else 4)
            self.kept += sum(value * height * width for sizes in self.sizes.values() for height, width in sizes)
            self.kept += sum(math.prod(each.size) for rows in rows_of.values() for each in rows)
        free = free_memory(device)
        self.free = math.inf if free is None else max(0, free - self.kept)

    def settings(self) -> dict[str, int]:
        """Choose values for "auto": the largest crop of which two images fit, then the largest batch of it that fits.

        A larger crop is worth more than a larger batch. But the receptive field of a U-Net or ResNet is barely larger
        than 512 pixels, and 16 crops give stable batch statistics; more mean fewer steps in the same time. A CPU gains
        no speed from large batches, so its limits are lower (8 crops of 256 pixels), for more steps.

        Raises:
            ConfigError: the run needs more memory than a CPU has free; the message names options that need less.
        """
        chosen: dict[str, int] = {}
        crop, batch, sizes = self.inputs.augment.crop, self.inputs.train.batch_size, self.sizes["train"]
        most = max(self.parts, min(8 if self.cpu else 16, len(sizes) * self.inputs.train.repeat))
        most -= most % self.parts
        auto = self.inputs.auto
        images = min(most, 2 * self.parts) if "train.batch_size" in auto else batch
        if "augment.crop" in auto:
            side = int(min(256 if self.cpu else 512, median(map(min, sizes))))
            sides = range(side // 32 * 32, 32, -32)
            crop = next((n for n in sides if self.has_room(images, n)), min(side, 32))
            chosen["augment.crop"] = crop
        if "train.batch_size" in auto:
            counts = range(most, self.parts, -self.parts)
            batch = chosen["train.batch_size"] = next((n for n in counts if self.has_room(n, crop)), self.parts)
        if self.cpu:
            self._refuse(self.inputs.with_auto(chosen))
        return chosen

    def has_room(self, images: int, crop: int | Sequence[int] | None) -> bool:
        """Whether a step on a batch of ``images`` crops fits into memory; on a GPU the step is tried."""
        height, width = self._side(crop)
        if self.inputs.precision.device.type == "cuda":
            fits = takes_step(self.inputs, [images // self.parts, height, width])
            torch.cuda.empty_cache()
            return fits
        fixed, per_pixel = self.needs
        return fixed + per_pixel * images * height * width / self.parts <= _FILLED * self.free

    @cached_property
    def needs(self) -> tuple[float, float]:
        """Bytes of a step independent of its batch, and bytes per pixel of the batch; 0 if they cannot be estimated."""
        try:
            fixed, per_pixel = estimate(self.inputs)
        except Exception:  # the model cannot take such images; its first training step reports why
            return 0.0, 0.0
        return fixed + _kept_between_steps(self.inputs), per_pixel

    def _side(self, crop: int | Sequence[int] | None) -> tuple[int, int]:
        """Return the height and width of a batch."""
        if isinstance(crop, int):
            return crop, crop
        height, width = crop or map(max, zip(*self.sizes["train"], strict=True))
        return height, width

    def _refuse(self, inputs: TrainerInputs) -> None:
        batch = inputs.train.batch_size
        (height, width), images, free = self._side(inputs.augment.crop), max(1, batch / self.parts), self.free
        scored = max(  # pixels scored at once: a batch of images of equal size, limited to MAX_WHOLE_PIXELS
            min(h * w * min(batch, count), MAX_WHOLE_PIXELS)
            for sizes in self.sizes.values()
            for (h, w), count in Counter(sizes).items()
        )
        pixels = max(images * height * width, _SCORING * scored)
        if _MOST_PER_PIXEL * max(pixels, scored) < free or self.needs[0] + self.needs[1] * pixels <= free:
            return
        fixed, per_pixel = self.needs
        trains = pixels > _SCORING * scored
        side = int(max(0.0, (free - fixed) / (per_pixel * images)) ** 0.5) // 32 * 32
        fits = f"; augment.crop={side} fits" if trains and 32 <= side < min(height, width) else ""
        cache = f'(data.cache = "{self.inputs.data.cache}"; "none" keeps none)'
        kept = f" beside {self.kept / _GIB:.1f} GiB of images {cache}" if self.kept else ""
        raise ConfigError(
            f"{'a training step' if trains else f'scoring up to {batch} images at once'} needs about "
            f"{(fixed + per_pixel * pixels) / _GIB:.1f} GiB of memory, and {free / _GIB:.1f} GiB are free{kept}, "
            f"{inputs.memory_hint}{fits}"
        )


def estimate(inputs: TrainerInputs) -> tuple[float, float]:
    """Estimate the bytes that a step needs independent of its batch, and the bytes per pixel of the batch.

    The sum of the tensors kept for the backward pass and two gradients as large as the largest of them. For unet, and
    Unet and DeepLabV3+ with a ResNet-18, in fp32 and bf16, the estimate is 0.8 to 1.3 times the measured memory; bf16
    on a CPU without its instructions takes about twice the estimate, because it is computed with copies in float32.
    """
    small, large = (_kept(inputs, side) for side in _SIDES)
    pixels = [2 * side**2 for side in _SIDES]
    slope = (sum(large) - sum(small)) / (pixels[1] - pixels[0])
    largest = max(Counter(large) - Counter(small))  # among the tensors that grow with the batch
    gradients = sum(p.numel() * p.element_size() for p in inputs.model.parameters() if p.requires_grad)
    return gradients + sum(small) - slope * pixels[0], slope + 2 * largest / pixels[1]


def takes_step(inputs: TrainerInputs, size: Sequence[int]) -> bool:
    """Whether a GPU has memory for a step on images of size ``[B,H,W]`` in addition to the optimizer state."""
    try:
        device = inputs.precision.device
        model, criterion = (copy.deepcopy(each).to(device) for each in (inputs.model, inputs.criterion))
        _kept = torch.empty(_kept_between_steps(inputs), dtype=torch.uint8, device=device)
        _cost(inputs, model.train(), criterion, size).backward()  # type: ignore[no-untyped-call]
    except torch.OutOfMemoryError:
        return False
    return True


def _cost(inputs: TrainerInputs, model: Any, criterion: Any, size: Sequence[int]) -> Tensor:
    """Return the loss of random images of size ``[B,H,W]``."""
    layout = torch.channels_last if inputs.train.channels_last else torch.contiguous_format
    batch, train, device = size[0], inputs.splits["train"], next(model.parameters()).device
    images = torch.rand(batch, len(train.channels), *size[1:], device=device).contiguous(memory_format=layout)
    with inputs.precision.autocast():
        logits = model(images)
    logits = logits["out"] if isinstance(logits, dict) else logits
    target = torch.arange(logits[:, 0].numel(), device=device).remainder(len(train.classes)).view(*size)
    loss: Tensor = criterion(logits, target)[0]
    return loss


def _kept(inputs: TrainerInputs, side: int) -> list[int]:
    """Return the bytes of each tensor kept for the backward pass of a batch of two images."""
    model = copy.deepcopy(inputs.model).train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}  # by address; references prevent the reuse of addresses

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _cost(inputs, model, inputs.criterion, [2, side, side])
    return [tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights]


def _kept_between_steps(inputs: TrainerInputs) -> int:
    """Return the bytes of the optimizer state and of the EMA weights."""
    weights = sum(p.numel() * p.element_size() for p in inputs.model.parameters())
    return weights * (_STATES.get(inputs.train.optimizer, 2) + (inputs.train.ema > 0))
