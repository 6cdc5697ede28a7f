"""The rules of a loss: ``(logits [B,C,H,W], target [B,H,W]) -> scalar float32``, low for what is right."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from segkit.testing.check import NotAsked, failing, require
from segkit.testing.meta_device import on_meta
from segkit.testing.scored import (
    VOID,
    Batch,
    Figures,
    ScoredSubject,
    at_void,
    batch,
    certain,
    guess,
    require_same,
    wrong,
)


@dataclass(frozen=True)
class LossSubject(ScoredSubject):
    """A loss, asked with 2 classes, as most data sets have, and with 4."""

    counts: ClassVar[tuple[int, ...]] = (2, 4)
    once: ClassVar[tuple[str, ...]] = ("named_options", "constant_costs_much")

    def feed(self, built: Any, logits: Tensor, target: Tensor) -> None:
        """Call it."""
        built(logits, target)

    def figures(self, *batches: Batch, built: Any = None, layout: Callable[[Tensor], Tensor] = Tensor.clone) -> Figures:
        """What the last batch costs, and the gradient; of a cost that is no scalar, the sum."""
        loss = self.make() if built is None else built
        logits, target = batches[-1] if batches else batch(self.classes)
        leaf = logits.detach().clone().requires_grad_()
        value = torch.as_tensor(loss(layout(leaf), target.clone())).sum()
        gradient = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
        return {"cost": value.item(), "gradient": torch.zeros_like(leaf) if gradient is None else gradient}

    def cost(self, logits: Tensor, target: Tensor, loss: Any = None) -> float:
        """The cost alone."""
        return self.figures((logits, target), built=loss)["cost"]  # type: ignore[no-any-return]

    def require_same_cost(self, one: Batch, other: Batch, what: str, tolerance: float = 1e-5, loss: Any = None) -> None:
        """Two batches cost the same."""
        found, expected = ({"cost": self.cost(*each, loss)} for each in (one, other))
        require_same(found, expected, what, tolerance)


def _costs_nothing(case: LossSubject, given: Batch, what: str, loss: Any = None) -> None:
    """A batch without a labelled pixel costs 0, with a gradient of 0."""
    leaf = given[0].clone().requires_grad_()
    with failing(what):
        value = torch.as_tensor((loss or case.make())(leaf.clone(), given[1].clone())).sum()
    require(value.item() == 0, f"{what} costs {value.item()}; it must be 0")
    require(value.requires_grad, f"what {what} costs does not depend on the logits: return 0 * logits.sum()")
    (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True)
    leaked = gradient is not None and gradient.count_nonzero()
    require(not leaked, f"{what} has a gradient that is NaN or not 0")


def _void_gradient(figures: Figures, target: Tensor) -> float:
    """The largest gradient at a void pixel."""
    return figures["gradient"].masked_fill((target != VOID)[:, None], 0).abs().max().item()  # type: ignore[no-any-return]


def scalar_float32(case: LossSubject) -> None:
    """It returns one finite number: a float32 tensor without dimensions."""
    with failing(f"it raises, of a target with {VOID}, void, which it is given as ignore_index and has to leave out"):
        value = case.make()(*batch(case.classes))
    kind = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    require(kind == "torch.float32 []", f"it returned {kind} for float32 logits; a loss returns torch.float32 []")
    require(value.isfinite(), f"ordinary random logits cost {value.item()}")


def right_beats_wrong(case: LossSubject) -> None:
    """What is right costs less than a guess, a guess less than what is wrong, and each class counts."""
    _, target = batch(case.classes)
    perfect, opposite = (certain(each, case.classes) for each in (target, wrong(target, case.classes)))
    right, guessed, missed = (case.cost(each, target) for each in (perfect, torch.zeros_like(perfect), opposite))
    told = f"a perfect prediction costs {right:.6g}, logits of 0 {guessed:.6g}, one wrong everywhere {missed:.6g}"
    require(right < guessed < missed, told)
    for index in range(case.classes):
        found = case.cost(torch.where((target == index)[:, None], opposite, perfect), target)
        told = f"wrong at the pixels of class {index} alone costs {found:.6g}, wrong nowhere {right:.6g}"
        require(found > right, told)


def perfect_costs_nothing(case: LossSubject) -> None:
    """A perfect prediction costs about 0: logits of 100 for the class and -100 for the others."""
    _, target = batch(case.classes)
    found = case.cost(certain(target, case.classes), target)
    require(abs(found) <= 1e-4, f"a perfect prediction costs {found:.6g}; allowed is 0.0001 at most")


def constant_costs_much(case: LossSubject) -> None:
    """To predict the background, 75 % of 21 classes, everywhere costs at least 45 % of what knowing nothing costs."""
    # a Dice that pools its classes, the mean absolute error, comes to 26 %; Brier's score to 52 %, Dice to 98 %
    classes = 21
    options = dict(case.options)
    if weights := options.get("class_weights"):
        options["class_weights"] = [weights[index % len(weights)] for index in range(classes)]
    case = replace(case, classes=classes, options=options)
    pixels = torch.arange(1600)
    target = torch.where(pixels % 4 > 0, 0, pixels // 4 % (classes - 1) + 1).reshape(1, 40, 40)
    right = case.cost(certain(target, classes), target)
    constant = case.cost(certain(torch.zeros_like(target), classes), target)
    nothing = case.cost(torch.zeros(1, classes, 40, 40), target)
    told = f"it costs {constant:.4g}, a perfect prediction {right:.4g}, logits of 0 {nothing:.4g}"
    require(constant > right and constant - right >= 0.45 * (nothing - right), told)


def gradient_reaches_every_logit(case: LossSubject) -> None:
    """At small random logits every logit of a labelled pixel gets a gradient, in one of sixteen batches at least."""
    # in one: a loss may look at the hard pixels or at the strongest rival alone
    logits, target = batch(case.classes)
    never = (target != VOID)[:, None].expand_as(logits)
    wanted = int(never.sum())
    for seed in range(16):
        gradient = case.figures((guess(target, case.classes, 0.1, seed), target))["gradient"]
        require(gradient.isfinite().all(), "the gradient of small random logits is not finite")
        never = never & (gradient == 0)
    first = f"the first at [image, class, row, column] = {never.nonzero()[:1].flatten().tolist()}"
    require(not never.any(), f"{int(never.sum())} of the {wanted} logits of labelled pixels never get one, {first}")


def void_has_no_value(case: LossSubject) -> None:
    """Whatever the logits at void pixels are, the cost is the same."""
    own = batch(case.classes)
    case.require_same_cost(at_void(own, -50 * own[0]), own, "with other logits at void pixels alone")


def void_has_no_gradient(case: LossSubject) -> None:
    """The gradient at void pixels is exactly 0."""
    largest = _void_gradient(case.figures(), batch(case.classes)[1])
    require(largest == 0, f"void pixels get a gradient of up to {largest:.3g}; it must be exactly 0")


def infinite_logits_at_void(case: LossSubject) -> None:
    """Infinite and NaN logits at void change neither cost nor gradients: logits.masked_fill(void[:, None], 0)."""
    # float16 overflows there first, as nothing holds these logits down, and 0 times NaN is NaN
    own = at_void(batch(case.classes), 0.0)
    for extreme in (-math.inf, math.inf, math.nan):
        for first in (0, 1):  # of all classes, of all but the first
            logits = own[0].clone()
            logits[:, first:] = at_void(own, extreme)[0][:, first:]
            found = case.figures((logits, own[1]))
            require_same(found, case.figures(own), f"with logits of {extreme} at void pixels alone")


def void_is_not_counted(case: LossSubject) -> None:
    """A mean is one of labelled pixels: another image that is all void leaves the cost as it is."""
    logits, target = batch(case.classes, images=3)
    target[2] = VOID
    alone, what = (logits[:2], target[:2]), "with a third image that is all void beside two others"
    case.require_same_cost((logits, target), alone, what)


def all_void_is_zero(case: LossSubject) -> None:
    """A batch without a labelled pixel costs 0, and backward() gives it a gradient of 0."""
    logits, target = batch(case.classes)
    _costs_nothing(case, (logits, torch.full_like(target, VOID)), "a batch that is all void")


def empty_batch_is_zero(case: LossSubject) -> None:
    """A batch without an image, or of images without a pixel, costs 0, and backward() works."""
    for images, height in ((0, 4), (2, 0)):
        logits, target = torch.zeros(images, case.classes, height, 4), torch.zeros(images, height, 4, dtype=torch.int64)
        _costs_nothing(case, (logits, target), f"a batch of logits {list(logits.shape)}")


def class_weights_with_void(case: LossSubject) -> None:
    """Class weights, where there is such an option, count for their own class, and void beside them costs nothing."""
    if not case.has_option("class_weights"):
        raise NotAsked("it has no option class_weights")
    own, loss = batch(case.classes), case.make(class_weights=[10.0, *[1.0] * (case.classes - 1)])
    found = case.figures(own, built=loss)
    require(math.isfinite(found["cost"]), f"with class weights and void the cost is {found['cost']}")
    what = "with class weights and other logits at void pixels alone"
    case.require_same_cost(at_void(own, -50 * own[0]), own, what, loss=loss)
    require(not _void_gradient(found, own[1]), "with class weights void pixels get a gradient; it must be 0")
    nothing = torch.full_like(own[1], VOID)
    _costs_nothing(case, (own[0], nothing), "with class weights a batch that is all void", loss)
    for index in range(case.classes) if "class_weights" not in case.options else ():
        # the others are undecided, so that pixels of all are wrong, for a loss that takes those alone
        predicted = certain(torch.full_like(nothing, (index + 1) % case.classes), case.classes)
        missed = torch.where((own[1] == index)[:, None], predicted, 0.0)
        weights = ([each if c == index else 1.0 for c in range(case.classes)] for each in (10.0, 0.1))
        heavy, light = (case.cost(missed, own[1], case.make(class_weights=each)) for each in weights)
        told = f"missing class {index} costs {heavy:.6g} with a weight of 10, and {light:.6g} with one of 0.1"
        require(heavy > light, told)


def batch_order(case: LossSubject) -> None:
    """The order of the images in a batch makes no difference."""
    logits, target = batch(case.classes, images=3)
    case.require_same_cost((logits.flip(0), target.flip(0)), (logits, target), "in the opposite order")


def mean_not_sum(case: LossSubject) -> None:
    """A batch twice costs about what it does once: a mean over labelled pixels, as a sum grows with batch and crop."""
    # about: a number that smooths a quotient counts less beside more pixels
    logits, target = batch(case.classes)
    once, twice = case.cost(logits, target), case.cost(torch.cat([logits] * 2), torch.cat([target] * 2))
    told = f"an ordinary batch costs {once:.6g}, and with the same images a second time {twice:.6g}"
    require(not abs(twice - once) > 0.25 * abs(once), told)


def extreme_logits(case: LossSubject) -> None:
    """Logits of 10,000, right or wrong, cost a finite number, with a finite gradient."""
    logits, target = batch(case.classes)
    for name, extreme in {
        "right everywhere": certain(target, case.classes, 1e4),
        "wrong everywhere": certain(wrong(target, case.classes), case.classes, 1e4),
        "of random signs": 1e4 * logits.sign(),
    }.items():
        found = case.figures((extreme, target))
        require(math.isfinite(found["cost"]), f"logits of 10,000, {name}, cost {found['cost']}")
        require(found["gradient"].isfinite().all(), f"logits of 10,000, {name}, have a gradient that is not finite")


def half_precision(case: LossSubject) -> None:
    """bfloat16 and float16 logits cost float32, and within 0.1 % what the same numbers cost as float32."""
    for dtype in (torch.bfloat16, torch.float16):
        for seed in range(4):
            logits, target = batch(case.classes, seed=seed)
            half = logits.to(dtype)
            given = torch.as_tensor(case.make()(half.clone(), target.clone())).dtype
            require(given == torch.float32, f"{dtype} logits cost {given}; sum in float32, and return it")
            case.require_same_cost((half, target), (half.float(), target), f"for {dtype} logits", 1e-3)


def large_float16(case: LossSubject) -> None:
    """A 512 x 512 image of float16 logits costs what it does as float32, though its sums do not fit float16."""
    pixels = torch.arange(512 * 512)
    target = torch.where(pixels % 4 > 0, 0, pixels // 4 % case.classes).reshape(1, 512, 512)
    logits = certain(target, case.classes, 2.0).half()
    what = "for 512 x 512 float16 logits, of which 65,504 is the largest number"
    case.require_same_cost((logits, target), (logits.float(), target), what, 1e-3)
    require(case.figures((logits, target))["gradient"].isfinite().all(), f"{what}: the gradient is not finite")


def gradcheck(case: LossSubject) -> None:
    """The gradient is that of the cost: torch.autograd.gradcheck, in float64 where the loss computes in it."""
    logits, target = (each[:1, ..., :3, 1:5] for each in batch(case.classes))  # 12 pixels, 3 of them void
    loss = case.make()

    def cost(given: Tensor) -> Tensor:
        return torch.as_tensor(loss(given.clone(), target.clone())).sum()

    # a loss that computes in float32 even then is asked with larger steps, and has 2 % instead of 0.1 %
    exact = cost(logits.double()).dtype == torch.float64
    eps, atol, rtol = (1e-6, 1e-5, 1e-3) if exact else (2e-3, 2e-3, 2e-2)
    leaf = logits.double().requires_grad_()
    same = torch.autograd.gradcheck(cost, leaf, eps=eps, atol=atol, rtol=rtol, raise_exception=False)
    told = "is something detached or rounded that the cost depends on?"
    require(same, f"for logits {list(logits.shape)} backward() and finite differences give different gradients: {told}")


def no_fixed_device(case: LossSubject) -> None:
    """Moved to another device, it computes there: on torch's meta device, and on CUDA where there is one."""
    logits, target = batch(case.classes)
    if torch.cuda.is_available():
        found = {"cost": case.cost(logits.cuda(), target.cuda(), _moved(case.make(), "cuda"))}
        require_same(found, {"cost": case.cost(logits, target)}, "on CUDA instead of the CPU", 1e-4)
    variants: dict[str, dict[str, Any]] = {"": {}}
    if case.has_option("class_weights") and "class_weights" not in case.options:
        variants[", with class weights"] = {"class_weights": [2.0] * case.classes}
    for what, given in variants.items():
        away = logits.to("meta").requires_grad_().clone(), target.to("meta")
        on_meta(partial(_moved(case.make(**given), "meta"), *away), f"on another device (torch's meta){what}")


def _moved(loss: Any, device: str) -> Any:
    """What is no module has nothing that could be moved."""
    return loss.to(device) if isinstance(loss, nn.Module) else loss


def compiles(case: LossSubject) -> None:
    """Under torch.compile it costs the same, with the same gradient; graph breaks are allowed."""
    torch.compiler.reset()
    loss = case.make()
    # aot_eager traces both passes and needs no C++ compiler; a lambda, as not all that can be called can be compiled
    compiled = torch.compile(lambda *given: loss(*given), backend="aot_eager")
    with failing("it fails under torch.compile"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts
        found = case.figures(built=compiled)
    require_same(found, case.figures(), "under torch.compile")
