"""Lovász-softmax: the mean IoU as a loss, extended from hard predictions to probabilities."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.engine.distributed import global_rows

from .pixels import flatten
from .region import mean_of_present


class Lovasz(nn.Module):
    """Lovász-softmax loss, per class over the batch; void pixels are ignored.

    With p the softmax, the error of pixel i for class c is ``1 - p_ic`` where the target is c and ``p_ic`` elsewhere.
    1 - IoU is defined for errors of 0 and 1; the Lovász extension is its piecewise linear interpolation, linear for
    each order of the errors. With the labelled pixels of the whole batch sorted by decreasing error::

        mean over classes c of  sum_i error_i * (J_i - J_(i-1)),   J_i = 1 - IoU if the first i pixels are wrong

    Berman, Rannen Triki, Blaschko, "The Lovász-Softmax Loss", CVPR 2018, arXiv 1705.08790. As in the authors' code, the
    mean is over the classes in the target. Their code subtracts neighbouring J, which are almost equal when there are
    many pixels; this one uses a closed form of the difference, which stays precise in float32. A batch without any
    class costs 0. All pixels are sorted once per class, which on a CPU takes nine times as long as cross-entropy.

    Logits ``[B,C,H,W]`` of any float type and integer target ``[B,H,W]`` -> scalar float32 (float64 for float64).

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        include_background: whether class 0 is included; set false if another loss covers it.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, include_background: bool = True) -> None:
        super().__init__()
        self.num_classes, self.ignore_index, self.include_background = num_classes, ignore_index, include_background

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of logits ``[B,C,H,W]`` and target ``[B,H,W]``."""
        labels, weights = flatten(logits, target, self.num_classes, self.ignore_index)
        # zero the logits of void pixels: they may be infinite or NaN, which a weight of 0 would not cancel
        rows = logits.permute(0, 2, 3, 1).flatten(0, 2).masked_fill(weights[:, None] == 0, 0)  # [N,C]
        p = global_rows(F.softmax(rows, dim=1, dtype=weights.dtype))  # [N,C]
        labels, weights = global_rows(labels), global_rows(weights)  # [N]; from all processes
        labelled = weights != 0  # [N]; true for unknown labels too, whose weight is NaN
        costs, present = [], []
        for index, p_class in enumerate(p.unbind(1)):  # class by class: all at once would need several times the memory
            own = labelled & (labels == index)  # [N]
            errors = torch.where(own, 1 - p_class, p_class) * weights  # [N]
            costs.append((errors * _slopes(errors.detach(), own)).sum())
            present.append(own.any())
        return mean_of_present(torch.stack(costs), torch.stack(present), self.include_background)


def _slopes(errors: Tensor, own: Tensor) -> Tensor:
    """Return the increase of 1 - IoU at each pixel when errors are added largest first, ``[N]``: the cost's gradient.

    A wrong pixel of the class leaves the intersection: 1 / union. A wrong pixel of another class enters the union:
    intersection / (union * (union - 1)). Void pixels have the error 0, so they sort last and change no other slope.
    """
    order = errors.argsort(descending=True, stable=True)  # stable: void pixels do not change the order of ties
    own = own[order]
    # count in integers: exact and reproducible on any device
    place = torch.arange(1, len(own) + 1, dtype=torch.int32, device=own.device)
    own_so_far = own.cumsum(0, dtype=torch.int32)
    still = own.sum(dtype=torch.int32) - own_so_far  # not own_so_far[-1]: an empty batch has no last element
    intersection, union = still.to(errors.dtype), (still + place).to(errors.dtype)
    slopes = torch.where(own, 1 / union, intersection / (union * (union - 1)).clamp_min(1))
    return torch.empty_like(slopes).scatter_(0, order, slopes)
