"""The rules of a loss that are about void: no value, no gradient, no part in a mean, whatever its label.

What is not asked: logits at void pixels that are infinite or NaN. They come from a network that is broken, and a loss
that hid them would hide it.
"""

from __future__ import annotations

import math

import torch

from segkit.testing.batches import VOID, certain, labelled
from segkit.testing.check import Subject, require
from segkit.testing.cost import ask, build, case, cost, require_same


def void_has_no_value(subject: Subject) -> None:
    """Whatever the logits at void pixels are, the cost is the same."""
    loss, classes, target, logits = case(subject)
    other = torch.where(labelled(target, classes), logits, -50 * logits)
    require_same(cost(loss, other, target), cost(loss, logits, target), "with other logits at void pixels alone")


def void_has_no_gradient(subject: Subject) -> None:
    """The gradient at void pixels is exactly 0."""
    loss, classes, target, logits = case(subject)
    _, gradient = ask(loss, logits, target)
    largest = gradient.masked_fill(labelled(target, classes), 0).abs().max().item()
    require(largest == 0, f"void pixels get a gradient of up to {largest:.3g}; it must be exactly 0")


def void_is_not_counted(subject: Subject) -> None:
    """A mean is one of labelled pixels: another image that is all void leaves the cost as it is."""
    loss, _, target, logits = case(subject, images=3)
    target[2] = VOID
    alone = cost(loss, logits[:2], target[:2])
    require_same(cost(loss, logits, target), alone, "with a third image that is all void beside two others")


def void_label_is_given(subject: Subject) -> None:
    """The dataset decides which label is void; it is given as ``ignore_index``, 255 or another one."""
    require(
        subject.has_option("ignore_index"),
        "the constructor has no parameter ignore_index: it cannot know which label is void",
    )
    loss, classes, target, logits = case(subject)
    expected = cost(loss, logits, target)
    for void in (classes, 254):
        found = cost(build(subject, classes, void), logits, torch.where(target == VOID, void, target))
        require_same(found, expected, f"with ignore_index = {void} and that label in the place of {VOID}")


def all_void_is_zero(subject: Subject) -> None:
    """A batch without a labelled pixel costs 0, and backward() gives it a gradient of 0."""
    loss, _, target, logits = case(subject)
    target = torch.full_like(target, VOID)
    found, gradient = ask(loss, logits, target)
    require(found == 0, f"a batch that is all void costs {found}; it must be 0")
    require(
        torch.as_tensor(loss(logits.requires_grad_().clone(), target)).requires_grad,
        "what a batch that is all void costs does not depend on the logits, so that backward() raises; return "
        "something like 0 * logits.sum(), not a new tensor",
    )
    require(not gradient.count_nonzero(), "a batch that is all void has a gradient that is NaN or not 0")


def class_weights_with_void(subject: Subject) -> None:
    """Class weights, where there is such an option, count, and void beside them costs nothing."""
    if not subject.has_option("class_weights"):
        return
    _, classes, target, logits = case(subject)
    loss = build(subject, classes, class_weights=[10.0, *[1.0] * (classes - 1)])
    found, gradient = ask(loss, logits, target)
    require(math.isfinite(found), f"with class weights and void the cost is {found}")
    other = torch.where(labelled(target, classes), logits, -50 * logits)
    require_same(cost(loss, other, target), found, "with class weights and other logits at void pixels alone")
    leaked = gradient.masked_fill(labelled(target, classes), 0)
    require(not leaked.count_nonzero(), "with class weights void pixels get a gradient; it must be 0")
    empty = cost(loss, logits, torch.full_like(target, VOID))
    require(empty == 0, f"with class weights a batch that is all void costs {empty}; it must be 0")
    if "class_weights" in subject.options:
        return
    # class 0 is missed and the others are undecided, so that pixels of both are wrong, for whoever takes those alone
    first = (target == 0)[:, None]
    missed = torch.where(first, certain(torch.ones_like(target), classes), 0.0)
    heavy = cost(loss, missed, target)
    light = cost(build(subject, classes, class_weights=[1.0, *[10.0] * (classes - 1)]), missed, target)
    require(
        heavy > light,
        f"missing class 0 costs {heavy:.6g} where it weighs ten times what the others do, and {light:.6g} where it "
        "weighs a tenth: class_weights do not count",
    )
