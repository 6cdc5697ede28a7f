"""Times training steps: whole steps as in a run, or the parts of a step separately."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from segkit.engine.precision import peak_memory

PARTS = ("data", "transfer", "forward", "backward", "optimizer")


@dataclass(frozen=True)
class Amount:
    """Numbers of warm-up steps, timed steps and repeats; fewer if they would take longer than ``seconds``."""

    warmup: int
    steps: int
    repeats: int
    seconds: float = math.inf

    @property
    def total(self) -> int:
        """The number of all steps."""
        return self.warmup + self.steps * self.repeats

    def within(self, step: float) -> Amount:
        """Return the amount that fits into ``seconds`` if a step takes ``step`` seconds; at least one step is timed."""
        most = max(2, int(self.seconds / step)) if self.total * step > self.seconds else self.total
        repeats = max(1, min(self.repeats, most - 1))
        warmup = max(1, min(self.warmup, most - repeats))
        return Amount(warmup, max(1, min(self.steps, (most - warmup) // repeats)), repeats, self.seconds)


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def endless(trainer: Any) -> Iterator[Any]:
    """Yield the training batches of the run's loader, epoch after epoch."""
    for trainer.order.epoch in count(1):
        yield from trainer.batches


def throughput(trainer: Any, batches: Iterator[Any], amount: Amount, description: str) -> dict[str, Any]:
    """Measure images per second over whole steps, as in a run.

    Args:
        trainer: the trainer whose loop is timed.
        batches: an endless iterator.
        amount: the steps to take; the median of the repeats is reported, because loaders have prefetched the first.
        description: of the progress bar.
    """
    loop, images, device = trainer.loop, trainer.order.images, trainer.inputs.precision.device
    loop.steps = 1 << 30

    def speed(steps: int) -> float:
        loop.end_epoch()
        images_per_second: float = loop.run_epoch(batches, steps, images, description)["images_per_second"]
        return images_per_second

    peak_memory(device, restart=True)
    first = images / speed(1)
    amount = amount.within(first)
    if amount.warmup > 1:
        speed(amount.warmup - 1)
    speeds = [speed(amount.steps) for _ in range(amount.repeats)]
    return {
        "images_per_second": median(speeds),
        "images_per_second_of_repeats": speeds,
        "first_step_seconds": first,
        **vars(amount),
        "peak_memory_bytes": peak_memory(device),
    }


def parts_of_step(trainer: Any, batches: Iterator[Any], warmup: int, steps: int) -> dict[str, float]:
    """Measure the mean milliseconds of each part of a step and of the ``step``, synchronising after each part.

    Args:
        trainer: the trainer whose loop is timed; ``forward`` includes normalisation and loss.
        batches: batches of the loader: ``data`` is waiting for one, ``transfer`` is copying it to the device.
        warmup, steps: the numbers of untimed and timed steps.
    """
    loop, device, spent = trainer.loop, trainer.inputs.precision.device, dict.fromkeys(PARTS, 0.0)
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
