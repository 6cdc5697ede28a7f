"""The metric ``calibration_error``, how far confidence differs from accuracy, and the temperature that lowers it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from segkit.errors import ConfigError, DataError
from segkit.metric.confusion import check_shapes, unknown_labels

MOST = 200_000  # between this and twice as many pixels are kept, enough for three digits of the temperature
RANGE = (1 / 20, 20.0)  # of the temperature
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
        self.to(logits.device)
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


class TemperatureFit(CalibrationError):
    """The metric, which also keeps the logits of pixels sampled evenly from all batches.

    When too many pixels are kept, every second one is dropped and the sampling rate is halved; the sample is
    deterministic.
    """

    def reset(self) -> None:
        """Reset all counts and drop the kept pixels."""
        super().reset()
        self.step, self.kept = 1, [(torch.zeros(0, self.num_classes), torch.zeros(0, dtype=torch.int64))]

    @torch.no_grad()
    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch: logits ``[B,C,H,W]``, target ``[B,H,W]``."""
        super().update(logits, target)
        labelled = target != self.ignore_index
        rows = logits.permute(0, 2, 3, 1)[labelled][:: self.step]  # [N,C]
        self.kept.append((rows.float().cpu(), target[labelled][:: self.step].long().cpu()))
        while sum(len(labels) for _, labels in self.kept) > 2 * MOST:
            rows, labels = self.sample()
            self.kept, self.step = [(rows[::2].clone(), labels[::2].clone())], 2 * self.step

    def sample(self) -> tuple[Tensor, Tensor]:
        """Return the kept logits ``[N,C]`` and labels ``[N]``."""
        rows, labels = zip(*self.kept, strict=True)
        return torch.cat(rows), torch.cat(labels)


def fitted_temperature(logits: Tensor, target: Tensor) -> float:
    """Return the T that minimises mean ``cross_entropy(logits / T, target)`` (Guo et al., arXiv 1706.04599, sec. 4.2).

    The cost is convex in 1 / T with the derivative mean of ``sum(softmax(logits / T) * logits) - logits of the
    target``; its zero is found by bisection.

    Args:
        logits: float ``[N,C]``.
        target: int64 ``[N]``.

    Raises:
        DataError: there are no pixels, or the cost has no minimum within :data:`RANGE`.
    """
    if not len(target):
        raise DataError("no pixel is labelled, so no temperature can be fitted")
    logits = logits.double()
    of_target = logits.gather(1, target[:, None]).mean()

    def slope(temperature: float) -> float:
        return float(((logits / temperature).softmax(1) * logits).sum(1).mean() - of_target)

    low, high = RANGE
    if slope(low) <= 0 or slope(high) >= 0:
        raise DataError(
            f"the best temperature for val is not between {low:g} and {high:g}, so none is stored: all labels of val "
            "may be of one class, or the network has learned nothing"
        )
    while high > 1.0001 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return math.sqrt(low * high)
