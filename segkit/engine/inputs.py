"""What a trainer is given, the checks that its parts fit together, and reports of errors that nobody could foresee."""

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
from segkit.data.sample import Dataset, check_splits
from segkit.data.scan import Scan
from segkit.engine.criterion import Criterion
from segkit.engine.optim import OptimizerClass, adamw, encoder_of
from segkit.engine.precision import peak_memory
from segkit.engine.run_folder import RunRecord
from segkit.engine.split_scores import ALWAYS
from segkit.errors import ConfigError, DataError, ModelError, RunFolderError, TrainingError
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
        splits: datasets by name; ``train`` and ``val`` are needed, the best weights are scored on every one.
        folder: the run folder.
        scan: of ``splits``, where they were scanned already.
        checks: of the data by name, for a scan that is still to be made.
        metrics: by name, beside the usual ones.
        transforms: of training samples, after ``[augment]``.
        optimizer: that ``train.optimizer`` names.
        record: goes into ``run.json`` as it is: the config, who provided what, versions.
        prepared: called with these inputs, the scan, the precision and the number of processes before anything is
            written; returns settings that replace those of the tables, as ``{"train.batch_size": 4}``.
        normalisation: of the images, once they were scanned.
        model_record: goes into ``config.json``: how the model is built again.
    """

    model: nn.Module
    criterion: Criterion
    splits: Mapping[str, Dataset]
    folder: Path
    scan: Scan | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    transforms: Sequence[Transform] = ()
    optimizer: OptimizerClass = adamw
    train: TrainSettings = field(default_factory=TrainSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    prepared: Callable[..., Mapping[str, Any]] = lambda **_: {}
    normalisation: Normalisation = IMAGENET
    record: Mapping[str, Any] = field(default_factory=dict)
    model_record: Mapping[str, Any] = field(default_factory=dict)

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
            settings = _settings(self, name)
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


def _settings(inputs: TrainerInputs, name: str) -> dict[str, Any]:
    """One of the tables of settings; "auto" is that word again."""
    return getattr(inputs, name).model_dump() if name in ("data", "augment", "train") else {}


def begun_with(inputs: TrainerInputs, past: RunRecord) -> dict[str, Any]:
    """The settings that a run has begun with, where they are left to it now or are asked for as they were then.

    Raises:
        RunFolderError: they do not fit together, or ``run.json`` is damaged.
    """
    found = {}
    try:
        for key in ("augment.crop", "train.batch_size", *past.replaced):
            name, _, setting = key.partition(".")
            asked, before = _settings(inputs, name), past.config.get(name, {})
            if setting in before and asked[setting] in ("auto", past.replaced.get(key, "auto")):
                found[key] = before[setting]
        inputs.with_settings(found)
    except (ValueError, TypeError, KeyError) as error:
        raise RunFolderError(
            f"{past.folder / 'run.json'} holds settings that cannot be gone on with: {error}"
        ) from error
    return found


def check(inputs: TrainerInputs) -> None:
    """Refuse what does not fit together.

    Raises:
        DataError: a split is missing, or the splits are of different classes.
        ModelError: the model is none, or has no weights of float32 to train.
        ConfigError: ``train.best`` is no score of the run or has no direction, a metric is none, or
            ``train.encoder_lr_mult`` is for no part of the model.
    """
    model, kind = inputs.model, type(inputs.model).__name__
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is {kind}; a model is a torch.nn.Module, [B,3,H,W] -> logits [B,C,H,W]")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"{kind} has no weights that require gradients, so nothing can be trained")
    if other := {p.dtype for p in model.parameters() if p.is_floating_point()} - {torch.float32}:
        raise ModelError(
            f"the weights of {kind} are {other.pop()}; they stay float32, and train.precision is what the network "
            "computes in: pass model.float()"
        )
    for needed in ("train", "val"):
        if needed not in inputs.splits:
            raise DataError(f"there is no {needed} split; there are {', '.join(inputs.splits)}")
    if not isinstance(inputs.metrics, Mapping):
        raise ConfigError(f"metrics is {type(inputs.metrics).__name__}; metrics go by name: metrics={{'f1': metric}}")
    for name, metric in inputs.metrics.items():
        asked = ("update", "compute", "reset")
        if isinstance(metric, type) or not all(callable(getattr(metric, each, None)) for each in asked):
            raise ConfigError(f"metrics: {name} = {metric!r:.80}; a metric is an object with {', '.join(asked)}")
    less_is_better(inputs)
    if inputs.train.encoder_lr_mult != 1:
        encoder_of(inputs.model)
    check_splits(inputs.splits)


def less_is_better(inputs: TrainerInputs) -> bool:
    """Whether the best epoch is the one with the lowest value of ``train.best``.

    Raises:
        ConfigError: it is no single score of the run, nothing says whether more of it is better, or
            ``train.best_mode`` contradicts the metric.
    """
    name, mode = inputs.train.best, inputs.train.best_mode
    metric: Any = inputs.metrics.get(name)
    known = ("loss", *ALWAYS, *inputs.metrics)
    if name not in known:
        raise ConfigError(f'train.best = "{name}" is no score of this run; there are {", ".join(known)}')
    more = name != "loss" if name in ("loss", *ALWAYS) else getattr(metric, "higher_is_better", None)
    if mode == "auto" and more is None:
        raise ConfigError(
            f'train.best = "{name}": this metric does not say whether more or less of it is better (its attribute '
            'higher_is_better); set train.best_mode = "max" or "min"'
        )
    less = mode == "min" if more is None else not more
    if mode == ("max" if less else "min"):
        raise ConfigError(f'train.best_mode = "{mode}": of {name} {"less" if less else "more"} is better; leave it out')
    return less


@contextmanager
def explained(inputs: TrainerInputs, device: torch.device, keep: Callable[[], str]) -> Iterator[None]:
    """Report what the run could not foresee as one line that says what to change.

    Args:
        inputs: of the run.
        device: it runs on.
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
        text = str(error)
        first = (text.strip().splitlines() or [type(error).__name__])[0]
        ended = isinstance(error, ConnectionError | EOFError) or ("DataLoader worker" in text and "Caught " not in text)
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in text:
            used = ""
            if device.type == "cuda":
                whole = torch.cuda.get_device_properties(device).total_memory
                used = f": {peak_memory(device) / (1 << 30):.1f} of {whole / (1 << 30):.1f} GiB"
            less = needs_less(inputs.train, inputs.augment.crop)
            raise TrainingError(
                f"out of memory on {device}{used} {less}. What was saved in {inputs.folder} is intact"
            ) from error
        if ended and inputs.train.workers:
            advice = "Memory may be short: fewer train.workers need less, train.workers=0 none"
            raise TrainingError(f"a process that loads data ended: {first} {advice}\n{keep()}") from error
        if re.search(r"CUDA error|CUBLAS_STATUS|CUDNN_STATUS|cuDNN error", text):
            raise TrainingError(
                f"{device} failed: {first}; CUDA_LAUNCH_BLOCKING=1 before the command tells in which operation. "
                "Nothing of this process can use the device any more. The last checkpoint in "
                f"{inputs.folder} is intact"
            ) from error
        if found := re.search(r"expected input\[\d+, (\d+), .*\] to have (\d+) channels, but got \1 channels", text):
            raise ModelError(
                f"the model takes images of {found[2]} channels, and the dataset gives {found[1]}, [B,{found[1]},H,W]; "
                f"build it with in_channels={found[1]}"
            ) from error
        if "more than 1 value per channel" in text:
            raise ModelError(
                f"batch normalisation cannot train on one value a channel, which the model makes of a batch of "
                f"{inputs.train.batch_size}: take a larger train.batch_size or augment.crop, a model that halves its "
                "images less often, or another normalisation in it"
            ) from error
        raise


def needs_less(train: TrainSettings, crop: int | list[int] | None, fits: int | None = None) -> str:
    """What needs memory in a run, and what needs less; ``fits`` is a crop that does, where one is known."""
    counts = range(train.accumulate + 1, train.batch_size + 1)
    parts = [f"train.accumulate={n}, the batch in smaller parts" for n in counts if train.batch_size % n == 0]
    hints = [f"augment.crop={fits}"] if fits else []
    hints += [*parts[:1], "a smaller train.batch_size, augment.crop, data.resize or model"]
    return (
        f"at train.batch_size={train.batch_size}, augment.crop={crop or 'whole images'}, "
        f"train.accumulate={train.accumulate}; what needs less: {'; '.join(hints)}"
    )
