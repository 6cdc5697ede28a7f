"""The statistics of the softmax that the losses need, computed in one pass without tensors as large as the logits.

Forward and backward process the logits in blocks and compute the softmax of each block, in float32 or better. The
backward pass keeps only the logits themselves, and its only output of their size is their gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .pixels import flatten

CPU_BLOCK = 1 << 18  # elements per thread: 1 MB of float32, which stays in the thread's cache between operations
CPU_VECTOR = 16  # elements: the softmax of a shorter row is not vectorised and takes 10 times as long
DEVICE_BLOCK = 1 << 24  # elements: 64 MB of float32; an operation takes far longer than its launch


class Softmax(NamedTuple):
    """Statistics of the softmax p of a batch of N = B x H x W pixels.

    Attributes:
        log_p: ``[N]``, log p of the target class; 0 for void pixels.
        labels: int64 ``[N]``, within ``0..C-1`` even for void pixels.
        weights: ``[N]``, 1 for labelled pixels, 0 for void, NaN for unknown labels.
        overlap: ``[3,C]``, over labelled pixels: sum of p over a class's target pixels, sum of p, its target pixels.
        costs: ``[C]``, the sum of -log p over all labelled pixels of any class.
    """

    log_p: Tensor
    labels: Tensor
    weights: Tensor
    overlap: Tensor
    costs: Tensor


class SoftmaxLoss(nn.Module):
    """Base class of losses computed from the softmax and the target; subclasses implement :meth:`cost`.

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        overlap: whether to compute :attr:`Softmax.overlap`, which is 0 otherwise.
        costs: whether to compute :attr:`Softmax.costs`, which are 0 otherwise.
    """

    def __init__(self, num_classes: int, ignore_index: int, *, overlap: bool = False, costs: bool = False) -> None:
        super().__init__()
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.overlap, self.costs = overlap, costs

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of logits ``[B,C,H,W]`` (any float type and layout) and integer target ``[B,H,W]``.

        Raises:
            ModelError, LabelError: see :func:`flatten`.
        """
        labels, weights = flatten(logits, target, self.num_classes, self.ignore_index)
        log_p, *sums = _Pass.apply(logits, labels, weights, self.overlap, self.costs)
        return self.cost(Softmax(log_p, labels, weights, *sums))

    def cost(self, softmax: Softmax) -> Tensor:
        """Return the scalar loss."""
        raise NotImplementedError


class _Pass(torch.autograd.Function):
    """Blocks of logits are ``[n,C]`` or ``[b,C,n]``, blocks of per-pixel tensors ``[n,1]`` or ``[b,1,n]``."""

    @staticmethod
    def forward(
        context: Any, logits: Tensor, labels: Tensor, weights: Tensor, overlap: bool, costs: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        context.save_for_backward(logits, labels, weights)
        context.set_materialize_grads(False)  # gradients of unused outputs are None
        all_log_p = torch.empty_like(weights)
        overlaps, all_costs = [], []
        for block, label, weight, log_p in _blocks(logits, labels, weights, all_log_p):
            logs = block.log_softmax(1, dtype=weights.dtype)
            logs.masked_fill_(weight == 0, 0)  # void: a weight of 0 cancels neither NaN nor infinity
            log_p.copy_(logs.gather(1, label))
            if costs:
                all_costs.append(-_class_sums(logs * weight))
            if overlap:
                p = logs.exp_().mul_(weight)
                own = p.gather(1, label)
                sums = [_class_sums(p)]
                p.zero_()  # reuse p for the one-hot code; scatter_add is not deterministic on CUDA
                sums += [_class_sums(p.scatter_(1, label, each)) for each in (own, weight)]
                overlaps.append(torch.stack([sums[1], sums[0], sums[2]]))
        # sum each block, then the blocks: one float32 sum over millions of pixels loses precision
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
        """Gradient of the logits, with h, g_c and k_c the gradients of log p_y, sum_i p_ic and the cost of class c::

        p_c * (g_c - sum_c p_c g_c - h + sum_c k_c)  +  [c = y] h  -  k_c
        """
        logits, labels, weights = context.saved_tensors
        layout = torch.channels_last if _pixels_first(logits) else torch.contiguous_format
        gradient = torch.empty_like(logits, memory_format=layout)
        given = torch.zeros_like(weights) if of_log_p is None else of_log_p
        for block, label, weight, own, out in _blocks(logits, labels, weights, given, gradient=gradient):
            shape = (-1,) + (1,) * (block.dim() - 2)  # broadcasts one value per class over a block
            p = block.softmax(1, dtype=weights.dtype).mul_(weight).masked_fill_(weight == 0, 0)
            result = p
            factor = -own
            if of_overlap is not None:
                own = own + of_overlap[0][label] * p.gather(1, label)  # the derivative of p = exp(log p) is p
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
    """Whether the logits are channels_last: the classes of a pixel are adjacent in memory."""
    return logits.is_contiguous(memory_format=torch.channels_last)


def _class_sums(values: Tensor) -> Tensor:
    """``[n,C]`` or ``[b,C,n]`` -> ``[C]``."""
    return values.sum((0, 2) if values.dim() == 3 else 0)


def _blocks(logits: Tensor, *pixels: Tensor, gradient: Tensor | None = None) -> Iterator[list[Tensor]]:
    """Yield matching blocks of the logits, of the per-pixel tensors ``[N]`` and of the gradient.

    Blocks are views, so they can be written to; logits that are neither contiguous nor channels_last are copied.
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
