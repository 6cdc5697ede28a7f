"""Trainers of one config in other settings, which all begin with the same weights."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import IO, Any

import torch

from segkit.compose import build_inputs
from segkit.config import Config
from segkit.data.sample import Batch
from segkit.engine.inputs import TrainerInputs, open_trainer
from segkit.engine.trainer import Trainer
from segkit.files import to_jsonable
from segkit_bench.clock import endless
from segkit_bench.measure import conditions
from segkit_bench.text import text_of


@contextmanager
def opened(inputs: TrainerInputs, cache: str = "none", **settings: Any) -> Iterator[Trainer]:
    """A trainer with another ``data.cache``, and other settings of ``[train]``."""
    gc.collect()  # what was measured before holds memory no longer
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    torch.compiler.reset()  # it compiles a few copies of a network, and runs any further one as it is
    train, data = inputs.train.model_copy(update=settings), inputs.data.model_copy(update={"cache": cache})
    with open_trainer(replace(inputs, model=deepcopy(inputs.model), train=train, data=data)) as trainer:
        yield trainer


def prepared(config: Config) -> tuple[TrainerInputs, Batch]:
    """The inputs of a config as a run would have them, and its first batch, on the device."""
    inputs = build_inputs(config)
    with opened(inputs) as trainer:
        own = replace(trainer.inputs, model=inputs.model, data=inputs.data)
        return own, next(endless(trainer)).to(own.precision.device)


def introduced(
    config: Config, inputs: TrainerInputs, batch: Batch, file: IO[str] | None, kind: str
) -> Callable[[Mapping[str, Any]], None]:
    """Print what is measured; return a function that writes a measurement of this kind as a line of JSON, if asked."""
    about = {"config": config.name, **conditions(inputs, batch)}
    print("\n".join(text_of("conditions", {"conditions": about})), flush=True)

    def add(facts: Mapping[str, Any]) -> None:
        if file:
            print(json.dumps(to_jsonable({"measurement": kind, **about, **facts})), file=file, flush=True)

    return add
