"""The floor of every score: what the best constant prediction reaches on a split."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from segkit.data.labels import LabelCounts
from segkit.data.sample import Dataset
from segkit.engine.evaluate import merge, named_values
from segkit.engine.world import World
from segkit.metric import scores
from segkit.metric.confusion import ConfusionMatrix


def floor(counts: LabelCounts, dataset: Dataset, metrics: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What predicting the largest class everywhere scores on a split, and that ``class``.

    All that reads a confusion matrix follows from the counts; of other metrics see :class:`Constant`.

    Raises:
        DataError: no pixel of the split is labelled.
    """
    found: dict[str, Any] = dict(scores.floor(counts.pixels.tolist()))
    largest = int(found["class"])
    for name, metric in (metrics or {}).items():
        if isinstance(metric, scores.Score):
            twin = copy.copy(metric)
            twin.confusion = ConfusionMatrix(len(dataset.classes), dataset.ignore_index)
            twin.confusion.counts[: len(counts.pixels), largest] = torch.from_numpy(counts.pixels)
            found |= named_values(name, twin.compute())
    return {**found, "class": dataset.classes[largest]}


class Constant:
    """Metrics of somebody else's, shown the largest class wherever the network's prediction is shown to their twins."""

    def __init__(self, metrics: Mapping[str, Any], dataset: Dataset, lowest: Mapping[str, Any]) -> None:
        others = {name: metric for name, metric in metrics.items() if not isinstance(metric, scores.Score)}
        self.metrics = copy.deepcopy(others)
        self.logits = torch.zeros(1, len(dataset.classes), 1, 1)
        self.logits[:, dataset.classes.index(lowest["class"])] = 100.0
        for metric in self.metrics.values():
            metric.reset()

    def update(self, _logits: Tensor, target: Tensor, _names: Sequence[str]) -> None:
        """Take in a batch's target ``[B,H,W]``."""
        count, height, width = target.shape
        logits = self.logits.to(target.device).expand(count, -1, height, width)  # [B,C,H,W]
        for name, metric in self.metrics.items():
            if hasattr(metric, "to"):
                self.metrics[name] = metric = metric.to(target.device)
            metric.update(logits, target)

    def merge(self, world: World) -> None:
        """Take in what the other processes have seen."""
        for metric in self.metrics.values():
            merge(metric, world)

    def compute(self) -> dict[str, Any]:
        """Their floors by name."""
        found: dict[str, Any] = {}
        for name, metric in self.metrics.items():
            found |= named_values(name, metric.compute())
        return found


def beside(found: Mapping[str, Any], lowest: Mapping[str, Any]) -> dict[str, Any]:
    """Scores with their ``floor``, and ``lift``: how far the mean IoU is on its way from there (0) to perfect (1).

    Where the floor is perfect itself, as with one class, there is no way to go and lift is None.
    """
    way = 1 - lowest["mean_iou"]
    lift = (found["mean_iou"] - lowest["mean_iou"]) / way if way > 0 else None
    return {**found, "floor": dict(lowest), "lift": lift}
