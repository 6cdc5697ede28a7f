"""The inputs of a trainer: checked, completed by what depends on data and device, and opened for training."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segkit.data.augment import Transform
from segkit.data.loader import shut_down
from segkit.data.normalise import IMAGENET, Normalisation
from segkit.data.sample import Dataset, check_splits
from segkit.data.scan import Scan
from segkit.engine.checkpoint import by_key
from segkit.engine.console import Console
from segkit.engine.criterion import Criterion
from segkit.engine.distributed import PROCESSES
from segkit.engine.history import less_is_better
from segkit.engine.init_from import init_from, read_normalisation
from segkit.engine.optim import OptimizerClass, adamw
from segkit.engine.precision import DTYPES, Precision, peak_memory, pick_device, resolve_precision, use_cpu
from segkit.engine.run_folder import RunRecord, read_json
from segkit.engine.trainer import Notify, Trainer
from segkit.errors import ConfigError, DataError, ModelError, RunFolderError, SegkitError, TrainingError
from segkit.settings import AugmentSettings, DataSettings, TrainSettings
from segkit.signals import STOP


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
def open_trainer(
    inputs: TrainerInputs, console: Console | None = None, notify: Notify | None = None, resume: bool = False
) -> Iterator[Trainer]:
    """Open a trainer with inputs prepared as for a run; nothing is written to the folder before the trainer runs.

    Errors within the block are reported as in a run; processes that load data end with the block.

    Args:
        inputs: the inputs, for example from :func:`segkit.compose.build_inputs`.
        console: prints progress; default: nothing is printed.
        notify: called with each event.
        resume: whether to continue the run in the inputs' folder.

    Raises:
        SegkitError: as in a run.
    """
    trainer: Trainer | None = None
    with STOP:
        console = console or Console(active=False)
        inputs = prepare(inputs, console, resume)
        try:
            with explain_errors(inputs, lambda: trainer.keep() if trainer else "no step was taken"):
                trainer = Trainer(inputs, notify, console)
                yield trainer
        finally:
            if trainer:
                shut_down(trainer.batches)


def prepare(inputs: TrainerInputs, console: Console, resume: bool) -> TrainerInputs:
    """Check the inputs, and determine their precision, normalisation and the numbers that plugins choose for "auto".

    Args:
        inputs: the inputs; the weights of ``train.init_from`` are loaded into their model.
        console: prints warnings, and which weights were not loaded.
        resume: whether to use normalisation, precision and the numbers for "auto" of the run in the inputs' folder; its
            weights are loaded later, from its checkpoint.

    Raises:
        ConfigError, DataError, ModelError, RunFolderError: see :mod:`segkit.errors`.
    """
    main = PROCESSES.broadcast_from_main
    check(inputs)
    scan, precision, device = inputs.scan, inputs.train.precision, pick_device(inputs.train.device)
    peak_memory(device, restart=True)
    for issue in scan.warnings:
        console.warn(str(issue))
    # the main process reads the earlier state of the run and decides what depends on its machine, for all processes
    past, file = RunRecord(inputs.folder), inputs.folder / "config.json"
    past_model, past_config = main(lambda: (read_json(file), by_key(past.config)) if resume else ({}, {}))
    name = main(lambda: resolve_precision(precision, device, str(past_model.get("precision", "bf16"))).name)
    if past_model.get("precision") in DTYPES and name != past_model["precision"]:
        console.warn(f"the run began in {past_model['precision']} and continues in {name}, which this device supports")
    no_data, statistics = scan.splits["train"].no_data != "stop", scan.statistics["train"]
    new = partial(Normalisation.of, inputs.model, statistics, no_data)
    measured = main(lambda: (read_normalisation(file) or IMAGENET) if resume else new())
    if inputs.train.init_from and not resume:
        measured = init_from(inputs.model, inputs.train.init_from, measured, console)
    use_cpu()
    inputs = replace(inputs, normalisation=measured, precision=Precision(name, device))
    try:
        inputs = inputs.with_auto({key: past_config[key] for key in inputs.auto if key in past_config})
    except ValueError as error:
        raise RunFolderError(f"{past.folder}/run.json holds settings that cannot be resumed: {error}") from error
    chosen = main(lambda: inputs.prepared(inputs, PROCESSES.size))  # also when resuming: it may refuse a lack of memory
    inputs = inputs if resume else inputs.with_auto(chosen)
    if inputs.auto:
        raise ConfigError('augment.crop, train.batch_size: no plugin chooses a number for "auto"; give a number')
    return inputs


def check(inputs: TrainerInputs) -> None:
    """Refuse inputs that are invalid or do not fit together.

    Raises:
        DataError: a split is missing, or the splits have different classes.
        ModelError: the model is not a torch.nn.Module, or its weights are not float32.
        ConfigError: ``train.best`` is not a score of the run or has no direction, or a metric is invalid.
    """
    model, kind = inputs.model, type(inputs.model).__name__
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is {kind}; a model is a torch.nn.Module, [B,3,H,W] -> logits [B,C,H,W]")
    if other := {p.dtype for p in model.parameters() if p.is_floating_point()} - {torch.float32}:
        raise ModelError(
            f"the weights of {kind} are {other.pop()}; they must be float32, whatever train.precision the forward pass "
            "has: pass model.float()"
        )
    for needed in {"train", "val"} - inputs.splits.keys():
        raise DataError(f"there is no {needed} split; there are {', '.join(inputs.splits)}")
    check_splits(inputs.splits)
    members = ("update", "compute", "reset")
    for name, metric in inputs.metrics.items():
        if isinstance(metric, type) or not all(callable(getattr(metric, each, None)) for each in members):
            raise ConfigError(f"metrics: {name} = {metric!r:.80}; a metric is an object with {', '.join(members)}")
    less_is_better(inputs.train, inputs.metrics)


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
