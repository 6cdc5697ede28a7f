"""The loss ``poly``: Poly-1 cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.errors import ConfigError


class PolyLoss(nn.Module):
    """Cross-entropy whose first polynomial term, 1 - p, is stressed by epsilon. Void is left out.

    As a series, cross-entropy is the sum over j of (1 - p) ** j / j; its first term decides how much pixels count that
    are almost right. With p the softmax and w the class weights, over the labelled pixels i of class y::

        sum_i w[y_i] * (-log p_i[y_i] + epsilon * (1 - p_i[y_i]))  /  sum_i w[y_i]

    Zhaoqi Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions", ICLR 2022,
    arXiv 2204.12511; here a pixel is what an image is there, and class weights are added. p is the softmax itself, not
    exp of the weighted cross-entropy.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C; the dataset gives it.
        ignore_index: the label of void pixels; the dataset gives it.
        epsilon: added to the first coefficient, which is 1: 0 is cross-entropy, -1 takes the term away, and less would
            reward mistakes. 2 is what the paper classifies images with, -1 what it segments instances with.
        class_weights: a number a class, 0 or more, or in a config a formula; left out: all 1.

    Raises:
        ConfigError: epsilon is below -1, or the weights are not one a class.
    """

    class_weights: Tensor

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        epsilon: float = 2.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not (math.isfinite(epsilon) and epsilon >= -1):
            raise ConfigError(f"epsilon = {epsilon}; allowed are finite numbers of -1 or more")
        self.ignore_index, self.epsilon = ignore_index, epsilon
        weights = torch.ones(num_classes) if class_weights is None else torch.tensor(class_weights)
        if weights.shape != (num_classes,):
            raise ConfigError(f"class_weights has {len(weights)} numbers for {num_classes} classes; give one a class")
        self.register_buffer("class_weights", weights.float(), persistent=False)  # it follows from the config

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits ``[B,C,H,W]`` and target ``[B,H,W]`` -> scalar."""
        dtype = torch.promote_types(logits.dtype, torch.float32)  # sums of 16 bits overflow
        labelled = target != self.ignore_index  # [B,H,W]
        labels = target.long().masked_fill(~labelled, 0)  # [B,H,W]; void has no place in the softmax
        logits = logits.masked_fill(~labelled[:, None], 0)  # where they may be infinite or NaN, which 0 times is NaN
        log_p = F.log_softmax(logits, dim=1, dtype=dtype).gather(1, labels[:, None]).squeeze(1)  # [B,H,W]
        costs = -log_p - self.epsilon * torch.expm1(log_p)  # [B,H,W]; 1 - p, exact where p is almost 1
        weights = self.class_weights.to(dtype)[labels] * labelled  # [B,H,W]
        total = weights.sum()
        return (costs * weights).sum() / torch.where(total == 0, 1, total)  # nothing but void costs 0, not NaN
