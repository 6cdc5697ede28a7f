"""What is measured: the model, losses, optimizer and batches of a config, as a run would have them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from itertools import count, repeat
from typing import Any

import torch

from segkit.compose import build_inputs
from segkit.config import Config
from segkit.data.loader import shut_down
from segkit.data.sample import Batch
from segkit.engine.data_source import open_sources, prefetched, training_batches
from segkit.engine.launch import prepare
from segkit.engine.precision import Precision
from segkit.engine.step import TrainingLoop

# of a loop that is only timed: a step takes as long at a tiny rate, and the loss stays finite
TIMED_ONLY: dict[str, Any] = {"lr": 1e-6, "schedule": "constant"}


class Subject:
    """A config's inputs, of which loops are made that all begin with the same weights.

    Attributes:
        batch: the first training batch, on the device.

    Raises:
        SegkitError: as a run would, before it trains.
    """

    def __init__(self, config: Config) -> None:
        self.name = config.name
        self.inputs = prepare(build_inputs(config))
        self.scan, self.precision, self.device = self.inputs.scan, self.inputs.precision, self.inputs.precision.device
        with self.batches("none") as batches:
            self.batch = next(batches()).to(self.device)
        self.images = len(self.batch.names)

    def loop(self, steps: int, precision: Precision | None = None, **settings: Any) -> TrainingLoop:
        """A loop of so many steps, its settings changed by the given ones."""
        gc.collect()  # what was measured before holds memory no longer
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        train = self.inputs.train.model_copy(update=settings)
        if train.compile:
            torch.compiler.reset()  # it compiles a few copies of a network, and runs any further one as it is
        model, precision = deepcopy(self.inputs.model), precision or self.precision
        return TrainingLoop(replace(self.inputs, model=model, train=train, precision=precision), steps)

    def fell_back(self, loop: TrainingLoop) -> bool:
        """Whether the compiler or the graph that was asked for failed, so that the network runs as it is."""
        wanted = loop.settings.compile or (loop.settings.cuda_graph and self.device.type == "cuda")
        return wanted and loop.forward._call is loop.forward.model

    @contextmanager
    def batches(self, cache: str | None = None) -> Iterator[Callable[[], Iterator[Batch]]]:
        """A function that gives a run's training batches, epoch after epoch; the same ones each time it is called.

        Args:
            cache: another ``data.cache`` than the config's.
        """
        data = self.inputs.data.model_copy(update={"cache": cache} if cache else {})
        inputs = replace(self.inputs, data=data)
        batches, order = training_batches(inputs, open_sources(inputs)["train"])

        def endless() -> Iterator[Batch]:
            for order.epoch in count(1):
                yield from batches

        try:
            yield endless
        finally:
            shut_down(batches)

    def ahead(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Batches on the device, the next one under way, as a run has them."""
        return (batch for (batch,) in prefetched(([batch] for batch in batches), self.device))

    def resident(self) -> Iterator[Batch]:
        """The first training batch, for ever."""
        return repeat(self.batch)
