"""Helpers shared by the losses: flattened labels with weights, and quotients of sums over them.

Void pixels have the weight 0, so they add no value and no gradient. An unknown label raises an error on the CPU. On a
device, checking would synchronise every step and indexing would kill the process, so its weight, and the loss, is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from segkit.engine.distributed import global_sum
from segkit.errors import ConfigError
from segkit.metric.confusion import check_shapes, unknown_labels


def flatten(logits: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Flatten a target ``[B,H,W]`` for logits ``[B,C,H,W]``; see :func:`flat_labels` for the labels and weights.

    Weights are float32, or float64 for float64 logits.

    Raises:
        ModelError: the logits have the wrong shape or number of classes.
        LabelError: the target has the wrong size or type or, on the CPU, an unknown label.
    """
    check_shapes(logits, target, num_classes)
    dtype = torch.promote_types(logits.dtype, torch.float32)  # 16-bit sums overflow: 512x512 is more than 65504
    labels, weights = flat_labels(target, num_classes, ignore_index, dtype)
    if logits.device.type == "cpu" and not torch.compiler.is_compiling() and (unknown := weights.isnan()).any():
        raise unknown_labels(int(unknown.sum()), num_classes, ignore_index)
    return labels, weights


def flat_labels(target: Tensor, num_classes: int, ignore_index: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the labels and weights of a target's N = B x H x W pixels.

    Labels are int64 ``[N]``, within ``0..C-1`` even for void pixels; weights ``[N]`` are 1 for labelled pixels, 0 for
    void, NaN for unknown labels.
    """
    labels = target.flatten().long()  # [N]; cast before comparing: uint8 would wrap a negative ignore_index
    labelled = labels != ignore_index
    # map negative labels to the last class, not to 0: class 0 may be excluded, and the NaN weight with it
    inside = labels.masked_fill(labels < 0, num_classes - 1).clamp(max=num_classes - 1)
    unknown = labelled & (labels != inside)
    return inside, labelled.to(dtype).masked_fill(unknown, math.nan)


def quotient(values: Tensor, total: Tensor) -> Tensor:
    """Return the sum of values, of all processes, over a total; 0, with a gradient of 0, if the total is 0."""
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
