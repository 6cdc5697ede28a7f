"""Helpers shared by the losses: flattened pixels with weights, and weighted means over them.

Void pixels have the weight 0, so they add no value and no gradient. An unknown label raises an error on the CPU. On a
device, checking would synchronise every step and indexing would kill the process, so its weight, and the loss, is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from segkit.engine.distributed import current_micro_batch, global_sum
from segkit.errors import ConfigError
from segkit.metric.confusion import check_shapes, unknown_labels


class Pixels(NamedTuple):
    """The pixels of a batch, N = B x H x W.

    Attributes:
        labels: int64 ``[N]``, within ``0..C-1`` even for void pixels.
        weights: ``[N]``, 1 for labelled pixels, 0 for void, NaN for unknown labels.
    """

    labels: Tensor
    weights: Tensor


def flatten(logits: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> Pixels:
    """Flatten a target ``[B,H,W]`` for logits ``[B,C,H,W]``; weights are float32, or float64 for float64 logits.

    Raises:
        ModelError: the logits have the wrong shape or number of classes.
        LabelError: the target has the wrong size or type or, on the CPU, an unknown label.
    """
    check_shapes(logits, target, num_classes)
    dtype = torch.promote_types(logits.dtype, torch.float32)  # 16-bit sums overflow: 512x512 is more than 65504
    pixels, unknown = _labels(target, num_classes, ignore_index, dtype)
    if logits.device.type == "cpu" and not torch.compiler.is_compiling() and unknown.any():
        raise unknown_labels(int(unknown.sum()), num_classes, ignore_index)
    return pixels


def _labels(target: Tensor, num_classes: int, ignore_index: int, dtype: torch.dtype) -> tuple[Pixels, Tensor]:
    """Return the pixels of a target, and which of them have unknown labels, bool ``[N]``."""
    labels = target.flatten().long()  # [N]; cast before comparing: uint8 would wrap a negative ignore_index
    labelled = labels != ignore_index
    # map negative labels to the last class, not to 0: class 0 may be excluded, and the NaN weight with it
    inside = labels.masked_fill(labels < 0, num_classes - 1).clamp(max=num_classes - 1)
    unknown = labelled & (labels != inside)
    return Pixels(inside, labelled.to(dtype).masked_fill(unknown, math.nan)), unknown


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of already weighted values over the sum of weights; 0, with a gradient of 0, if that sum is 0."""
    return _quotient(values, global_sum(weights.sum()))


def batch_mean(values: Tensor, weights: Tensor, class_weights: Tensor, ignore_index: int) -> Tensor:
    """Return the :func:`weighted_mean` for class weights; of micro-batches, divide by the weights of the whole batch.

    Args:
        values: weighted values ``[N]``, or their sum.
        weights: ``[N]``, the class weight of each pixel; 0 for void pixels.
        class_weights: ``[C]``.
        ignore_index: the label of void pixels.
    """
    part = current_micro_batch()
    if part is None:
        return weighted_mean(values, weights)
    (labels, labelled), _ = _labels(part.target, len(class_weights), ignore_index, weights.dtype)
    return _quotient(values, global_sum((class_weights.to(weights.dtype)[labels] * labelled).sum()) * part.share)


def _quotient(values: Tensor, total: Tensor) -> Tensor:
    empty = total == 0
    return torch.where(empty, 0.0, global_sum(values.sum())) / torch.where(empty, 1.0, total)


def require_at_least_0(above: bool = False, **options: float) -> None:
    """Check that options are finite numbers of 0 or more, or, with ``above``, more than 0.

    Raises:
        ConfigError: an option is not; the message names it.
    """
    for name, value in options.items():
        if not (math.isfinite(value) and (value > 0 if above else value >= 0)):
            raise ConfigError(f"{name} = {value}; allowed are finite numbers {'above 0' if above else 'of 0 or more'}")


def weight_tensor(class_weights: Sequence[float] | None, num_classes: int) -> Tensor:
    """Return class weights as a float32 tensor ``[C]``; ones if None.

    Raises:
        ConfigError: the number of weights is not ``num_classes``, one is negative or not finite, or all are 0.
    """
    if class_weights is None:
        return torch.ones(num_classes)
    if isinstance(class_weights, str):
        raise ConfigError(
            f'class_weights = "{class_weights}": only a config can name a formula, as it needs the training labels; '
            "in Python give the numbers that segkit.data.statistics.LabelCounts.class_weights() computes"
        )
    if len(class_weights) != num_classes:
        raise ConfigError(f"class_weights has {len(class_weights)} numbers for {num_classes} classes; give one each")
    wrong = [weight for weight in class_weights if not (math.isfinite(weight) and weight >= 0)]
    if wrong:
        raise ConfigError(f"class_weights holds {wrong[0]}; allowed are finite numbers of 0 or more")
    if not any(class_weights):
        raise ConfigError("class_weights are all 0, so no pixel would count; give at least one class more than 0")
    return torch.tensor([float(weight) for weight in class_weights])
