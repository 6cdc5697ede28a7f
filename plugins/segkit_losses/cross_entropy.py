"""Per-pixel losses: cross-entropy, and focal loss and OHEM, which emphasise hard pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.engine.distributed import current_micro_batch, global_rows, global_sum
from segkit.errors import ConfigError

from .pixels import flat_labels, quotient, require_at_least_0, weight_tensor
from .softmax import Softmax, SoftmaxLoss


class _Weighted(SoftmaxLoss):
    """Base of the losses that weight each pixel by its class; ``class_weights`` ``[C]`` default to all ones."""

    class_weights: Tensor

    def __init__(
        self, num_classes: int, ignore_index: int, class_weights: Sequence[float] | None, *, costs: bool = False
    ) -> None:
        super().__init__(num_classes, ignore_index, costs=costs)
        # not in checkpoints: it follows from the config
        self.register_buffer("class_weights", weight_tensor(class_weights, num_classes), persistent=False)

    def pixel_weights(self, softmax: Softmax) -> Tensor:
        """Return the class weight of each pixel, ``[N]``; 0 for void pixels."""
        return self.class_weights.to(softmax.weights.dtype)[softmax.labels] * softmax.weights

    def mean(self, values: Tensor, weights: Tensor) -> Tensor:
        """Return the mean of weighted values ``[N]``, or of their sum, over the labelled pixels of the whole batch.

        Of micro-batches, the sum is divided by their share of the weights of the whole batch, and not by their own.
        """
        part = current_micro_batch()
        if part is None:
            return quotient(values, global_sum(weights.sum()))
        labels, labelled = flat_labels(part.target, self.num_classes, self.ignore_index, weights.dtype)
        whole = (self.class_weights.to(weights.dtype)[labels] * labelled).sum()
        return quotient(values, global_sum(whole) * part.share)


class CrossEntropy(_Weighted):
    """Cross-entropy with optional class weights and label smoothing; void pixels are ignored.

    With w the class weights and p the softmax, over the labelled pixels i of class y::

        sum_i w[y_i] * -log p_i[y_i]  /  sum_i w[y_i]

    The mean is over all labelled pixels of the batch, so scaling all weights by the same factor changes nothing. Equal
    to ``torch.nn.functional.cross_entropy``, with smoothing too, except in two cases that give NaN there and 0 here: a
    batch without labelled pixels, and a batch whose classes all have the weight 0. Label smoothing: Szegedy et al.,
    "Rethinking the Inception Architecture for Computer Vision", arXiv 1512.00567.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        class_weights: one number of 0 or more per class, or the name of a formula in a config; default: all 1.
        label_smoothing: share of the target spread over all classes, 0 to 1; default 0: smoothing blurs thin classes.

    Raises:
        ConfigError: the number of weights is not the number of classes, or the smoothing is outside 0 to 1.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(num_classes, ignore_index, class_weights, costs=label_smoothing > 0)
        if not 0 <= label_smoothing <= 1:
            raise ConfigError(f"label_smoothing = {label_smoothing}; allowed is 0 to 1")
        self.label_smoothing = label_smoothing

    def cost(self, softmax: Softmax) -> Tensor:
        """Return the scalar loss; label smoothing requires ``softmax.costs``."""
        weights = self.pixel_weights(softmax)
        own = (-softmax.log_p * weights).sum()
        if self.label_smoothing:
            spread = (softmax.costs * self.class_weights.to(weights.dtype)).mean()
            own = (1 - self.label_smoothing) * own + self.label_smoothing * spread
        return self.mean(own, weights)


class Focal(_Weighted):
    """Softmax focal loss; void pixels are ignored, and gamma 0 is exactly cross-entropy.

    With p the softmax, gamma the focus and w the class weights, over the labelled pixels i of class y::

        sum_i w[y_i] * (1 - p_i[y_i]) ** gamma * -log p_i[y_i]  /  sum_i w[y_i]

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002. The paper uses sigmoids and
    divides by the number of matched anchors; this loss uses a softmax and the weighted mean of cross-entropy. p is the
    softmax itself, not exp of a weighted cross-entropy. One-hot targets used as logits still cost something (1.65 for
    21 classes and gamma 2); logits 100 times as large cost 0.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        gamma: how strongly easy pixels are discounted, 0 or more; 2 worked best in the paper.
        class_weights: the paper's alpha: one number of 0 or more per class, or a formula in a config; default: all 1.

    Raises:
        ConfigError: the number of weights is not the number of classes, or gamma is below 0.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        gamma: float = 2.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(num_classes, ignore_index, class_weights)
        require_at_least_0(gamma=gamma)
        self.gamma = gamma

    def cost(self, softmax: Softmax) -> Tensor:
        """Return the scalar loss."""
        # without the clamp, the gradient at p = 1 would be NaN for a gamma below 1
        missing = (1 - softmax.log_p.exp()).clamp_min(torch.finfo(softmax.log_p.dtype).tiny)  # [N]
        weights = self.pixel_weights(softmax)
        values = -softmax.log_p * missing**self.gamma * weights  # [N]
        return self.mean(values, weights)


class Ohem(_Weighted):
    """Cross-entropy over the hard pixels only (online hard example mining); void pixels are ignored.

    With p the softmax and w the class weights, summed over the hard pixels i, whose class is y::

        sum_i w[y_i] * -log p_i[y_i]  /  sum_i w[y_i],   hard: p_i[y_i] < threshold, or among the lowest

    At least the share ``least`` of the labelled pixels of the batch is kept: the pixels with the lowest p, regardless
    of their weights. Pixels with equal p are either all kept or all dropped.

    Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example Mining", CVPR 2016, arXiv
    1604.03540, for boxes; for pixels: Wu et al., "High-performance Semantic Segmentation Using Very Deep Fully
    Convolutional Networks", arXiv 1604.04339. mmsegmentation's OHEMPixelSampler selects by ``thresh`` and
    ``min_kept``, a count, and divides by the number of all pixels.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        threshold: a pixel is hard if the probability of its class is below this, 0 to 1; 0.7 is the usual value.
        least: minimum share of the labelled pixels to keep, above 0 and up to 1; 0.0625 as in CoinCheung's BiSeNet.
        class_weights: one number of 0 or more per class, or the name of a formula in a config; default: all 1.

    Raises:
        ConfigError: the number of weights is not the number of classes, or threshold or least is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        threshold: float = 0.7,
        least: float = 0.0625,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(num_classes, ignore_index, class_weights)
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold = {threshold}; allowed is 0 to 1")
        if not 0 < least <= 1:
            raise ConfigError(f"least = {least}; allowed is a share above 0, up to 1")
        self.threshold, self.least = threshold, least

    def cost(self, softmax: Softmax) -> Tensor:
        """Return the scalar loss."""
        hard = self._hard(softmax.log_p.detach().exp(), softmax.weights != 0)
        # multiply instead of indexing: the NaN weight of an unknown label must reach the loss even if it is not hard
        weights = self.pixel_weights(softmax) * hard
        return quotient(-softmax.log_p * weights, global_sum(weights.sum()))

    def _hard(self, p: Tensor, labelled: Tensor) -> Tensor:
        """Return which pixels to keep, bool ``[N]``, by the probability of their class; void may be either."""
        p = torch.where(labelled, p, 2.0)  # sorts void pixels last
        # gather the pixels of all processes, and pad with one void pixel because an empty batch has none
        every = F.pad(global_rows(p), (0, 1), value=2.0)
        # the number of pixels to keep is known only on the device: sort the maximum, then index the last one kept
        most = math.ceil(self.least * len(every))
        hardest = every.topk(most, largest=False).values
        last = (self.least * (every != 2.0).sum()).ceil().long().clamp(1, most) - 1
        return (p < self.threshold) | (p <= hardest.gather(0, last[None]))
