"""How a loss is asked: with a batch of the rules', for its cost and the gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segkit.testing.batches import VOID, guess, labels
from segkit.testing.check import Subject, require

Loss = Callable[[Tensor, Tensor], Any]


class Case(NamedTuple):
    """A loss, and the number of classes it is built for, with a target ``[B,H,W]`` and random logits ``[B,C,H,W]``."""

    loss: Loss
    classes: int
    target: Tensor
    logits: Tensor


def case(subject: Subject, images: int = 2, seed: int = 0) -> Case:
    """A loss beside a batch with every class, and void."""
    classes = class_count(subject)
    target = labels(classes, images=images, seed=seed)
    return Case(build(subject, classes), classes, target, guess(target, classes, seed=seed))


def class_count(subject: Subject, usual: int = 4) -> int:
    """How many classes to ask with: as many as the options have class weights."""
    weights = subject.options.get("class_weights")
    return usual if weights is None else len(weights)


def build(subject: Subject, classes: int, void: int = VOID, **given: Any) -> Loss:
    """The loss, given what a dataset gives."""
    names = tuple(f"class {index}" for index in range(classes))
    loss: Loss = subject.build(num_classes=classes, ignore_index=void, classes=names, **given)
    return loss


def ask(
    loss: Loss, logits: Tensor, target: Tensor, layout: Callable[[Tensor], Tensor] = Tensor.clone
) -> tuple[float, Tensor]:
    """The cost and its gradient ``[B,C,H,W]``, of copies, as one rule alone asks whether what is given is left alone.

    So it is with what a loss returns: where that is no scalar its sum is taken, and where it does not depend on the
    logits the gradient is 0.
    """
    leaf = logits.detach().clone().requires_grad_()
    value = torch.as_tensor(loss(layout(leaf), target.clone())).sum()
    gradient = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
    return value.item(), torch.zeros_like(leaf) if gradient is None else gradient


def cost(loss: Loss, logits: Tensor, target: Tensor) -> float:
    """The cost alone."""
    return ask(loss, logits, target)[0]


def require_same(found: float, expected: float, what: str, tolerance: float = 1e-5) -> None:
    """The costs are equal, but for a relative ``tolerance``: rounding, and sums in another order."""
    same = math.isclose(found, expected, rel_tol=tolerance, abs_tol=1e-6)
    require(same, f"{what}: costs {found:.6g}, expected {expected:.6g}")
