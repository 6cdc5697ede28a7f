"""The rules of a loss: ``(logits [B,C,H,W], target [B,H,W]) -> scalar float32``, low for what is right."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from segkit.testing.check import CheckFailed, NotAsked, Rule, failing, named_options, require
from segkit.testing.meta_device import on_meta
from segkit.testing.scored import (
    LAYOUTS,
    VOID,
    Batch,
    ScoredSubject,
    at_void,
    batch,
    certain,
    guess,
    wrong,
)

Loss = Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class LossSubject(ScoredSubject):
    """A loss for a number of classes, beside a batch with each of them and void."""

    def ask(self, rule: Rule) -> None:
        """Ask with 2 classes, as most data sets have, and with 4; or with as many as there are class weights."""
        if rule in (named_options, constant_costs_much):
            return rule(self)
        weights = self.options.get("class_weights")
        for classes in (2, 4) if weights is None else (len(weights),):
            try:
                rule(replace(self, classes=classes))
            except CheckFailed as error:
                raise CheckFailed(f"with {classes} classes {error}") from error.__cause__
        return None

    @cached_property
    def loss(self) -> Loss:
        """The loss that most rules ask."""
        return self.make()  # type: ignore[no-any-return]

    @cached_property
    def batch(self) -> Batch:
        """Random logits ``[2,C,6,7]`` and target int64 ``[2,6,7]``, the first two columns void."""
        return batch(self.classes)

    @property
    def void(self) -> Tensor:
        """Which of its pixels are void, bool ``[2,1,6,7]``."""
        return (self.batch[1] == VOID)[:, None]

    def feed(self, built: Any, logits: Tensor, target: Tensor) -> Mapping[str, float]:
        """What the batch costs; of a cost that is no scalar, the sum."""
        return {"cost": torch.as_tensor(built(logits, target)).sum().item()}

    def gradient(
        self, logits: Tensor, target: Tensor | None = None, loss: Loss | None = None, layout: Any = Tensor.clone
    ) -> tuple[float, Tensor]:
        """The cost, and its gradient ``[B,C,H,W]`` or 0, of copies; of a cost that is no scalar, the sum."""
        leaf = logits.detach().clone().requires_grad_()
        target = self.batch[1] if target is None else target
        value = torch.as_tensor((loss or self.loss)(layout(leaf), target.clone())).sum()
        gradient = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
        return value.item(), torch.zeros_like(leaf) if gradient is None else gradient

    def cost(self, logits: Tensor, target: Tensor | None = None, loss: Loss | None = None) -> float:
        """The cost alone."""
        return self.gradient(logits, target, loss)[0]


def _same(found: float, expected: float, what: str, tolerance: float = 1e-5) -> None:
    """The costs are equal, but for a relative ``tolerance``: rounding, and sums in another order."""
    same = math.isclose(found, expected, rel_tol=tolerance, abs_tol=1e-6)
    require(same, f"{what}: costs {found:.6g}, expected {expected:.6g}")


def _same_gradient(found: tuple[float, Tensor], expected: tuple[float, Tensor], what: str, advice: str = "") -> None:
    """The same cost and the same gradient."""
    _same(found[0], expected[0], what)
    difference = (found[1] - expected[1]).abs().max().item()
    require(difference < 1e-5, f"{what}, the gradient differs by {difference:.3g}{advice}")


def _costs_nothing(case: LossSubject, logits: Tensor, target: Tensor, what: str, loss: Loss | None = None) -> None:
    """A batch without a labelled pixel costs 0, with a gradient of 0."""
    leaf = logits.detach().clone().requires_grad_()
    with failing(what):
        value = torch.as_tensor((loss or case.loss)(leaf.clone(), target.clone())).sum()
    require(value.item() == 0, f"{what} costs {value.item()}; it must be 0")
    advice = "so that backward() raises; return something like 0 * logits.sum(), not a new tensor"
    require(value.requires_grad, f"what {what} costs does not depend on the logits, {advice}")
    (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True)
    leaked = gradient is not None and gradient.count_nonzero()
    require(not leaked, f"{what} has a gradient that is NaN or not 0")


def scalar_float32(case: LossSubject) -> None:
    """It returns one finite number: a float32 tensor without dimensions."""
    void = f"the target holds {VOID}, void, which the loss is given as ignore_index and has to leave out"
    with failing("it raises", f"; {void}"):
        value = case.loss(*case.batch)
    kind = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    require(kind == "torch.float32 []", f"it returned {kind} for float32 logits; a loss returns torch.float32 []")
    require(value.isfinite(), f"ordinary random logits cost {value.item()}")


def right_beats_wrong(case: LossSubject) -> None:
    """What is right costs less than a guess, a guess less than what is wrong, and each class counts."""
    target = case.batch[1]
    perfect, opposite = (certain(each, case.classes) for each in (target, wrong(target, case.classes)))
    right, guessed, missed = (case.cost(each) for each in (perfect, torch.zeros_like(perfect), opposite))
    require(
        right < guessed < missed,
        f"a perfect prediction costs {right:.6g}, logits of 0 cost {guessed:.6g}, a prediction that is wrong "
        f"everywhere {missed:.6g}; each must cost more than the one before",
    )
    for index in range(case.classes):
        found = case.cost(torch.where((target == index)[:, None], opposite, perfect))
        where = f"wrong at the pixels of class {index} alone costs {found:.6g}, wrong nowhere {right:.6g}"
        require(found > right, f"{where}: the class does not count")


def perfect_costs_nothing(case: LossSubject) -> None:
    """A perfect prediction costs about 0: logits of 100 for the class and -100 for the others."""
    found = case.cost(certain(case.batch[1], case.classes))
    require(abs(found) <= 1e-4, f"a perfect prediction costs {found:.6g}; allowed is 0.0001 at most")


def constant_costs_much(case: LossSubject) -> None:
    """To predict the background of 75 % everywhere costs at least 45 % of what knowing nothing costs."""
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
    require(
        constant > right and constant - right >= 0.45 * (nothing - right),
        f"where 75 % of the pixels are background, the first of {classes} classes, predicting it everywhere costs "
        f"{constant:.4g}, a perfect prediction {right:.4g}, logits of 0 {nothing:.4g}: predicting one class alone pays",
    )


def gradient_reaches_every_logit(case: LossSubject) -> None:
    """At small random logits every logit of a labelled pixel gets a gradient, in one of sixteen batches at least."""
    # in one: a loss may look at the hard pixels or at the strongest rival alone
    never = ~case.void.expand_as(case.batch[0])
    wanted = int(never.sum())
    for seed in range(16):
        _, gradient = case.gradient(guess(case.batch[1], case.classes, 0.1, seed))
        require(gradient.isfinite().all(), "the gradient of small random logits is not finite")
        never = never & (gradient == 0)
    first = f"the first at [image, class, row, column] = {never.nonzero()[:1].flatten().tolist()}"
    require(not never.any(), f"{int(never.sum())} of the {wanted} logits of labelled pixels never get one, {first}")


def void_has_no_value(case: LossSubject) -> None:
    """Whatever the logits at void pixels are, the cost is the same."""
    found = case.cost(at_void(case.batch, -50 * case.batch[0]))
    _same(found, case.cost(case.batch[0]), "with other logits at void pixels alone")


def void_has_no_gradient(case: LossSubject) -> None:
    """The gradient at void pixels is exactly 0."""
    _, gradient = case.gradient(case.batch[0])
    largest = gradient.masked_fill(~case.void, 0).abs().max().item()
    require(largest == 0, f"void pixels get a gradient of up to {largest:.3g}; it must be exactly 0")


def infinite_logits_at_void(case: LossSubject) -> None:
    """Logits at void pixels that are infinite or NaN change neither the cost nor a gradient: 0 times NaN is NaN."""
    # float16 overflows there first, as nothing holds these logits down
    expected = case.gradient(at_void(case.batch, 0.0))
    advice = "; replace the logits at void before the softmax, as logits.masked_fill(void[:, None], 0) does"
    for extreme in (-math.inf, math.inf, math.nan):
        for classes in (case.classes, case.classes - 1):  # of all classes, of all but the first
            given = at_void(case.batch, 0.0)
            given[:, -classes:] = at_void(case.batch, extreme)[:, -classes:]
            _same_gradient(case.gradient(given), expected, f"with logits of {extreme} at void pixels alone", advice)


def void_is_not_counted(case: LossSubject) -> None:
    """A mean is one of labelled pixels: another image that is all void leaves the cost as it is."""
    logits, target = batch(case.classes, images=3)
    target[2] = VOID
    alone = case.cost(logits[:2], target[:2])
    _same(case.cost(logits, target), alone, "with a third image that is all void beside two others")


def all_void_is_zero(case: LossSubject) -> None:
    """A batch without a labelled pixel costs 0, and backward() gives it a gradient of 0."""
    _costs_nothing(case, case.batch[0], torch.full_like(case.batch[1], VOID), "a batch that is all void")


def empty_batch_is_zero(case: LossSubject) -> None:
    """A batch without an image, or of images without a pixel, costs 0, and backward() works."""
    for images, height in ((0, 4), (2, 0)):
        logits, target = torch.zeros(images, case.classes, height, 4), torch.zeros(images, height, 4, dtype=torch.int64)
        _costs_nothing(case, logits, target, f"a batch of logits {list(logits.shape)}")


def class_weights_with_void(case: LossSubject) -> None:
    """Class weights, where there is such an option, count for their own class, and void beside them costs nothing."""
    if not case.has_option("class_weights"):
        raise NotAsked("it has no option class_weights")
    loss = case.make(class_weights=[10.0, *[1.0] * (case.classes - 1)])
    found, gradient = case.gradient(case.batch[0], loss=loss)
    require(math.isfinite(found), f"with class weights and void the cost is {found}")
    other = case.cost(at_void(case.batch, -50 * case.batch[0]), loss=loss)
    _same(other, found, "with class weights and other logits at void pixels alone")
    leaked = gradient.masked_fill(~case.void, 0).count_nonzero()
    require(not leaked, "with class weights void pixels get a gradient; it must be 0")
    nothing = torch.full_like(case.batch[1], VOID)
    _costs_nothing(case, case.batch[0], nothing, "with class weights a batch that is all void", loss)
    for index in range(case.classes) if "class_weights" not in case.options else ():
        # the others are undecided, so that pixels of all are wrong, for a loss that takes those alone
        predicted = certain(torch.full_like(nothing, (index + 1) % case.classes), case.classes)
        missed = torch.where((case.batch[1] == index)[:, None], predicted, 0.0)
        weights = ([each if c == index else 1.0 for c in range(case.classes)] for each in (10.0, 0.1))
        heavy, light = (case.cost(missed, loss=case.make(class_weights=each)) for each in weights)
        require(
            heavy > light,
            f"missing class {index} costs {heavy:.6g} where it weighs ten times what the others do, and {light:.6g} "
            "where it weighs a tenth: class_weights do not count, or for another class",
        )


def batch_order(case: LossSubject) -> None:
    """The order of the images in a batch makes no difference."""
    logits, target = batch(case.classes, images=3)
    _same(case.cost(logits.flip(0), target.flip(0)), case.cost(logits, target), "in the opposite order")


def mean_not_sum(case: LossSubject) -> None:
    """A batch twice costs about what it does once: a sum would make steps grow with the batch and the crop."""
    # about: a number that smooths a quotient counts less beside more pixels
    logits, target = case.batch
    once, twice = case.cost(logits, target), case.cost(torch.cat([logits] * 2), torch.cat([target] * 2))
    require(
        not abs(twice - once) > 0.25 * abs(once),
        f"an ordinary batch costs {once:.6g}, and with the same images a second time {twice:.6g}: take the mean over "
        "the labelled pixels, not the sum",
    )


def layouts(case: LossSubject) -> None:
    """Logits may lie in memory as they like: channels_last, transposed, cut out of larger ones; so may labels."""
    logits, target = case.batch
    for name, layout in LAYOUTS.items():
        with failing(f"it fails on logits that are {name}"):
            found = case.gradient(logits, target.mT.contiguous().mT, layout=layout)
        _same_gradient(found, case.gradient(logits), f"for the same logits, {name}")


def extreme_logits(case: LossSubject) -> None:
    """Logits of 10,000, right or wrong, cost a finite number, with a finite gradient."""
    logits, target = case.batch
    cases = {
        "right everywhere": certain(target, case.classes, 1e4),
        "wrong everywhere": certain(wrong(target, case.classes), case.classes, 1e4),
        "of random signs": 1e4 * logits.sign(),
    }
    for name, extreme in cases.items():
        found, gradient = case.gradient(extreme)
        require(math.isfinite(found), f"logits of 10,000, {name}, cost {found}")
        require(gradient.isfinite().all(), f"logits of 10,000, {name}, have a gradient that is not finite")


def half_precision(case: LossSubject) -> None:
    """bfloat16 and float16 logits cost float32, and within 0.1 % what the same numbers cost as float32."""
    for dtype in (torch.bfloat16, torch.float16):
        for seed in range(4):
            logits, target = batch(case.classes, seed=seed)
            value = torch.as_tensor(case.loss(logits.to(dtype), target.clone()))
            require(value.dtype == torch.float32, f"{dtype} logits cost {value.dtype}; sum in float32, and return it")
            _same(value.sum().item(), case.cost(logits.to(dtype).float(), target), f"for {dtype} logits", 1e-3)


def large_float16(case: LossSubject) -> None:
    """A 512 x 512 image of float16 logits costs what it does as float32, though its sums do not fit float16."""
    pixels = torch.arange(512 * 512)
    target = torch.where(pixels % 4 > 0, 0, pixels // 4 % case.classes).reshape(1, 512, 512)
    logits = certain(target, case.classes, 2.0).half()
    found, gradient = case.gradient(logits, target)
    what = "for 512 x 512 float16 logits, of which 65,504 is the largest number"
    _same(found, case.cost(logits.float(), target), what, 1e-3)
    require(gradient.isfinite().all(), f"{what}: the gradient is not finite")


def gradcheck(case: LossSubject) -> None:
    """The gradient is that of the cost: torch.autograd.gradcheck, in float64 where the loss computes in it."""
    logits, target = (each[:1, ..., :3, 1:5] for each in case.batch)  # 12 pixels, 3 of them void

    def cost(given: Tensor) -> Tensor:
        return torch.as_tensor(case.loss(given.clone(), target.clone())).sum()

    # a loss that computes in float32 even then is asked with larger steps, and has 2 % instead of 0.1 %
    exact = cost(logits.double()).dtype == torch.float64
    eps, atol, rtol = (1e-6, 1e-5, 1e-3) if exact else (2e-3, 2e-3, 2e-2)
    leaf = logits.double().requires_grad_()
    require(
        torch.autograd.gradcheck(cost, leaf, eps=eps, atol=atol, rtol=rtol, raise_exception=False),
        f"for logits {list(logits.shape)} backward() and finite differences give different gradients "
        "(torch.autograd.gradcheck): is something detached or rounded that the cost depends on?",
    )


def no_fixed_device(case: LossSubject) -> None:
    """Moved to another device, it computes there: on torch's meta device, and on CUDA where there is one."""
    logits, target = case.batch
    if torch.cuda.is_available():
        found = case.cost(logits.cuda(), target.cuda(), _moved(case.make(), "cuda"))
        _same(found, case.cost(logits), "on CUDA instead of the CPU", 1e-4)
    variants: dict[str, dict[str, Any]] = {"": {}}
    if case.has_option("class_weights") and "class_weights" not in case.options:
        variants[", with class weights"] = {"class_weights": [2.0] * case.classes}
    for what, given in variants.items():
        call = partial(
            _moved(case.make(**given), "meta"), logits.to("meta").requires_grad_().clone(), target.to("meta")
        )
        on_meta(call, f"on another device (torch's meta){what}")


def _moved(loss: Loss, device: str) -> Loss:
    """What is no module has nothing that could be moved."""
    return loss.to(device) if isinstance(loss, nn.Module) else loss


def picklable(case: LossSubject) -> None:
    """It can be pickled, to reach other processes, and then costs the same."""
    with failing("it cannot be pickled"):
        pickled = pickle.loads(pickle.dumps(case.loss))
    _same(case.cost(case.batch[0], loss=pickled), case.cost(case.batch[0]), "for its pickled copy")


def compiles(case: LossSubject) -> None:
    """Under torch.compile it costs the same, with the same gradient; graph breaks are allowed."""
    torch.compiler.reset()
    # aot_eager traces both passes and needs no C++ compiler; a lambda, as not all that can be called can be compiled
    compiled = torch.compile(lambda *given: case.loss(*given), backend="aot_eager")
    with failing("it fails under torch.compile"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts
        found = case.gradient(case.batch[0], loss=compiled)
    _same_gradient(found, case.gradient(case.batch[0]), "under torch.compile")
