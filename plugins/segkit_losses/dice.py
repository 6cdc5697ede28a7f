"""Dice loss: overlap of each class, so that a class counts the same whether it is large or small."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from segkit.errors import ConfigError

from .overlap import mean_of_present, overlap
from .softmax import Softmax, softmax


class Dice(nn.Module):
    """Soft Dice loss, per class over the batch, with void left out.

    With p the softmax and t the target (0 or 1), sums over the labelled pixels of the whole batch::

        1 - mean over classes c of  (2 * sum p_c t_c + smooth) / (sum p_c + sum t_c + smooth)

    Milletari et al., "V-Net", 3DV 2016, arXiv 1606.04797, with plain sums below the line, as in Sudre et al., arXiv
    1707.03237, where V-Net squares. Per class, not pooled: predicting a background of 75 % everywhere costs 0.96 of 1.

    The mean is over the classes in the target. A class that is absent has no overlap to gain: its term would be 1
    for any prediction above 0 and only add noise. Its false positives still cost, as they are lost to the class that
    is there. A batch without any class costs 0.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        include_background: whether class 0 counts; false leaves it to another loss.
        smooth: pixels added above and below the line; 0, as more pays for missing a small class altogether.

    Raises:
        ConfigError: a smooth below 0.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        include_background: bool = True,
        smooth: float = 0.0,
    ) -> None:
        super().__init__()
        if not (math.isfinite(smooth) and smooth >= 0):
            raise ConfigError(f"smooth = {smooth}; allowed are finite numbers of 0 or more")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.include_background = include_background
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits ``[B,C,H,W]`` and target ``[B,H,W]`` -> scalar."""
        return self.cost(softmax(logits, target, self.num_classes, self.ignore_index, overlap=True))

    def cost(self, given: Softmax) -> Tensor:
        """The loss of a softmax that has the overlap -> scalar."""
        hits, predicted, actual = overlap(given)
        present = actual != 0
        below = torch.where(present, predicted + actual + self.smooth, 1.0)
        return mean_of_present(1 - (2 * hits + self.smooth) / below, present, self.include_background)
