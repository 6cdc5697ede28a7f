"""Scores computed from a confusion matrix, and their floor: the scores of the majority-class baseline.

Rows of the matrix are true classes, columns predicted ones; void is excluded, and means over classes skip NaN:

- A class without pixels in the target scores NaN, predicted or not, so that the scores and the floor of a split are
  means over the same classes. mmsegmentation, torchmetrics and scikit-learn count it as 0 as soon as one pixel is
  predicted as this class, so the number of classes in their mean depends on the network.
- A class in the target that is never predicted has precision 0 (scikit-learn's ``zero_division=0``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from segkit.errors import ConfigError, DataError
from segkit.metric.confusion import ConfusionMatrix

CLASS_SCORES = ("mean_iou", "mean_dice", "mean_accuracy", "precision", "recall")
OVERALL_SCORES = ("pixel_accuracy", "frequency_weighted_iou")
ALWAYS = ("mean_iou", "pixel_accuracy", "mean_accuracy", "mean_dice")  # computed for every split in every run
RESERVED_KEYS = ("class", "class_iou", "floor", "lift", "loss", "losses", "predicted")  # metrics may not use these


def class_score(name: str, matrix: Tensor) -> Tensor:
    """Compute one of ``CLASS_SCORES`` per class, float64 ``[C]``; 0 / 0 is 0, a class not in the target is NaN.

    The accuracy of a class is its recall.
    """
    matrix = matrix.to("cpu", torch.float64)
    true_positives, target, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    above, below = {
        "mean_iou": (true_positives, target + predicted - true_positives),
        "mean_dice": (2 * true_positives, target + predicted),
        "precision": (true_positives, predicted),
        "recall": (true_positives, target),
        "mean_accuracy": (true_positives, target),
    }[name]
    return torch.where(target > 0, above / below.clamp_min(1), torch.nan)


def score(name: str, matrix: Tensor) -> float:
    """Compute a score by name: a mean over the classes in the target, or an overall score; NaN for an empty matrix."""
    target = matrix.sum(1).to("cpu", torch.float64)
    if name == "pixel_accuracy":
        return float(matrix.diagonal().sum() / target.sum())
    if name == "frequency_weighted_iou":
        return float((class_score("mean_iou", matrix) * target).nansum() / target.sum())
    return float(class_score(name, matrix).nanmean())


def floor(class_pixels: Sequence[int], classes: Sequence[str]) -> dict[str, Any]:
    """Compute the majority-class baseline: all scores of predicting the largest class everywhere, and that ``class``.

    No other constant prediction scores higher: each score increases with the predicted class's share, except mean
    accuracy and recall, which are the same for every class in the target.

    Args:
        class_pixels: labelled pixels of each class, ``[C]``.
        classes: class names.

    Raises:
        DataError: there is no labelled pixel.
    """
    pixels = torch.as_tensor(class_pixels, dtype=torch.int64)
    if pixels.sum() == 0:
        raise DataError("no pixel is labelled: all masks are void, and there is nothing to score")
    largest = int(pixels.argmax())
    matrix = torch.zeros(len(pixels), len(pixels), dtype=torch.int64)
    matrix[:, largest] = pixels
    return {
        "class": classes[largest],
        **{name: score(name, matrix) for name in [*CLASS_SCORES, *OVERALL_SCORES]},
    }


class Score:
    """A score of a confusion matrix; an evaluation may share one matrix between several scores.

    Attributes:
        name: key of the score in the result of :meth:`compute`.
        higher_is_better: how this score selects the best epoch.
        confusion: the confusion matrix.
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
        """Return the score by name; NaN without a labelled pixel."""
        return {self.name: score(self.name, self.confusion.compute())}

    def merge(self, other: Score) -> None:
        """Add the counts of another process; of scores that share a matrix, merge only one."""
        self.confusion.merge(other.confusion)

    def reset(self) -> None:
        """Reset the confusion matrix."""
        self.confusion.reset()


class MeanIoU(Score):
    """Mean intersection over union over the classes in the target, from the whole split's matrix.

    IoU of a class: true positives / (target + predicted - true positives), in pixels. Everingham et al., "The Pascal
    Visual Object Classes Challenge", IJCV 2015. Not a mean over images.
    """

    name = "mean_iou"


class MeanDice(Score):
    """Mean Dice (F1) over the classes in the target: 2 true positives / (target + predicted), in pixels."""

    name = "mean_dice"


class MeanAccuracy(Score):
    """Mean accuracy over the classes in the target: correct pixels of the class / target pixels of the class."""

    name = "mean_accuracy"


class Precision(Score):
    """Mean precision over the classes in the target: true positives / predicted pixels, 0 where never predicted."""

    name = "precision"


class Recall(Score):
    """Mean recall over the classes in the target: true positives / target pixels; the same as the mean accuracy."""

    name = "recall"


class PixelAccuracy(Score):
    """Share of the labelled pixels that are correct; compare it with its floor, the largest class's share."""

    name = "pixel_accuracy"


class FrequencyWeightedIoU(Score):
    """Mean intersection over union, each class weighted by its share of the labelled pixels.

    Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, arXiv 1411.4038.
    """

    name = "frequency_weighted_iou"


def named_values(name: str, metric: Any) -> dict[str, Any]:
    """Return a metric's results by name: a dict unchanged, a single number under the metric's name.

    Raises:
        ConfigError: a result is not a number, a text, or a list or dict of these.
    """

    def plain(value: Any) -> Any:  # checkpoints hold only Python's own types, no tensors or NumPy numbers
        value = value.tolist() if hasattr(value, "tolist") else value
        if isinstance(value, Mapping):
            return {str(key): plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        if not isinstance(value, str | int | float | None):
            raise ConfigError(f"the metric '{name}' returns {value!r:.80}; it must be a number or a dict of numbers")
        return value

    result = metric.compute()
    values: dict[str, Any] = plain(result if isinstance(result, Mapping) else {name: result})
    return values


def split_scores(
    confusion: ConfusionMatrix,
    classes: Sequence[str],
    metrics: Mapping[str, Any] | None = None,
    lowest: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the scores of a split except its loss: ``ALWAYS``, those of ``metrics``, ``class_iou`` by class, more.

    Args:
        confusion: the confusion matrix of the whole split.
        classes: class names.
        metrics: further metrics by name, updated with the whole split.
        lowest: the ``floor`` of the scores; default: computed from the confusion matrix. The ``lift`` is the mean IoU
            rescaled so that the floor is 0 and a perfect score 1; None where the floor is perfect.

    Raises:
        ConfigError: a third-party metric returns a score under a name that is taken.
        LabelError: a mask held values outside the classes.
        DataError: no floor is given, and no pixel is labelled.
    """
    matrix = confusion.compute()
    result: dict[str, Any] = {name: score(name, matrix) for name in ALWAYS}
    for name, metric in (metrics or {}).items():
        values = named_values(name, metric)
        ours = isinstance(metric, Score) and type(metric).compute is Score.compute  # the same value as in result
        taken = [key for key in values if key in RESERVED_KEYS or (key in result and not ours)]
        if taken:
            raise ConfigError(f"the metric '{name}' returns '{taken[0]}', a name that is taken; rename it")
        result.update(values)
    result["class_iou"] = dict(zip(classes, class_score("mean_iou", matrix).tolist(), strict=True))
    columns = matrix.sum(0)  # [C]
    most, count = int(columns.argmax()), int((columns > 0).sum())
    result["predicted"] = {"classes": count, "class": classes[most], "share": float(columns[most] / columns.sum())}
    lowest = dict(lowest or floor(matrix.sum(1).tolist(), classes))
    way = 1 - lowest["mean_iou"]
    lift = (result["mean_iou"] - lowest["mean_iou"]) / way if way > 0 else None
    return {**result, "floor": lowest, "lift": lift}
