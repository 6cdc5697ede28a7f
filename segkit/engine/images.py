"""How each image of a split was scored, which were hardest and easiest, and what was taken for what."""

from __future__ import annotations

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

    The mean IoU of an image is over the classes that are there or were predicted in it: the image-wise mIoU of
    "Revisiting Evaluation Metrics for Semantic Segmentation" (arXiv 2310.19252). It finds the image that went wrong;
    the score of a split is still read off one matrix.

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
        place = {name: number for number, name in enumerate(self.names)}
        every = [score for those in world.gather(self.scored) for score in those]
        self.scored = sorted(every, key=lambda score: place.get(score.name, len(place)))

    def ranked(self) -> list[int]:
        """The indices of the images that have a score, the worst first."""
        place = {name: number for number, name in enumerate(self.names)}
        known = [score for score in self.scored if score.mean_iou == score.mean_iou]
        return [place[score.name] for score in sorted(known, key=lambda score: score.mean_iou)]

    def as_json(self) -> dict[str, Any]:
        """Both, for ``details.json``."""
        return {"confusion": self.confusion.tolist(), "images": [score._asdict() for score in self.scored]}
