"""The temperature that makes a trained network's probabilities as often right as they say, fitted on a split."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
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

    It has one minimum, as the cost is convex in 1 / T, which a golden-section search over log T finds.

    Args:
        logits: float ``[N,C]``.
        target: int64 ``[N]``.

    Raises:
        DataError: there is no pixel, or the cost has no minimum within :data:`RANGE`.
    """
    if not len(target):
        raise DataError("no pixel is labelled, so no temperature can be fitted")
    logits = logits.double()

    def cost(place: float) -> float:
        return float(F.cross_entropy(logits / math.exp(place), target))

    golden = (math.sqrt(5) - 1) / 2
    low, high = map(math.log, RANGE)
    first, second = high - golden * (high - low), low + golden * (high - low)
    costs = cost(first), cost(second)
    while high - low > 1e-4:
        if costs[0] < costs[1]:
            high, second, first = second, first, second - golden * (second - low)
            costs = cost(first), costs[0]
        else:
            low, first, second = first, second, first + golden * (high - first)
            costs = costs[1], cost(second)
    found = (low + high) / 2
    if min(map(cost, map(math.log, RANGE))) <= cost(found):
        raise DataError(
            f"no temperature between {RANGE[0]:g} and {RANGE[1]:g} is the best one for val, so none is kept: its "
            "labels may be of one class, which any network can be surer of, or the network has learned nothing"
        )
    return math.exp(found)
