"""The rules of a loss: ``(logits [B,C,H,W], target [B,H,W]) -> scalar float32``, low for what is right."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from segkit.testing.batches import LAYOUTS, VOID, batch, certain, guess, labelled, wrong
from segkit.testing.check import CheckFailed, NotAsked, Rule, Subject, failing, first_line, named_options, require
from segkit.testing.meta_device import on_meta

Loss = Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class LossSubject(Subject):
    """A loss for a number of classes, beside a batch with each of them and void."""

    classes: int = 4

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

    def make(self, void: int = VOID, **given: Any) -> Loss:
        """A new loss, given what a dataset gives."""
        names = tuple(f"class {index}" for index in range(self.classes))
        loss: Loss = self.build(num_classes=self.classes, ignore_index=void, classes=names, **given)
        return loss

    @cached_property
    def loss(self) -> Loss:
        """The loss that most rules ask."""
        return self.make()

    @cached_property
    def logits(self) -> Tensor:
        """Random logits ``[2,C,6,7]``."""
        return batch(self.classes)[0]

    @cached_property
    def target(self) -> Tensor:
        """int64 ``[2,6,7]``, the first two columns void."""
        return batch(self.classes)[1]

    @cached_property
    def known(self) -> Tensor:
        """Which of these pixels are labelled, bool ``[2,1,6,7]``."""
        return labelled(self.target, self.classes)

    def gradient(
        self, logits: Tensor, target: Tensor | None = None, loss: Loss | None = None, layout: Any = Tensor.clone
    ) -> tuple[float, Tensor]:
        """The cost, and its gradient ``[B,C,H,W]`` or 0, of copies; of a cost that is no scalar, the sum."""
        leaf = logits.detach().clone().requires_grad_()
        target = self.target if target is None else target
        value = torch.as_tensor((loss or self.loss)(layout(leaf), target.clone())).sum()
        gradient = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
        return value.item(), torch.zeros_like(leaf) if gradient is None else gradient

    def cost(self, logits: Tensor, target: Tensor | None = None, loss: Loss | None = None) -> float:
        """The cost alone."""
        return self.gradient(logits, target, loss)[0]


def _require_same(found: float, expected: float, what: str, tolerance: float = 1e-5) -> None:
    """The costs are equal, but for a relative ``tolerance``: rounding, and sums in another order."""
    same = math.isclose(found, expected, rel_tol=tolerance, abs_tol=1e-6)
    require(same, f"{what}: costs {found:.6g}, expected {expected:.6g}")


def scalar_float32(case: LossSubject) -> None:
    """It returns one finite number: a float32 tensor without dimensions."""
    try:
        value = case.loss(case.logits, case.target)
    except Exception as error:
        message = f"it raises {type(error).__name__}: {first_line(error)}"
        try:
            case.loss(case.logits, case.target.where(case.known[:, 0], 0))
        except Exception:
            raise CheckFailed(message) from error
        raise CheckFailed(
            f"{message}; without the label {VOID} in the target it does not: {VOID} is void, which the loss is given "
            "as ignore_index and has to leave out"
        ) from error
    kind = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    require(kind == "torch.float32 []", f"it returned {kind} for float32 logits; a loss returns torch.float32 []")
    require(value.isfinite(), f"ordinary random logits cost {value.item()}")


def right_beats_wrong(case: LossSubject) -> None:
    """What is right costs less than a guess, a guess less than what is wrong, and each class counts."""
    perfect, opposite = (certain(each, case.classes) for each in (case.target, wrong(case.target, case.classes)))
    right, guessed, missed = (case.cost(each) for each in (perfect, torch.zeros_like(perfect), opposite))
    require(
        right < guessed < missed,
        f"a perfect prediction costs {right:.6g}, logits of 0 cost {guessed:.6g}, a prediction that is wrong "
        f"everywhere {missed:.6g}; each must cost more than the one before",
    )
    for index in range(case.classes):
        found = case.cost(torch.where((case.target == index)[:, None], opposite, perfect))
        require(
            found > right,
            f"wrong at the pixels of class {index} alone costs {found:.6g}, wrong nowhere {right:.6g}: "
            "the class does not count",
        )


def perfect_costs_nothing(case: LossSubject) -> None:
    """A perfect prediction costs about 0: logits of 100 for the class and -100 for the others."""
    found = case.cost(certain(case.target, case.classes))
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
    reached = torch.zeros_like(case.logits, dtype=torch.bool)
    for seed in range(16):
        _, gradient = case.gradient(guess(case.target, case.classes, 0.1, seed))
        require(gradient.isfinite().all(), "the gradient of small random logits is not finite")
        reached |= gradient != 0
    wanted = case.known.expand_as(reached)
    never = (wanted & ~reached).nonzero()
    require(
        not len(never),
        f"{len(never)} of the {int(wanted.sum())} logits of labelled pixels never get a gradient, the first at "
        f"[image, class, row, column] = {never[:1].flatten().tolist()}",
    )


def void_has_no_value(case: LossSubject) -> None:
    """Whatever the logits at void pixels are, the cost is the same."""
    other = torch.where(case.known, case.logits, -50 * case.logits)
    _require_same(case.cost(other), case.cost(case.logits), "with other logits at void pixels alone")


def void_has_no_gradient(case: LossSubject) -> None:
    """The gradient at void pixels is exactly 0."""
    _, gradient = case.gradient(case.logits)
    largest = gradient.masked_fill(case.known, 0).abs().max().item()
    require(largest == 0, f"void pixels get a gradient of up to {largest:.3g}; it must be exactly 0")


def infinite_logits_at_void(case: LossSubject) -> None:
    """Logits at void pixels that are infinite or NaN change neither the cost nor a gradient: 0 times NaN is NaN."""
    # float16 overflows there first, as nothing holds these logits down
    expected, gradient = case.gradient(torch.where(case.known, case.logits, 0.0))
    advice = "replace the logits at void before the softmax, as logits.masked_fill(void[:, None], 0) does"
    for extreme in (-math.inf, math.inf, math.nan):
        for where in (slice(None), slice(1)):  # of all classes, of the first alone
            given = torch.where(case.known, case.logits, 0.0)
            given[:, where] = torch.where(case.known, case.logits[:, where], extreme)
            found, other = case.gradient(given)
            what = f"with logits of {extreme} at void pixels alone"
            _require_same(found, expected, what)
            leaked = other.masked_fill(case.known, 0).count_nonzero()
            require(not leaked, f"{what} they get a gradient that is NaN or not 0; {advice}")
            require(torch.allclose(other, gradient, 1e-4, 1e-6), f"{what} the gradient is another one; {advice}")


def void_is_not_counted(case: LossSubject) -> None:
    """A mean is one of labelled pixels: another image that is all void leaves the cost as it is."""
    logits, target = batch(case.classes, images=3)
    target[2] = VOID
    alone = case.cost(logits[:2], target[:2])
    _require_same(case.cost(logits, target), alone, "with a third image that is all void beside two others")


def void_label_is_given(case: LossSubject) -> None:
    """The dataset decides which label is void; it is given as ``ignore_index``, 255 or another one."""
    told = "the constructor has no parameter ignore_index: it cannot know which label is void"
    require(case.has_option("ignore_index"), told)
    for void in (case.classes, 254):
        found = case.cost(case.logits, torch.where(case.target == VOID, void, case.target), case.make(void))
        what = f"with ignore_index = {void} and that label in the place of {VOID}"
        _require_same(found, case.cost(case.logits), what)


def all_void_is_zero(case: LossSubject) -> None:
    """A batch without a labelled pixel costs 0, and backward() gives it a gradient of 0."""
    target = torch.full_like(case.target, VOID)
    found, gradient = case.gradient(case.logits, target)
    require(found == 0, f"a batch that is all void costs {found}; it must be 0")
    require(
        torch.as_tensor(case.loss(case.logits.clone().requires_grad_().clone(), target)).requires_grad,
        "what a batch that is all void costs does not depend on the logits, so that backward() raises; return "
        "something like 0 * logits.sum(), not a new tensor",
    )
    require(not gradient.count_nonzero(), "a batch that is all void has a gradient that is NaN or not 0")


def empty_batch_is_zero(case: LossSubject) -> None:
    """A batch without an image, or of images without a pixel, costs 0, and backward() works."""
    for shape in ((0, case.classes, 4, 4), (2, case.classes, 0, 4)):
        logits = torch.zeros(shape, requires_grad=True)
        target = torch.zeros((shape[0], *shape[2:]), dtype=torch.int64)
        with failing(f"logits {list(shape)}"):
            value = torch.as_tensor(case.loss(logits.clone(), target))
        require(value.sum().item() == 0, f"logits {list(shape)} cost {value.sum().item()}; they must cost 0")
        require(value.requires_grad, f"what logits {list(shape)} cost does not depend on them: backward() raises")


def class_weights_with_void(case: LossSubject) -> None:
    """Class weights, where there is such an option, count for their own class, and void beside them costs nothing."""
    if not case.has_option("class_weights"):
        raise NotAsked("it has no option class_weights")
    loss = case.make(class_weights=[10.0, *[1.0] * (case.classes - 1)])
    found, gradient = case.gradient(case.logits, loss=loss)
    require(math.isfinite(found), f"with class weights and void the cost is {found}")
    other = torch.where(case.known, case.logits, -50 * case.logits)
    _require_same(case.cost(other, loss=loss), found, "with class weights and other logits at void pixels alone")
    leaked = gradient.masked_fill(case.known, 0).count_nonzero()
    require(not leaked, "with class weights void pixels get a gradient; it must be 0")
    empty = case.cost(case.logits, torch.full_like(case.target, VOID), loss)
    require(empty == 0, f"with class weights a batch that is all void costs {empty}; it must be 0")
    for index in range(case.classes) if "class_weights" not in case.options else ():
        _weight_counts(case, index)


def _weight_counts(case: LossSubject, index: int) -> None:
    """Missing a class alone costs more where it alone weighs more."""
    # the others are undecided, so that pixels of all are wrong, for a loss that takes those alone
    predicted = torch.full_like(case.target, (index + 1) % case.classes)
    missed = torch.where((case.target == index)[:, None], certain(predicted, case.classes), 0.0)
    heavy, light = (
        case.cost(missed, loss=case.make(class_weights=[weight if c == index else 1.0 for c in range(case.classes)]))
        for weight in (10.0, 0.1)
    )
    require(
        heavy > light,
        f"missing class {index} costs {heavy:.6g} where it weighs ten times what the others do, and {light:.6g} where "
        "it weighs a tenth: class_weights do not count, or for another class",
    )


def unknown_label_refused(case: LossSubject) -> None:
    """A label that is neither a class nor void is not accepted: an exception, or NaN."""
    logits = certain(torch.full_like(case.target, case.classes - 1), case.classes)  # right for a loss that clips labels
    for label in (case.classes, 254):
        unknown = case.target.clone()
        unknown[0, 3, 4] = label
        try:
            value = case.loss(logits.clone(), unknown)
        except Exception:
            continue
        found = torch.as_tensor(value).sum().item()
        require(
            math.isnan(found),
            f"the label {label}, of {case.classes} classes and not void ({VOID}), was accepted and cost {found:.6g}; "
            "raise an exception or, where looking would make a device wait, return NaN",
        )


def batch_order(case: LossSubject) -> None:
    """The order of the images in a batch makes no difference."""
    logits, target = batch(case.classes, images=3)
    _require_same(case.cost(logits.flip(0), target.flip(0)), case.cost(logits, target), "in the opposite order")


def mean_not_sum(case: LossSubject) -> None:
    """A batch twice costs about what it does once: a sum would make steps grow with the batch and the crop."""
    # about: a number that smooths a quotient counts less beside more pixels
    once = case.cost(case.logits)
    twice = case.cost(torch.cat([case.logits] * 2), torch.cat([case.target] * 2))
    require(
        not abs(twice - once) > 0.25 * abs(once),
        f"an ordinary batch costs {once:.6g}, and with the same images a second time {twice:.6g}: take the mean over "
        "the labelled pixels, not the sum",
    )


def inputs_unchanged(case: LossSubject) -> None:
    """Logits and target are left as they are, as another loss may need them after it."""
    logits, target = batch(case.classes)
    case.loss(logits, target)
    require(torch.equal(logits, case.logits), "it writes to the logits")
    require(torch.equal(target, case.target), "it writes to the target")


def layouts(case: LossSubject) -> None:
    """Logits may lie in memory as they like: channels_last, transposed, cut out of larger ones; so may labels."""
    expected, gradient = case.gradient(case.logits)
    for name, layout in LAYOUTS.items():
        with failing(f"it fails on logits that are {name}"):
            found, other = case.gradient(case.logits, case.target.mT.contiguous().mT, layout=layout)
        _require_same(found, expected, f"for the same logits, {name}")
        difference = (other - gradient).abs().max().item()
        require(difference < 1e-5, f"for the same logits, {name}, the gradient differs by {difference:.3g}")


def extreme_logits(case: LossSubject) -> None:
    """Logits of 10,000, right or wrong, cost a finite number, with a finite gradient."""
    cases = {
        "right everywhere": certain(case.target, case.classes, 1e4),
        "wrong everywhere": certain(wrong(case.target, case.classes), case.classes, 1e4),
        "of random signs": 1e4 * case.logits.sign(),
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
            expected = case.cost(logits.to(dtype).float(), target)
            _require_same(value.sum().item(), expected, f"for {dtype} logits", 1e-3)


def large_float16(case: LossSubject) -> None:
    """A 512 x 512 image of float16 logits costs what it does as float32, though its sums do not fit float16."""
    pixels = torch.arange(512 * 512)
    target = torch.where(pixels % 4 > 0, 0, pixels // 4 % case.classes).reshape(1, 512, 512)
    logits = certain(target, case.classes, 2.0).half()
    found, gradient = case.gradient(logits, target)
    expected = case.cost(logits.float(), target)
    _require_same(found, expected, "for 512 x 512 float16 logits, of which 65,504 is the largest number", 1e-3)
    require(gradient.isfinite().all(), "512 x 512 float16 logits have a gradient that is not finite")


def gradcheck(case: LossSubject) -> None:
    """The gradient is that of the cost: torch.autograd.gradcheck, in float64 where the loss computes in it."""
    target = case.target[:1, :3, 1:5]  # 12 pixels, 3 of them void
    logits = case.logits[:1, :, :3, 1:5].double().requires_grad_()

    def cost(given: Tensor) -> Tensor:
        return torch.as_tensor(case.loss(given.clone(), target.clone())).sum()

    # a loss that computes in float32 even then is asked with larger steps, and has 2 % instead of 0.1 %
    exact = cost(logits.detach()).dtype == torch.float64
    eps, atol, rtol = (1e-6, 1e-5, 1e-3) if exact else (2e-3, 2e-3, 2e-2)
    require(
        torch.autograd.gradcheck(cost, logits, eps=eps, atol=atol, rtol=rtol, raise_exception=False),
        f"for logits {list(logits.shape)} backward() and finite differences give different gradients "
        "(torch.autograd.gradcheck): is something detached or rounded that the cost depends on?",
    )


def no_fixed_device(case: LossSubject) -> None:
    """Moved to another device, it computes there: on torch's meta device, and on CUDA where there is one."""
    if torch.cuda.is_available():
        found = case.cost(case.logits.cuda(), case.target.cuda(), _moved(case.make(), "cuda"))
        _require_same(found, case.cost(case.logits), "on CUDA instead of the CPU", 1e-4)
    variants: dict[str, dict[str, Any]] = {"": {}}
    if case.has_option("class_weights") and "class_weights" not in case.options:
        variants[", with class weights"] = {"class_weights": [2.0] * case.classes}
    logits, target = case.logits.to("meta").requires_grad_(), case.target.to("meta")
    for what, given in variants.items():
        loss = _moved(case.make(**given), "meta")
        on_meta(partial(loss, logits.clone(), target), f"on another device (torch's meta){what}")


def _moved(loss: Loss, device: str) -> Loss:
    """What is no module has nothing that could be moved."""
    return loss.to(device) if isinstance(loss, nn.Module) else loss


def picklable(case: LossSubject) -> None:
    """It can be pickled, to reach other processes, and then costs the same."""
    with failing("it cannot be pickled"):
        copy = pickle.loads(pickle.dumps(case.loss))
    _require_same(case.cost(case.logits, loss=copy), case.cost(case.logits), "for its pickled copy")


def compiles(case: LossSubject) -> None:
    """Under torch.compile it costs the same, with the same gradient; graph breaks are allowed."""
    expected, gradient = case.gradient(case.logits)
    torch.compiler.reset()
    # aot_eager traces both passes and needs no C++ compiler; a lambda, as not all that can be called can be compiled
    compiled = torch.compile(lambda *given: case.loss(*given), backend="aot_eager")
    with failing("it fails under torch.compile"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts
        found, other = case.gradient(case.logits, loss=compiled)
    _require_same(found, expected, "under torch.compile")
    difference = (other - gradient).abs().max().item()
    require(difference < 1e-5, f"under torch.compile the gradient differs by {difference:.3g}")
