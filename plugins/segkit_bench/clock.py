"""The clock for training steps: many together as they run in a run, or the parts of a step one by one."""

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


def endless(trainer: Any) -> Iterator[Any]:
    """The training batches of a run, epoch after epoch, as its loader gives them."""
    for trainer.order.epoch in count(1):
        yield from trainer.batches


def throughput(trainer: Any, batches: Iterator[Any], amount: Amount, description: str) -> dict[str, Any]:
    """Images per second of whole steps, as a run takes them.

    Args:
        trainer: whose loop is timed.
        batches: without end.
        amount: loaders that run ahead have a store by the first repeat, which is why the median is told.
        description: of the progress bar.
    """
    loop, images, device = trainer.loop, trainer.order.images, trainer.inputs.precision.device
    loop.steps = 1 << 30

    def speed(steps: int) -> float:
        loop.end_epoch()
        told: float = loop.run_epoch(batches, steps, images, description)["images_per_second"]
        return told

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
    """Mean milliseconds of a step's parts, and of the ``step``; the device is waited for after each part.

    Args:
        trainer: whose loop is timed; ``forward`` is with normalisation and loss.
        batches: as the loader gives them: to wait for one is ``data``, to bring it to the device ``transfer``.
        warmup, steps: how many are not timed, and how many are.
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
