"""Rules of losses: ``(logits [B,C,H,W], target [B,H,W]) -> scalar float32``, low for correct predictions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from segkit.testing.check import NotAsked, Same, failing, require
from segkit.testing.scored import VOID, Batch, Figures, ScoredSubject, batch, certain, of_network, wrong


@dataclass(frozen=True)
class LossSubject(ScoredSubject):
    """A loss, checked with 2 classes, like most data sets, and with 4."""

    counts: ClassVar[tuple[int, ...]] = (2, 4)

    def figures(self, *batches: Batch, built: Any = None) -> Figures:
        """Return the loss of the last batch and its gradient; a loss that is not a scalar is summed."""
        loss = self.make() if built is None else built
        logits, target = batches[-1] if batches else batch(self.classes)
        leaf = logits.detach().clone().requires_grad_()
        value = torch.as_tensor(loss(*of_network(leaf, target))).sum()
        gradient = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
        gradient = torch.zeros_like(leaf) if gradient is None else gradient
        return {"cost": value.item(), "gradient": gradient, "reaches": value.requires_grad}

    def cost(self, logits: Tensor, target: Tensor, loss: Any = None) -> float:
        """Return the loss without its gradient."""
        return self.figures((logits, target), built=loss)["cost"]  # type: ignore[no-any-return]

    def moved_to(self, device: str) -> Callable[[], Any]:
        """Return a function that computes the loss of an ordinary batch on another device."""
        loss = self.make()
        loss = loss.to(device) if isinstance(loss, nn.Module) else loss  # a plain function holds no tensors
        logits, target = (each.to(device) for each in batch(self.classes))
        return lambda: loss(logits.requires_grad_().clone(), target)


def scalar_float32(case: LossSubject) -> None:
    """It returns one finite number: a float32 tensor without dimensions."""
    with failing(f"it raises for a target that holds void, ignore_index = {VOID}, which it must leave out"):
        value = case.make()(*batch(case.classes))
    kind = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    require(kind == "torch.float32 []", f"it returned {kind} for float32 logits; it must return torch.float32 []")
    require(value.isfinite(), f"ordinary random logits cost {value.item()}")


def right_beats_wrong(case: LossSubject) -> None:
    """A perfect prediction costs about 0, a guess more, a wrong one the most, and every class counts."""
    _, target = batch(case.classes)
    perfect, opposite = (certain(each, case.classes) for each in (target, wrong(target, case.classes)))
    right, guessed, missed = (case.cost(each, target) for each in (perfect, torch.zeros_like(perfect), opposite))
    problem = f"a perfect prediction costs {right:.6g}, logits of 0 {guessed:.6g}, one wrong everywhere {missed:.6g}"
    require(right < guessed < missed, problem)
    require(abs(right) <= 1e-4, f"a perfect prediction costs {right:.6g}; at most 0.0001 is allowed")
    for index in range(case.classes):
        found = case.cost(torch.where((target == index)[:, None], opposite, perfect), target)
        problem = f"a prediction wrong at class {index} alone costs {found:.6g}, a perfect one {right:.6g}"
        require(found > right, problem)


def constant_costs_much(case: LossSubject) -> None:
    """Predicting the background, 75 % of the pixels, everywhere costs at least 45 % of what logits of 0 cost."""
    # with 4 classes, the mean absolute error (a Dice that pools classes) costs 33 %, Brier's score 67 %
    pixels = torch.arange(1600)
    target = torch.where(pixels % 4 > 0, 0, pixels // 4 % (case.classes - 1) + 1).reshape(1, 40, 40)
    right = case.cost(certain(target, case.classes), target)
    constant = case.cost(certain(torch.zeros_like(target), case.classes), target)
    nothing = case.cost(torch.zeros(1, case.classes, 40, 40), target)
    problem = f"it costs {constant:.4g}, a perfect prediction {right:.4g}, logits of 0 {nothing:.4g}"
    require(constant > right and constant - right >= 0.45 * (nothing - right), problem)


def void_has_no_gradient(case: LossSubject) -> None:
    """The gradient at void pixels is exactly 0."""
    labelled = (batch(case.classes)[1] != VOID)[:, None]
    largest = case.figures()["gradient"].masked_fill(labelled, 0).abs().max().item()
    require(largest == 0, f"void pixels get a gradient of up to {largest:.3g}; it must be exactly 0")


def all_void_is_zero(case: LossSubject) -> None:
    """A batch without labelled pixels, all void or empty, costs 0, with a gradient of 0."""
    for images, height in ((2, 6), (0, 4), (2, 0)):
        logits, target = torch.ones(images, case.classes, height, 4), torch.full((images, height, 4), VOID)
        what = f"a batch of logits {list(logits.shape)} that is all void"
        with failing(what):
            found = case.figures((logits, target))
        require(found["cost"] == 0, f"{what} costs {found['cost']}; it must be 0")
        require(found["reaches"], f"the loss of {what} does not depend on the logits: return 0 * logits.sum()")
        require(not found["gradient"].any(), f"{what} has a gradient that is NaN or not 0")


def class_weights(case: LossSubject) -> None:
    """A class weight, if the loss has this option, scales the cost of its class."""
    if not case.has_option("class_weights"):
        raise NotAsked("it has no option class_weights")
    _, target = batch(case.classes)
    for index in range(case.classes):
        # logits of 0 elsewhere: a loss that counts only wrong pixels then counts pixels of all classes
        predicted = certain(torch.full_like(target, (index + 1) % case.classes), case.classes)
        missed = torch.where((target == index)[:, None], predicted, 0.0)
        weights = ([each if c == index else 1.0 for c in range(case.classes)] for each in (10.0, 0.1))
        cases = (replace(case, options={**case.options, "class_weights": each}) for each in weights)
        heavy, light = (each.cost(missed, target) for each in cases)
        problem = f"missing class {index} costs {heavy:.6g} with a weight of 10, and {light:.6g} with a weight of 0.1"
        require(heavy > light, problem)


def mean_not_sum(case: LossSubject) -> Iterator[Same]:
    """The loss is a mean over labelled pixels: repeating a batch changes it little, adding void images not at all."""
    logits, target = batch(case.classes)
    once, twice = case.cost(logits, target), case.cost(torch.cat([logits] * 2), torch.cat([target] * 2))
    # it may change a little: the smoothing constant of a quotient weighs less with more pixels
    problem = f"an ordinary batch costs {once:.6g}, but {twice:.6g} if it holds every image twice"
    require(not abs(twice - once) > 0.25 * abs(once), problem)
    beside = case.cost(torch.cat([logits] * 2), torch.cat([target, torch.full_like(target, VOID)]))
    yield "with two further images that are all void", {"cost": beside}, {"cost": once}


def order(case: LossSubject) -> Iterator[Same]:
    """All pixels and images count equally: images in another order, or mirrored, cost the same."""
    logits, target = batch(case.classes, images=3, width=8)
    once = {"cost": case.cost(logits, target)}
    for what, axis in (("images in the opposite order", 0), ("images upside down", -2), ("mirrored images", -1)):
        yield what, {"cost": case.cost(logits.flip(axis), target.flip(axis))}, once


def extreme_logits(case: LossSubject) -> None:
    """Logits of 10,000, right or wrong, have a finite cost and gradient."""
    logits, target = batch(case.classes)
    cases = {"right": certain(target, case.classes, 1e4), "of random signs": 1e4 * logits.sign()}
    cases["wrong"] = certain(wrong(target, case.classes), case.classes, 1e4)
    for name, extreme in cases.items():
        found = case.figures((extreme, target))
        finite = math.isfinite(found["cost"]) and found["gradient"].isfinite().all()
        require(finite, f"logits of 10,000, {name}, cost {found['cost']}; cost and gradient must be finite")


def half_precision(case: LossSubject) -> None:
    """16-bit logits cost float32, within 0.1 % of the cost in float32, even if sums would overflow float16."""
    pixels = torch.arange(320 * 320)
    large = torch.where(pixels % 4 > 0, 0, pixels // 4 % case.classes).reshape(1, 320, 320)
    cases = [(dtype, *batch(case.classes, seed=seed)) for dtype in (torch.bfloat16, torch.float16) for seed in range(4)]
    for dtype, logits, target in [*cases, (torch.float16, certain(large, case.classes, 2.0), large)]:
        half, what = logits.to(dtype), f"{dtype} logits {list(logits.shape)}"
        given = torch.as_tensor(case.make()(*of_network(half, target))).dtype
        require(given == torch.float32, f"for {what} it returned {given}; sum in float32, and return float32")
        found, expected = case.figures((half, target)), case.cost(half.float(), target)
        near = math.isclose(found["cost"], expected, rel_tol=1e-3, abs_tol=1e-6)
        require(near, f"{what} cost {found['cost']:.6g}, but {expected:.6g} as float32")
        require(found["gradient"].isfinite().all(), f"{what}: the gradient is not finite")


def gradcheck(case: LossSubject) -> None:
    """The gradient matches finite differences (torch.autograd.gradcheck) within 2 %."""
    logits, target = (each[:1, ..., :3, 1:5] for each in batch(case.classes))  # 12 pixels, 3 of them void
    loss = case.make()

    def cost(given: Tensor) -> Tensor:
        return torch.as_tensor(loss(*of_network(given, target))).sum()

    leaf = logits.double().requires_grad_()  # step and tolerances suit losses that compute in float32 nevertheless
    same = torch.autograd.gradcheck(cost, leaf, eps=2e-3, atol=2e-3, rtol=2e-2, raise_exception=False)
    hint = "is a part of the computation detached or rounded?"
    require(same, f"for logits {list(logits.shape)} backward() and finite differences give different gradients: {hint}")


def compiles(case: LossSubject) -> Iterator[Same]:
    """Under torch.compile cost and gradient are the same; graph breaks are allowed."""
    torch.compiler.reset()
    loss = case.make()
    # aot_eager traces both passes without a C++ compiler; the lambda is needed, as some callables cannot be compiled
    compiled = torch.compile(lambda *given: loss(*given), backend="aot_eager")
    with failing("it fails under torch.compile"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of torch itself
        found = case.figures(built=compiled)
    yield "under torch.compile", found, case.figures()
