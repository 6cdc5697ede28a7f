"""Score a model on a split, and compute what the best constant prediction scores there (the floor).

Logits are brought to each mask's own size; masks are never resized. An image is scored as it is predicted, whole or in
tiles: what ``segkit predict`` writes has these scores.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from segkit.data.batch_sampler import EvalBatchSampler
from segkit.data.class_weights import LabelCounts
from segkit.data.loader import SampleSource, eval_loader
from segkit.data.normalise import IMAGENET, Normalisation
from segkit.data.resize import Resize
from segkit.data.sample import Dataset
from segkit.engine.criterion import Criterion
from segkit.engine.data_source import prefetched
from segkit.engine.distributed import DistributedContext
from segkit.engine.precision import Precision
from segkit.errors import ConfigError, NotFiniteError, first_few
from segkit.inference.sliding_window import Inferer
from segkit.metric import scores
from segkit.metric.confusion import ConfusionMatrix
from segkit.signals import held

ALWAYS = ("mean_iou", "pixel_accuracy", "mean_accuracy", "mean_dice")  # whatever metrics a config asks for
OWN_KEYS = ("class", "class_iou", "floor", "lift", "loss", "losses", "predicted")  # of a split's scores, beside those


class Watcher(Protocol):
    """Something else that is shown an evaluation."""

    def update(self, logits: Tensor, target: Tensor, names: Sequence[str]) -> None:
        """Take in a batch: logits ``[B,C,H,W]``, target ``[B,H,W]``, and what its images are called."""

    def merge(self, distributed: DistributedContext) -> None:
        """Take in what the other processes have seen."""


def undecided(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Which images have a labelled pixel whose largest logit is NaN or infinite, bool ``[B]``, on the device."""
    found: Tensor = (~logits.amax(1).isfinite() & (target != ignore_index)).flatten(1).any(1)
    return found


@torch.no_grad()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    *,
    precision: Precision,
    criterion: Criterion | None = None,
    metrics: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    resize: Resize = None,
    crop: int | Sequence[int] | None = None,
    normalisation: Normalisation = IMAGENET,
    workers: int = 0,
    source: SampleSource | None = None,
    description: str = "",
    watchers: Sequence[Watcher] = (),
    distributed: DistributedContext | None = None,
) -> dict[str, Any]:
    """The scores of a model on a split.

    Args:
        model: put into eval mode for the time, and back.
        dataset: the split.
        precision: of the forward pass; scores are computed in float32 and integers.
        criterion: its value is the mean over the batches by their labelled pixels, as ``loss``, so that a mean over
            pixels is that of the split however it is batched; each term is in ``losses``.
        metrics: by name; those that read the confusion matrix share one.
        batch_size: images of one size that are computed together.
        resize: as ``data.resize``.
        crop: as ``augment.crop``, for the size of tiles.
        normalisation: the run's.
        workers: processes that load data.
        source: where the samples come from; left out: they are read from the dataset.
        description: of the progress bar; none is shown without it.
        watchers: are shown every batch.
        distributed: processes that share the batches, each of which is seen by one of them. With a metric that cannot
            be merged all of them see every batch.

    Returns:
        ``mean_iou``, ``pixel_accuracy``, ``mean_dice``, other metrics, ``loss``, ``losses``, ``class_iou`` by class,
        and ``predicted``: how many ``classes`` ever are, the most predicted ``class`` and its ``share``. The same in
        every process, and whatever their number.

    Raises:
        LabelError: a mask holds values outside the classes.
        NotFiniteError: the model's output for an image is NaN or infinite.
    """
    device = precision.device
    confusion = ConfusionMatrix(len(dataset.classes), dataset.ignore_index)
    metrics = {name: metric.to(device) if hasattr(metric, "to") else metric for name, metric in (metrics or {}).items()}
    updated = scores.share_confusion(metrics.values(), confusion)  # the matrix once, whoever reads it
    distributed = distributed or DistributedContext()
    sharing = distributed if all(can_merge(metric) for metric in updated) else DistributedContext()
    sampler = EvalBatchSampler(len(dataset), batch_size, rank=sharing.rank, size=sharing.size)
    loader = eval_loader(source or SampleSource(dataset, resize), sampler, workers=workers, device=device)
    for metric in updated:
        metric.reset()
    losses: list[tuple[int, Tensor]] = []  # the batch's number, and [2 + T] on the device: its pixels, loss and terms
    flags: list[Tensor] = []  # an image each, on the device
    names: list[str] = []
    training = model.training
    model.eval()
    inferer = Inferer(model, precision, len(dataset.classes), resize=resize, crop=crop, normalisation=normalisation)
    torch.backends.cudnn.benchmark = False  # every new size would be measured anew
    try:
        with held():  # processes may be forked
            waiting = iter(loader)
        shown = tqdm(
            prefetched(waiting, device),
            description,
            len(loader),
            leave=False,
            disable=None if description and distributed.is_main_process else True,
        )
        for number, batches in zip(sampler.mine, shown, strict=True):
            for batch in batches:
                logits = inferer.evaluate(batch.image, (batch.mask.shape[1], batch.mask.shape[2]))  # [B,C,H,W]
                target = batch.mask.long()
                flags.append(undecided(logits, target, dataset.ignore_index))
                names += batch.names
                for metric in updated:
                    metric.update(logits, target)
                for watcher in watchers:
                    watcher.update(logits, target, batch.names)
                if criterion is not None:
                    loss, terms = criterion(logits, target)
                    pixels = (target != dataset.ignore_index).sum().view(1)
                    losses.append((number, torch.cat([pixels.double(), loss.view(1), terms])))
    finally:
        model.train(training)
    bad = torch.cat(flags).tolist() if flags else []  # the device is waited for once
    failed = sharing.gather([name for name, flag in zip(names, bad, strict=True) if flag])
    if any(failed):
        every = [name for those in failed for name in those]
        raise NotFiniteError(f"{len(every)} of {len(dataset)} images ({first_few(every)})")
    for metric in updated:
        merge(metric, sharing)
    for watcher in watchers:
        watcher.merge(sharing)
    result = read_off(confusion, metrics, dataset.classes)
    if criterion is not None:
        means = _mean_losses(losses, len(criterion.names), sharing)
        result["loss"], result["losses"] = means[0], dict(zip(criterion.names, means[1:], strict=True))
    return distributed.broadcast_from_main(lambda: result)  # what follows from it is the same in all, to the last digit


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


def _mean_losses(losses: Sequence[tuple[int, Tensor]], terms: int, distributed: DistributedContext) -> list[float]:
    """The mean of the loss and of its terms over all labelled pixels; summed in the order of the batches."""
    values = torch.stack([value for _, value in losses]).tolist() if losses else []  # the device is waited for once
    mine = [(number, row) for (number, _), row in zip(losses, values, strict=True)]
    every = sorted((each for those in distributed.gather(mine) for each in those), key=lambda each: each[0])
    counted = [row for _, row in every if row[0]]  # of a batch that is all void, torch's own losses are NaN
    pixels = max(1.0, sum(row[0] for row in counted))
    return [sum(row[0] * row[1 + term] for row in counted) / pixels for term in range(1 + terms)]


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
        taken = [key for key in values if key in OWN_KEYS or (key in result and not ours)]
        if taken:
            raise ConfigError(f"the metric '{name}' gives '{taken[0]}', which is there already; rename it")
        result.update(values)
    result["class_iou"] = dict(zip(classes, scores.class_iou(matrix).tolist(), strict=True))
    predicted = scores.predicted(matrix)
    result["predicted"] = {**predicted, "class": classes[predicted["class"]]}
    return result


def named_values(name: str, value: Any) -> dict[str, Any]:
    """What a metric computed, by name: a dict as it is, a number under the metric's name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return {name: _plain(value)}


def _plain(value: Any) -> Any:
    """Tensors and numpy's numbers as Python's own: a checkpoint holds nothing else."""
    return value.tolist() if hasattr(value, "tolist") else value


def floor(counts: LabelCounts, dataset: Dataset, metrics: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What predicting the largest class everywhere scores on a split, and that ``class``.

    All that reads a confusion matrix follows from the counts; of other metrics see :class:`Constant`.

    Raises:
        DataError: no pixel of the split is labelled.
    """
    found: dict[str, Any] = dict(scores.floor(counts.pixels.tolist()))
    largest = int(found["class"])
    for name, metric in (metrics or {}).items():
        if isinstance(metric, scores.Score):
            twin = copy.copy(metric)
            twin.confusion = ConfusionMatrix(len(dataset.classes), dataset.ignore_index)
            twin.confusion.counts[: len(counts.pixels), largest] = torch.from_numpy(counts.pixels)
            found |= named_values(name, twin.compute())
    return {**found, "class": dataset.classes[largest]}


class Constant:
    """Metrics of somebody else's, shown the largest class wherever the network's prediction is shown to their twins."""

    def __init__(self, metrics: Mapping[str, Any], dataset: Dataset, lowest: Mapping[str, Any]) -> None:
        others = {name: metric for name, metric in metrics.items() if not isinstance(metric, scores.Score)}
        self.metrics = copy.deepcopy(others)
        self.logits = torch.zeros(1, len(dataset.classes), 1, 1)
        self.logits[:, dataset.classes.index(lowest["class"])] = 100.0
        for metric in self.metrics.values():
            metric.reset()

    def update(self, _logits: Tensor, target: Tensor, _names: Sequence[str]) -> None:
        """Take in a batch's target ``[B,H,W]``."""
        count, height, width = target.shape
        logits = self.logits.to(target.device).expand(count, -1, height, width)  # [B,C,H,W]
        for name, metric in self.metrics.items():
            if hasattr(metric, "to"):
                self.metrics[name] = metric = metric.to(target.device)
            metric.update(logits, target)

    def merge(self, distributed: DistributedContext) -> None:
        """Take in what the other processes have seen."""
        for metric in self.metrics.values():
            merge(metric, distributed)

    def compute(self) -> dict[str, Any]:
        """Their floors by name."""
        found: dict[str, Any] = {}
        for name, metric in self.metrics.items():
            found |= named_values(name, metric.compute())
        return found


def beside(found: Mapping[str, Any], lowest: Mapping[str, Any]) -> dict[str, Any]:
    """Scores with their ``floor``, and ``lift``: how far the mean IoU is on its way from there (0) to perfect (1).

    Where the floor is perfect itself, as with one class, there is no way to go and lift is None.
    """
    way = 1 - lowest["mean_iou"]
    lift = (found["mean_iou"] - lowest["mean_iou"]) / way if way > 0 else None
    return {**found, "floor": dict(lowest), "lift": lift}


class ImageScore(NamedTuple):
    """One image's scores; those of an image without a labelled pixel are NaN."""

    name: str
    mean_iou: float
    pixel_accuracy: float


class ImageScores:
    """Watches an evaluation: a score for each image, and the confusion matrix of them all.

    The mean IoU of an image is over the classes in its target, after the image-wise mIoU of "Revisiting Evaluation
    Metrics for Semantic Segmentation" (arXiv 2310.19252). It finds the image that went wrong; the score of a split is
    still read off one matrix.

    Attributes:
        confusion: int64 ``[C,C]``, rows are the truth, void is left out.
        scored: in the split's order, once :meth:`merge` was called.

    Args:
        names: of the split's samples, in its order.
        num_classes: the number of classes C.
    """

    def __init__(self, names: Sequence[str], num_classes: int) -> None:
        self.names, self.num_classes = names, num_classes
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.scored: list[ImageScore] = []
        self._places: list[int] = []  # in the split, of those scored

    def update(self, logits: Tensor, target: Tensor, names: Sequence[str]) -> None:
        """Take in a batch: logits ``[B,C,H,W]``, target ``[B,H,W]``, and what its images are called."""
        classes = self.num_classes
        predicted = logits.max(dim=1).indices  # [B,H,W]
        known = (target >= 0) & (target < classes)
        for place, name in enumerate(names):
            pairs = (target[place] * classes + predicted[place])[known[place]]
            matrix = torch.bincount(pairs, minlength=classes * classes).view(classes, classes).cpu()
            self.confusion += matrix
            self.scored.append(
                ImageScore(name, scores.score("mean_iou", matrix), scores.score("pixel_accuracy", matrix))
            )

    def merge(self, distributed: DistributedContext) -> None:
        """Take in what the other processes have seen."""
        self.confusion = distributed.sum(self.confusion)
        places: dict[str, deque[int]] = defaultdict(deque)
        for number, name in enumerate(self.names):
            places[name].append(number)  # somebody's images may share a name
        every = [score for those in distributed.gather(self.scored) for score in those]
        beyond = len(self.names)  # a name that the scan did not meet: scored, and not drawn
        placed = sorted(
            (places[score.name].popleft() if places[score.name] else beyond, number)
            for number, score in enumerate(every)
        )
        self.scored = [every[number] for _, number in placed]
        self._places = [place for place, _ in placed]

    def ranked(self) -> list[int]:
        """The indices of the images that have a score, the worst first."""
        pairs = zip(self.scored, self._places, strict=True)
        known = [
            (score.mean_iou, place)
            for score, place in pairs
            if not math.isnan(score.mean_iou) and place < len(self.names)
        ]
        return [place for _, place in sorted(known)]

    def as_json(self) -> dict[str, Any]:
        """Both, for ``details.json``."""
        return {"confusion": self.confusion.tolist(), "images": [score._asdict() for score in self.scored]}
