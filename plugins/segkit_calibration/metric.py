"""The metric ``calibration_error``: how far confidence differs from accuracy, over labelled pixels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from segkit.errors import ConfigError
from segkit.metric.confusion import check_shapes, unknown_labels

_ONE = 1 << 30  # a probability of 1; integer sums do not depend on the order or the number of processes


class CalibrationError:
    """The expected calibration error: mean difference between confidence and accuracy, 0 is best.

    ``sum over bins of pixels in bin / pixels x |accuracy - mean confidence|``. A pixel's confidence is its largest
    probability, which selects one of ``bins`` equal intervals of 0..1. Guo, Pleiss, Sun and Weinberger, "On
    Calibration of Modern Neural Networks", arXiv 1706.04599, with every labelled pixel of the split as a sample.

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        bins: the number of bins; 15 as in the paper.

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
        """Reset all counts."""
        self.sums = torch.zeros(3, self.bins, dtype=torch.int64)  # pixels, sum of confidence, correct pixels
        self.unknown = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch: logits ``[B,C,H,W]``, target ``[B,H,W]``.

        Raises:
            ModelError, LabelError: the shapes are wrong, or the target is not of an integer type.
        """
        check_shapes(logits, target, self.num_classes)
        self.sums, self.unknown = self.sums.to(logits.device), self.unknown.to(logits.device)
        odd = (target < 0) | (target >= self.num_classes)  # [B,H,W]
        self.unknown += (odd & (target != self.ignore_index)).sum()
        labelled = ~odd & (target != self.ignore_index)
        confidence, predicted = logits.float().softmax(1).max(1)  # [B,H,W] each
        place = (confidence * self.bins).ceil().long().sub(1).clamp(0, self.bins - 1)  # bins include their upper end
        counts = torch.stack([labelled.long(), (confidence * _ONE).round().long(), (predicted == target).long()])
        self.sums.index_add_(1, place.flatten(), (counts * labelled).flatten(1))

    def compute(self) -> float:
        """Return the error; NaN if no pixel is labelled.

        Raises:
            LabelError: a target held unknown labels.
        """
        if self.unknown:
            raise unknown_labels(int(self.unknown), self.num_classes, self.ignore_index)
        found = self.reliability()
        return sum(share * abs(right - sure) for share, sure, right in found) if found else math.nan

    def reliability(self) -> list[tuple[float, float, float]]:
        """Return the share of the pixels, mean confidence and accuracy of each non-empty bin."""
        columns: list[list[int]] = self.sums.T.tolist()
        total = sum(count for count, _, _ in columns)
        return [(count / total, sure / _ONE / count, right / count) for count, sure, right in columns if count]

    def merge(self, other: CalibrationError) -> None:
        """Add the counts of another process."""
        self.sums = self.sums + other.sums.to(self.sums.device)
        self.unknown = self.unknown + other.unknown.to(self.unknown.device)

    def to(self, device: Any) -> CalibrationError:
        """Move the counts to a device."""
        self.sums, self.unknown = self.sums.to(device), self.unknown.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """The device of the counts."""
        return self.sums.device
