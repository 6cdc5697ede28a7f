"""Tversky loss: Dice that sets its own price on what is missed and on what is too much."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from segkit.errors import ConfigError

from .overlap import mean_of_present, overlap
from .softmax import softmax


class Tversky(nn.Module):
    """Soft Tversky loss, focal if wanted, per class over the batch, with void left out.

    With p the softmax and t the target (0 or 1), sums over the labelled pixels of the whole batch::

        hits = sum p_c t_c,   too_much = sum p_c (1 - t_c),   missed = sum (1 - p_c) t_c
        index_c = (hits + smooth) / (hits + alpha * too_much + beta * missed + smooth)
        mean over classes c of  (1 - index_c) ** (1 / gamma)

    Salehi, Erdogmus, Gholipour, "Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep
    Networks", MLMI 2017, arXiv 1706.05721. ``alpha = beta = 0.5`` is Dice (with half its smooth), ``alpha = beta = 1``
    the IoU. With gamma it is the focal one: Abraham and Khan, "A Novel Focal Tversky Loss Function with Improved
    Attention U-Net for Lesion Segmentation", ISBI 2019, arXiv 1810.07842. They found 4/3 best, raise to 1 / gamma as
    here (other libraries to gamma), and have alpha and beta the other way round.

    The mean is over the classes in the target, as in Dice. A batch without any class costs 0.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        alpha: price of a false positive, 0 or more; 0.3 beside 0.7 was best for the first paper's small lesions.
        beta: price of a false negative, above 0; more than alpha, since it is small classes that are missed.
        gamma: above 1 the slope is steeper for classes that are nearly right, below 1 for the worst; 1, the plain loss.
        include_background: whether class 0 counts; false leaves it to another loss.
        smooth: pixels added above and below the line; 0, as more pays for missing a small class altogether.

    Raises:
        ConfigError: a price, gamma or smooth out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        include_background: bool = True,
        smooth: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("smooth", smooth)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} = {value}; allowed are finite numbers of 0 or more")
        for name, value in (("beta", beta), ("gamma", gamma)):  # at beta 0 a class that is missed has 0 / 0
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} = {value}; allowed are finite numbers above 0")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.include_background = include_background
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits ``[B,C,H,W]`` and target ``[B,H,W]`` -> scalar."""
        given = softmax(logits, target, self.num_classes, self.ignore_index, overlap=True)
        hits, predicted, actual = overlap(given)
        present = actual != 0
        errors = self.alpha * (predicted - hits) + self.beta * (actual - hits)  # [C]
        costs = torch.where(present, errors, 0.0) / torch.where(present, hits + errors + self.smooth, 1.0)
        if self.gamma != 1:
            # at a cost of 0 the slope is infinite; rounding may make it less than 0
            costs = costs.clamp_min(torch.finfo(costs.dtype).tiny) ** (1 / self.gamma)
        return mean_of_present(costs, present, self.include_background)
