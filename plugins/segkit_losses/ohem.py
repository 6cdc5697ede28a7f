"""Cross-entropy of the hard pixels alone: online hard example mining."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.engine.distributed import global_rows
from segkit.errors import ConfigError

from .pixels import weight_tensor, weighted_mean
from .softmax import softmax


class Ohem(nn.Module):
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

    class_weights: Tensor

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        threshold: float = 0.7,
        least: float = 0.0625,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold = {threshold}; allowed is 0 to 1")
        if not 0 < least <= 1:
            raise ConfigError(f"least = {least}; allowed is a share above 0, up to 1")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.threshold = threshold
        self.least = least
        # not in checkpoints: it follows from the config
        self.register_buffer("class_weights", weight_tensor(class_weights, num_classes), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits ``[B,C,H,W]`` and target ``[B,H,W]`` -> scalar."""
        given = softmax(logits, target, self.num_classes, self.ignore_index)
        hard = self._hard(given.log_p.detach().exp(), given.weights != 0)
        # a product, not a choice: a label that does not exist weighs NaN, also where it is not hard
        weights = self.class_weights.to(given.log_p.dtype)[given.labels] * given.weights * hard  # [N]
        return weighted_mean(-given.log_p * weights, weights)

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
