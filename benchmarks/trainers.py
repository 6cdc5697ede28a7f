"""Trainers of one config in other settings, which all begin with the same weights."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch

from segkit.compose import build_inputs
from segkit.config import Config
from segkit.data.sample import Batch
from segkit.engine.inputs import TrainerInputs
from segkit.engine.launch import open_trainer
from segkit.engine.trainer import Trainer
from segkit_bench.clock import endless


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
