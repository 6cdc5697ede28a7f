"""What a trainer is given, and reports of errors that nobody could foresee."""

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

# what is chosen once the data is read comes too late for these
USED = {
    *("data.on_bad", "data.scan", "data.bands", "data.no_data", "data.allow_leaks", "train.precision", "train.device"),
    *("train.seed", "train.deterministic", "train.init_from", "train.optimizer"),
}


@dataclass(frozen=True)
class TrainerInputs:
    """A model, what it is trained on and how, and where that is written.

    Attributes:
        model: ``[B,3,H,W] -> [B,C,H,W]``.
        criterion: what is minimised.
        scan: datasets by name, and what was found in them; ``train`` and ``val`` are needed, the best weights are
            scored on every one.
        folder: the run folder.
        metrics: by name, beside the usual ones.
        transforms: of training samples, after ``[augment]``.
        optimizer: that ``train.optimizer`` names.
        record: goes into ``run.json`` as it is: the config, who provided what, versions.
        model_record: goes into ``config.json``: how the model is built again.
        prepared: called with these inputs and the number of processes before anything is written; returns settings that
            replace those of the tables, as ``{"train.batch_size": 4}``.
        normalisation: of the images, once the run is prepared, as the next one.
        precision: of the forward pass, and the device.
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
        """The datasets by name, without the samples that cannot be used."""
        return self.scan.splits

    def table(self, name: str) -> dict[str, Any]:
        """One of the tables of settings, empty where there is none; "auto" is that word again."""
        return getattr(self, name).model_dump() if name in ("data", "augment", "train") else {}

    def with_settings(self, chosen: Mapping[str, Any]) -> TrainerInputs:
        """The same with other settings, as ``{"train.batch_size": 4}``.

        Their record has them in its ``config`` too, and under ``replaced`` what was asked for.

        Raises:
            ValueError: there is no such setting, it has been used already, or it cannot have this value.
        """
        tables: dict[str, dict[str, Any]] = {}
        replaced, config = {}, dict(self.record.get("config", {}))
        for key, value in chosen.items():
            name, _, setting = key.partition(".")
            settings = self.table(name)
            if setting not in settings:
                raise ValueError(f"'{key}' is no setting of data, augment or train")
            if key in USED:
                raise ValueError(f"'{key}' has been used already, to build the model and to read the data")
            replaced[key], tables.setdefault(name, settings)[setting] = settings[setting], value
            config[name] = {**config.get(name, {}), setting: value}
        try:
            own = {name: type(getattr(self, name)).model_validate(table) for name, table in tables.items()}
        except ValidationError as error:
            raise ValueError(f"{dict(chosen)}: {error.errors()[0]['msg']}") from error
        record = {**self.record, "config": config, "replaced": replaced}
        return replace(self, **own, record=record) if chosen else self

    def needs_less(self, fits: int | None = None) -> str:
        """What needs memory in a run, and what needs less; ``fits`` is a crop that does, where one is known."""
        train, crop = self.train, self.augment.crop
        parts = next((n for n in range(train.accumulate + 1, train.batch_size + 1) if train.batch_size % n == 0), 0)
        hints = [f"augment.crop={fits}"] if fits else []
        hints += [f"train.accumulate={parts}, the batch in smaller parts"] if parts else []
        hints += ["a smaller train.batch_size, augment.crop, data.resize or model"]
        return (
            f"at train.batch_size={train.batch_size}, augment.crop={crop or 'whole images'}, "
            f"train.accumulate={train.accumulate}; what needs less: {'; '.join(hints)}"
        )


@contextmanager
def explained(inputs: TrainerInputs, keep: Callable[[], str]) -> Iterator[None]:
    """Report what the run could not foresee as one line that says what to change.

    Args:
        inputs: of the run.
        keep: saves what there is, where no step is under way, and says how to go on.

    Raises:
        TrainingError: memory ran out, the card failed, or a loader's process ended.
        ModelError: the model takes images of another number of channels, or makes one value a channel of a batch.
        DataError: as the dataset or a loader's process has raised it.
    """
    try:
        yield
    except DataError as error:
        text = str(error)
        if text.startswith("Caught "):  # torch puts the traceback of a loader's process into the message
            text = text.rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")[2]
            text = text.partition("\nthis was sample ")[0].strip()
        raise error.retold(f"{text}\n{keep()}") from error
    except (MemoryError, RuntimeError, ConnectionError, EOFError, ValueError) as error:
        if known := _explanation(error, inputs, keep):
            raise known from error
        raise


def _explanation(error: Exception, inputs: TrainerInputs, keep: Callable[[], str]) -> SegkitError | None:
    """What the message of an error that is not ours means, where that is known."""
    text, device = str(error), inputs.precision.device
    first = (text.strip().splitlines() or [type(error).__name__])[0]
    ended = isinstance(error, ConnectionError | EOFError) or ("DataLoader worker" in text and "Caught " not in text)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in text:
        less = inputs.needs_less()
        return TrainingError(f"out of memory on {device}: {first} {less}. What was saved in {inputs.folder} is intact")
    if ended and inputs.train.workers:
        advice = "Memory may be short: fewer train.workers need less, train.workers=0 none"
        return TrainingError(f"a process that loads data ended: {first} {advice}\n{keep()}")
    if re.search(r"CUDA error|CUBLAS_STATUS|CUDNN_STATUS|cuDNN error", text):
        return TrainingError(
            f"{device} failed: {first}; CUDA_LAUNCH_BLOCKING=1 before the command tells in which operation. Nothing of "
            f"this process can use the device any more. The last checkpoint in {inputs.folder} is intact"
        )
    if found := re.search(r"expected input\[\d+, (\d+), .*\] to have (\d+) channels, but got \1 channels", text):
        return ModelError(
            f"the model takes images of {found[2]} channels, and the dataset gives {found[1]}, [B,{found[1]},H,W]; "
            f"build it with in_channels={found[1]}"
        )
    if "more than 1 value per channel" in text:
        return ModelError(
            f"batch normalisation cannot train on one value a channel, which the model makes of a batch of "
            f"{inputs.train.batch_size}: take a larger train.batch_size or augment.crop, a model that halves its "
            "images less often, or another normalisation in it"
        )
    return None
