"""Activation checkpointing: what a block computed is not kept for the backward pass, but computed once more there.

Tianqi Chen, Bing Xu, Chiyuan Zhang, Carlos Guestrin: Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """``block(x)``, whose inner tensors are computed again for the backward pass; gradients are the same."""
    if not torch.is_grad_enabled():
        result: Tensor = block(x)
        return result

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(block)

    seen: Tensor = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
    return seen


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """The second time the running statistics of batch normalisation are counted in copies: once is enough."""
    layers = [layer for layer in block.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    own = [dict(layer._buffers) for layer in layers]
    for layer in layers:
        layer._buffers.update({name: each if each is None else each.clone() for name, each in layer._buffers.items()})
    try:
        yield
    finally:
        for layer, buffers in zip(layers, own, strict=True):
            layer._buffers.update(buffers)
