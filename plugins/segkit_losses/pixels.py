"""Pixels in one long row with a weight each, and weighted means of them: what the losses share.

Void has the weight 0, so it adds no value and no gradient. A label that does not exist is an error on the CPU; on a
device, where looking would make every step wait and indexing would kill the process, its weight and so the loss is NaN.
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
        labels: int64 ``[N]``, within ``0..C-1`` also where a pixel is void.
        weights: ``[N]``, 1 where a pixel is labelled, 0 where it is void, NaN where its label does not exist.
    """

    labels: Tensor
    weights: Tensor


def flatten(logits: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> Pixels:
    """The pixels of a target ``[B,H,W]`` beside logits ``[B,C,H,W]``; weights are float32, or float64 as the logits.

    Raises:
        ModelError: logits of another shape or number of classes.
        LabelError: a target of another size or type or, on the CPU, with a label that does not exist.
    """
    check_shapes(logits, target, num_classes)
    dtype = torch.promote_types(logits.dtype, torch.float32)  # 16-bit sums overflow: 512x512 is more than 65504
    pixels, unknown = _labels(target, num_classes, ignore_index, dtype)
    if logits.device.type == "cpu" and not torch.compiler.is_compiling() and unknown.any():
        raise unknown_labels(int(unknown.sum()), num_classes, ignore_index)
    return pixels


def _labels(target: Tensor, num_classes: int, ignore_index: int, dtype: torch.dtype) -> tuple[Pixels, Tensor]:
    """The pixels of a target, and which hold labels that do not exist, bool ``[N]``."""
    labels = target.flatten().long()  # [N]; before comparing, as uint8 would wrap a negative ignore_index
    labelled = labels != ignore_index
    # what is negative becomes the last class too: class 0 may be left out, and its NaN with it
    inside = labels.masked_fill(labels < 0, num_classes - 1).clamp(max=num_classes - 1)
    unknown = labelled & (labels != inside)
    return Pixels(inside, labelled.to(dtype).masked_fill(unknown, math.nan)), unknown


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Sum of values, which are weighted already, over the sum of weights; 0 where that is 0, with a gradient of 0."""
    return _quotient(values, global_sum(weights.sum()))


def batch_mean(values: Tensor, weights: Tensor, class_weights: Tensor, ignore_index: int) -> Tensor:
    """As :func:`weighted_mean`, of weights that follow from the labels: of a batch in parts, over the whole of it.

    Args:
        values: ``[N]``, or their sum.
        weights: ``[N]``, those of the classes, 0 where a pixel is void.
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
    """Refuse options that are not finite numbers of 0 or more, or with ``above`` more than 0.

    Raises:
        ConfigError: naming the option.
    """
    for name, value in options.items():
        if not (math.isfinite(value) and (value > 0 if above else value >= 0)):
            raise ConfigError(f"{name} = {value}; allowed are finite numbers {'above 0' if above else 'of 0 or more'}")


def weight_tensor(class_weights: Sequence[float] | None, num_classes: int) -> Tensor:
    """float32 ``[C]``; ones where no weights are given.

    Raises:
        ConfigError: not one number a class, or numbers that are negative or not finite.
    """
    if class_weights is None:
        return torch.ones(num_classes)
    if isinstance(class_weights, str):
        raise ConfigError(
            f'class_weights = "{class_weights}": only a config can name a formula, as it takes the training labels; '
            "in Python give the numbers that segkit.data.statistics.LabelCounts.class_weights() computes"
        )
    if len(class_weights) != num_classes:
        raise ConfigError(f"class_weights has {len(class_weights)} numbers for {num_classes} classes; give one a class")
    wrong = [weight for weight in class_weights if not (math.isfinite(weight) and weight >= 0)]
    if wrong:
        raise ConfigError(f"class_weights holds {wrong[0]}; allowed are finite numbers of 0 or more")
    if not any(class_weights):
        raise ConfigError("class_weights are all 0: no pixel would count; give one class more than 0")
    return torch.tensor([float(weight) for weight in class_weights])
