"""All that a run needs, as objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from segkit.data.labels import LabelCounts
from segkit.data.sample import Dataset
from segkit.engine.objective import Objective
from segkit.settings import AugmentSettings, DataSettings, OutputSettings, TrainSettings


@dataclass(frozen=True)
class Job:
    """A model, what it is trained on and how, and where that is written.

    Attributes:
        model: ``[B,3,H,W] -> [B,C,H,W]``.
        objective: what is minimised.
        splits: datasets by name; ``train`` and ``val`` are needed, the best weights are scored on every one.
        folder: the run folder.
        counts: labels by split, where they were counted already.
        metrics: by name, beside the usual ones.
        record: goes into ``run.json`` as it is: the config, who provided what, versions.
        model_record: goes into ``config.json``: how the model is built again.
    """

    model: nn.Module
    objective: Objective
    splits: Mapping[str, Dataset]
    folder: Path
    counts: Mapping[str, LabelCounts] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    train: TrainSettings = field(default_factory=TrainSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    record: Mapping[str, Any] = field(default_factory=dict)
    model_record: Mapping[str, Any] = field(default_factory=dict)
