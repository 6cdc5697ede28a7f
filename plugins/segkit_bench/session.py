"""A call of ``bench``: what is measured when, and what is said where it cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

import torch

from segkit.config import Config
from segkit.engine.inputs import explained
from segkit.errors import TrainingError
from segkit_bench.clock import Amount
from segkit_bench.ladder import climb
from segkit_bench.plain import measure_plainly
from segkit_bench.precisions import compare
from segkit_bench.report import Report
from segkit_bench.subject import Subject

SECONDS = 20.0  # of a measurement, where nobody says how many steps it is to take


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for; None is what suits the device."""

    warmup: int | None = None
    steps: int | None = None
    repeats: int = 3
    compare_steps: int | None = None
    precisions: Sequence[str] = ()
    ladder: bool = False


def measure(config: Config, wishes: Wishes, file: TextIO | None = None, *, table: bool = True) -> None:
    """Measure a config and tell it.

    Args:
        config: as for a run.
        wishes: what to measure, how long.
        file: for JSON lines.
        table: print for people.

    Raises:
        SegkitError: as a run would.
    """
    subject = Subject(config)
    cuda = subject.device.type == "cuda"
    warmup, steps, compared = (10, 50, 100) if cuda else (2, 5, 20)
    seconds = math.inf if wishes.steps or wishes.warmup else SECONDS
    amount = Amount(wishes.warmup or warmup, wishes.steps or steps, wishes.repeats, seconds)
    report = Report(subject, amount, file, table)
    with explained(subject.job, subject.device, lambda: "bench ends here"), _memory_told(subject):
        report.introduce()
        if wishes.precisions:
            compare(subject, wishes.precisions, amount, wishes.compare_steps or compared, report)
        if wishes.ladder:
            climb(subject, amount, report)
        if not (wishes.precisions or wishes.ladder):
            measure_plainly(subject, amount, report)


@contextmanager
def _memory_told(subject: Subject) -> Iterator[None]:
    """As a run tells it, without a checkpoint to speak of."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        train = subject.job.train
        raise TrainingError(
            f"out of memory on {subject.device} with batches of {subject.images} images of "
            f"{' x '.join(map(str, subject.crop))} pixels: give a smaller train.batch_size or augment.crop, or "
            f"train.accumulate={train.accumulate * 2}, which halves what a step needs"
        ) from error
