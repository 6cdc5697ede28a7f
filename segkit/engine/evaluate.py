"""Evaluate a model on a split, and predict its samples.

Logits are resized to the original size of each mask; masks are never resized. Images are evaluated exactly as they are
predicted, whole or in sliding windows, so the files that ``segkit predict`` writes have the same scores.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from segkit.data.loader import SampleSource, batch_loader, shut_down
from segkit.data.sample import Batch, Dataset
from segkit.engine.criterion import Criterion
from segkit.engine.data_source import prefetched
from segkit.engine.distributed import PROCESSES, DistributedContext
from segkit.engine.precision import widest_float
from segkit.errors import NotFiniteError, first_few
from segkit.inference.sliding_window import Inferer
from segkit.inference.window_grid import MAX_WHOLE_PIXELS
from segkit.metric import scores
from segkit.metric.confusion import ConfusionMatrix
from segkit.signals import STOP


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation, the same in every process.

    Attributes:
        scores: ``mean_iou``, ``pixel_accuracy``, ``mean_accuracy``, ``mean_dice``, other metrics, ``loss``, ``losses``,
            ``class_iou`` by class, and ``predicted``: the number of ``classes`` predicted anywhere, the most
            predicted ``class`` and its ``share``, ``floor`` and ``lift``.
        confusion: int64 ``[C,C]``; rows are the target, columns the prediction, void is left out.
        images: if requested, for each image in the split's order ``name``, ``mean_iou`` and ``pixel_accuracy``, NaN for
            an image without a labelled pixel. The mean IoU is over the classes in the image's target, after the
            image-wise mIoU of "Revisiting Evaluation Metrics for Semantic Segmentation" (arXiv 2310.19252). It serves
            to find bad images; the score of a split is computed from one confusion matrix.
    """

    scores: dict[str, Any]
    confusion: Tensor
    images: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Evaluator:
    """Evaluates a model on one split, in float32 and integers.

    Attributes:
        inferer: the model, and how images are passed to it.
        dataset: the split.
        criterion: its mean over the split's labelled pixels is the score ``loss``; the means of its terms are
            ``losses``.
        metrics: metrics by name; those computed from a confusion matrix share one.
        floor: as :func:`segkit.metric.scores.floor` returns it; the first evaluation adds the floors of other metrics.
        batch_size: the number of images of the same size that are computed together.
        workers: processes that load data, as ``train.workers``.
        source: the source of the samples; default: they are read from the dataset.
    """

    inferer: Inferer
    dataset: Dataset
    criterion: Criterion | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    floor: dict[str, Any] | None = None
    batch_size: int = 8
    workers: int | str = 0
    source: SampleSource | None = None

    def __post_init__(self) -> None:
        self.classes, self.ignore_index = list(self.dataset.classes), self.dataset.ignore_index
        self.device, items = self.inferer.precision.device, self.metrics.items()
        self.metrics = {name: metric.to(self.device) if hasattr(metric, "to") else metric for name, metric in items}
        # copies of the metrics whose floor is unknown; they are updated with the floor's class as the prediction
        unknown = {name: metric for name, metric in self.metrics.items() if name not in (self.floor or self.metrics)}
        self._floor_metrics = copy.deepcopy(unknown)

    @torch.no_grad()
    def evaluate(
        self, description: str = "", names: Sequence[str] = (), indices: Sequence[int] | None = None
    ) -> Evaluation:
        """Evaluate the model, and leave it in eval mode.

        Args:
            description: text of the progress bar; without it no bar is shown.
            names: names of all samples, in the split's order; if given, each image is scored too.
            indices: indices of the samples to evaluate; default: all.

        Raises:
            ConfigError: a metric returns a score whose name is taken.
            LabelError: a mask holds values outside the classes.
            NotFiniteError: the model's output for an image is NaN or infinite.
        """
        confusion = ConfusionMatrix(len(self.classes), self.ignore_index)
        metrics: list[Any] = [confusion]  # the metrics to update; our own scores share one confusion matrix
        for metric in self.metrics.values():
            if isinstance(metric, scores.Score):
                metric.confusion = confusion
            else:
                metrics.append(metric)
        every_metric = [*metrics, *self._floor_metrics.values()]
        for metric in every_metric:
            metric.reset()
        chosen = range(len(self.dataset)) if indices is None else indices
        # a metric that cannot be merged must see all batches
        shared = PROCESSES if all(hasattr(each, "merge") for each in metrics) else DistributedContext()
        parts = self._update_metrics(metrics, chosen, shared, description, each_image=bool(names))
        flags = [pair for _, samples, row, _ in parts for pair in zip(samples, row[-len(samples) :], strict=True)]
        if undecided := [name for name, flag in flags if flag]:
            raise NotFiniteError(f"{len(undecided)} of {len(chosen)} images ({first_few(undecided)})")
        for metric in every_metric:
            merge(metric, shared)
        if self.floor is not None:
            for name, metric in self._floor_metrics.items():
                self.floor.update(scores.named_values(name, metric))
        self._floor_metrics = {}
        result = scores.split_scores(confusion, self.classes, self.metrics, self.floor)
        if self.criterion is not None:
            rows = [row for _, _, row, _ in parts if row[0]]  # torch's losses are NaN for a batch that is all void
            pixels = max(1.0, sum(row[0] for row in rows))
            loss, *terms = [
                sum(row[0] * row[n] for row in rows) / pixels for n in range(1, 2 + len(self.criterion.names))
            ]
            result |= {"loss": loss, "losses": dict(zip(self.criterion.names, terms, strict=True))}
        # the scores must be identical in all processes because decisions depend on them
        result = PROCESSES.broadcast_from_main(lambda: result)
        order = {name: place for place, name in enumerate(names)}
        image_scores = sorted((each for *_, images in parts for each in images), key=lambda each: order[each["name"]])
        return Evaluation(result, confusion.compute(), image_scores)

    def _update_metrics(
        self,
        metrics: Sequence[Any],
        chosen: Sequence[int],
        shared: DistributedContext,
        description: str,
        each_image: bool,
    ) -> list[tuple[int, list[str], list[float], list[dict[str, Any]]]]:
        """Update the metrics with all predictions; return index, names, figures, image scores by part of a batch."""
        parts, floor_class = [], (self.floor or {}).get("class")  # a constant prediction of this class gives the floor
        constant = torch.tensor([100.0 * (name == floor_class) for name in self.classes], device=self.device)
        constant = constant.view(1, -1, 1, 1)
        self.inferer.model.eval()
        with closing(self._predictions(chosen, shared, description)) as predictions:
            for number, batch, logits in predictions:
                target = batch.mask.long()  # [B,H,W]
                images = _image_scores(logits, target, batch.names, self.ignore_index) if each_image else []
                parts.append((number, batch.names, self._batch_values(logits, target), images))
                for metric in metrics:
                    metric.update(logits, target)
                for metric in self._floor_metrics.values():
                    metric.update(constant.expand(len(target), -1, *target.shape[1:]), target)
        values = [(number, samples, row.tolist(), images) for number, samples, row, images in parts]  # waits
        return sorted((part for rows in shared.gather(values) for part in rows), key=lambda part: part[0])

    @torch.no_grad()
    def predict(self, index: int) -> NDArray[np.uint8]:
        """Predict the labels ``[H,W]`` of a sample of the split, at the size of its mask."""
        sample = (self.source or SampleSource(self.dataset, self.inferer.resize))[index]
        height, width = sample.mask.shape
        self.inferer.model.eval()
        logits = self.inferer.evaluate(sample.image[None].to(self.device), (height, width))  # [1,C,H,W]
        labels: NDArray[np.uint8] = logits[0].argmax(0).to("cpu", torch.uint8).numpy()
        return labels

    def _predictions(
        self, chosen: Sequence[int], shared: DistributedContext, description: str
    ) -> Generator[tuple[int, Batch, Tensor]]:
        """Yield the index of a batch, a part of it whose images have the same size, and its logits ``[B,C,H,W]``."""
        size = self.batch_size
        starts = range(shared.rank * size, len(chosen), shared.size * size)  # each process gets every n-th batch
        source = self.source or SampleSource(self.dataset, self.inferer.resize)
        batches = [chosen[start : start + size] for start in starts]
        loader = batch_loader(source, batches, workers=self.workers, device=self.device)
        torch.backends.cudnn.benchmark = False  # it would run again for every new size
        with STOP.held():  # processes may be forked
            iterator = iter(loader)
        hidden = None if description and PROCESSES.is_main_process else True
        bar = tqdm(prefetched(iterator, self.device), description, len(loader), leave=False, disable=hidden)
        try:
            for number, batch_parts in zip(starts, bar, strict=True):
                for batch in batch_parts:
                    pixels = batch.image[:, 0].numel()  # a part has at most as many as the largest image without tiles
                    for part in batch.parts(-(-pixels // MAX_WHOLE_PIXELS)):
                        _, height, width = part.mask.shape
                        yield number, part, self.inferer.evaluate(part.image, (height, width))
        finally:  # a traceback would keep the loader's processes alive, and Python waits for them at exit
            shut_down(iterator)

    def _batch_values(self, logits: Tensor, target: Tensor) -> Tensor:
        """Per batch, on the device, ``[2 + T + B]``: labelled pixels; loss and its terms; which images are undecided.

        An image is undecided where the largest logit of a labelled pixel is NaN or infinite.
        """
        labelled = target != self.ignore_index  # [B,H,W]
        undecided = (~logits.amax(1).isfinite() & labelled).flatten(1).any(1)  # [B]
        loss, terms = self.criterion(logits, target) if self.criterion else logits.new_zeros(2, 0)
        count = labelled.sum().to(widest_float(labelled.device))
        return torch.cat([count.view(1), loss.view(-1), terms, undecided])


def _image_scores(logits: Tensor, target: Tensor, names: Sequence[str], ignore_index: int) -> list[dict[str, Any]]:
    rows = []
    for place, name in enumerate(names):
        confusion = ConfusionMatrix(logits.shape[1], ignore_index)
        confusion.update(logits[place : place + 1], target[place : place + 1])
        matrix = confusion.compute()
        rows.append({"name": name, **{each: scores.score(each, matrix) for each in ("mean_iou", "pixel_accuracy")}})
    return rows


def merge(metric: Any, distributed: DistributedContext) -> None:
    """Merge the counts of all processes into each of them, where they are equal up to rounding."""
    parts: Any = metric.modules() if isinstance(metric, nn.Module) else ()
    for part in parts:
        if hasattr(part, "distributed_available_fn"):  # torchmetrics would merge by itself, in compute()
            part.distributed_available_fn = bool
    if isinstance(metric, ConfusionMatrix):
        metric.counts = distributed.sum(metric.counts.cpu())
    elif distributed.size > 1:
        device = getattr(metric, "device", None)
        if device is not None:
            metric.to("cpu")  # metrics are sent as pickled objects, which must not refer to another process's GPU
        for rank, other in enumerate(distributed.gather(metric)):
            if rank != distributed.rank:
                metric.merge(other)
        if device is not None:
            metric.to(device)
