"""The temperature that makes a trained network's probabilities as often right as they say, fitted on a split."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segkit.errors import DataError
from segkit_calibration.metric import CalibrationError

MOST = 200_000  # pixels that are kept; between this and twice as many are, which says a temperature to three digits
RANGE = (1 / 20, 20.0)


class TemperatureFit(CalibrationError):
    """Counts as the metric does, and keeps logits of pixels that are spread evenly over all batches.

    Where there are too many, every second one is dropped, and from then on half as many are taken: the same pixels
    each time.
    """

    def reset(self) -> None:
        """Forget every batch."""
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
        """The logits ``[N,C]`` and labels ``[N]`` that are kept."""
        rows, labels = zip(*self.kept, strict=True)
        return torch.cat(rows), torch.cat(labels)


def fitted_temperature(logits: Tensor, target: Tensor) -> float:
    """The T with the lowest mean of ``cross_entropy(logits / T, target)`` (Guo et al., arXiv 1706.04599, section 4.2).

    The cost is convex in 1 / T, and its slope there is the mean of ``sum(softmax(logits / T) * logits) - logits of the
    target``: where that is 0 is found by halving the range.

    Args:
        logits: float ``[N,C]``.
        target: int64 ``[N]``.

    Raises:
        DataError: there is no pixel, or the cost has no minimum within :data:`RANGE`.
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
            f"no temperature between {low:g} and {high:g} is the best one for val, so none is kept: its labels may be "
            "of one class, which any network can be surer of, or the network has learned nothing"
        )
    while high > 1.0001 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return math.sqrt(low * high)
