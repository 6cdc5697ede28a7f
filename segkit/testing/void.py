"""The rules of a loss that are about void: no value, no gradient, no part in a mean, whatever its label."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segkit.testing.batches import VOID, certain, labelled
from segkit.testing.check import CheckFailed, NotAsked, Subject, require
from segkit.testing.cost import Loss, ask, at_each_count, build, case, cost, require_same
from segkit.testing.forward import first_line


@at_each_count
def void_has_no_value(subject: Subject, classes: int) -> None:
    """Whatever the logits at void pixels are, the cost is the same."""
    loss, _, target, logits = case(subject, classes)
    other = torch.where(labelled(target, classes), logits, -50 * logits)
    require_same(cost(loss, other, target), cost(loss, logits, target), "with other logits at void pixels alone")


@at_each_count
def void_has_no_gradient(subject: Subject, classes: int) -> None:
    """The gradient at void pixels is exactly 0."""
    loss, _, target, logits = case(subject, classes)
    _, gradient = ask(loss, logits, target)
    largest = gradient.masked_fill(labelled(target, classes), 0).abs().max().item()
    require(largest == 0, f"void pixels get a gradient of up to {largest:.3g}; it must be exactly 0")


@at_each_count
def infinite_logits_at_void(subject: Subject, classes: int) -> None:
    """Logits at void pixels that are infinite or NaN change neither the cost nor a gradient: 0 times NaN is NaN.

    float16 overflows there first, as nothing holds these logits down.
    """
    loss, _, target, logits = case(subject, classes)
    known = labelled(target, classes)
    expected, gradient = ask(loss, torch.where(known, logits, 0.0), target)
    for extreme in (-math.inf, math.inf, math.nan):
        for where in (slice(None), slice(1)):  # of all classes, of the first alone
            given = torch.where(known, logits, 0.0)
            given[:, where] = torch.where(known, logits[:, where], extreme)
            found, other = ask(loss, given, target)
            said = f"with logits of {extreme} at void pixels alone"
            require_same(found, expected, said)
            advice = "replace the logits at void before the softmax, as logits.masked_fill(void[:, None], 0) does"
            leaked = other.masked_fill(known, 0)
            require(not leaked.count_nonzero(), f"{said} they get a gradient that is NaN or not 0; {advice}")
            require(torch.allclose(other, gradient, 1e-4, 1e-6), f"{said} the gradient is another one; {advice}")


@at_each_count
def void_is_not_counted(subject: Subject, classes: int) -> None:
    """A mean is one of labelled pixels: another image that is all void leaves the cost as it is."""
    loss, _, target, logits = case(subject, classes, images=3)
    target[2] = VOID
    alone = cost(loss, logits[:2], target[:2])
    require_same(cost(loss, logits, target), alone, "with a third image that is all void beside two others")


@at_each_count
def void_label_is_given(subject: Subject, classes: int) -> None:
    """The dataset decides which label is void; it is given as ``ignore_index``, 255 or another one."""
    require(
        subject.has_option("ignore_index"),
        "the constructor has no parameter ignore_index: it cannot know which label is void",
    )
    loss, _, target, logits = case(subject, classes)
    expected = cost(loss, logits, target)
    for void in (classes, 254):
        found = cost(build(subject, classes, void), logits, torch.where(target == VOID, void, target))
        require_same(found, expected, f"with ignore_index = {void} and that label in the place of {VOID}")


@at_each_count
def all_void_is_zero(subject: Subject, classes: int) -> None:
    """A batch without a labelled pixel costs 0, and backward() gives it a gradient of 0."""
    loss, _, target, logits = case(subject, classes)
    target = torch.full_like(target, VOID)
    found, gradient = ask(loss, logits, target)
    require(found == 0, f"a batch that is all void costs {found}; it must be 0")
    require(
        torch.as_tensor(loss(logits.requires_grad_().clone(), target)).requires_grad,
        "what a batch that is all void costs does not depend on the logits, so that backward() raises; return "
        "something like 0 * logits.sum(), not a new tensor",
    )
    require(not gradient.count_nonzero(), "a batch that is all void has a gradient that is NaN or not 0")


@at_each_count
def empty_batch_is_zero(subject: Subject, classes: int) -> None:
    """A batch without an image, or of images without a pixel, costs 0, and backward() works."""
    loss = build(subject, classes)
    for shape in ((0, classes, 4, 4), (2, classes, 0, 4)):
        logits = torch.zeros(shape, requires_grad=True)
        target = torch.zeros((shape[0], *shape[2:]), dtype=torch.int64)
        try:
            value = torch.as_tensor(loss(logits.clone(), target))
        except Exception as error:
            raise CheckFailed(f"logits {list(shape)} raise {type(error).__name__}: {first_line(error)}") from error
        require(value.sum().item() == 0, f"logits {list(shape)} cost {value.sum().item()}; they must cost 0")
        require(value.requires_grad, f"what logits {list(shape)} cost does not depend on them: backward() raises")


def class_weights_with_void(subject: Subject) -> None:
    """Class weights, where there is such an option, count for their own class, and void beside them costs nothing."""
    if not subject.has_option("class_weights"):
        raise NotAsked("it has no option class_weights")
    _weighted(subject)


@at_each_count
def _weighted(subject: Subject, classes: int) -> None:
    _, _, target, logits = case(subject, classes)
    loss = build(subject, classes, class_weights=[10.0, *[1.0] * (classes - 1)])
    found, gradient = ask(loss, logits, target)
    require(math.isfinite(found), f"with class weights and void the cost is {found}")
    other = torch.where(labelled(target, classes), logits, -50 * logits)
    require_same(cost(loss, other, target), found, "with class weights and other logits at void pixels alone")
    leaked = gradient.masked_fill(labelled(target, classes), 0)
    require(not leaked.count_nonzero(), "with class weights void pixels get a gradient; it must be 0")
    empty = cost(loss, logits, torch.full_like(target, VOID))
    require(empty == 0, f"with class weights a batch that is all void costs {empty}; it must be 0")
    if "class_weights" not in subject.options:
        for index in range(classes):
            _weight_of_its_own(subject, classes, index, target)


def _weight_of_its_own(subject: Subject, classes: int, index: int, target: Tensor) -> None:
    """Missing a class alone costs more where it alone weighs more."""
    # the others are undecided, so that pixels of all are wrong, for whoever takes those alone
    own = (target == index)[:, None]
    missed = torch.where(own, certain(torch.full_like(target, (index + 1) % classes), classes), 0.0)

    def weighing(weight: float) -> Loss:
        return build(subject, classes, class_weights=[weight if each == index else 1.0 for each in range(classes)])

    heavy, light = cost(weighing(10.0), missed, target), cost(weighing(0.1), missed, target)
    require(
        heavy > light,
        f"missing class {index} costs {heavy:.6g} where it weighs ten times what the others do, and {light:.6g} where "
        "it weighs a tenth: class_weights do not count, or for another class",
    )
