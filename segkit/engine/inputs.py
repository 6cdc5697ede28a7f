"""The inputs of a trainer, and explanations of errors that are raised by torch or the system."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
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

# settings that have been used by the time the data is read, so that plugins can no longer change them
USED = {
    *("data.on_bad", "data.bands", "data.no_data", "data.allow_leaks", "train.precision", "train.device"),
    *("train.seed", "train.deterministic", "train.init_from", "train.optimizer"),
}


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
        prepared: called with these inputs and the number of processes before anything is written; returns settings that
            replace those of the tables, such as ``{"train.batch_size": 4}``.
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

    def table(self, name: str) -> dict[str, Any]:
        """One table of settings as plain values, with the word "auto" restored; {} for an unknown table."""
        return getattr(self, name).model_dump() if name in ("data", "augment", "train") else {}

    def with_settings(self, chosen: Mapping[str, Any]) -> TrainerInputs:
        """Return a copy with other settings, such as ``{"train.batch_size": 4}``.

        In its ``record``, ``config`` holds the new values and ``replaced`` the original ones.

        Raises:
            ValueError: a setting does not exist, has been used already, or cannot have this value.
        """
        tables: dict[str, dict[str, Any]] = {}
        replaced, config = {}, dict(self.record.get("config", {}))
        for key, value in chosen.items():
            name, _, setting = key.partition(".")
            settings = self.table(name)
            if setting not in settings:
                raise ValueError(f"'{key}' is not a setting of data, augment or train")
            if key in USED:
                raise ValueError(f"'{key}' has been used already, to build the model and to read the data")
            replaced[key], tables.setdefault(name, settings)[setting] = settings[setting], value
            config[name] = {**config.get(name, {}), setting: value}
        try:
            changed = {name: type(getattr(self, name)).model_validate(table) for name, table in tables.items()}
        except ValidationError as error:
            raise ValueError(f"{dict(chosen)}: {error.errors()[0]['msg']}") from error
        record = {**self.record, "config": config, "replaced": replaced}
        return replace(self, **changed, record=record) if chosen else self

    def needs_less(self, fits: int | None = None) -> str:
        """Describe what determines a run's memory and how to reduce it; ``fits``: a crop known to fit, if any."""
        train, crop = self.train, self.augment.crop
        parts = next((n for n in range(train.accumulate + 1, train.batch_size + 1) if train.batch_size % n == 0), 0)
        hints = [f"augment.crop={fits}"] if fits else []
        hints += [f"train.accumulate={parts}, the batch in smaller parts"] if parts else []
        hints += ["a smaller train.batch_size, augment.crop, data.resize or model"]
        return (
            f"at train.batch_size={train.batch_size}, augment.crop={crop or 'whole images'}, "
            f"train.accumulate={train.accumulate}; these need less: {'; '.join(hints)}"
        )


@contextmanager
def explain_errors(inputs: TrainerInputs, keep: Callable[[], str]) -> Iterator[None]:
    """Turn known errors of torch and the system into segkit errors that say what to change.

    Args:
        inputs: the run's inputs.
        keep: saves the state, if no step is under way, and returns how to continue.

    Raises:
        TrainingError: memory ran out, the device failed, or a loader process ended.
        ModelError: the model expects another number of channels, or reduces a batch to one value per channel.
        DataError: raised by the dataset, perhaps in a loader process.
    """
    try:
        yield
    except DataError as error:
        text = str(error)
        if text.startswith("Caught "):  # torch puts the traceback of the loader process into the message
            text = text.rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")[2]
            text = text.partition("\nthis was sample ")[0].strip()
        raise error.with_message(f"{text}\n{keep()}") from error
    except (MemoryError, RuntimeError, ConnectionError, EOFError, ValueError) as error:
        if known := _explanation(error, inputs, keep):
            raise known from error
        raise


def _explanation(error: Exception, inputs: TrainerInputs, keep: Callable[[], str]) -> SegkitError | None:
    """Translate an error of torch or the system; None if it is unknown."""
    text, device = str(error), inputs.precision.device
    first = (text.strip().splitlines() or [type(error).__name__])[0]
    ended = isinstance(error, ConnectionError | EOFError) or ("DataLoader worker" in text and "Caught " not in text)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in text:
        less = inputs.needs_less()
        return TrainingError(f"out of memory on {device}: {first} {less}. What was saved in {inputs.folder} is intact")
    if ended and inputs.train.workers:
        advice = "Memory may be short: reduce train.workers; train.workers=0 starts no such processes"
        return TrainingError(f"a process that loads data ended: {first} {advice}\n{keep()}")
    if re.search(r"CUDA error|CUBLAS_STATUS|CUDNN_STATUS|cuDNN error", text):
        return TrainingError(
            f"{device} failed: {first}; CUDA_LAUNCH_BLOCKING=1 before the command shows in which operation. This "
            f"process cannot use the device any more. The last checkpoint in {inputs.folder} is intact"
        )
    if found := re.search(r"expected input\[\d+, (\d+), .*\] to have (\d+) channels, but got \1 channels", text):
        return ModelError(
            f"the model expects images with {found[2]} channels, and the dataset gives {found[1]}, [B,{found[1]},H,W]; "
            f"build it with in_channels={found[1]}"
        )
    if "more than 1 value per channel" in text:
        return ModelError(
            f"batch normalisation cannot train on one value per channel, to which the model reduces a batch of "
            f"{inputs.train.batch_size}: use a larger train.batch_size or augment.crop, a model that downsamples less, "
            "or another normalisation layer"
        )
    return None
