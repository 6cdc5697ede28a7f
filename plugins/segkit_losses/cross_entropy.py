"""Cross-entropy over the labelled pixels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from segkit.errors import ConfigError

from .pixels import batch_mean, weight_tensor
from .softmax import Softmax, softmax


class CrossEntropy(nn.Module):
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

    class_weights: Tensor

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise ConfigError(f"label_smoothing = {label_smoothing}; allowed is 0 to 1")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        # not in checkpoints: it follows from the config
        self.register_buffer("class_weights", weight_tensor(class_weights, num_classes), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits ``[B,C,H,W]`` and target ``[B,H,W]`` -> scalar."""
        smooth = self.label_smoothing > 0
        return self.cost(softmax(logits, target, self.num_classes, self.ignore_index, costs=smooth))

    def cost(self, given: Softmax) -> Tensor:
        """The loss of a softmax, which has the costs of all classes if labels are smoothed -> scalar."""
        class_weights = self.class_weights.to(given.weights.dtype)
        weights = class_weights[given.labels] * given.weights  # [N]
        own = (-given.log_p * weights).sum()
        if self.label_smoothing:
            spread = (given.costs * class_weights).mean()
            own = (1 - self.label_smoothing) * own + self.label_smoothing * spread
        return batch_mean(own, weights, self.class_weights, self.ignore_index)
