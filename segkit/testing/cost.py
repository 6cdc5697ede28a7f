"""How a loss is asked: with a batch of the rules', for its cost and the gradient."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segkit.testing.batches import VOID, guess, labels
from segkit.testing.check import CheckFailed, Rule, Subject, require

Loss = Callable[[Tensor, Tensor], Any]


class Case(NamedTuple):
    """A loss, and the number of classes it is built for, with a target ``[B,H,W]`` and random logits ``[B,C,H,W]``."""

    loss: Loss
    classes: int
    target: Tensor
    logits: Tensor


def case(subject: Subject, classes: int | None = None, images: int = 2, seed: int = 0) -> Case:
    """A loss beside a batch with every class, and void."""
    classes = classes or class_counts(subject)[-1]
    target = labels(classes, images=images, seed=seed)
    return Case(build(subject, classes), classes, target, guess(target, classes, seed=seed))


def class_counts(subject: Subject) -> tuple[int, ...]:
    """With how many classes to ask: 2, as most data sets have, and 4; or as many as the options have class weights."""
    weights = subject.options.get("class_weights")
    return (2, 4) if weights is None else (len(weights),)


def at_each_count(rule: Callable[[Subject, int], None]) -> Rule:
    """A rule that is asked with each of the :func:`class_counts`, as a loss may treat two classes in its own way."""

    @functools.wraps(rule)
    def asked(subject: Subject) -> None:
        for classes in class_counts(subject):
            try:
                rule(subject, classes)
            except CheckFailed as error:
                raise CheckFailed(f"with {classes} classes {error}") from error.__cause__

    return asked


def with_classes(subject: Subject, classes: int) -> Subject:
    """The subject for another number of classes: class weights among its options are repeated for those."""
    weights = subject.options.get("class_weights")
    if weights is None:
        return subject
    repeated = [weights[index % len(weights)] for index in range(classes)]
    return replace(subject, options={**subject.options, "class_weights": repeated})


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
