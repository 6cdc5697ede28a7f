"""Estimate the memory that a run needs on a CPU before its first step: the kernel kills what takes too much.

The forward pass of two small batches tells what it keeps for the backward pass. That grows with the pixels of a batch
in a straight line, which is followed to the batch of the run.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from segkit.data.resize import resized_size
from segkit.data.scan import Scan
from segkit.engine.distributed import DistributedContext
from segkit.engine.inputs import Job
from segkit.engine.precision import Precision, free_memory
from segkit.errors import ConfigError
from segkit.inference.sliding_window import check_logits
from segkit.inference.window_grid import MAX_WHOLE_PIXELS

_SIDES = (64, 96)  # pixels of the small batches, of two images: networks halve their resolution up to 5 times
_A_PIXEL = 16 << 10  # bytes; a network needs less for a pixel of a batch, so that most runs need no look
_SCORING = 0.3  # of what a step needs for as many pixels; measured were 0.28 to 0.44
_STATES = {"sgd": 1}  # numbers that an optimizer keeps for each weight; 2 for any other
_GIB = 1 << 30


def check_memory(job: Job, scan: Scan, precision: Precision, distributed: DistributedContext) -> None:
    """Refuse a run that needs more than is free; where that cannot be worked out, go on.

    Raises:
        ConfigError: with what needs less.
    """
    free = free_memory()
    train, here = job.train, int(os.environ.get("LOCAL_WORLD_SIZE", "1") or 1)
    height, width = _crop(job, scan)
    images = -(-train.batch_size // train.accumulate) / distributed.size * here  # of a part, on this machine
    shown = max(_shown(scan, split, job) for split in scan.splits) * here
    if free is None or precision.device.type != "cpu" or _A_PIXEL * max(images * height * width, shown) < free:
        return
    try:
        fixed, a_pixel = _line(job, precision, len(scan.splits["train"].classes))
    except Exception:  # a model that wants other images: its first step will tell
        return
    weights = sum(p.numel() * p.element_size() for p in job.model.parameters())
    fixed = here * (fixed + weights * (_STATES.get(train.optimizer, 2) + (train.ema > 0)))
    needed = fixed + a_pixel * max(images * height * width, _SCORING * shown)
    if needed <= free:
        return
    told = f"about {needed / _GIB:.1f} GiB of memory, and {free / _GIB:.1f} GiB are free"
    if images * height * width < _SCORING * shown:
        raise ConfigError(
            f"scoring up to {train.batch_size} images at once (train.batch_size) needs {told}; what needs less: a "
            "smaller train.batch_size, data.resize or model"
        )
    fits = int(max(0.0, (free - fixed) / (a_pixel * images)) ** 0.5) // 32 * 32  # pixels a side
    advice = [f"augment.crop={fits}"] if 32 <= fits < min(height, width) else []
    advice += ["a larger train.accumulate"] if train.accumulate < train.batch_size else []
    advice += ["a smaller train.batch_size"] if train.batch_size > 1 else []
    raise ConfigError(
        f"a training step needs {told}: train.batch_size = {train.batch_size} images of {height} x {width} pixels, "
        f"train.accumulate = {train.accumulate}; what needs less: {', '.join([*advice, 'a smaller model'])}"
    )


def _crop(job: Job, scan: Scan) -> tuple[int, int]:
    """Height and width of a training batch, at most."""
    crop = job.augment.crop
    if crop is not None:
        return (crop, crop) if isinstance(crop, int) else (crop[0], crop[1])
    sizes = [resized_size(*facts.size, job.data.resize) for facts in scan.statistics["train"]]
    return max(height for height, _ in sizes), max(width for _, width in sizes)


def _shown(scan: Scan, split: str, job: Job) -> int:
    """Pixels that are scored at once, at most: those of a batch that are of one size, of large images a part."""
    sizes = Counter(resized_size(*facts.size, job.data.resize) for facts in scan.statistics[split])
    batch = job.train.batch_size
    return max((min(h * w, MAX_WHOLE_PIXELS) * min(batch, images) for (h, w), images in sizes.items()), default=0)


def _line(job: Job, precision: Precision, classes: int) -> tuple[float, float]:
    """Bytes that a step needs at no pixel, and for each pixel of its batch.

    What the forward pass keeps for the backward pass, and at the end two gradients as large as its largest tensor.
    Of `unet`, and a Unet and a DeepLabV3+ with a ResNet-18, in fp32 and bf16, it is 0.8 to 1.3 of what was measured.
    """
    with _as_it_was(job.model):
        small, large = (_kept(job, precision, classes, side) for side in _SIDES)
    pixels = [2 * side**2 for side in _SIDES]
    slope = (sum(large) - sum(small)) / (pixels[1] - pixels[0])
    largest = max(Counter(large) - Counter(small))  # of what grows with the batch
    gradients = sum(p.numel() * p.element_size() for p in job.model.parameters() if p.requires_grad)
    return gradients + sum(small) - slope * pixels[0], slope + 2 * largest / pixels[1]


def _kept(job: Job, precision: Precision, classes: int, side: int) -> list[int]:
    """The bytes of each tensor that is kept for the backward pass, of a batch of two images."""
    layout = torch.channels_last if job.train.channels_last else torch.contiguous_format
    known = {p.untyped_storage().data_ptr() for p in job.model.parameters()}
    found: dict[int, Tensor] = {}  # held, so that no address is used again

    def note(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in known:
            found[place] = tensor
        return tensor

    images = torch.rand(2, 3, side, side).contiguous(memory_format=layout)
    target = torch.arange(2 * side**2).remainder(classes).view(2, side, side)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        with precision.autocast():
            logits = check_logits(job.model(images), images)
        job.criterion(logits, target)
    return [tensor.untyped_storage().nbytes() for tensor in found.values()]


@contextlib.contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """In training, with buffers, mode and random numbers as before afterwards."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes = {module: module.training for module in model.modules()}
    model.train()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(before[name])
