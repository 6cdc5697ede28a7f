"""The rules of a loss: ``(logits [B,C,H,W], target [B,H,W]) -> scalar float32``, low for what is right."""

from __future__ import annotations

import math
import pickle
import warnings

import torch
from torch import Tensor

from segkit.testing import void
from segkit.testing.batches import LAYOUTS, VOID, certain, guess, labelled, wrong
from segkit.testing.check import CheckFailed, Rule, Subject, require
from segkit.testing.constructor import named_options
from segkit.testing.cost import ask, build, case, class_count, cost, require_same


def scalar_float32(subject: Subject) -> None:
    """It returns one finite number: a float32 tensor without dimensions."""
    loss, _, target, logits = case(subject)
    value = loss(logits, target)
    if not isinstance(value, Tensor):
        raise CheckFailed(f"it returned {type(value).__name__}; a loss returns a float32 tensor without dimensions")
    require(
        value.ndim == 0 and value.dtype == torch.float32,
        f"it returned {value.dtype} {list(value.shape)} for float32 logits; a loss returns torch.float32 []",
    )
    require(value.isfinite(), f"ordinary random logits cost {value.item()}")


def right_beats_wrong(subject: Subject) -> None:
    """What is right costs less than a guess, a guess less than what is wrong, and each class counts."""
    loss, classes, target, _ = case(subject)
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


def perfect_costs_nothing(subject: Subject) -> None:
    """A perfect prediction costs about 0: logits of 100 for the class and -100 for the others."""
    loss, classes, target, _ = case(subject)
    found = cost(loss, certain(target, classes), target)
    require(abs(found) <= 1e-4, f"a perfect prediction costs {found:.6g}; allowed is 0.0001 at most")


def constant_costs_much(subject: Subject) -> None:
    """To predict the background of 75 % everywhere costs nearly as much as to know nothing.

    Nearly: 60 %. A Dice that pools its classes comes to 26 %, one a class to 99 %, cross-entropy far above 100 %.
    """
    classes = class_count(subject, usual=21)
    pixels = torch.arange(1600)
    target = torch.where(pixels % 4 > 0, 0, pixels // 4 % (classes - 1) + 1).reshape(1, 40, 40)
    loss = build(subject, classes)
    right = cost(loss, certain(target, classes), target)
    constant = cost(loss, certain(torch.zeros_like(target), classes), target)
    nothing = cost(loss, torch.zeros(1, classes, 40, 40), target)
    require(
        constant > right and constant - right >= 0.6 * (nothing - right),
        f"where 75 % of the pixels are background, the first of {classes} classes, predicting it everywhere costs "
        f"{constant:.4g}, a perfect prediction {right:.4g}, logits of 0 {nothing:.4g}: predicting one class alone pays",
    )


def gradient_reaches_every_logit(subject: Subject) -> None:
    """At small random logits every logit of a labelled pixel gets a gradient, each class's too.

    In one of sixteen batches, as a loss may look at the hard pixels or at the strongest rival alone.
    """
    loss, classes, target, logits = case(subject)
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


def unknown_label_refused(subject: Subject) -> None:
    """A label that is neither a class nor void is not accepted: an exception, or NaN."""
    loss, classes, target, _ = case(subject)
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


def target_types(subject: Subject) -> None:
    """Labels may be uint8, as masks are stored and trained on, or int64."""
    loss, _, target, logits = case(subject)
    require_same(cost(loss, logits, target.byte()), cost(loss, logits, target), "for uint8 labels instead of int64")


def layouts(subject: Subject) -> None:
    """Logits may lie in memory as they like: channels_last, transposed, cut out of larger ones; so may labels."""
    loss, _, target, logits = case(subject)
    expected, gradient = ask(loss, logits, target)
    for name, layout in LAYOUTS.items():
        try:
            found, other = ask(loss, logits, target.mT.contiguous().mT, layout)
        except RuntimeError as error:
            raise CheckFailed(f"it fails on logits that are {name}: {error}") from error
        require_same(found, expected, f"for the same logits, {name}")
        difference = (other - gradient).abs().max().item()
        require(difference < 1e-5, f"for the same logits, {name}, the gradient differs by {difference:.3g}")


def batch_order(subject: Subject) -> None:
    """The order of the images in a batch makes no difference."""
    loss, _, target, logits = case(subject, images=3)
    require_same(cost(loss, logits.flip(0), target.flip(0)), cost(loss, logits, target), "in the opposite order")


def inputs_unchanged(subject: Subject) -> None:
    """Logits and target are left as they are, as another loss may need them after it."""
    loss, _, target, logits = case(subject)
    before = logits.clone(), target.clone()
    loss(logits, target)
    require(torch.equal(logits, before[0]), "it writes to the logits")
    require(torch.equal(target, before[1]), "it writes to the target")


def extreme_logits(subject: Subject) -> None:
    """Logits of 10,000, right or wrong, cost a finite number, with a finite gradient."""
    loss, classes, target, logits = case(subject)
    cases = {
        "right everywhere": certain(target, classes, 1e4),
        "wrong everywhere": certain(wrong(target, classes), classes, 1e4),
        "of random signs": 1e4 * logits.sign(),
    }
    for name, extreme in cases.items():
        found, gradient = ask(loss, extreme, target)
        require(math.isfinite(found), f"logits of 10,000, {name}, cost {found}")
        require(gradient.isfinite().all(), f"logits of 10,000, {name}, have a gradient that is not finite")


def half_precision(subject: Subject) -> None:
    """bfloat16 and float16 logits cost float32, and within 0.1 % what the same numbers cost as float32."""
    for dtype in (torch.bfloat16, torch.float16):
        for seed in range(4):
            loss, _, target, logits = case(subject, seed=seed)
            value = torch.as_tensor(loss(logits.to(dtype), target.clone()))
            require(value.dtype == torch.float32, f"{dtype} logits cost {value.dtype}; sum in float32, and return it")
            expected = cost(loss, logits.to(dtype).float(), target)
            require_same(value.sum().item(), expected, f"for {dtype} logits", 1e-3)


def large_float16(subject: Subject) -> None:
    """A 512 x 512 image of float16 logits costs what it does as float32, though its sums do not fit float16."""
    classes = class_count(subject)
    pixels = torch.arange(512 * 512)
    target = torch.where(pixels % 4 > 0, 0, pixels // 4 % classes).reshape(1, 512, 512)
    logits = certain(target, classes, 2.0).half()
    loss = build(subject, classes)
    found, gradient = ask(loss, logits, target)
    with torch.no_grad():
        expected = torch.as_tensor(loss(logits.float(), target)).sum().item()
    require_same(found, expected, "for 512 x 512 float16 logits, of which 65,504 is the largest number", 1e-3)
    require(gradient.isfinite().all(), "512 x 512 float16 logits have a gradient that is not finite")


def gradcheck(subject: Subject) -> None:
    """The gradient is that of the cost: torch.autograd.gradcheck, in float64.

    A loss that computes in float32 even then is asked with larger steps, and has 2 % instead of 0.1 %.
    """
    loss, _, target, logits = case(subject)
    target, logits = target[:1, :3, 1:5], logits[:1, :, :3, 1:5].double().requires_grad_()  # 12 pixels, 3 of them void
    exact = torch.as_tensor(loss(logits.detach().clone(), target.clone())).dtype == torch.float64
    eps, atol, rtol = (1e-6, 1e-5, 1e-3) if exact else (2e-3, 2e-3, 2e-2)
    require(
        torch.autograd.gradcheck(
            lambda each: torch.as_tensor(loss(each.clone(), target.clone())).sum(),
            logits,
            eps=eps,
            atol=atol,
            rtol=rtol,
            raise_exception=False,
        ),
        f"for logits {list(logits.shape)} backward() and finite differences give different gradients "
        "(torch.autograd.gradcheck): is something detached or rounded that the cost depends on?",
    )


def picklable(subject: Subject) -> None:
    """It can be pickled, to reach other processes, and then costs the same."""
    loss, _, target, logits = case(subject)
    try:
        copy = pickle.loads(pickle.dumps(loss))
    except Exception as error:
        raise CheckFailed(f"it cannot be pickled: {type(error).__name__}: {error}") from error
    require_same(cost(copy, logits, target), cost(loss, logits, target), "for its pickled copy")


def compiles(subject: Subject) -> None:
    """Under torch.compile it costs the same, with the same gradient.

    The backend is ``aot_eager``: forward and backward are traced as for the default one, and neither a C++ compiler
    nor its minute is needed. Graph breaks are allowed.
    """
    loss, _, target, logits = case(subject)
    expected, gradient = ask(loss, logits, target)
    torch.compiler.reset()
    # a function around it, as not all that can be called can be compiled as it is
    compiled = torch.compile(lambda *given: loss(*given), backend="aot_eager")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own parts
            found, other = ask(compiled, logits, target)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise CheckFailed(f"it fails under torch.compile: {type(error).__name__}: {first}") from error
    require_same(found, expected, "under torch.compile")
    difference = (other - gradient).abs().max().item()
    require(difference < 1e-5, f"under torch.compile the gradient differs by {difference:.3g}")


RULES: tuple[Rule, ...] = (
    named_options,
    scalar_float32,
    right_beats_wrong,
    perfect_costs_nothing,
    constant_costs_much,
    gradient_reaches_every_logit,
    void.void_has_no_value,
    void.void_has_no_gradient,
    void.void_is_not_counted,
    void.void_label_is_given,
    void.all_void_is_zero,
    void.class_weights_with_void,
    unknown_label_refused,
    target_types,
    layouts,
    batch_order,
    inputs_unchanged,
    extreme_logits,
    half_precision,
    large_float16,
    gradcheck,
    picklable,
    compiles,
)
