"""Score a model on a split: logits are brought to each mask's own size, masks are never resized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from segkit.data.loader import Batch, Resize, evaluation_loader
from segkit.data.normalise import normalise
from segkit.data.sample import Dataset
from segkit.engine.objective import Objective
from segkit.engine.precision import Precision
from segkit.errors import ConfigError, ModelError
from segkit.metric import scores
from segkit.metric.confusion import ConfusionMatrix

ALWAYS = ("mean_iou", "pixel_accuracy", "mean_accuracy", "mean_dice")  # whatever metrics a config asks for
OWN_KEYS = ("class", "class_iou", "floor", "lift", "loss", "losses", "predicted")  # of a split's scores, beside those


class Watcher(Protocol):
    """Something else that is shown the targets of an evaluation."""

    def update(self, target: Tensor) -> None:
        """Take in a batch's target ``[B,H,W]``."""


def logits_of(output: object) -> Tensor:
    """What a model returned.

    Raises:
        ModelError: it is not a tensor.
    """
    if not isinstance(output, Tensor):
        raise ModelError(f"the model returned {type(output).__name__}; a model returns logits, a tensor [B,C,H,W]")
    return output


def logits_at(model: nn.Module, batch: Batch, precision: Precision, size: Sequence[int]) -> Tensor:
    """float32 logits ``[B,C,H,W]`` of a batch at ``size = (H, W)``; bilinear where the image had another size."""
    images = normalise(batch.image)  # [B,3,h,w]
    with precision.autocast():
        logits = logits_of(model(images))  # [B,C,h,w]
    logits = logits.float()
    if tuple(logits.shape[2:]) == tuple(size):
        return logits
    return F.interpolate(logits, tuple(size), mode="bilinear", align_corners=False)  # [B,C,H,W]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    *,
    precision: Precision,
    objective: Objective | None = None,
    metrics: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    resize: Resize = None,
    workers: int = 0,
    description: str = "",
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """The scores of a model on a split.

    Args:
        model: put into eval mode for the time, and back.
        dataset: the split.
        precision: of the forward pass; scores are computed in float32 and integers.
        objective: its value is the mean over the batches by their images, as ``loss``; each term is in ``losses``.
        metrics: by name; those that read the confusion matrix share one.
        batch_size: images of one size that are computed together.
        resize: as ``data.resize``.
        workers: processes that load data.
        description: of the progress bar; none is shown without it.
        watcher: is shown every target.

    Returns:
        ``mean_iou``, ``pixel_accuracy``, ``mean_dice``, other metrics, ``loss``, ``losses``, ``class_iou`` by class,
        and ``predicted``: how many ``classes`` ever are, the most predicted ``class`` and its ``share``.

    Raises:
        LabelError: a mask holds values outside the classes.
    """
    device = precision.device
    loader = evaluation_loader(dataset, batch_size=batch_size, resize=resize, workers=workers, device=device)
    confusion = ConfusionMatrix(len(dataset.classes), dataset.ignore_index)
    metrics = {name: metric.to(device) if hasattr(metric, "to") else metric for name, metric in (metrics or {}).items()}
    updated = scores.share(metrics.values(), confusion)  # the matrix once, whoever reads it
    for metric in updated:
        metric.reset()
    loss_sum = torch.zeros((), device=device)
    term_sums = torch.zeros(len(objective.names) if objective else 0, device=device)
    images = 0
    training = model.training
    model.eval()
    torch.backends.cudnn.benchmark = False  # every new size would be measured anew
    try:
        for batches in tqdm(loader, description, leave=False, disable=None if description else True):
            for batch in batches:
                batch = batch.to(device)
                logits = logits_at(model, batch, precision, batch.mask.shape[1:])
                target = batch.mask.long()
                for metric in updated:
                    metric.update(logits, target)
                if watcher is not None:
                    watcher.update(target)
                if objective is not None:
                    loss, terms = objective(logits, target)
                    loss_sum += loss * len(batch.names)
                    term_sums += terms * len(batch.names)
                images += len(batch.names)
    finally:
        model.train(training)
    result = read_off(confusion, metrics, dataset.classes)
    if objective is not None:
        result["loss"] = float(loss_sum) / max(1, images)
        result["losses"] = dict(zip(objective.names, (term_sums / max(1, images)).tolist(), strict=True))
    return result


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
        taken = [key for key in values if key in OWN_KEYS or (key in result and not isinstance(metric, scores.Score))]
        if taken:
            raise ConfigError(f"the metric '{name}' gives '{taken[0]}', which is there already; rename it")
        result.update(values)
    result["class_iou"] = dict(zip(classes, scores.class_iou(matrix).tolist(), strict=True))
    predicted = scores.predicted(matrix)
    result["predicted"] = {**predicted, "class": classes[predicted["class"]]}
    return result


def named_values(name: str, value: Any) -> dict[str, Any]:
    """What a metric computed, by name: a dict as it is, a number under the metric's name, several as a list."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return {name: _plain(value)}


def _plain(value: Any) -> Any:
    """Tensors and numpy's numbers as Python's own: a checkpoint holds nothing else."""
    return value.tolist() if hasattr(value, "tolist") else value
