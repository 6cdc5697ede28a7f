"""Sums over a batch that several processes share, or that is taken in parts, so that a loss is that of the whole batch.

Outside a training step, as in an evaluation, everything stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segkit.engine.world import World


class Part(NamedTuple):
    """A part of a batch, as ``train.accumulate`` makes them.

    Attributes:
        target: int64 ``[B,H,W]``, of all parts of this process.
        share: of the batch's labelled pixels in this part, over all processes; what its loss is multiplied with.
    """

    target: Tensor
    share: Tensor


_sharing: ContextVar[World | None] = ContextVar("sharing", default=None)
_part: ContextVar[Part | None] = ContextVar("part", default=None)


@contextmanager
def one_batch(world: World, part: Part | None = None) -> Iterator[None]:
    """In this block :func:`global_sum` and :func:`global_rows` reach over all processes, which share a batch.

    Args:
        world: the processes.
        part: what :func:`current_part` answers in this block.
    """
    tokens = _sharing.set(world if world.size > 1 else None), _part.set(part)
    try:
        yield
    finally:
        _sharing.reset(tokens[0])
        _part.reset(tokens[1])


def current_part() -> Part | None:
    """The part of a batch that a loss is asked for; None where it is the whole one, or a compiler looks on."""
    return None if torch.compiler.is_compiling() else _part.get()


def global_sum(values: Tensor) -> Tensor:
    """The sum of ``values`` over the parts of a batch that several processes share; the values themselves elsewhere.

    A loss that sends all its sums through it is that of the whole batch, and so is its gradient: each process is
    given that of its own part times the number of processes, of which DistributedDataParallel takes the mean.
    """
    if torch.compiler.is_compiling() or (world := _sharing.get()) is None:
        return values
    total: Tensor = _Sum.apply(values, world)
    return total


def global_rows(rows: Tensor) -> Tensor:
    """The rows ``[N,...]`` of all parts of a batch, one below the other; for a loss that sorts the pixels of a batch.

    The gradient is as with :func:`global_sum`. All processes hold all rows then.
    """
    if torch.compiler.is_compiling() or (world := _sharing.get()) is None:
        return rows
    every: Tensor = _Rows.apply(rows, world)
    return every


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor, world: World) -> Tensor:
        context.size = world.size
        return world.total(values.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.size, None


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor, world: World) -> Tensor:
        lengths = torch.tensor(world.gather(len(rows)))
        context.size, context.start, context.length = world.size, int(lengths[: world.rank].sum()), len(rows)
        every = rows.new_zeros(int(lengths.sum()), *rows.shape[1:])
        every[context.start : context.start + context.length] = rows
        return world.total(every)  # zeros elsewhere: parts may differ in length

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[context.start : context.start + context.length] * context.size, None
