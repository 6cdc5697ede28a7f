"""How the rules of metrics ask one: built the same each time, given copies of batches, its figures by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from segkit.testing.batches import VOID, guess, labels
from segkit.testing.check import Subject, require

CLASSES = 4
Batch = tuple[Tensor, Tensor]
"""Logits ``[B,C,H,W]`` and target ``[B,H,W]``."""


def build(subject: Subject, classes: int = CLASSES, void: int = VOID) -> Any:
    """The metric, given what a dataset gives."""
    names = tuple(f"class {index}" for index in range(classes))
    return subject.build(num_classes=classes, ignore_index=void, classes=names)


def batch(images: int = 2, width: int = 7, seed: int = 0, classes: int = CLASSES) -> Batch:
    """Random logits beside labels of every class and void."""
    target = labels(classes, images=images, width=width, seed=seed)
    return guess(target, classes, seed=seed), target


def score(subject: Subject, *batches: Batch, classes: int = CLASSES, void: int = VOID) -> dict[str, float]:
    """The figures of a new metric that is given copies of the batches."""
    metric = build(subject, classes, void)
    for logits, target in batches:
        metric.update(logits.clone(), target.clone())
    return read(subject, metric)


def read(subject: Subject, metric: Any) -> dict[str, float]:
    """What it computes, by name; several numbers under one name, which another rule refuses, by their mean."""
    value = metric.compute()
    values = value if isinstance(value, Mapping) else {subject.name: value}
    return {str(name): float(torch.as_tensor(each, dtype=torch.float64).nanmean()) for name, each in values.items()}


def require_same(found: Mapping[str, float], expected: Mapping[str, float], what: str, tolerance: float = 1e-5) -> None:
    """The same figures, but for a relative ``tolerance``: rounding; NaN is the same as NaN."""
    same = found.keys() == expected.keys() and all(
        math.isclose(found[name], value, rel_tol=tolerance, abs_tol=1e-7)
        or (math.isnan(value) and math.isnan(found[name]))
        for name, value in expected.items()
    )
    require(same, f"{what}: scored {told(found)}, expected {told(expected)}")


def told(figures: Mapping[str, float]) -> str:
    """Figures in a message."""
    return ", ".join(f"{name} = {value:.6g}" for name, value in figures.items())
