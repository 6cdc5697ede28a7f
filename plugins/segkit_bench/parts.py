"""The clock for the parts of a training step: the device is waited for after each, so that the whole takes longer."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tqdm import tqdm

from segkit.data.sample import Batch
from segkit.engine.step import TrainingLoop
from segkit_bench.clock import Amount, synchronise

PARTS = ("data", "transfer", "forward", "backward", "optimizer")


def split(loop: TrainingLoop, batches: Iterator[Batch], amount: Amount) -> dict[str, float]:
    """Mean milliseconds of a step's parts, and of the ``step``; the device is waited for after each part.

    Args:
        loop: what trains; ``forward`` is with normalisation and loss.
        batches: as the feed gives them: to wait for one is ``data``, to bring it to the device ``transfer``.
        amount: the warm-up and one repeat.
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
    for number in tqdm(range(amount.warmup + amount.steps), "parts of a step", leave=False, disable=None):
        if number == amount.warmup:
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
    return {name: 1000 * seconds / amount.steps for name, seconds in {**spent, "step": whole}.items()}
