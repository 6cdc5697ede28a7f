"""The inputs of a trainer, and explanations of errors that are raised by torch or the system."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segkit.data.augment import Transform
from segkit.data.normalise import IMAGENET, Normalisation
from segkit.data.sample import Dataset
from segkit.data.scan import Scan
from segkit.engine.criterion import Criterion
from segkit.engine.optim import OptimizerClass, adamw
from segkit.engine.precision import Precision
from segkit.errors import DataError, ModelError, SegkitError, TrainingError
from segkit.settings import AugmentSettings, DataSettings, TrainSettings


@dataclass(frozen=True)
class TrainerInputs:
    """A model, its data and settings, and the run folder.

    Attributes:
        model: ``[B,I,H,W] -> [B,C,H,W]``.
        criterion: the training criterion.
        scan: datasets by name, and their statistics and issues; ``train`` and ``val`` are required, the best weights
            are evaluated on all.
        folder: the run folder.
        metrics: metrics by name, in addition to the usual ones.
        transforms: random transforms of training samples, applied after ``[augment]``.
        optimizer: the optimizer that ``train.optimizer`` names.
        record: stored in ``run.json`` unchanged: the config, the components with their plugins, versions.
        model_record: stored in ``config.json``: how to build the model again.
        prepared: called with these inputs and the number of processes before anything is written; returns numbers for
            settings that are "auto", such as ``{"train.batch_size": 4}``.
        normalisation: normalisation of the images; like ``precision``, only valid once the run is prepared.
        precision: precision of the forward pass, and the device.
    """

    model: nn.Module
    criterion: Criterion
    scan: Scan
    folder: Path
    metrics: Mapping[str, Any] = field(default_factory=dict)
    transforms: Sequence[Transform] = ()
    optimizer: OptimizerClass = adamw
    train: TrainSettings = field(default_factory=TrainSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    record: Mapping[str, Any] = field(default_factory=dict)
    model_record: Mapping[str, Any] = field(default_factory=dict)
    prepared: Callable[..., Mapping[str, Any]] = lambda *_: {}
    normalisation: Normalisation = IMAGENET
    precision: Precision = field(default_factory=lambda: Precision("fp32", torch.device("cpu")))

    @property
    def splits(self) -> Mapping[str, Dataset]:
        """The datasets by name, without unusable samples."""
        return self.scan.splits

    @property
    def auto(self) -> list[str]:
        """The settings that are "auto" and wait for a number."""
        return [key for key in ("augment.crop", "train.batch_size") if attrgetter(key)(self) == "auto"]

    def with_auto(self, chosen: Mapping[str, int]) -> TrainerInputs:
        """Return a copy with numbers for settings that are "auto", such as ``{"train.batch_size": 4}``.

        In its ``record``, ``config`` holds the numbers, and ``replaced`` the settings that were "auto".

        Raises:
            ValueError: a setting is not "auto", or cannot have this value.
        """
        tables, config = {}, dict(self.record.get("config", {}))
        for key, number in chosen.items():
            if key not in self.auto:
                raise ValueError(f"'{key}' is not \"auto\" in this config, so no number is chosen for it")
            name, _, setting = key.partition(".")
            table = getattr(self, name)
            tables[name] = type(table).model_validate({**table.model_dump(), setting: number})
            config[name] = {**config.get(name, {}), setting: number}
        record = {**self.record, "config": config, "replaced": dict.fromkeys(chosen, "auto")}
        return replace(self, **tables, record=record) if chosen else self

    @property
    def memory_hint(self) -> str:
        """What determines the memory of a step, and how to reduce it."""
        train, crop = self.train, self.augment.crop or "whole images"
        return (
            f"at train.batch_size={train.batch_size}, augment.crop={crop}, train.accumulate={train.accumulate}; a "
            "smaller batch_size, crop, data.resize or model needs less, or a larger accumulate that divides batch_size"
        )


@contextmanager
def explain_errors(inputs: TrainerInputs, keep: Callable[[], str]) -> Iterator[None]:
    """Turn known errors of torch and the system into segkit errors that say what to change.

    Args:
        inputs: the run's inputs.
        keep: saves the state, if no step is under way, and returns how to continue.

    Raises:
        TrainingError: memory ran out, the device failed, or a loader process ended.
        ModelError: the model cannot be trained on images of these channels or on so small a batch.
        DataError: raised by the dataset, perhaps in a loader process.
    """
    try:
        yield
    except DataError as error:
        text = str(error)
        if text.startswith("Caught "):  # torch puts the traceback of the loader process into the message
            text = text.rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")[2]
            text = text.partition("\nthis was sample ")[0].strip()
        raise DataError(f"{text}\n{keep()}", error.issue) from error
    except (MemoryError, RuntimeError, ConnectionError, EOFError, ValueError) as error:
        if known := _explanation(error, inputs, keep):
            raise known from error
        raise


def _explanation(error: Exception, inputs: TrainerInputs, keep: Callable[[], str]) -> SegkitError | None:
    """Translate an error of torch or the system; None if it is unknown."""
    text, device, batch = str(error), inputs.precision.device, inputs.train.batch_size
    first = (text.strip().splitlines() or [type(error).__name__])[0]
    ended = isinstance(error, ConnectionError | EOFError) or ("DataLoader worker" in text and "Caught " not in text)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in text:
        hint = inputs.memory_hint
        return TrainingError(f"out of memory on {device}: {first} {hint}. What was saved in {inputs.folder} is intact")
    if ended and inputs.train.workers:
        advice = "Memory may be short: reduce train.workers; train.workers=0 starts no such processes"
        return TrainingError(f"a process that loads data ended: {first} {advice}\n{keep()}")
    if re.search(r"CUDA error|CUBLAS_STATUS|CUDNN_STATUS|cuDNN error", text):
        advice = "CUDA_LAUNCH_BLOCKING=1 before the command shows in which operation"
        return TrainingError(f"{device} failed: {first}; {advice}. The last checkpoint in {inputs.folder} is intact")
    if re.search(r"to have \d+ channels|more than 1 value per channel", text):
        channels = len(inputs.splits["train"].channels)
        return ModelError(
            f"the model cannot train on batches of {batch} images [B,{channels},H,W]: {first}; it must be built with "
            f"in_channels={channels}, and batch normalisation needs a larger train.batch_size or augment.crop"
        )
    return None
