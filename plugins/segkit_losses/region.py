"""Region losses: the overlap of prediction and target per class, so that small classes count as much as large ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segkit.engine.distributed import global_sum

from .cross_entropy import CrossEntropy
from .pixels import require_at_least_0
from .softmax import Softmax, SoftmaxLoss


class Dice(SoftmaxLoss):
    """Soft Dice loss, per class over the batch; void pixels are ignored.

    With p the softmax and t the target (0 or 1), sums over the labelled pixels of the whole batch::

        1 - mean over classes c of  (2 * sum p_c t_c + smooth) / (sum p_c + sum t_c + smooth)

    Milletari et al., "V-Net", 3DV 2016, arXiv 1606.04797, but with plain sums in the denominator, as in Sudre et al.,
    arXiv 1707.03237, instead of squares. Classes are not pooled: predicting a background of 75 % everywhere costs 0.96.

    The mean is over the classes in the target. The term of an absent class would be 1 for any prediction above 0, and
    only add noise. False positives of an absent class still cost, because they reduce the overlap of the true class.
    A batch without any class costs 0.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        include_background: whether class 0 is included; set false if another loss covers it.
        smooth: pixels added to numerator and denominator; default 0: more rewards missing a small class altogether.

    Raises:
        ConfigError: smooth is below 0.
    """

    def __init__(
        self, num_classes: int, ignore_index: int = 255, include_background: bool = True, smooth: float = 0.0
    ) -> None:
        super().__init__(num_classes, ignore_index, overlap=True)
        require_at_least_0(smooth=smooth)
        self.include_background, self.smooth = include_background, smooth

    def cost(self, softmax: Softmax) -> Tensor:
        """Return the scalar loss; requires ``softmax.overlap``."""
        true_positives, predicted, target_pixels = global_sum(softmax.overlap)  # [C] each
        present = target_pixels != 0
        below = torch.where(present, predicted + target_pixels + self.smooth, 1.0)
        return mean_of_present(1 - (2 * true_positives + self.smooth) / below, present, self.include_background)


class Tversky(SoftmaxLoss):
    """Soft Tversky loss, optionally focal, per class over the batch; void pixels are ignored.

    With p the softmax and t the target (0 or 1), sums over the labelled pixels of the whole batch::

        hits = sum p_c t_c,   too_much = sum p_c (1 - t_c),   missed = sum (1 - p_c) t_c
        index_c = hits / (hits + alpha * too_much + beta * missed)
        mean over classes c of  (1 - index_c) ** (1 / gamma)

    Salehi, Erdogmus, Gholipour, "Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep
    Networks", MLMI 2017, arXiv 1706.05721. ``alpha = beta = 0.5`` is Dice, ``alpha = beta = 1``
    is the IoU. A gamma other than 1 gives the focal variant: Abraham and Khan, "A Novel Focal Tversky Loss Function
    with Improved Attention U-Net for Lesion Segmentation", ISBI 2019, arXiv 1810.07842. The authors found 4/3 best and
    use the exponent 1 / gamma, as here (other libraries use gamma); their alpha and beta are swapped.

    The mean is over the classes in the target, as in Dice. A batch without any class costs 0.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        alpha: weight of false positives, 0 or more; 0.3 with beta 0.7 was best for the first paper's small lesions.
        beta: weight of false negatives, above 0; larger than alpha by default, because small classes tend to be missed.
        gamma: above 1 the slope is steeper for nearly correct classes, below 1 for the worst; 1 is the plain loss.
        include_background: whether class 0 is included; set false if another loss covers it.

    Raises:
        ConfigError: alpha, beta or gamma is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        include_background: bool = True,
    ) -> None:
        super().__init__(num_classes, ignore_index, overlap=True)
        require_at_least_0(alpha=alpha)
        require_at_least_0(above=True, beta=beta, gamma=gamma)  # with beta 0, a class that is missed gives 0 / 0
        self.alpha, self.beta, self.gamma, self.include_background = alpha, beta, gamma, include_background

    def cost(self, softmax: Softmax) -> Tensor:
        """Return the scalar loss; requires ``softmax.overlap``."""
        true_positives, predicted, target_pixels = global_sum(softmax.overlap)  # [C] each
        present = target_pixels != 0
        errors = self.alpha * (predicted - true_positives) + self.beta * (target_pixels - true_positives)  # [C]
        below = torch.where(present, true_positives + errors, 1.0)
        costs = torch.where(present, errors, 0.0) / below
        if self.gamma != 1:
            # the slope is infinite at a cost of 0, and rounding may make the cost negative
            costs = costs.clamp_min(torch.finfo(costs.dtype).tiny) ** (1 / self.gamma)
        return mean_of_present(costs, present, self.include_background)


class DiceCrossEntropy(SoftmaxLoss):
    """Soft Dice plus cross-entropy, computed in one pass over the logits; void pixels are ignored.

    Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
    Methods 2021, arXiv 1809.10486. The terms are the losses ``dice`` and ``cross_entropy``: Dice is the mean over the
    classes in the target, where nnU-Net and MONAI divide by all classes, and includes the background by default.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        class_weights: for cross-entropy: one number of 0 or more per class, or a formula in a config; default: all 1.
        label_smoothing: for cross-entropy: share of the target spread over all classes, 0 to 1.
        include_background: whether Dice includes class 0.

    Raises:
        ConfigError: one of the two losses refuses an option.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        include_background: bool = True,
    ) -> None:
        super().__init__(num_classes, ignore_index, overlap=True, costs=label_smoothing > 0)
        self.dice = Dice(num_classes, ignore_index, include_background)
        self.cross_entropy = CrossEntropy(num_classes, ignore_index, class_weights, label_smoothing)

    def cost(self, softmax: Softmax) -> Tensor:
        """Return the scalar loss; requires ``softmax.overlap``."""
        return self.dice.cost(softmax) + self.cross_entropy.cost(softmax)


def mean_of_present(costs: Tensor, present: Tensor, include_background: bool) -> Tensor:
    """Return the mean of the costs ``[C]`` over the present classes (bool ``[C]``); 0 if none is (see Dice for why)."""
    first = 0 if include_background else 1
    return torch.where(present, costs, 0.0)[first:].sum() / present[first:].sum().clamp_min(1)
