"""The scores of a split: read from its metrics, merged over processes, beside the floor.

The floor is what the best constant prediction scores there, the majority-class baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segkit.engine.distributed import DistributedContext
from segkit.errors import ConfigError
from segkit.metric import scores
from segkit.metric.confusion import ConfusionMatrix

ALWAYS = ("mean_iou", "pixel_accuracy", "mean_accuracy", "mean_dice")  # whatever metrics a config asks for
RESERVED_KEYS = ("class", "class_iou", "floor", "lift", "loss", "losses", "predicted")  # of a split's scores


def can_merge(metric: Any) -> bool:
    """Whether what two processes counted can be made one: by ``merge(other)``, or torchmetrics' ``merge_state``."""
    if hasattr(metric, "merge"):
        return True
    alone = getattr(metric, "full_state_update", None) is False and not getattr(metric, "dist_sync_on_step", False)
    return hasattr(metric, "merge_state") and alone  # torchmetrics merges no others


def merge(metric: Any, distributed: DistributedContext) -> None:
    """Make what all processes counted one; to rounding the same in each of them."""
    if hasattr(metric, "sync_on_compute"):
        metric.sync_on_compute = False  # else torchmetrics would add it all up once more
    if distributed.size == 1:
        return
    if isinstance(metric, scores.Score):
        metric = metric.confusion
    if isinstance(metric, ConfusionMatrix):
        metric.counts = distributed.sum(metric.counts.cpu())
        return
    device = getattr(metric, "device", None)
    if device is not None:
        metric.to("cpu")  # they travel as objects, which know nothing of another's card
    add = getattr(metric, "merge", None) or metric.merge_state
    for rank, other in enumerate(distributed.gather(metric)):
        if rank != distributed.rank:
            add(other)
    if device is not None:
        metric.to(device)


def read_off(confusion: ConfusionMatrix, metrics: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """The scores of a confusion matrix and of further metrics, once they have seen every batch.

    Raises:
        ConfigError: a metric of somebody else gives a score of a name that is taken.
        LabelError: a mask held values outside the classes.
    """
    matrix = confusion.compute()
    result: dict[str, Any] = {name: scores.score(name, matrix) for name in ALWAYS}
    for name, metric in metrics.items():
        values = named_values(name, metric.compute())
        ours = (
            isinstance(metric, scores.Score) and type(metric).compute is scores.Score.compute
        )  # the same figure again
        taken = [key for key in values if key in RESERVED_KEYS or (key in result and not ours)]
        if taken:
            raise ConfigError(f"the metric '{name}' gives '{taken[0]}', which is there already; rename it")
        result.update(values)
    result["class_iou"] = dict(zip(classes, scores.class_iou(matrix).tolist(), strict=True))
    predicted = scores.predicted(matrix)
    result["predicted"] = {**predicted, "class": classes[predicted["class"]]}
    return result


def named_values(name: str, value: Any) -> dict[str, Any]:
    """What a metric computed, by name: a dict as it is, a number under the metric's name."""
    found = value if isinstance(value, Mapping) else {name: value}
    # tensors and numpy's numbers become Python's own: a checkpoint holds nothing else
    return {str(key): each.tolist() if hasattr(each, "tolist") else each for key, each in found.items()}


def with_floor(found: Mapping[str, Any], floor: Mapping[str, Any]) -> dict[str, Any]:
    """Scores with their ``floor``, and ``lift``: how far the mean IoU is on its way from there (0) to perfect (1).

    Where the floor is perfect itself, as with one class, there is no way to go and lift is None.
    """
    way = 1 - floor["mean_iou"]
    lift = (found["mean_iou"] - floor["mean_iou"]) / way if way > 0 else None
    return {**found, "floor": dict(floor), "lift": lift}


def confusion_scores(confusion: ConfusionMatrix, classes: Sequence[str]) -> dict[str, Any]:
    """The scores of a confusion matrix beside the floor of its own targets, as a split has them, without a loss.

    Raises:
        DataError: no pixel is labelled.
    """
    lowest = scores.floor(confusion.compute().sum(1).tolist(), classes)
    return with_floor(read_off(confusion, {}, classes), lowest)
