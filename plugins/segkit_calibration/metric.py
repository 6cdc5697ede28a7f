"""The expected calibration error: by how much a network is surer than it is right, over labelled pixels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from segkit.errors import ConfigError
from segkit.metric.confusion import check_shapes, unknown_labels

_ONE = 1 << 30  # a probability of 1; sums of integers are the same in any order and number of processes


class CalibrationError:
    """The expected calibration error: mean distance of confidence and accuracy, 0 is best.

    ``sum over bins of pixels in bin / pixels x |accuracy - mean confidence|``. A pixel's confidence is the largest of
    its probabilities, and puts it into one of ``bins`` equal parts of 0..1. Guo, Pleiss, Sun and Weinberger, "On
    Calibration of Modern Neural Networks", arXiv 1706.04599, with every labelled pixel of the split as a sample.

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        bins: 15 is the paper's.

    Raises:
        ConfigError: ``bins`` is below 1.
    """

    higher_is_better = False

    def __init__(self, num_classes: int, ignore_index: int, bins: int = 15) -> None:
        if bins < 1:
            raise ConfigError(f"bins = {bins}; allowed are 1 or more")
        self.num_classes, self.ignore_index, self.bins = num_classes, ignore_index, bins
        self.reset()

    def reset(self) -> None:
        """Forget every batch."""
        self.sums = torch.zeros(3, self.bins, dtype=torch.int64)  # pixels, confidence, right ones
        self.unknown = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch: logits ``[B,C,H,W]``, target ``[B,H,W]``.

        Raises:
            ModelError, LabelError: they have other shapes, or the target holds no integers.
        """
        check_shapes(logits, target, self.num_classes)
        self.sums, self.unknown = self.sums.to(logits.device), self.unknown.to(logits.device)
        odd = (target < 0) | (target >= self.num_classes)  # [B,H,W]
        self.unknown += (odd & (target != self.ignore_index)).sum()
        labelled = ~odd & (target != self.ignore_index)
        confidence, predicted = logits.float().softmax(1).max(1)  # [B,H,W] each
        place = (confidence * self.bins).ceil().long().sub(1).clamp(0, self.bins - 1)  # a bin holds its upper end
        counts = torch.stack([labelled.long(), (confidence * _ONE).round().long(), (predicted == target).long()])
        self.sums.index_add_(1, place.flatten(), (counts * labelled).flatten(1))

    def compute(self) -> float:
        """The error; NaN without a labelled pixel.

        Raises:
            LabelError: a target held labels that do not exist.
        """
        if self.unknown:
            raise unknown_labels(int(self.unknown), self.num_classes, self.ignore_index)
        found = self.reliability()
        return sum(share * abs(right - sure) for share, sure, right in found) if found else math.nan

    def reliability(self) -> list[tuple[float, float, float]]:
        """Of each bin that has any the share of the pixels, their mean confidence and accuracy."""
        columns: list[list[int]] = self.sums.T.tolist()
        total = sum(count for count, _, _ in columns)
        return [(count / total, sure / _ONE / count, right / count) for count, sure, right in columns if count]

    def merge(self, other: CalibrationError) -> None:
        """Add what another process counted."""
        self.sums = self.sums + other.sums.to(self.sums.device)
        self.unknown = self.unknown + other.unknown.to(self.unknown.device)

    def to(self, device: Any) -> CalibrationError:
        """Move what was counted to a device."""
        self.sums, self.unknown = self.sums.to(device), self.unknown.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where it counts."""
        return self.sums.device
