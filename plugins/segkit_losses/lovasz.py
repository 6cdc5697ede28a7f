"""Lovász-softmax: the mean IoU itself as a loss, continued from hard predictions to probabilities."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.engine.distributed import global_rows

from .pixels import flatten
from .region import mean_of_present


class Lovasz(nn.Module):
    """Lovász-softmax loss, per class over the batch, with void left out.

    With p the softmax, the error of pixel i for class c is ``1 - p_ic`` where the target is c and ``p_ic`` elsewhere.
    1 - IoU is known for errors of 0 and 1; between them it is continued, linear as long as the order of the errors
    stays. With the labelled pixels of the whole batch in falling order of their errors::

        mean over classes c of  sum_i error_i * (J_i - J_(i-1)),   J_i = 1 - IoU if the first i pixels are wrong

    Berman, Rannen Triki, Blaschko, "The Lovász-Softmax Loss", CVPR 2018, arXiv 1705.08790. As in the authors' code the
    mean is over the classes in the target. Theirs subtracts neighbouring J, which are almost equal where pixels are
    many; here the difference is written out, so float32 keeps its digits. A batch without any class costs 0.
    All pixels are sorted once a class, which on a CPU takes nine times as long as cross-entropy.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        include_background: whether class 0 counts; false leaves it to another loss.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, include_background: bool = True) -> None:
        super().__init__()
        self.num_classes, self.ignore_index, self.include_background = num_classes, ignore_index, include_background

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits ``[B,C,H,W]`` and target ``[B,H,W]`` -> scalar."""
        pixels = flatten(logits, target, self.num_classes, self.ignore_index)
        # 0 at void, where logits may be infinite or NaN, which a weight of 0 would not cancel
        rows = logits.permute(0, 2, 3, 1).flatten(0, 2).masked_fill(pixels.weights[:, None] == 0, 0)  # [N,C]
        p = global_rows(F.softmax(rows, dim=1, dtype=pixels.weights.dtype))  # [N,C]
        labels, weights = global_rows(pixels.labels), global_rows(pixels.weights)  # [N]; of all processes
        labelled = weights != 0  # [N]; with labels that do not exist, whose NaN is in the weights
        costs, present = [], []
        for index, p_class in enumerate(p.unbind(1)):  # not all at once: it would take several times the memory
            own = labelled & (labels == index)  # [N]
            errors = torch.where(own, 1 - p_class, p_class) * weights  # [N]
            costs.append((errors * _slopes(errors.detach(), own)).sum())
            present.append(own.any())
        return mean_of_present(torch.stack(costs), torch.stack(present), self.include_background)


def _slopes(errors: Tensor, own: Tensor) -> Tensor:
    """What 1 - IoU gains with each pixel that is wrong after those of larger errors, ``[N]``: the gradient of the cost.

    A wrong pixel of the class is taken from the intersection: 1 / union. One of another class is added to the union:
    intersection / (union * (union - 1)). Void has the error 0: it comes last, where it changes no slope that counts.
    """
    order = errors.argsort(descending=True, stable=True)  # stable: void leaves the order of equal errors as it is
    own = own[order]
    # counted in integers: exact, and repeatable on any device
    place = torch.arange(1, len(own) + 1, dtype=torch.int32, device=own.device)
    own_so_far = own.cumsum(0, dtype=torch.int32)
    still = own.sum(dtype=torch.int32) - own_so_far  # not the last of them: an empty batch has none
    intersection, union = still.to(errors.dtype), (still + place).to(errors.dtype)
    slopes = torch.where(own, 1 / union, intersection / (union * (union - 1)).clamp_min(1))
    return torch.empty_like(slopes).scatter_(0, order, slopes)
