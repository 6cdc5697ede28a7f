"""Focal loss: cross-entropy that looks away from the pixels that are right already."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segkit.errors import ConfigError

from .pixels import batch_mean, weight_tensor
from .softmax import softmax


class Focal(nn.Module):
    """Softmax focal loss with void left out; gamma 0 is exactly cross-entropy.

    With p the softmax, gamma the focus and w the class weights, over the labelled pixels i of class y::

        sum_i w[y_i] * (1 - p_i[y_i]) ** gamma * -log p_i[y_i]  /  sum_i w[y_i]

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002. That one is of sigmoids, and its
    sum is divided by the number of matched anchors; here it is of a softmax, and the mean is that of cross-entropy. p
    is the softmax itself, never exp of a weighted cross-entropy. A "perfect" prediction of 0 and 1 as logits is not
    perfect (21 classes, gamma 2: 1.65); logits 100 times as large cost 0.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        gamma: how strongly easy pixels are discounted, 0 or more; 2 is the paper's best.
        class_weights: the paper's alpha: a number a class, 0 or more, or in a config a formula; left out: all 1.

    Raises:
        ConfigError: weights that are not one a class, or a gamma below 0.
    """

    class_weights: Tensor

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        gamma: float = 2.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not (math.isfinite(gamma) and gamma >= 0):
            raise ConfigError(f"gamma = {gamma}; allowed are finite numbers of 0 or more")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.gamma = gamma
        # not in checkpoints: it follows from the config
        self.register_buffer("class_weights", weight_tensor(class_weights, num_classes), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits ``[B,C,H,W]`` and target ``[B,H,W]`` -> scalar."""
        given = softmax(logits, target, self.num_classes, self.ignore_index)
        # at p = 1 the gradient of a gamma below 1 would be NaN without the clamp
        missing = (1 - given.log_p.exp()).clamp_min(torch.finfo(given.log_p.dtype).tiny)  # [N]
        weights = self.class_weights.to(given.log_p.dtype)[given.labels] * given.weights  # [N]
        values = -given.log_p * missing**self.gamma * weights  # [N]
        return batch_mean(values, weights, self.class_weights, self.ignore_index)
