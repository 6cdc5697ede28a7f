"""All that a run needs, as objects, and whether they fit together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segkit.data.normalise import IMAGENET, Normalisation
from segkit.data.sample import Dataset, check_splits
from segkit.data.scan import Scan
from segkit.engine.criterion import Objective
from segkit.engine.evaluate import ALWAYS
from segkit.engine.optim import encoder_of
from segkit.errors import ConfigError, DataError, ModelError
from segkit.settings import AugmentSettings, DataSettings, OutputSettings, TrainSettings


@dataclass(frozen=True)
class Job:
    """A model, what it is trained on and how, and where that is written.

    Attributes:
        model: ``[B,3,H,W] -> [B,C,H,W]``.
        objective: what is minimised.
        splits: datasets by name; ``train`` and ``val`` are needed, the best weights are scored on every one.
        folder: the run folder.
        scan: of ``splits``, where they were scanned already.
        metrics: by name, beside the usual ones.
        record: goes into ``run.json`` as it is: the config, who provided what, versions.
        normalisation: of the images, once they were scanned.
        model_record: goes into ``config.json``: how the model is built again.
    """

    model: nn.Module
    objective: Objective
    splits: Mapping[str, Dataset]
    folder: Path
    scan: Scan | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    train: TrainSettings = field(default_factory=TrainSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    normalisation: Normalisation = IMAGENET
    record: Mapping[str, Any] = field(default_factory=dict)
    model_record: Mapping[str, Any] = field(default_factory=dict)


def check(job: Job) -> None:
    """Refuse a job whose parts do not fit together.

    Raises:
        DataError: a split is missing, or the splits are of different classes.
        ModelError: the model is none, or has no weights of float32 to train.
        ConfigError: ``train.best`` is no score of the run or has no direction, a metric is none, or
            ``train.encoder_lr_mult`` is for no part of the model.
    """
    _check_model(job.model)
    for needed in ("train", "val"):
        if needed not in job.splits:
            raise DataError(f"there is no {needed} split; there are {', '.join(job.splits)}")
    if not isinstance(job.metrics, Mapping):
        raise ConfigError(f"metrics is {type(job.metrics).__name__}; metrics go by name: metrics={{'f1': metric}}")
    for name, metric in job.metrics.items():
        asked = ("update", "compute", "reset")
        if isinstance(metric, type) or not all(callable(getattr(metric, each, None)) for each in asked):
            raise ConfigError(f"metrics: {name} = {metric!r:.80}; a metric is an object with {', '.join(asked)}")
    known = ("loss", *ALWAYS, *job.metrics)
    if job.train.best not in known:
        raise ConfigError(f'train.best = "{job.train.best}" is no score of this run; there are {", ".join(known)}')
    best: Any = job.metrics.get(job.train.best)
    if hasattr(best, "keys"):  # torchmetrics' MetricCollection
        raise ConfigError(
            f'train.best = "{job.train.best}" is several metrics, {", ".join(map(str, best.keys()))}; give the one '
            "that counts a name of its own: metrics={'name': metric}"
        )
    less_is_better(job)
    if job.train.encoder_lr_mult != 1:
        encoder_of(job.model)
    check_splits(job.splits)


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise ModelError(f"model is {kind}; a model is a torch.nn.Module, [B,3,H,W] -> logits [B,C,H,W]")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"{type(model).__name__} has no weights that require gradients, so nothing can be trained")
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    if other := kinds - {torch.float32}:
        raise ModelError(
            f"the weights of {type(model).__name__} are {other.pop()}; they stay float32, and train.precision is what "
            "the network computes in: pass model.float()"
        )


def less_is_better(job: Job) -> bool:
    """Whether the best epoch is the one with the least of ``train.best``.

    Raises:
        ConfigError: nothing says it, or ``train.best_mode`` contradicts the metric.
    """
    name, said = job.train.best, job.train.best_mode
    more = True if name in ALWAYS else getattr(job.metrics.get(name), "higher_is_better", None)
    if name == "loss":
        more = False
    if more is None and said == "auto":
        raise ConfigError(
            f'train.best = "{name}": this metric does not say whether more or less of it is better (its attribute '
            'higher_is_better); set train.best_mode = "max" or "min"'
        )
    if more is not None and said == ("min" if more else "max"):
        raise ConfigError(
            f'train.best_mode = "{said}": of {name} {"more" if more else "less"} is better, as '
            f"{'its higher_is_better says' if name in job.metrics else 'is known'}; leave train.best_mode out"
        )
    return said == "min" if more is None else not more
