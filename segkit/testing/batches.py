"""Batches that losses and metrics are asked with: labels of every class and void, and predictions of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

VOID = 255


def batch(classes: int, *, images: int = 2, width: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random logits ``[images,C,6,width]`` beside a target int64 ``[images,6,width]``.

    In each image every class is about as often, and the first two columns are void.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(6 * (width - 2), generator=generator) for _ in range(images)]
    target = torch.stack(orders).remainder(classes).reshape(images, 6, width - 2)
    target = F.pad(target, (2, 0), value=VOID)
    return guess(target, classes, seed=seed), target


def guess(target: Tensor, classes: int, size: float = 1.0, seed: int = 0) -> Tensor:
    """Random logits ``[B,C,H,W]`` of the given size, beside a target ``[B,H,W]``."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return size * torch.randn(len(target), classes, *target.shape[1:], generator=generator)


def certain(target: Tensor, classes: int, size: float = 100.0) -> Tensor:
    """Logits ``[B,C,H,W]`` that are sure of the target: ``size`` for its class and ``-size`` for the others.

    A softmax and a sigmoid a class both find nothing wrong with it. Void is taken for class 0.
    """
    known = torch.where(target < classes, target, 0)
    return size * (2.0 * F.one_hot(known, classes).movedim(-1, 1).contiguous() - 1)


def wrong(target: Tensor, classes: int) -> Tensor:
    """The target with each class replaced by the next one, void as it is."""
    return torch.where(target < classes, (target + 1) % classes, target)


def labelled(target: Tensor, classes: int) -> Tensor:
    """Which pixels have a class, bool ``[B,1,H,W]``, to choose among logits."""
    return (target < classes)[:, None]


LAYOUTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "channels_last": lambda logits: logits.contiguous(memory_format=torch.channels_last),
    "transposed": lambda logits: logits.mT.contiguous().mT,
    "cut out of larger ones": lambda logits: F.pad(logits, (0, 1, 0, 1))[..., :-1, :-1],
}
"""Layouts of the same logits in memory, by the words that messages use."""
