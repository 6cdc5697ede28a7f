"""Overlap of prediction and target class by class: what the losses of regions share."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.engine.global_batch import global_sum

from .pixels import Pixels


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


def overlap(pixels: Pixels, width: int) -> Overlap:
    """The overlap of the softmax and the target.

    Args:
        pixels: the pixels of a batch, void among them.
        width: pixels in a row of the image.
    """
    p = F.softmax(pixels.logits, dim=1, dtype=pixels.weights.dtype)  # [N,C]
    hits = p.gather(1, pixels.labels[:, None]).squeeze(1) * pixels.weights  # [N]

    # one sum a row of pixels, then over the rows: a single float32 sum of millions of pixels loses digits
    labels = pixels.labels.reshape(-1, width)  # [B*H,W]
    rows = p.new_zeros(len(labels), p.shape[1])  # [B*H,C]
    sums = (
        rows.scatter_add(1, labels, hits.reshape(-1, width)).sum(0),
        (p * pixels.weights[:, None]).sum(0),
        rows.scatter_add(1, labels, pixels.weights.reshape(-1, width)).sum(0),
    )
    return Overlap(*global_sum(torch.stack(sums)))  # [3,C]


def mean_of_present(costs: Tensor, present: Tensor, include_background: bool) -> Tensor:
    """Mean cost ``[C]`` of the classes that are present, bool ``[C]``; 0 without any (why of these alone: see Dice)."""
    first = 0 if include_background else 1
    return torch.where(present, costs, 0.0)[first:].sum() / present[first:].sum().clamp_min(1)
