"""How each image of a split was scored, which were hardest and easiest, and what was taken for what."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segkit.engine.world import World
from segkit.metric import scores


class ImageScore(NamedTuple):
    """One image's scores; those of an image without a labelled pixel are NaN."""

    name: str
    mean_iou: float
    pixel_accuracy: float


class Images:
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

    def merge(self, world: World) -> None:
        """Take in what the other processes have seen."""
        self.confusion = world.total(self.confusion)
        places: dict[str, deque[int]] = defaultdict(deque)
        for number, name in enumerate(self.names):
            places[name].append(number)  # somebody's images may share a name
        every = [score for those in world.gather(self.scored) for score in those]
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
