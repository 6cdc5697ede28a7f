"""Overlap of prediction and target class by class: what the losses of regions share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from segkit.engine.distributed import global_sum

from .softmax import Softmax


class Overlap(NamedTuple):
    """Sums over the labelled pixels of the whole batch, ``[C]`` each.

    Attributes:
        hits: the probability of a class on its own pixels.
        predicted: its probability on all pixels.
        actual: the number of its pixels; NaN with a label that does not exist.
    """

    hits: Tensor
    predicted: Tensor
    actual: Tensor


def overlap(softmax: Softmax) -> Overlap:
    """The overlap of the softmax and the target, which must have been asked for."""
    return Overlap(*global_sum(softmax.overlap))  # [3,C]


def mean_of_present(costs: Tensor, present: Tensor, include_background: bool) -> Tensor:
    """Mean cost ``[C]`` of the classes that are present, bool ``[C]``; 0 without any (why of these alone: see Dice)."""
    first = 0 if include_background else 1
    return torch.where(present, costs, 0.0)[first:].sum() / present[first:].sum().clamp_min(1)
