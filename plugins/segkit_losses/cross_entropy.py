"""Losses of each pixel by itself: cross-entropy, and two that look at its hard pixels, focal loss and OHEM."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.engine.distributed import global_rows
from segkit.errors import ConfigError

from .pixels import batch_mean, require_at_least_0, weight_tensor, weighted_mean
from .softmax import Softmax, SoftmaxLoss


class _Weighted(SoftmaxLoss):
    """A loss whose pixels weigh what their classes do; ``class_weights`` ``[C]`` are all 1 where they are left out."""

    class_weights: Tensor

    def __init__(
        self, num_classes: int, ignore_index: int, class_weights: Sequence[float] | None, *, costs: bool = False
    ) -> None:
        super().__init__(num_classes, ignore_index, costs=costs)
        # not in checkpoints: it follows from the config
        self.register_buffer("class_weights", weight_tensor(class_weights, num_classes), persistent=False)

    def pixel_weights(self, softmax: Softmax) -> Tensor:
        """``[N]``, those of the classes, 0 where a pixel is void."""
        return self.class_weights.to(softmax.weights.dtype)[softmax.labels] * softmax.weights


class CrossEntropy(_Weighted):
    """Cross-entropy with void left out, class weights and label smoothing.

    With w the class weights and p the softmax, over the labelled pixels i of class y::

        sum_i w[y_i] * -log p_i[y_i]  /  sum_i w[y_i]

    The mean is over all labelled pixels of the batch, so a weight of 2 everywhere changes nothing. Equal to
    ``torch.nn.functional.cross_entropy``, smoothing included, but for two cases that are NaN there: a batch without a
    labelled pixel, or one whose classes all weigh 0, costs 0. Label smoothing: Szegedy et al., "Rethinking the
    Inception Architecture for Computer Vision", arXiv 1512.00567.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        class_weights: a number a class, 0 or more, or in a config a formula; left out: all 1.
        label_smoothing: share of the target spread over all classes, 0 to 1; 0, as it blurs thin classes.

    Raises:
        ConfigError: weights that are not one a class, or a smoothing outside 0 to 1.
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
        """The loss of a softmax, which has the costs of all classes if labels are smoothed -> scalar."""
        weights = self.pixel_weights(softmax)
        own = (-softmax.log_p * weights).sum()
        if self.label_smoothing:
            spread = (softmax.costs * self.class_weights.to(weights.dtype)).mean()
            own = (1 - self.label_smoothing) * own + self.label_smoothing * spread
        return batch_mean(own, weights, self.class_weights, self.ignore_index)


class Focal(_Weighted):
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
        """The loss of a softmax -> scalar."""
        # at p = 1 the gradient of a gamma below 1 would be NaN without the clamp
        missing = (1 - softmax.log_p.exp()).clamp_min(torch.finfo(softmax.log_p.dtype).tiny)  # [N]
        weights = self.pixel_weights(softmax)
        values = -softmax.log_p * missing**self.gamma * weights  # [N]
        return batch_mean(values, weights, self.class_weights, self.ignore_index)


class Ohem(_Weighted):
    """Cross-entropy over the pixels that are not right yet, with void left out.

    With p the softmax and w the class weights, over the hard ones among the labelled pixels i of class y::

        sum_i w[y_i] * -log p_i[y_i]  /  sum_i w[y_i],   hard: p_i[y_i] < threshold, or it is among the lowest

    At least the share ``least`` of the labelled pixels of the batch is hard, by p whatever their weights; of pixels of
    the same p all are or none is.

    Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example Mining", CVPR 2016, arXiv
    1604.03540, of boxes; of pixels Wu et al., "High-performance Semantic Segmentation Using Very Deep Fully
    Convolutional Networks", arXiv 1604.04339. mmsegmentation's OHEMPixelSampler selects by ``thresh`` and
    ``min_kept``, a count, and divides by the number of all pixels.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        threshold: a pixel is hard where its class has less probability, 0 to 1; 0.7 is the usual value.
        least: share of the labelled pixels that are kept in any case, above 0 to 1; 0.0625 as in CoinCheung's BiSeNet.
        class_weights: a number a class, 0 or more, or in a config a formula; left out: all 1.

    Raises:
        ConfigError: weights that are not one a class, or a threshold or share out of its range.
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
        """The loss of a softmax -> scalar."""
        hard = self._hard(softmax.log_p.detach().exp(), softmax.weights != 0)
        # a product, not a choice: a label that does not exist weighs NaN, also where it is not hard
        weights = self.pixel_weights(softmax) * hard
        return weighted_mean(-softmax.log_p * weights, weights)

    def _hard(self, p: Tensor, labelled: Tensor) -> Tensor:
        """Which pixels to keep, bool ``[N]``, by the probability of their class; void is kept or not, it weighs 0."""
        p = torch.where(labelled, p, 2.0)  # void comes after all others
        # of all processes: the hardest are those of the whole batch; and one more void, as an empty batch has no pixel
        every = F.pad(global_rows(p), (0, 1), value=2.0)
        # how many to keep is known on the device alone; that many at most are sorted, and the last kept is looked up
        most = math.ceil(self.least * len(every))
        hardest = every.topk(most, largest=False).values
        last = (self.least * (every != 2.0).sum()).ceil().long().clamp(1, most) - 1
        return (p < self.threshold) | (p <= hardest.gather(0, last[None]))
