"""Temperature scaling: fits the temperature that calibrates a trained network's probabilities on a split."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segkit.errors import DataError
from segkit_calibration.metric import CalibrationError

MOST = 200_000  # between this and twice as many pixels are kept, enough for three digits of the temperature
RANGE = (1 / 20, 20.0)


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
