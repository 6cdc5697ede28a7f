"""The confusion matrix, from which all our scores are computed, and the checks of a target beside its logits."""

from __future__ import annotations

import torch
from torch import Tensor

from segkit.errors import DataError, LabelError, ModelError


def check_shapes(logits: Tensor, target: Tensor, num_classes: int) -> None:
    """Require logits ``[B,num_classes,H,W]`` and integers ``[B,H,W]``; reads no value, so it never waits for a device.

    Raises:
        ModelError: logits of another shape or number of classes.
        LabelError: a target of another size, or not of integers.
    """
    if logits.dim() != 4 or logits.shape[1] != num_classes:
        raise ModelError(
            f"logits are {list(logits.shape)}; for {num_classes} classes they must be [B,{num_classes},H,W]: "
            "build the model with the dataset's number of classes"
        )
    wanted = [logits.shape[0], *logits.shape[2:]]
    if list(target.shape) != wanted:
        raise LabelError(
            f"the target is {list(target.shape)}; beside logits {list(logits.shape)} it must be {wanted}: "
            "class indices, not one-hot, and the logits resized to the mask's size, never the mask"
        )
    if target.is_floating_point() or target.is_complex():
        raise LabelError(f"the target holds {target.dtype}; labels are integers, for example torch.uint8")


def unknown_labels(pixels: int, num_classes: int, ignore_index: int) -> LabelError:
    """The error for labels that are neither a class nor void."""
    return LabelError(
        f"{pixels} pixels hold labels that do not exist; allowed are 0..{num_classes - 1} and {ignore_index} (void): "
        "check the masks, or the dataset's list of classes"
    )


class ConfusionMatrix:
    """Counts of pixels by true and predicted class, on the device of the predictions, without waiting for it.

    ``counts`` is int64 ``[C+2,C]``: a row for each true class, one for void and one for labels that do not exist; the
    columns are the predicted classes. To combine several processes, sum it.

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
    """

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts = torch.zeros(num_classes + 2, num_classes, dtype=torch.int64)

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch: logits ``[B,C,H,W]``, target ``[B,H,W]``.

        Raises:
            ModelError: logits of another shape or number of classes.
            LabelError: a target of another size, or not of integers.
        """
        check_shapes(logits, target, self.num_classes)
        self.update_labels(logits.max(dim=1).indices, target)  # as argmax, and up to 4 times as fast on a CPU

    @torch.no_grad()
    def update_labels(self, predicted: Tensor, target: Tensor) -> None:
        """Count predicted classes beside a target, integers of one shape; a count takes 8 bytes a pixel."""
        classes = self.num_classes
        labels = target.long()
        rows = labels.masked_fill((labels < 0) | (labels >= classes), classes + 1)
        rows.masked_fill_(labels == self.ignore_index, classes)
        cells = (rows * classes + predicted).flatten()  # [N], the index of each pixel's count
        with torch.inference_mode(False):  # else counts that moved there could not be changed outside
            self.counts = self.counts.to(cells.device)
        if cells.device.type == "cpu":
            self.counts += torch.bincount(cells, minlength=self.counts.numel()).view_as(self.counts)
        else:  # bincount sizes its result on the host, which would wait
            self.counts.view(-1).scatter_add_(0, cells, torch.ones_like(cells))

    def compute(self) -> Tensor:
        """int64 ``[C,C]`` on the CPU: rows are the truth, columns the prediction; void is left out.

        Raises:
            LabelError: a target held labels that do not exist.
        """
        counts = self.counts.cpu()
        unknown = int(counts[self.num_classes + 1].sum())
        if unknown:
            raise unknown_labels(unknown, self.num_classes, self.ignore_index)
        return counts[: self.num_classes].clone()

    def is_like(self, other: ConfusionMatrix) -> bool:
        """Whether it is of the same classes and void."""
        return (self.num_classes, self.ignore_index) == (other.num_classes, other.ignore_index)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of another matrix, of another process or part of the data.

        Raises:
            DataError: the other one has other classes.
        """
        if not self.is_like(other):
            ours, theirs = ((each.num_classes, each.ignore_index) for each in (self, other))
            raise DataError(f"confusion matrices of (num_classes, ignore_index) {ours} and {theirs} do not add up")
        self.counts += other.counts.to(self.counts.device)

    def reset(self) -> None:
        """Forget everything that was counted."""
        self.counts.zero_()
