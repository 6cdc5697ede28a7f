"""What several losses of the same logits compute alike, computed once: the softmax, and its gradient.

Two losses that each have a gradient of the size of the logits hold two of them at a time before they are added; two
that share a pass over the logits have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
_kept: ContextVar[dict[tuple[Any, ...], tuple[Any, Any]] | None] = ContextVar("kept", default=None)


@contextmanager
def shared_pass() -> Iterator[None]:
    """In this block :func:`once` computes the same only once; for losses that are summed, left before backward."""
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def everything_wanted() -> bool:
    """Whether others may ask for the same and more, so that it is best to compute all of it."""
    return not torch.compiler.is_compiling() and _kept.get() is not None


def once(function: Callable[..., T], *arguments: Any) -> T:
    """``function(*arguments)``; in a shared pass the first result for the same tensors and equal other arguments."""
    if torch.compiler.is_compiling() or (kept := _kept.get()) is None:
        return function(*arguments)
    key = (function, *(id(each) if isinstance(each, Tensor) else each for each in arguments))
    if key not in kept:
        kept[key] = arguments, function(*arguments)  # with the tensors, so that their ids stay theirs
    result: T = kept[key][1]
    return result
