"""Dice and cross-entropy together: the overlap of each class, with a gradient for each pixel from the first step on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from segkit.errors import ConfigError

from .cross_entropy import CrossEntropy
from .dice import Dice
from .softmax import softmax


class DiceCrossEntropy(nn.Module):
    """Soft Dice plus cross-entropy, in one pass over the logits, with void left out.

    ::

        dice_scale * dice + cross_entropy_scale * cross_entropy

    Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
    Methods 2021, arXiv 1809.10486. Each term is that of its own name: so Dice is the mean over the classes in the
    target, where nnU-Net and MONAI divide by all, and leaves the background out only if told to.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        class_weights: of cross-entropy: a number a class, 0 or more, or in a config a formula; left out: all 1.
        label_smoothing: of cross-entropy: share of the target spread over all classes, 0 to 1.
        include_background: whether class 0 counts for Dice.
        smooth: of Dice: pixels added above and below the line.
        dice_scale: factor of Dice, 0 or more; 1, as in nnU-Net.
        cross_entropy_scale: factor of cross-entropy, 0 or more; 1, as in nnU-Net.

    Raises:
        ConfigError: an option that one of the two refuses, or a scale below 0.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        include_background: bool = True,
        smooth: float = 0.0,
        dice_scale: float = 1.0,
        cross_entropy_scale: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value in (("dice_scale", dice_scale), ("cross_entropy_scale", cross_entropy_scale)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} = {value}; allowed are finite numbers of 0 or more")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.dice_scale = dice_scale
        self.cross_entropy_scale = cross_entropy_scale
        self.dice = Dice(num_classes, ignore_index, include_background, smooth)
        self.cross_entropy = CrossEntropy(num_classes, ignore_index, class_weights, label_smoothing)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits ``[B,C,H,W]`` and target ``[B,H,W]`` -> scalar."""
        smooth = self.cross_entropy.label_smoothing > 0
        given = softmax(logits, target, self.num_classes, self.ignore_index, overlap=True, costs=smooth)
        return self.dice_scale * self.dice.cost(given) + self.cross_entropy_scale * self.cross_entropy.cost(given)
