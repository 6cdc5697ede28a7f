"""The confusion matrix: the one accumulation that all our scores are read off."""

from __future__ import annotations

import torch
from torch import Tensor

from segkit.data.target import check_shapes, unknown_labels
from segkit.errors import DataError


class ConfusionMatrix:
    """Counts of pixels by true and predicted class, on the device of the logits, never waiting for it.

    ``counts`` is int64 ``[C+2,C]``: a row a true class, then one for void and one for labels that do not exist, both
    by predicted class. It is all there is to sum over processes.

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
    """

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts = torch.zeros(num_classes + 2, num_classes, dtype=torch.int64)

    @torch.no_grad()
    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch: logits ``[B,C,H,W]``, target ``[B,H,W]``.

        Raises:
            ModelError: logits of another shape or number of classes.
            LabelError: a target of another size, or not of integers.
        """
        check_shapes(logits, target, self.num_classes)
        classes = self.num_classes
        predicted = logits.max(dim=1).indices  # [B,H,W]; as argmax, and up to 4 times as fast on a CPU
        places = torch.add(predicted, self._rows(target), alpha=classes).flatten()  # [B*H*W]
        with torch.inference_mode(False):  # else counts that moved there could not be changed outside
            self.counts = self.counts.to(logits.device)
        if logits.device.type == "cpu":
            self.counts += torch.bincount(places, minlength=self.counts.numel()).view_as(self.counts)
        else:  # bincount sizes its result on the host, which would wait
            self.counts.view(-1).scatter_add_(0, places, torch.ones_like(places))

    def _rows(self, target: Tensor) -> Tensor:
        """The row of each label: its class, or one of the last two."""
        classes, void = self.num_classes, self.ignore_index
        if target.dtype == torch.uint8 and 0 <= void <= 255 and classes <= 254:  # in one byte a pixel
            return target.masked_fill(target >= classes, classes + 1).masked_fill_(target == void, classes)
        labels = target.long()
        rows = labels.masked_fill((labels < 0) | (labels >= classes), classes + 1)
        return rows.masked_fill_(labels == void, classes)

    def compute(self) -> Tensor:
        """int64 ``[C,C]`` on the CPU: rows are the truth, columns the prediction; void is left out.

        Raises:
            LabelError: labels were met that do not exist.
        """
        counts = self.counts.cpu()
        unknown = int(counts[self.num_classes + 1].sum())
        if unknown:
            raise unknown_labels(unknown, self.num_classes, self.ignore_index)
        return counts[: self.num_classes].clone()

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of another matrix, of another process or part of the data.

        Raises:
            DataError: the other one is of other classes.
        """
        ours, theirs = (self.num_classes, self.ignore_index), (other.num_classes, other.ignore_index)
        if ours != theirs:
            raise DataError(f"confusion matrices of (num_classes, ignore_index) {ours} and {theirs} do not add up")
        self.counts += other.counts.to(self.counts.device)

    def reset(self) -> None:
        """Forget everything that was counted."""
        self.counts.zero_()
