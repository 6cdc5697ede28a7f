"""What the losses take from the softmax, in one pass over the logits that leaves nothing of their size behind.

The logits are gone through in blocks, forward and backward, each of which takes its own softmax, in float32 or better.
So all that is kept for the backward are the logits, and all that it makes of their size is their gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .pixels import flatten

CPU_BLOCK = 1 << 18  # numbers a thread: a megabyte of float32, which stays in its cache from one step to the next
CPU_VECTOR = 16  # numbers: the softmax of a row of fewer is not vectorised, and takes 10 times as long
DEVICE_BLOCK = 1 << 24  # numbers: 64 MB of float32, where a step takes far longer than to launch it


class Softmax(NamedTuple):
    """What the losses need of the softmax p of a batch of N = B x H x W pixels.

    Attributes:
        log_p: ``[N]``, log p of the pixel's own class; 0 where it is void.
        labels: int64 ``[N]``, within ``0..C-1`` also where a pixel is void.
        weights: ``[N]``, 1 where a pixel is labelled, 0 where it is void, NaN where its label does not exist.
        overlap: ``[3,C]``, sums over the labelled pixels: p on a class's own pixels, p on all pixels, its pixels.
        costs: ``[C]``, the sum of -log p over the labelled pixels, whatever their class.
    """

    log_p: Tensor
    labels: Tensor
    weights: Tensor
    overlap: Tensor
    costs: Tensor


class SoftmaxLoss(nn.Module):
    """A loss of the softmax and the target; :meth:`cost` is its formula.

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        overlap: whether the formula needs :attr:`Softmax.overlap`, which is 0 otherwise.
        costs: whether it needs :attr:`Softmax.costs`.
    """

    def __init__(self, num_classes: int, ignore_index: int, *, overlap: bool = False, costs: bool = False) -> None:
        super().__init__()
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.overlap, self.costs = overlap, costs

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits ``[B,C,H,W]`` of any float type and layout, and integers ``[B,H,W]`` -> scalar.

        Raises:
            ModelError, LabelError: as :func:`flatten`.
        """
        labels, weights = flatten(logits, target, self.num_classes, self.ignore_index)
        log_p, *sums = _Pass.apply(logits, labels, weights, self.overlap, self.costs)
        return self.cost(Softmax(log_p, labels, weights, *sums))

    def cost(self, softmax: Softmax) -> Tensor:
        """The loss of a softmax -> scalar."""
        raise NotImplementedError


class _Pass(torch.autograd.Function):
    """Blocks have the classes in dimension 1, ``[n,C]`` or ``[b,C,n]``; so have pixels, ``[n,1]`` or ``[b,1,n]``."""

    @staticmethod
    def forward(
        context: Any, logits: Tensor, labels: Tensor, weights: Tensor, overlap: bool, costs: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        context.save_for_backward(logits, labels, weights)
        context.set_materialize_grads(False)  # None for what no loss has used
        all_log_p = torch.empty_like(weights)
        overlaps, all_costs = [], []
        for block, label, weight, log_p in _blocks(logits, labels, weights, all_log_p):
            logs = block.log_softmax(1, dtype=weights.dtype)
            logs.masked_fill_(weight == 0, 0)  # void: a weight of 0 does not cancel a NaN, nor an infinity
            log_p.copy_(logs.gather(1, label))
            if costs:
                all_costs.append(-_class_sums(logs * weight))
            if overlap:
                p = logs.exp_().mul_(weight)
                own = p.gather(1, label)
                sums = [_class_sums(p)]
                p.zero_()  # neither scatter_add, which on CUDA is another sum each time, nor a one-hot code beside p
                sums += [_class_sums(p.scatter_(1, label, each)) for each in (own, weight)]
                overlaps.append(torch.stack([sums[1], sums[0], sums[2]]))
        # a sum a block, then over the blocks: a single float32 sum of millions of pixels loses digits
        classes = logits.shape[1]
        return (
            all_log_p,
            torch.stack(overlaps).sum(0) if overlap else weights.new_zeros(3, classes),
            torch.stack(all_costs).sum(0) if costs else weights.new_zeros(classes),
        )

    @staticmethod
    @once_differentiable
    def backward(
        context: Any, of_log_p: Tensor | None, of_overlap: Tensor | None, of_costs: Tensor | None
    ) -> tuple[Tensor, None, None, None, None]:
        """With h the gradient of log p_y at the pixel, g those of sum_i p_ic, k those of the costs, over all classes::

        p_c * (g_c - sum_c p_c g_c - h + sum_c k_c)  +  [c = y] h  -  k_c
        """
        logits, labels, weights = context.saved_tensors
        layout = torch.channels_last if _pixels_first(logits) else torch.contiguous_format
        gradient = torch.empty_like(logits, memory_format=layout)
        given = torch.zeros_like(weights) if of_log_p is None else of_log_p
        for block, label, weight, own, out in _blocks(logits, labels, weights, given, gradient=gradient):
            shape = (-1,) + (1,) * (block.dim() - 2)  # of numbers a class, beside a block
            p = block.softmax(1, dtype=weights.dtype).mul_(weight).masked_fill_(weight == 0, 0)
            result = p
            factor = -own
            if of_overlap is not None:
                own = own + of_overlap[0][label] * p.gather(1, label)  # p = exp(log p) is its own slope
                result = p * of_overlap[1].view(shape)
                factor = -own - result.sum(1, keepdim=True)
            if of_costs is not None:
                factor = factor + of_costs.sum()
            result = p.mul_(factor) if result is p else result.addcmul_(p, factor)
            result.scatter_(1, label, result.gather(1, label) + own)
            if of_costs is not None:
                result.addcmul_(of_costs.view(shape), weight, value=-1)
            out.copy_(result)
        return gradient, None, None, None, None


def _pixels_first(logits: Tensor) -> bool:
    """Whether the classes of a pixel lie side by side."""
    return logits.is_contiguous(memory_format=torch.channels_last)


def _class_sums(values: Tensor) -> Tensor:
    """``[n,C]`` or ``[b,C,n]`` -> ``[C]``."""
    return values.sum((0, 2) if values.dim() == 3 else 0)


def _blocks(logits: Tensor, *pixels: Tensor, gradient: Tensor | None = None) -> Iterator[list[Tensor]]:
    """Parts of the logits, of what is there for each pixel ``[N]``, and of the gradient, the same pixels of each.

    All but the logits are views, to be written to, and so are the logits where their layout is one of the usual two.
    """
    full = [logits] if gradient is None else [logits, gradient]
    batch, classes, height, width = logits.shape
    if torch.compiler.is_compiling():
        size = max(1, batch * height * width)  # the compiler makes its own blocks
    else:
        numbers = CPU_BLOCK * torch.get_num_threads() if logits.device.type == "cpu" else DEVICE_BLOCK
        size = max(1, numbers // classes)
    if _pixels_first(logits):
        full = [each.permute(0, 2, 3, 1).flatten(0, 2) for each in full]  # [N,C]
        if logits.device.type != "cpu" or classes >= CPU_VECTOR:
            for start in range(0, max(1, len(full[0])), size):
                part = slice(start, start + size)
                yield [full[0][part], *(each[part, None] for each in pixels), *(each[part] for each in full[1:])]
            return
        full = [each.t()[None] for each in full]  # [1,C,N]
    else:
        full = [each.flatten(2) for each in full]  # [B,C,H*W]
    batch, _, length = full[0].shape
    images = max(1, size // max(1, length))
    rows = [each.view(batch, 1, length) for each in pixels]
    for first in range(0, max(1, batch), images):
        for start in range(0, max(1, length), size):
            area = (slice(first, first + images), slice(None), slice(start, start + size))
            yield [full[0][area], *(each[area] for each in rows), *(each[area] for each in full[1:])]
