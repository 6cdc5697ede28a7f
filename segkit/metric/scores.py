"""Scores read off a confusion matrix, and the floor: what the best constant prediction scores.

In all of them rows of the matrix are the truth, columns the prediction, void is left out, and a mean over classes
skips NaN:

- A class without a pixel in the target is NaN, predicted or not: there is nothing to score, so it is never 0 and never
  1, and the scores and the floor of a split are means over the same classes. Where it is predicted, the classes whose
  pixels it took lose by it. mmsegmentation, torchmetrics and scikit-learn count it as 0 as soon as one pixel is
  predicted as it, so that their mean is over more classes for one network than for another.
- A class that is there and never predicted has precision 0 (scikit-learn's ``zero_division=0``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from segkit.errors import DataError
from segkit.metric.confusion import ConfusionMatrix


def _counts(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels that are right, true and predicted by class, float64 ``[C]`` each."""
    matrix = matrix.to("cpu", torch.float64)
    return matrix.diagonal(), matrix.sum(1), matrix.sum(0)


def _ratio(above: Tensor, below: Tensor, true: Tensor) -> Tensor:
    """``above / below``, 0 where below is 0, NaN for classes that are not in the target."""
    return torch.where(true > 0, above / below.clamp_min(1), torch.nan)


def class_iou(matrix: Tensor) -> Tensor:
    """Intersection over union, float64 ``[C]``: right / (true + predicted - right)."""
    right, true, predicted = _counts(matrix)
    return _ratio(right, true + predicted - right, true)


def class_dice(matrix: Tensor) -> Tensor:
    """Dice or F1, float64 ``[C]``: 2 right / (true + predicted)."""
    right, true, predicted = _counts(matrix)
    return _ratio(2 * right, true + predicted, true)


def class_precision(matrix: Tensor) -> Tensor:
    """Precision, float64 ``[C]``: right / predicted."""
    right, true, predicted = _counts(matrix)
    return _ratio(right, predicted, true)


def class_recall(matrix: Tensor) -> Tensor:
    """Recall, which is the accuracy of a class, float64 ``[C]``: right / true."""
    right, true, _ = _counts(matrix)
    return _ratio(right, true, true)


def pixel_accuracy(matrix: Tensor) -> float:
    """Share of the labelled pixels that are right; large where one class is large, so never alone."""
    right, true, _ = _counts(matrix)
    return float(right.sum() / true.sum())


def frequency_weighted_iou(matrix: Tensor) -> float:
    """IoU of each class, weighted with its share of the labelled pixels."""
    _, true, _ = _counts(matrix)
    return float((class_iou(matrix) * true).nansum() / true.sum())


CLASS_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean_iou": class_iou,
    "mean_dice": class_dice,
    "mean_accuracy": class_recall,
    "precision": class_precision,
    "recall": class_recall,
}
OVERALL_SCORES: dict[str, Callable[[Tensor], float]] = {
    "pixel_accuracy": pixel_accuracy,
    "frequency_weighted_iou": frequency_weighted_iou,
}


def score(name: str, matrix: Tensor) -> float:
    """A score by its name: the mean over the classes that are not NaN, or the overall figure; NaN without a pixel."""
    if name in OVERALL_SCORES:
        return OVERALL_SCORES[name](matrix)
    return float(CLASS_SCORES[name](matrix).nanmean())


def floor(class_pixels: Sequence[int]) -> dict[str, float]:
    """Every score of the best constant prediction, and under ``class`` the index of its class.

    It is the largest class for all scores at once: each is a rising function of that class's share, or, for accuracy
    and recall, the same for every class that is there.

    Args:
        class_pixels: labelled pixels of each class, ``[C]``.

    Raises:
        DataError: there is no labelled pixel.
    """
    pixels = torch.as_tensor(class_pixels, dtype=torch.int64)
    if pixels.sum() == 0:
        raise DataError("no pixel is labelled: all masks are void, and there is nothing to score")
    largest = int(pixels.argmax())
    matrix = torch.zeros(len(pixels), len(pixels), dtype=torch.int64)
    matrix[:, largest] = pixels
    return {"class": largest, **{name: score(name, matrix) for name in [*CLASS_SCORES, *OVERALL_SCORES]}}


def predicted(matrix: Tensor) -> dict[str, Any]:
    """What is predicted at all: the number of ``classes``, and the most predicted ``class`` with its ``share``."""
    columns = matrix.sum(0)
    most = int(columns.argmax())
    return {"classes": int((columns > 0).sum()), "class": most, "share": float(columns[most] / columns.sum())}


class Metric(Protocol):
    """What an evaluation asks of a metric; torchmetrics' metrics have it."""

    def update(self, logits: Tensor, target: Tensor, /) -> None:
        """Take in a batch: logits ``[B,C,H,W]``, target ``[B,H,W]``."""

    def compute(self) -> Any:
        """The figures over everything since the last reset."""

    def reset(self) -> None:
        """Forget every batch."""


class Score:
    """One score of a confusion matrix, its own or one that it shares (see :func:`share`).

    Attributes:
        name: its key in :meth:`compute`'s result.
        higher_is_better: whether more of it is; read where the best epoch is chosen by it.
        confusion: the matrix it is read off.
    """

    name: str
    higher_is_better: bool = True

    def __init__(self, num_classes: int, ignore_index: int, classes: Sequence[str] | None = None) -> None:
        self.confusion = ConfusionMatrix(num_classes, ignore_index)
        self.classes = [str(index) for index in range(num_classes)] if classes is None else list(classes)

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch: logits ``[B,C,H,W]``, target ``[B,H,W]``."""
        self.confusion.update(logits, target)

    def compute(self) -> dict[str, float]:
        """The score by its name; NaN without a labelled pixel."""
        return {self.name: score(self.name, self.confusion.compute())}

    def per_class(self) -> dict[str, float]:
        """The score of each class by its name, NaN where it is not in the target; empty for a score that is of all."""
        if self.name not in CLASS_SCORES:
            return {}
        return dict(zip(self.classes, CLASS_SCORES[self.name](self.confusion.compute()).tolist(), strict=True))

    def merge(self, other: Score) -> None:
        """Add what another process counted; scores that share a matrix are merged once, by any one of them.

        Raises:
            DataError: the other one is of other classes.
        """
        self.confusion.merge(other.confusion)

    def reset(self) -> None:
        """Forget every batch."""
        self.confusion.reset()


class MeanIoU(Score):
    """Mean intersection over union over the classes in the target, from the whole split's matrix.

    IoU of a class: right / (true + predicted - right) pixels. Everingham et al., "The Pascal Visual Object Classes
    Challenge", IJCV 2015. Not a mean over images.
    """

    name = "mean_iou"


class MeanDice(Score):
    """Mean Dice (F1) over the classes in the target: 2 right / (true + predicted) pixels."""

    name = "mean_dice"


class MeanAccuracy(Score):
    """Mean over the classes in the target of the share of their pixels that are right."""

    name = "mean_accuracy"


class Precision(Score):
    """Mean precision over the classes in the target: right / predicted pixels, 0 where never predicted."""

    name = "precision"


class Recall(Score):
    """Mean recall over the classes in the target: right / true pixels; the same as the mean accuracy."""

    name = "recall"


class PixelAccuracy(Score):
    """Share of the labelled pixels that are right; read it beside its floor, the largest class's share."""

    name = "pixel_accuracy"


class FrequencyWeightedIoU(Score):
    """Intersection over union of the classes, weighted with their shares of the labelled pixels.

    Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, arXiv 1411.4038.
    """

    name = "frequency_weighted_iou"


def share(metrics: Iterable[Metric], confusion: ConfusionMatrix | None = None) -> list[Metric]:
    """Give all our scores of the same classes one matrix, and return what to update and to reset, each thing once.

    Args:
        metrics: any metrics; those that are not ours are returned as they are.
        confusion: a matrix to use and return first; left out: that of the first score.
    """
    matrices = {} if confusion is None else {(confusion.num_classes, confusion.ignore_index): confusion}
    others: list[Metric] = []
    for metric in metrics:
        if isinstance(metric, Score):
            own = metric.confusion
            metric.confusion = matrices.setdefault((own.num_classes, own.ignore_index), own)
        else:
            others.append(metric)
    return [*matrices.values(), *others]
