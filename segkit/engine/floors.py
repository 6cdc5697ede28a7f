"""The floor of every score: what the best constant prediction reaches on a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from segkit.data.labels import LabelCounts
from segkit.data.sample import Dataset
from segkit.data.scan import Scan
from segkit.engine.evaluate import named_values
from segkit.metric import scores


def floors(scan: Scan, metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Per split every score of predicting the largest class everywhere, and that ``class``.

    Our own scores follow from the class shares; metrics of somebody else's are shown that prediction, mask by mask.
    """
    others = {name: metric for name, metric in metrics.items() if not isinstance(metric, scores.Score)}
    result = {}
    for split, dataset in scan.splits.items():
        result[split] = floor(scan.counts(split), dataset)
        if others:
            result[split] |= _floor_of_others(others, dataset, dataset.classes.index(result[split]["class"]))
    return result


def beside(found: Mapping[str, Any], lowest: Mapping[str, Any]) -> dict[str, Any]:
    """Scores with their ``floor``, and ``lift``: how far the mean IoU is on its way from there (0) to perfect (1)."""
    way = 1 - lowest["mean_iou"]
    lift = (found["mean_iou"] - lowest["mean_iou"]) / way if way else 0.0
    return {**found, "floor": dict(lowest), "lift": lift}


def floor(counts: LabelCounts, dataset: Dataset) -> dict[str, Any]:
    """What the best constant prediction scores on a split, and the ``class`` it predicts.

    Raises:
        DataError: no pixel of the split is labelled.
    """
    found = scores.floor(counts.pixels.tolist())
    return {**found, "class": dataset.classes[int(found["class"])]}


def _floor_of_others(metrics: Mapping[str, Any], dataset: Dataset, largest: int) -> dict[str, Any]:
    for metric in metrics.values():
        metric.reset()
    for index in range(len(dataset)):
        target = dataset[index].mask.long()[None]  # [1,H,W]
        constant = F.one_hot(torch.full_like(target, largest), len(dataset.classes)) * 100.0  # [1,H,W,C]
        for metric in metrics.values():
            metric.update(constant.permute(0, 3, 1, 2), target)
    found: dict[str, Any] = {}
    for name, metric in metrics.items():
        found |= named_values(name, metric.compute())
        metric.reset()
    return found
