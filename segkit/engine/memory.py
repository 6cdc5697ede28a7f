"""What a run needs of memory, estimated on a CPU before its first step: the kernel kills a process that takes too much.

The forward pass of two small batches shows what it keeps for the backward pass. That grows linearly with the pixels of
a batch, and is extrapolated to the batch of the run.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from segkit.data.resize import resized_size
from segkit.data.scan import Scan
from segkit.engine.precision import Precision, free_memory, peak_memory
from segkit.errors import ConfigError
from segkit.inference.sliding_window import check_logits
from segkit.inference.window_grid import MAX_WHOLE_PIXELS
from segkit.settings import AUTO

if TYPE_CHECKING:
    from segkit.engine.distributed import DistributedContext
    from segkit.engine.inputs import TrainerInputs

_SIDES = (64, 96)  # pixels of the two small batches, of two images each: networks halve the resolution up to 5 times
_MOST_PER_PIXEL = 16 << 10  # bytes; a network needs less, so that most runs need no estimate
_SCORING = 0.3  # of what a step needs for as many pixels; measured were 0.28 to 0.44
_STATES = {"sgd": 1}  # numbers that an optimizer keeps for each weight; 2 for any other
_FILLED = 0.8  # share of the free memory; the estimate errs by a third, and the data needs some
_GIB = 1 << 30


def check_memory(inputs: TrainerInputs, scan: Scan, precision: Precision, processes: int) -> None:
    """Refuse a run on a CPU that needs more memory than is free; where that cannot be estimated, let it begin.

    Raises:
        ConfigError: it needs more; names the options that need less.
    """
    free, train, crop = free_memory(precision.device), inputs.train, inputs.augment.crop
    sizes = _sizes(inputs, scan)
    height, width = _crop(crop, sizes["train"])
    images = -(-train.batch_size // train.accumulate) / processes  # of a micro-batch
    pixels, scored = images * height * width, max(_scored(each, train.batch_size) for each in sizes.values())
    if free is None or precision.device.type != "cpu" or _MOST_PER_PIXEL * max(pixels, scored) < free:
        return
    fixed, per_pixel = _needs(inputs, precision, len(scan.splits["train"].classes))
    needed, trains = fixed + per_pixel * max(pixels, _SCORING * scored), pixels >= _SCORING * scored
    if needed <= free:
        return
    fits = int(max(0.0, (free - fixed) / (per_pixel * images)) ** 0.5) // 32 * 32  # pixels a side
    raise ConfigError(
        f"{'a training step' if trains else f'scoring up to {train.batch_size} images at once'} needs about "
        f"{needed / _GIB:.1f} GiB of memory, and {free / _GIB:.1f} GiB are free, "
        f"{needs_less(inputs, fits if trains and 32 <= fits < min(height, width) else None)}"
    )


def fitted(
    inputs: TrainerInputs, scan: Scan, precision: Precision, distributed: DistributedContext, before: Mapping[str, Any]
) -> TrainerInputs:
    """The inputs with numbers in place of ``augment.crop = "auto"`` and ``train.batch_size = "auto"``; all come to one.

    First the crop, as large as two images of it fit, then as many images as fit: a wider view of a scene is worth more
    than a larger batch. But a U-Net or a ResNet sees little beyond 512 pixels; the statistics of normalisation are
    steady with 16 crops, and with more there are fewer steps in the same time. A CPU computes large batches no faster,
    so that smaller ones, 8 of 256 pixels, give it more steps.

    Args:
        inputs: their record is given the numbers too.
        scan: of their data.
        precision: of the forward pass.
        distributed: the processes that share a batch.
        before: the config of a run that goes on, whose numbers stay; else empty.
    """
    crop, batch, cpu = inputs.augment.crop, inputs.train.batch_size, precision.device.type == "cpu"
    if AUTO not in (crop, batch):
        return inputs
    if before:
        crop, batch = crop or before["augment"]["crop"], batch or before["train"]["batch_size"]
    else:
        fits, sizes = _room(inputs, scan, precision, distributed), _sizes(inputs, scan)["train"]
        unit = inputs.train.accumulate * distributed.size  # images of which each process has one in each part
        most = max(unit, min(8 if cpu else 16, len(sizes) * inputs.train.repeat) // unit * unit)
        if crop == AUTO:
            side, few = int(min(256 if cpu else 512, median(map(min, sizes)))) // 32 * 32, batch or min(most, 2 * unit)
            crop = next((each for each in range(side, 32, -32) if fits(few, each, each)), 32)
        if batch == AUTO:
            height, width = _crop(crop, sizes)
            batch = next((each for each in range(most, unit, -unit) if fits(each, height, width)), unit)
    config = inputs.record.get("config", {})
    train, augment = {"batch_size": batch}, {"crop": crop}
    tables = {"train": config.get("train", {}) | train, "augment": config.get("augment", {}) | augment}
    return replace(
        inputs,
        train=inputs.train.model_copy(update=train),
        augment=inputs.augment.model_copy(update=augment),
        record={**inputs.record, "config": {**config, **tables}},
    )


def _room(
    inputs: TrainerInputs, scan: Scan, precision: Precision, distributed: DistributedContext
) -> Callable[[int, int, int], bool]:
    """Whether a step on so many images of a height and width fits: a card tries it, else arithmetic tells."""
    classes, free = len(scan.splits["train"].classes), free_memory(precision.device)
    parts = inputs.train.accumulate * distributed.size
    fixed, per_pixel = (0.0, 0.0) if precision.device.type == "cuda" else _needs(inputs, precision, classes)

    def fits(images: int, height: int, width: int) -> bool:
        if precision.device.type == "cuda":
            own = _takes_step(inputs, precision, classes, (images // parts, height, width))
            torch.cuda.empty_cache()
        else:
            own = free is None or fixed + per_pixel * images * height * width / parts <= _FILLED * free
        return all(distributed.gather(own))

    return fits


def _takes_step(inputs: TrainerInputs, precision: Precision, classes: int, size: tuple[int, int, int]) -> bool:
    """Whether a card has room for forward and backward pass on images [B,H,W], beside what is kept between steps."""
    device, between = precision.device, _kept_between_steps(inputs)
    try:
        model, criterion = (copy.deepcopy(each).to(device).train() for each in (inputs.model, inputs.criterion))
        layout = torch.channels_last if inputs.train.channels_last else torch.contiguous_format
        shape = (size[0], len(inputs.splits["train"].channels), *size[1:])
        images, _kept = torch.rand(shape, device=device), torch.empty(between, dtype=torch.uint8, device=device)
        images = images.contiguous(memory_format=layout)
        target = torch.arange(math.prod(size), device=device).remainder(classes).view(size)
        with precision.autocast():
            logits = check_logits(model(images), images)
        criterion(logits, target)[0].backward()
    except torch.OutOfMemoryError:
        return False
    return True


def _needs(inputs: TrainerInputs, precision: Precision, classes: int) -> tuple[float, float]:
    """As :func:`estimate`, with what is kept between steps; 0 where it cannot be estimated."""
    try:
        fixed, per_pixel = estimate(inputs, precision, classes)
    except Exception:  # a model that takes other images: its first step will say so
        return 0.0, 0.0
    return fixed + _kept_between_steps(inputs), per_pixel


def _kept_between_steps(inputs: TrainerInputs) -> int:
    """Bytes of what the optimizer keeps, and of the moving average."""
    weights = sum(p.numel() * p.element_size() for p in inputs.model.parameters())
    return weights * (_STATES.get(inputs.train.optimizer, 2) + (inputs.train.ema > 0))


def _sizes(inputs: TrainerInputs, scan: Scan) -> dict[str, list[tuple[int, int]]]:
    """Of each image of a split, as the network is shown it."""
    return {
        name: [resized_size(*each.size, inputs.data.resize) for each in rows] for name, rows in scan.statistics.items()
    }


def _crop(crop: int | list[int] | None, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Height and width of a batch."""
    if isinstance(crop, int):
        return crop, crop
    height, width = crop or [max(side) for side in zip(*sizes, strict=True)]
    return height, width


def needs_less(inputs: TrainerInputs, crop: int | None = None) -> str:
    """What needs memory in a run, and what needs less; ``crop`` is one that fits, where that is known."""
    train = inputs.train
    counts = range(train.accumulate + 1, train.batch_size + 1)
    more = next((count for count in counts if train.batch_size % count == 0), None)
    hints = [f"augment.crop={crop}"] if crop else []
    hints += [f"train.accumulate={more}, the batch in smaller parts"] if more else []
    hints += ["a smaller train.batch_size"] if train.batch_size > 1 else []
    hints += ["a smaller augment.crop, data.resize or model"]
    return (
        f"at train.batch_size={train.batch_size}, augment.crop={inputs.augment.crop or 'whole images'}, "
        f"train.accumulate={train.accumulate}; what needs less: {'; '.join(hints)}"
    )


def out_of_memory(inputs: TrainerInputs, device: torch.device) -> str:
    """What was needed of a device's memory, and what needs less."""
    used = ""
    if device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        used = f": {peak_memory(device) / _GIB:.1f} of {whole / _GIB:.1f} GiB"
    return f"out of memory on {device}{used} {needs_less(inputs)}. What was saved in {inputs.folder} is intact"


def _scored(sizes: list[tuple[int, int]], batch: int) -> int:
    """The most pixels of a split that are scored at once: equal sizes together, up to those of a large image."""
    counts = Counter(sizes).items()
    return max((min(h * w * min(batch, images), MAX_WHOLE_PIXELS) for (h, w), images in counts), default=0)


def estimate(inputs: TrainerInputs, precision: Precision, classes: int) -> tuple[float, float]:
    """The bytes that a step needs whatever its batch, and those for each pixel of the batch.

    They are what the forward pass keeps for the backward pass, and two gradients as large as its largest tensor. Of
    unet, and a Unet and a DeepLabV3+ with a ResNet-18, in fp32 and bf16, that is 0.8 to 1.3 of what was measured.
    """
    small, large = (_kept(inputs, precision, classes, side) for side in _SIDES)
    pixels = [2 * side**2 for side in _SIDES]
    slope = (sum(large) - sum(small)) / (pixels[1] - pixels[0])
    largest = max(Counter(large) - Counter(small))  # of the tensors that grow with the batch
    gradients = sum(p.numel() * p.element_size() for p in inputs.model.parameters() if p.requires_grad)
    return gradients + sum(small) - slope * pixels[0], slope + 2 * largest / pixels[1]


def _kept(inputs: TrainerInputs, precision: Precision, classes: int, side: int) -> list[int]:
    """The bytes of each tensor that is kept for the backward pass, for a batch of two images."""
    layout = torch.channels_last if inputs.train.channels_last else torch.contiguous_format
    model = copy.deepcopy(inputs.model).train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}  # by address; holding the tensors keeps addresses from being reused

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    target = torch.arange(2 * side**2).remainder(classes).view(2, side, side)
    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        images = torch.rand(2, len(inputs.splits["train"].channels), side, side).contiguous(memory_format=layout)
        with precision.autocast():
            logits = check_logits(model(images), images)
        inputs.criterion(logits, target)
    return [tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights]
