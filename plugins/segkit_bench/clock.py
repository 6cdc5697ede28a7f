"""The clock for training steps: many together as they run in a run, or the parts of a step one by one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from segkit.data.sample import Batch
from segkit.engine.precision import peak_memory
from segkit.engine.step import TrainingLoop


@dataclass(frozen=True)
class Amount:
    """How many steps: not timed, timed together, and how often; fewer where they would take longer than ``seconds``."""

    warmup: int
    steps: int
    repeats: int
    seconds: float = math.inf

    @property
    def total(self) -> int:
        """All of them."""
        return self.warmup + self.steps * self.repeats

    def within(self, step: float) -> Amount:
        """What can be had in the time, where a step takes so many seconds; one step at least is timed."""
        most = max(2, int(self.seconds / step)) if self.total * step > self.seconds else self.total
        repeats = max(1, min(self.repeats, most - 1))
        warmup = max(1, min(self.warmup, most - repeats))
        return Amount(warmup, max(1, min(self.steps, (most - warmup) // repeats)), repeats, self.seconds)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def throughput(
    loop: TrainingLoop,
    batches: Iterator[Batch],
    amount: Amount,
    description: str,
    begun: Callable[[float, int], None] = lambda seconds, images: None,
) -> dict[str, Any]:
    """Images per second of whole steps, as a run takes them; the device is waited for around the timed ones alone.

    Args:
        loop: what trains.
        batches: on the device.
        amount: loaders that run ahead have a store by the first repeat, which is why the median is told.
        description: of the progress bar.
        begun: told the seconds of the first step, and its images; the others may take long.
    """
    device = loop.precision.device
    every = loop.settings.log_every if device.type == "cuda" else 1  # as TrainingLoop.run_epoch
    images = 0

    def steps(count: int) -> float:
        """Seconds an image."""
        nonlocal images
        before, began = images, time.perf_counter()
        for _ in range(count):
            batch = next(batches)
            loop.progress.sums += loop.train_step(batch)
            if loop.step % every == 0:
                loop.non_finite.check()
            images += len(batch.names)
            bar.update()
        synchronise(device)
        return (time.perf_counter() - began) / max(1, images - before)

    peak_memory(device, restart=True)
    with tqdm(desc=description, total=amount.total, unit=" steps", leave=False, disable=None) as bar:
        synchronise(device)
        first = steps(1) * images
        begun(first, images)
        amount = amount.within(first)
        bar.total = amount.total
        steps(amount.warmup - 1)
        speeds = [1 / steps(amount.steps) for _ in range(amount.repeats)]
    return {
        "images_per_second": median(speeds),
        "images_per_second_of_repeats": speeds,
        "first_step_seconds": first,
        **vars(amount),
        "peak_memory_bytes": peak_memory(device),
    }


PARTS = ("data", "transfer", "forward", "backward", "optimizer")


def parts_of_step(loop: TrainingLoop, batches: Iterator[Batch], warmup: int, steps: int) -> dict[str, float]:
    """Mean milliseconds of a step's parts, and of the ``step``; the device is waited for after each part.

    Args:
        loop: what trains; ``forward`` is with normalisation and loss.
        batches: as the loader gives them: to wait for one is ``data``, to bring it to the device ``transfer``.
        warmup, steps: how many are not timed, and how many are.
    """
    device, spent = loop.precision.device, dict.fromkeys(PARTS, 0.0)
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
