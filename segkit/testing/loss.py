"""The rules of a loss: ``(logits [B,C,H,W], target [B,H,W]) -> scalar float32``, low for what is right."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segkit.testing import numerics, void
from segkit.testing.batches import VOID, certain, guess, labelled, wrong
from segkit.testing.check import CheckFailed, Rule, Subject, require
from segkit.testing.constructor import named_options
from segkit.testing.cost import Loss, ask, at_each_count, build, case, cost, require_same, with_classes
from segkit.testing.forward import first_line


def scalar_float32(subject: Subject) -> None:
    """It returns one finite number: a float32 tensor without dimensions."""
    loss, classes, target, logits = case(subject)
    try:
        value = loss(logits, target)
    except Exception as error:
        raise CheckFailed(_why_it_raises(error, loss, logits, target, classes)) from error
    if not isinstance(value, Tensor):
        raise CheckFailed(f"it returned {type(value).__name__}; a loss returns a float32 tensor without dimensions")
    require(
        value.ndim == 0 and value.dtype == torch.float32,
        f"it returned {value.dtype} {list(value.shape)} for float32 logits; a loss returns torch.float32 []",
    )
    require(value.isfinite(), f"ordinary random logits cost {value.item()}")


def _why_it_raises(error: Exception, loss: Loss, logits: Tensor, target: Tensor, classes: int) -> str:
    """In words; void is told where the loss is content without it."""
    said = f"it raises {type(error).__name__}: {first_line(error)}"
    try:
        loss(logits, target.where(target < classes, 0))
    except Exception:
        return said
    return (
        f"{said}; without the label {VOID} in the target it does not: {VOID} is void, which the loss is given as "
        "ignore_index and has to leave out"
    )


@at_each_count
def right_beats_wrong(subject: Subject, classes: int) -> None:
    """What is right costs less than a guess, a guess less than what is wrong, and each class counts."""
    loss, _, target, _ = case(subject, classes)
    perfect, opposite = (certain(each, classes) for each in (target, wrong(target, classes)))
    right, guessed, missed = (cost(loss, each, target) for each in (perfect, torch.zeros_like(perfect), opposite))
    require(
        right < guessed < missed,
        f"a perfect prediction costs {right:.6g}, logits of 0 cost {guessed:.6g}, a prediction that is wrong "
        f"everywhere {missed:.6g}; each must cost more than the one before",
    )
    for index in range(classes):
        found = cost(loss, torch.where((target == index)[:, None], opposite, perfect), target)
        require(
            found > right,
            f"wrong at the pixels of class {index} alone costs {found:.6g}, wrong nowhere {right:.6g}: "
            "the class does not count",
        )


@at_each_count
def perfect_costs_nothing(subject: Subject, classes: int) -> None:
    """A perfect prediction costs about 0: logits of 100 for the class and -100 for the others."""
    loss, _, target, _ = case(subject, classes)
    found = cost(loss, certain(target, classes), target)
    require(abs(found) <= 1e-4, f"a perfect prediction costs {found:.6g}; allowed is 0.0001 at most")


def constant_costs_much(subject: Subject) -> None:
    """To predict the background of 75 % everywhere costs nearly as much as to know nothing.

    Nearly: 45 %, of 21 classes. A Dice that pools its classes, which is the mean absolute error, comes to 26 %; Brier's
    score to 52 %, a Dice a class to 98 %, cross-entropy far above 100 %.
    """
    classes = 21
    pixels = torch.arange(1600)
    target = torch.where(pixels % 4 > 0, 0, pixels // 4 % (classes - 1) + 1).reshape(1, 40, 40)
    loss = build(with_classes(subject, classes), classes)
    right = cost(loss, certain(target, classes), target)
    constant = cost(loss, certain(torch.zeros_like(target), classes), target)
    nothing = cost(loss, torch.zeros(1, classes, 40, 40), target)
    require(
        constant > right and constant - right >= 0.45 * (nothing - right),
        f"where 75 % of the pixels are background, the first of {classes} classes, predicting it everywhere costs "
        f"{constant:.4g}, a perfect prediction {right:.4g}, logits of 0 {nothing:.4g}: predicting one class alone pays",
    )


@at_each_count
def gradient_reaches_every_logit(subject: Subject, classes: int) -> None:
    """At small random logits every logit of a labelled pixel gets a gradient, each class's too.

    In one of sixteen batches, as a loss may look at the hard pixels or at the strongest rival alone.
    """
    loss, _, target, logits = case(subject, classes)
    reached = torch.zeros_like(logits, dtype=torch.bool)
    for seed in range(16):
        _, gradient = ask(loss, guess(target, classes, 0.1, seed), target)
        require(gradient.isfinite().all(), "the gradient of small random logits is not finite")
        reached |= gradient != 0
    wanted = labelled(target, classes).expand_as(reached)
    never = (wanted & ~reached).nonzero()
    require(
        not len(never),
        f"{len(never)} of the {int(wanted.sum())} logits of labelled pixels never get a gradient, the first at "
        f"[image, class, row, column] = {never[:1].flatten().tolist()}",
    )


@at_each_count
def unknown_label_refused(subject: Subject, classes: int) -> None:
    """A label that is neither a class nor void is not accepted: an exception, or NaN."""
    loss, _, target, _ = case(subject, classes)
    logits = certain(torch.full_like(target, classes - 1), classes)  # right for whoever clips labels
    for label in (classes, 254):
        unknown = target.clone()
        unknown[0, 3, 4] = label
        try:
            value = loss(logits.clone(), unknown)
        except Exception:
            continue
        found = torch.as_tensor(value).sum().item()
        require(
            math.isnan(found),
            f"the label {label}, of {classes} classes and not void ({VOID}), was accepted and cost {found:.6g}; "
            "raise an exception or, where looking would make a device wait, return NaN",
        )


@at_each_count
def batch_order(subject: Subject, classes: int) -> None:
    """The order of the images in a batch makes no difference."""
    loss, _, target, logits = case(subject, classes, images=3)
    require_same(cost(loss, logits.flip(0), target.flip(0)), cost(loss, logits, target), "in the opposite order")


@at_each_count
def mean_not_sum(subject: Subject, classes: int) -> None:
    """A batch twice costs about what it does once: a sum would make steps grow with the batch and the crop.

    About, as a number that smooths a quotient counts less beside more pixels.
    """
    loss, _, target, logits = case(subject, classes)
    once, twice = cost(loss, logits, target), cost(loss, torch.cat([logits] * 2), torch.cat([target] * 2))
    require(
        not abs(twice - once) > 0.25 * abs(once),
        f"an ordinary batch costs {once:.6g}, and with the same images a second time {twice:.6g}: take the mean over "
        "the labelled pixels, not the sum",
    )


def inputs_unchanged(subject: Subject) -> None:
    """Logits and target are left as they are, as another loss may need them after it."""
    loss, _, target, logits = case(subject)
    before = logits.clone(), target.clone()
    loss(logits, target)
    require(torch.equal(logits, before[0]), "it writes to the logits")
    require(torch.equal(target, before[1]), "it writes to the target")


RULES: tuple[Rule, ...] = (
    named_options,
    scalar_float32,
    right_beats_wrong,
    perfect_costs_nothing,
    constant_costs_much,
    gradient_reaches_every_logit,
    void.void_has_no_value,
    void.void_has_no_gradient,
    void.infinite_logits_at_void,
    void.void_is_not_counted,
    void.void_label_is_given,
    void.all_void_is_zero,
    void.empty_batch_is_zero,
    void.class_weights_with_void,
    unknown_label_refused,
    batch_order,
    mean_not_sum,
    inputs_unchanged,
    numerics.layouts,
    numerics.extreme_logits,
    numerics.half_precision,
    numerics.large_float16,
    numerics.gradcheck,
    numerics.no_fixed_device,
    numerics.picklable,
    numerics.compiles,
)
