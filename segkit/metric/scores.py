"""Scores computed from a confusion matrix, and their floor: what the majority-class baseline scores.

Rows of the matrix are the truth, columns the prediction, void is left out, and a mean over classes skips NaN:

- A class without a pixel in the target is NaN, predicted or not: there is nothing to score, so it is never 0 and never
  1, and the scores and the floor of a split are means over the same classes. mmsegmentation, torchmetrics and
  scikit-learn count it as 0 as soon as one pixel is predicted as it, so that their mean is over more classes for one
  network than for another.
- A class that is in the target and never predicted has precision 0 (scikit-learn's ``zero_division=0``).
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
ALWAYS = ("mean_iou", "pixel_accuracy", "mean_accuracy", "mean_dice")  # of a split, whatever metrics a config asks for
RESERVED_KEYS = ("class", "class_iou", "floor", "lift", "loss", "losses", "predicted")  # of a split's scores


def class_score(name: str, matrix: Tensor) -> Tensor:
    """One of ``CLASS_SCORES`` for each class, float64 ``[C]``; 0 where it is 0 / 0, NaN without a pixel in the target.

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


def class_iou(matrix: Tensor) -> Tensor:
    """Intersection over union, float64 ``[C]``."""
    return class_score("mean_iou", matrix)


def score(name: str, matrix: Tensor) -> float:
    """A score by its name: the mean over the classes that are not NaN, or the overall figure; NaN without a pixel."""
    target = matrix.sum(1).to("cpu", torch.float64)
    if name == "pixel_accuracy":
        return float(matrix.diagonal().sum() / target.sum())
    if name == "frequency_weighted_iou":
        return float((class_iou(matrix) * target).nansum() / target.sum())
    return float(class_score(name, matrix).nanmean())


def floor(class_pixels: Sequence[int], classes: Sequence[str] = ()) -> dict[str, Any]:
    """Every score of predicting the largest class everywhere, and that ``class``.

    It is the majority-class baseline. The largest class is the best for all scores at once: each is a rising function
    of that class's share, or, for accuracy and recall, the same for every class that is there.

    Args:
        class_pixels: labelled pixels of each class, ``[C]``.
        classes: their names; without them ``class`` is an index.

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
        "class": classes[largest] if classes else largest,
        **{name: score(name, matrix) for name in [*CLASS_SCORES, *OVERALL_SCORES]},
    }


class Score:
    """One score of a confusion matrix, its own or one that an evaluation shares between scores.

    Attributes:
        name: its key in the result of :meth:`compute`.
        higher_is_better: read where the best epoch is chosen by this score.
        confusion: the matrix it is computed from.
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

    def merge(self, other: Score) -> None:
        """Add what another process counted; scores that share a matrix are merged once, by any one of them.

        Raises:
            DataError: the other one has other classes.
        """
        self.confusion.merge(other.confusion)

    def reset(self) -> None:
        """Forget every batch."""
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
    """Mean over the classes in the target of the share of their pixels that are right."""

    name = "mean_accuracy"


class Precision(Score):
    """Mean precision over the classes in the target: true positives / predicted pixels, 0 where never predicted."""

    name = "precision"


class Recall(Score):
    """Mean recall over the classes in the target: true positives / target pixels; the same as the mean accuracy."""

    name = "recall"


class PixelAccuracy(Score):
    """Share of the labelled pixels that are right; read it beside its floor, the largest class's share."""

    name = "pixel_accuracy"


class FrequencyWeightedIoU(Score):
    """Intersection over union of the classes, weighted with their shares of the labelled pixels.

    Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, arXiv 1411.4038.
    """

    name = "frequency_weighted_iou"


def named_values(name: str, metric: Any) -> dict[str, Any]:
    """What a metric computes, by name: a dict as it is, a number under the metric's name.

    Raises:
        ConfigError: it holds something else than numbers, texts, and lists and dicts of these.
    """

    def plain(value: Any) -> Any:  # tensors and numpy's numbers become Python's own: a checkpoint holds nothing else
        value = value.tolist() if hasattr(value, "tolist") else value
        if isinstance(value, Mapping):
            return {str(key): plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        if not isinstance(value, str | int | float | None):
            raise ConfigError(f"the metric '{name}' gives {value!r:.80}; a metric gives a number, or numbers by name")
        return value

    found = metric.compute()
    values: dict[str, Any] = plain(found if isinstance(found, Mapping) else {name: found})
    return values


def split_scores(
    confusion: ConfusionMatrix,
    classes: Sequence[str],
    metrics: Mapping[str, Any] | None = None,
    lowest: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The scores of a split, but for its loss: ``ALWAYS``, ``class_iou`` by class, what is ``predicted``, and more.

    Args:
        confusion: that has counted the split.
        classes: their names.
        metrics: further ones by name, which have seen it all.
        lowest: the ``floor`` of the scores; left out: that of the confusion's own targets. The ``lift`` is how far the
            mean IoU is on its way from there (0) to perfect (1), and None where the floor is perfect itself.

    Raises:
        ConfigError: a metric of somebody else gives a score of a name that is taken.
        LabelError: a mask held values outside the classes.
        DataError: no floor is given, and no pixel is labelled.
    """
    matrix = confusion.compute()
    result: dict[str, Any] = {name: score(name, matrix) for name in ALWAYS}
    for name, metric in (metrics or {}).items():
        values = named_values(name, metric)
        ours = isinstance(metric, Score) and type(metric).compute is Score.compute  # the same figure again
        taken = [key for key in values if key in RESERVED_KEYS or (key in result and not ours)]
        if taken:
            raise ConfigError(f"the metric '{name}' gives '{taken[0]}', which is there already; rename it")
        result.update(values)
    result["class_iou"] = dict(zip(classes, class_iou(matrix).tolist(), strict=True))
    columns = matrix.sum(0)  # [C]
    most, count = int(columns.argmax()), int((columns > 0).sum())
    result["predicted"] = {"classes": count, "class": classes[most], "share": float(columns[most] / columns.sum())}
    lowest = dict(lowest or floor(matrix.sum(1).tolist(), classes))
    way = 1 - lowest["mean_iou"]
    lift = (result["mean_iou"] - lowest["mean_iou"]) / way if way > 0 else None
    return {**result, "floor": lowest, "lift": lift}
