"""Losses of the overlap of prediction and target, class by class: a class counts the same whether large or small."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segkit.engine.distributed import global_sum

from .cross_entropy import CrossEntropy
from .pixels import require_at_least_0
from .softmax import Softmax, SoftmaxLoss


class Dice(SoftmaxLoss):
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
        self, num_classes: int, ignore_index: int = 255, include_background: bool = True, smooth: float = 0.0
    ) -> None:
        super().__init__(num_classes, ignore_index, overlap=True)
        require_at_least_0(smooth=smooth)
        self.include_background, self.smooth = include_background, smooth

    def cost(self, softmax: Softmax) -> Tensor:
        """The loss of a softmax that has the overlap -> scalar."""
        true_positives, predicted, target_pixels = global_sum(softmax.overlap)  # [C] each
        present = target_pixels != 0
        below = torch.where(present, predicted + target_pixels + self.smooth, 1.0)
        return mean_of_present(1 - (2 * true_positives + self.smooth) / below, present, self.include_background)


class Tversky(SoftmaxLoss):
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
        super().__init__(num_classes, ignore_index, overlap=True)
        require_at_least_0(alpha=alpha, smooth=smooth)
        require_at_least_0(above=True, beta=beta, gamma=gamma)  # at beta 0 a class that is missed has 0 / 0
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.include_background, self.smooth = include_background, smooth

    def cost(self, softmax: Softmax) -> Tensor:
        """The loss of a softmax that has the overlap -> scalar."""
        true_positives, predicted, target_pixels = global_sum(softmax.overlap)  # [C] each
        present = target_pixels != 0
        errors = self.alpha * (predicted - true_positives) + self.beta * (target_pixels - true_positives)  # [C]
        below = torch.where(present, true_positives + errors + self.smooth, 1.0)
        costs = torch.where(present, errors, 0.0) / below
        if self.gamma != 1:
            # at a cost of 0 the slope is infinite; rounding may make it less than 0
            costs = costs.clamp_min(torch.finfo(costs.dtype).tiny) ** (1 / self.gamma)
        return mean_of_present(costs, present, self.include_background)


class DiceCrossEntropy(SoftmaxLoss):
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
        super().__init__(num_classes, ignore_index, overlap=True, costs=label_smoothing > 0)
        require_at_least_0(dice_scale=dice_scale, cross_entropy_scale=cross_entropy_scale)
        self.dice_scale, self.cross_entropy_scale = dice_scale, cross_entropy_scale
        self.dice = Dice(num_classes, ignore_index, include_background, smooth)
        self.cross_entropy = CrossEntropy(num_classes, ignore_index, class_weights, label_smoothing)

    def cost(self, softmax: Softmax) -> Tensor:
        """The loss of a softmax that has the overlap -> scalar."""
        return self.dice_scale * self.dice.cost(softmax) + self.cross_entropy_scale * self.cross_entropy.cost(softmax)


def mean_of_present(costs: Tensor, present: Tensor, include_background: bool) -> Tensor:
    """Mean cost ``[C]`` of the classes that are present, bool ``[C]``; 0 without any (why of these alone: see Dice)."""
    first = 0 if include_background else 1
    return torch.where(present, costs, 0.0)[first:].sum() / present[first:].sum().clamp_min(1)
