"""Where the samples of an evaluation come from: their files, or the memory of the device."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from segkit.data.loader import evaluation_loader
from segkit.data.order import EvaluationOrder
from segkit.data.resident import Resident, ResidentEvaluation
from segkit.data.sample import Batch
from segkit.data.samples import Samples

Source = Samples | Resident


def scored_batches(source: Source, order: EvaluationOrder, workers: int, device: torch.device) -> Iterable[list[Batch]]:
    """The batches of an evaluation, each a list of batches of one size."""
    if isinstance(source, Resident):
        return ResidentEvaluation(source, order)
    return evaluation_loader(source, order, workers=workers, device=device)
