"""Times training steps: whole steps as in a run, or the parts of a step separately."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from segkit.engine.precision import peak_memory

PARTS = ("data", "transfer", "forward", "backward", "optimizer")
REPEATS = 3


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def endless(trainer: Any) -> Iterator[Any]:
    """Yield the training batches of the run's loader, epoch after epoch."""
    for trainer.order.epoch in count(1):
        yield from trainer.batches


def throughput(trainer: Any, batches: Iterator[Any], seconds: float, description: str) -> dict[str, Any]:
    """Measure images per second over whole steps, as in a run.

    Args:
        trainer: the trainer whose loop is timed.
        batches: an endless iterator.
        seconds: how long to measure: a tenth of it is warm-up, followed by three repeats of as many steps as fit, whose
            median is reported, because loaders have prefetched the first batches. A step that takes most of this time
            is repeated less often; three steps are taken at least.
        description: of the progress bar.
    """
    loop, images, device = trainer.loop, trainer.order.images, trainer.inputs.precision.device
    loop.steps = 1 << 30

    def speed(steps: int) -> float:
        loop.end_epoch()
        images_per_second: float = loop.run_epoch(batches, steps, images, description)["images_per_second"]
        return images_per_second

    peak_memory(device, restart=True)
    first = images / speed(1)  # with compilation, if any
    step = images / speed(1)
    warmup = int(seconds / 10 / step)
    if warmup:
        step = images / speed(warmup)
    repeats = max(1, min(REPEATS, int((seconds - 2 * step) / step)))
    steps = max(1, int(0.9 * seconds / REPEATS / step))
    speeds = [speed(steps) for _ in range(repeats)]
    return {
        "images_per_second": median(speeds),
        "images_per_second_of_repeats": speeds,
        "first_step_seconds": first,
        "warmup_steps": warmup,
        "steps": steps,
        "peak_memory_bytes": peak_memory(device),
    }


def parts_of_step(trainer: Any, batches: Iterator[Any], steps: int) -> dict[str, float]:
    """Measure the mean milliseconds of each part of a step and of the ``step``, synchronising after each part.

    Args:
        trainer: the trainer whose loop is timed; ``forward`` includes normalisation and loss.
        batches: batches of the loader: ``data`` is waiting for one, ``transfer`` is copying it to the device.
        steps: the number of timed steps; a third as many are taken before, untimed.
    """
    loop, device, spent = trainer.loop, trainer.inputs.precision.device, dict.fromkeys(PARTS, 0.0)
    warmup = -(-steps // 3)
    last = time.perf_counter()

    def mark(part: str) -> None:
        nonlocal last
        synchronise(device)
        now = time.perf_counter()
        spent[part] += now - last
        last = now

    loop.mark = mark
    for number in tqdm(range(warmup + steps), "parts of a step", leave=False, disable=None):
        if number == warmup:
            spent.update(dict.fromkeys(PARTS, 0.0))
            began = last
        batch = next(batches)
        mark("data")
        batch = batch.to(device)
        mark("transfer")
        loop.train_step(batch)
        loop.non_finite.check()
    loop.mark = lambda part: None
    whole = time.perf_counter() - began
    return {name: 1000 * seconds / steps for name, seconds in {**spent, "step": whole}.items()}
