"""The rules of losses: each one is broken by a loss that breaks it, and kept by every loss there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import segkit
from segkit.testing import Check, checks

# --- every loss there is


@pytest.mark.parametrize("name", segkit.losses)
def test_every_loss_keeps_every_rule(name: str) -> None:
    assert failures(without("compiles", checks("loss", name))) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", segkit.losses)
def test_every_loss_compiles(name: str) -> None:
    (check,) = [each for each in checks("loss", name) if each.name == "compiles"]
    check()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cross_entropy", {"class_weights": [1.0, 2.0, 0.5]}),
        ("dice", {"include_background": False, "smooth": 1.0}),
        ("tversky", {"gamma": 4 / 3}),
        ("focal", {"gamma": 0.5, "class_weights": [1.0, 2.0]}),
        ("ohem", {"least": 0.3}),
        ("cross_entropy", {"class_weights": [1.0, 5.0]}),
    ],
)
def test_they_are_kept_with_other_options_too(name: str, options: dict[str, Any]) -> None:
    assert failures(without("compiles", checks("loss", name, options))) == {}


def test_options_that_break_a_rule_are_found() -> None:
    found = failures(without("compiles", checks("loss", "cross_entropy", {"label_smoothing": 0.1})))
    assert found.keys() == {"right_beats_wrong"}  # to be certain is what it is against
    assert found["right_beats_wrong"].startswith("with 2 classes a perfect prediction costs 10, logits of 0 ")


# --- losses of others


def cross_entropy_of_torch(num_classes: int, ignore_index: int, label_smoothing: float = 0.0) -> nn.Module:
    return nn.CrossEntropyLoss(ignore_index=ignore_index, label_smoothing=label_smoothing)


def focal_of_segmentation_models_pytorch(num_classes: int, ignore_index: int) -> nn.Module:
    focal: nn.Module = smp.losses.FocalLoss("multiclass", ignore_index=ignore_index)
    return focal


def dice_of_segmentation_models_pytorch(num_classes: int, ignore_index: int) -> nn.Module:
    dice: nn.Module = smp.losses.DiceLoss("multiclass", ignore_index=ignore_index)
    return dice


@pytest.mark.parametrize(
    ("loss", "broken"),
    [
        (cross_entropy_of_torch, {"all_void_is_zero", "void_does_not_count", "half_precision"}),
        (focal_of_segmentation_models_pytorch, {"all_void_is_zero", "half_precision"}),
        (dice_of_segmentation_models_pytorch, {"half_precision"}),
    ],
)
def test_losses_that_others_train_with_break_rules(loss: Callable[..., nn.Module], broken: set[str]) -> None:
    assert failures(without("compiles", checks("loss", loss))).keys() >= broken


# --- losses that are broken, in one way each


class Sound(nn.Module):
    """Cross-entropy over the labelled pixels, in steps, of which the losses below replace one."""

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__()
        self.num_classes, self.ignore_index = num_classes, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        labelled = self.labelled(target)
        labels = self.labels(target, labelled)
        costs = self.costs(self.known(self.prepared(logits), labelled), labels)
        return self.mean(costs, self.weights(labels, labelled).to(costs.dtype), logits)

    def prepared(self, logits: Tensor) -> Tensor:
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def labelled(self, target: Tensor) -> Tensor:
        return target != self.ignore_index

    def known(self, logits: Tensor, labelled: Tensor) -> Tensor:
        return logits.masked_fill(~labelled[:, None], 0)

    def labels(self, target: Tensor, labelled: Tensor) -> Tensor:
        return target.long().masked_fill(~labelled, 0)

    def costs(self, logits: Tensor, labels: Tensor) -> Tensor:
        return -F.log_softmax(logits, 1).gather(1, labels[:, None]).squeeze(1)

    def weights(self, labels: Tensor, labelled: Tensor) -> Tensor:
        return labelled

    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        return (costs * weights).sum() / weights.sum().clamp_min(1e-9)


class AllButInfinities(Sound):
    """A weight of 0 does the rest, but for what is infinite or NaN."""

    def known(self, logits: Tensor, labelled: Tensor) -> Tensor:
        return logits


class InFloat32(Sound):
    """Nothing is wrong with it."""

    def prepared(self, logits: Tensor) -> Tensor:
        return logits.float()


class StrongestRival(Sound):
    """A hinge, which looks at two logits a pixel: nothing is wrong with it."""

    def costs(self, logits: Tensor, labels: Tensor) -> Tensor:
        own = F.one_hot(labels, self.num_classes).movedim(-1, 1).bool()
        rival = logits.masked_fill(own, -torch.inf).amax(1)
        return (1 + rival - logits.gather(1, labels[:, None]).squeeze(1)).relu()


class Brier(Sound):
    """The squared error of the probabilities: nothing is wrong with it."""

    def costs(self, logits: Tensor, labels: Tensor) -> Tensor:
        own = F.one_hot(labels, self.num_classes).movedim(-1, 1)
        return (logits.softmax(1) - own).square().sum(1)


class ReadsValues(Sound):
    """Nothing is wrong with it; but whether it computes on another device cannot be seen without one."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().forward(logits, target) if (target != self.ignore_index).any() else 0 * logits.float().sum()


class OneElement(Sound):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().forward(logits, target)[None]


class PixelByPixel(Sound):
    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        return costs * weights / weights.sum().clamp_min(1e-9)


class JustANumber(Sound):
    def forward(self, logits: Tensor, target: Tensor) -> Any:
        return super().forward(logits, target).item()


class Float64(Sound):
    def prepared(self, logits: Tensor) -> Tensor:
        return logits.double()


class NotANumber(Sound):
    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        ordinary = (logits.abs().max() > 1) & (logits.abs().max() < 10)
        return super().mean(costs, weights, logits) + torch.where(ordinary, torch.nan, 0.0)


class RewardsMistakes(Sound):
    def costs(self, logits: Tensor, labels: Tensor) -> Tensor:
        return -super().costs(logits, labels)


class WrongOfTwo(Sound):
    """Right for any number of classes but the one that most data sets have."""

    def costs(self, logits: Tensor, labels: Tensor) -> Tensor:
        costs = super().costs(logits, labels)
        return -costs if self.num_classes == 2 else costs


class ForgivesMissingTheBackground(Sound):
    """Drops pixels that are hopeless, but of one class alone."""

    def costs(self, logits: Tensor, labels: Tensor) -> Tensor:
        costs = super().costs(logits, labels)
        return costs * ((labels > 0) | (costs < 50))


class NeverContent(Sound):
    """A temperature, so that a softmax of what is certain is not."""

    def prepared(self, logits: Tensor) -> Tensor:
        return super().prepared(logits) / 20


class PixelAccuracy(Sound):
    """1 - p, which pools the classes: the largest decides."""

    def costs(self, logits: Tensor, labels: Tensor) -> Tensor:
        return 1 - super().costs(logits, labels).neg().exp()


class VoidAsBackground(Sound):
    def labelled(self, target: Tensor) -> Tensor:
        return torch.ones_like(target, dtype=torch.bool)

    def labels(self, target: Tensor, labelled: Tensor) -> Tensor:
        return super().labels(target, super().labelled(target))


class LargestOfAll(Sound):
    """Logits held down by the largest of the batch, which may be at a void pixel."""

    def prepared(self, logits: Tensor) -> Tensor:
        logits = super().prepared(logits)
        return logits * (20 / logits.abs().max().clamp_min(20))


class TraceOfVoid(AllButInfinities):
    """Too little to be seen in the value."""

    def weights(self, labels: Tensor, labelled: Tensor) -> Tensor:
        return torch.where(labelled, 1.0, 1e-9 * labelled.any())


class CostWithoutInfinities(AllButInfinities):
    """The cost is right, and its gradient 0 times NaN."""

    def costs(self, logits: Tensor, labels: Tensor) -> Tensor:
        costs = super().costs(logits, labels)
        return torch.where(costs.isfinite(), costs, 0.0)


class LooksAtTheLast(Sound):
    def weights(self, labels: Tensor, labelled: Tensor) -> Tensor:
        labels.flatten()[-1]
        return labelled


class ZeroOfNothing(Sound):
    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        return super().mean(costs, weights, logits) if costs.numel() else torch.zeros(())


class MeanOfNothing(Sound):
    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        return super().mean(costs, weights, logits) if costs.numel() else costs.mean()


class MeanOfAll(Sound):
    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        return (costs * weights).mean()


class Always255(Sound):
    def labelled(self, target: Tensor) -> Tensor:
        return target != 255


class NotTold(Sound):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)


class NanOfVoid(Sound):
    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        return (costs * weights).sum() / weights.sum()


class NewZero(Sound):
    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        return super().mean(costs, weights, logits) if weights.any() else torch.zeros(())


class NanSlopeOfVoid(AllButInfinities):
    """What torch.where does not choose is NaN all the same, and so is its gradient."""

    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        return torch.where(weights.any(), (costs * weights).sum() / weights.sum(), 0.0)


class Weighted(Sound):
    def __init__(self, num_classes: int, ignore_index: int = 255, class_weights: Sequence[float] | None = None) -> None:
        super().__init__(num_classes, ignore_index)
        self.class_weights: Tensor
        self.register_buffer("class_weights", torch.tensor(class_weights or [1.0] * num_classes))

    def weights(self, labels: Tensor, labelled: Tensor) -> Tensor:
        return self.class_weights[labels] * labelled


class WeightsUnused(Weighted):
    def weights(self, labels: Tensor, labelled: Tensor) -> Tensor:
        return labelled


class WeightsOfOtherClasses(Weighted):
    """In the opposite order, but for the first."""

    def __init__(self, num_classes: int, ignore_index: int = 255, class_weights: Sequence[float] | None = None) -> None:
        weights = list(class_weights or [1.0] * num_classes)
        super().__init__(num_classes, ignore_index, [weights[0], *weights[:0:-1]])


class WeightOfTheFirstAlone(Weighted):
    """As if there were two classes."""

    def weights(self, labels: Tensor, labelled: Tensor) -> Tensor:
        return self.class_weights[labels.clamp(max=1)] * labelled


class OnTheCpu(Sound):
    def weights(self, labels: Tensor, labelled: Tensor) -> Tensor:
        return labelled * torch.ones(labelled.shape)


class MadeOnTheCpu(Sound):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        cost = super().forward(logits, target)
        return torch.zeros(()) if cost.is_meta else cost


class WeightsOfVoid(Weighted, AllButInfinities):
    """Void is class 0 to the weights."""

    def weights(self, labels: Tensor, labelled: Tensor) -> Tensor:
        weights = self.class_weights[labels]
        return weights * labelled if (weights == 1).all() else weights


class WeightsTraceOfVoid(Weighted, AllButInfinities):
    def weights(self, labels: Tensor, labelled: Tensor) -> Tensor:
        weights = super().weights(labels, labelled)
        return weights if (self.class_weights == 1).all() else torch.where(labelled, weights, 1e-9 * labelled.any())


class WeightsNanOfVoid(Weighted):
    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        mean = super().mean(costs, weights, logits)
        return mean if (self.class_weights == 1).all() else mean / (weights.sum() / weights.sum())


class OneLayout(Sound):
    def prepared(self, logits: Tensor) -> Tensor:
        return super().prepared(logits).view(-1).view(logits.shape)


class RowsWithoutGaps(Sound):
    """As logits are in memory that no network has cropped."""

    def prepared(self, logits: Tensor) -> Tensor:
        return super().prepared(logits).view(*logits.shape[:2], -1).view(logits.shape)


class MemoryOrder(Sound):
    """Takes the numbers as they lie."""

    def prepared(self, logits: Tensor) -> Tensor:
        return super().prepared(logits).as_strided(logits.shape, torch.empty(logits.shape).stride())


class SlopeOfOneLayout(Sound):
    """The same cost, but a gradient for one layout alone."""

    def prepared(self, logits: Tensor) -> Tensor:
        logits = super().prepared(logits)
        return logits if logits.is_contiguous() else logits.detach() + 0 * logits


class Total(Sound):
    """reduction="sum"."""

    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        return (costs * weights).sum()


class WritesLogits(Sound):
    def prepared(self, logits: Tensor) -> Tensor:
        return super().prepared(logits.sub_(logits.amax(1, keepdim=True).detach()))


class WritesTarget(Sound):
    def labels(self, target: Tensor, labelled: Tensor) -> Tensor:
        target[~labelled] = 0
        return target.long()


class FocalWithoutACare(Sound):
    """At p = 1 the slope of a gamma below 1 is infinite."""

    def costs(self, logits: Tensor, labels: Tensor) -> Tensor:
        costs = super().costs(logits, labels)
        return costs * (1 - (-costs).exp()) ** 0.5


class ExpWithoutACare(Sound):
    def costs(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits * 0.1  # so that 100 is not too much yet
        return logits.exp().sum(1).log() * 10 - logits.gather(1, labels[:, None]).squeeze(1) * 10


class AsPreciseAsGiven(Sound):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().forward(logits, target).to(logits.dtype)


class RoundedSum(Sound):
    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        mean = super().mean(costs, weights, logits)
        return mean.bfloat16().float() if logits.dtype == torch.bfloat16 else mean


class CountsInFloat16(Sound):
    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        return (costs * weights).sum() / weights.to(logits.dtype).sum().to(costs.dtype).clamp_min(1e-9)


class HalfAGradient(Sound):
    """A focal loss whose factor is taken for a constant."""

    def costs(self, logits: Tensor, labels: Tensor) -> Tensor:
        costs = super().costs(logits, labels)
        return costs * (1 - (-costs.detach()).exp()) ** 2


class HalfAGradientInFloat32(HalfAGradient):
    def prepared(self, logits: Tensor) -> Tensor:
        return logits.float()


class HoldsAFunction(Sound):
    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__(num_classes, ignore_index)
        self.factor = lambda: 1.0


class ForgetsInAPickle(Sound):
    scale = 1.0

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__(num_classes, ignore_index)
        self.scale = 2.0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "scale"}

    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        return self.scale * super().mean(costs, weights, logits)


class OtherwiseWhenCompiled(Sound):
    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        return super().mean(costs, weights, logits) * (2 if torch.compiler.is_compiling() else 1)


class DetachedWhenCompiled(Sound):
    def mean(self, costs: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        mean = super().mean(costs, weights, logits)
        return mean.detach() if torch.compiler.is_compiling() else mean


class FailsWhenCompiled(Sound):
    def labels(self, target: Tensor, labelled: Tensor) -> Tensor:
        return super().labels(target, labelled) + (self.num_classes if torch.compiler.is_compiling() else 0)


class EverySecondColumn(Sound):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().forward(logits[..., ::2], target[..., ::2])


class LaterImagesCountMore(Sound):
    def weights(self, labels: Tensor, labelled: Tensor) -> Tensor:
        return labelled * torch.arange(1, 1 + len(labelled), device=labelled.device)[:, None, None]


class ClipsLabels(Sound):
    def labels(self, target: Tensor, labelled: Tensor) -> Tensor:
        return super().labels(target, labelled).clamp(max=self.num_classes - 1)


BROKEN: list[tuple[type[Sound], str, str, set[str]]] = [  # what breaks, the rule, its message, others that break too
    (EverySecondColumn, "order", "with 2 classes mirrored images: cost = ", set()),
    (LaterImagesCountMore, "order", "images in the opposite order: cost = ", set()),
    (ClipsLabels, "unknown_label_refused", r"the label 2 was accepted, though there are 2 classes and void", set()),
    (OneElement, "scalar_float32", r"it returned torch\.float32 \[1\] for float32 logits; it must return torch", set()),
    (PixelByPixel, "scalar_float32", r"it returned torch\.float32 \[2, 6, 7\]", set()),
    (Float64, "scalar_float32", r"it returned torch\.float64 \[\] for float32 logits", {"half_precision"}),
    (
        JustANumber,
        "scalar_float32",
        r"it returned float for float32 logits; it must return torch",
        {"all_void_is_zero", "gradcheck"},
    ),
    (
        NotANumber,
        "scalar_float32",
        "ordinary random logits cost nan",
        {"gradcheck", "all_void_is_zero", "half_precision", "void_does_not_count"},
    ),
    (
        RewardsMistakes,
        "right_beats_wrong",
        "a perfect prediction costs .*The rule: .* about 0",
        {"constant_costs_much"},
    ),
    (
        WrongOfTwo,
        "right_beats_wrong",
        "with 2 classes a perfect prediction costs .*, one wrong everywhere ",
        {"constant_costs_much"},
    ),
    (ForgivesMissingTheBackground, "right_beats_wrong", "wrong at class 0 alone costs 0, a perfect one", set()),
    (NeverContent, "right_beats_wrong", r"a perfect prediction costs 0\.0001\d+; at most 0\.0001", set()),
    (PixelAccuracy, "constant_costs_much", r"it costs 0\.25, a perfect prediction 0, logits of 0 0\.75", set()),
    (
        VoidAsBackground,
        "void_does_not_count",
        "with logits of 50.0 at void pixels only: cost = .*, expected",
        {"void_has_no_gradient", "all_void_is_zero", "mean_not_sum"},
    ),
    (LargestOfAll, "void_does_not_count", "with logits of 50.0 at void pixels only: cost = ", {"all_void_is_zero"}),
    (TraceOfVoid, "void_has_no_gradient", "up to .*; it must be exactly 0", {"void_does_not_count"}),
    (AllButInfinities, "void_does_not_count", "logits of -inf at void pixels only: cost = nan, expected", set()),
    (CostWithoutInfinities, "void_does_not_count", "only: gradient differs by up to nan .*The rule: .*masked", set()),
    (LooksAtTheLast, "all_void_is_zero", r"a batch of logits \[0, 2, 4, 4\] that is all void: IndexError: ind", set()),
    (ZeroOfNothing, "all_void_is_zero", r"the loss of a batch of logits \[0, 2, 4, 4\] .* does not depend on", set()),
    (MeanOfNothing, "all_void_is_zero", r"logits \[0, 2, 4, 4\] that is all void costs nan; it must be 0", set()),
    (MeanOfAll, "mean_not_sum", "with two further images that are all void: cost = ", {"all_void_is_zero"}),
    (Always255, "void_label_is_given", "RuntimeError: index 2 is out of bounds", set()),
    (NotTold, "void_label_is_given", "the constructor has no parameter ignore_index: it cannot know", set()),
    (NanOfVoid, "all_void_is_zero", "that is all void costs nan; it must be 0", set()),
    (NewZero, "all_void_is_zero", "does not depend on the logits: return 0", set()),
    (NanSlopeOfVoid, "all_void_is_zero", "has a gradient that is NaN or not 0", {"void_does_not_count"}),
    (WeightsUnused, "class_weights", "missing class 0 costs .* with a weight of 10, and .* a weight of 0.1", set()),
    (WeightsOfOtherClasses, "class_weights", "with 4 classes missing class 1 costs", set()),
    (WeightOfTheFirstAlone, "class_weights", "with 4 classes missing class 2 costs", set()),
    (
        WeightsOfVoid,
        "void_has_no_gradient",
        "with 2 classes and class weights void pixels",
        {"void_does_not_count", "mean_not_sum"},
    ),
    (WeightsTraceOfVoid, "void_has_no_gradient", "and class weights void pixels get", {"void_does_not_count"}),
    (WeightsNanOfVoid, "all_void_is_zero", "and class weights a batch of .* that is all void costs nan", set()),
    (
        Total,
        "mean_not_sum",
        r"an ordinary batch costs .*, but .* if it holds every image twice.*The rule: The loss",
        set(),
    ),
    (WritesLogits, "inputs_unchanged", "it modifies the logits", set()),
    (WritesTarget, "inputs_unchanged", "it modifies the target", set()),
    (FocalWithoutACare, "extreme_logits", "10,000, right, cost .*; cost and gradient must be finite", set()),
    (ExpWithoutACare, "extreme_logits", "logits of 10,000, right, cost inf", set()),
    (AsPreciseAsGiven, "half_precision", r"torch\.bfloat16 logits .* returned torch\.bfloat16; sum in", set()),
    (RoundedSum, "half_precision", r"torch\.bfloat16 logits .* cost .*, but .* as float32", set()),
    (CountsInFloat16, "half_precision", r"float16 logits \[1, 2, 320, 320\] cost 0, but ", set()),
    (
        HalfAGradient,
        "gradcheck",
        r"for logits \[1, 2, 3, 4\] backward\(\) and finite differences give different",
        set(),
    ),
    (HalfAGradientInFloat32, "gradcheck", "is a part of the computation detached or rounded", set()),
    (OnTheCpu, "no_fixed_device", "not on one device, .*: RuntimeError: Tensor on device cpu is not on the", set()),
    (MadeOnTheCpu, "no_fixed_device", "its result is on a different device", set()),
    (HoldsAFunction, "copies", "no pickled copy can be made: AttributeError: Can't .*lambda", set()),
    (ForgetsInAPickle, "copies", "a pickled copy: cost = ", set()),
    (OtherwiseWhenCompiled, "compiles", "under torch.compile: cost = .*, expected", set()),
    (DetachedWhenCompiled, "compiles", "under torch.compile: gradient differs by", set()),
    (FailsWhenCompiled, "compiles", "it fails under torch.compile: RuntimeError: index", set()),
]
SOUND = [Sound, Weighted, InFloat32, StrongestRival, Brier, ReadsValues]


def without(name: str, asked: list[Check]) -> list[Check]:
    return [check for check in asked if check.name != name]


def failures(asked: list[Check]) -> dict[str, str]:
    """The checks that fail, with their messages."""
    answers = {check.name: check.ask() for check in asked}
    return {name: answer.why for name, answer in answers.items() if answer.state == "FAILED"}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["this rule", "every rule"])
@pytest.mark.parametrize(("loss", "rule", "message", "others"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
def test_a_broken_loss_fails_just_there(
    loss: type[Sound], rule: str, message: str, others: set[str], every: bool
) -> None:
    asked = (
        checks("loss", loss) if rule == "compiles" else without("compiles", checks("loss", loss))
    )  # it takes a second
    found = failures([check for check in asked if every or check.name in {rule} | others])
    assert found.keys() == {rule} | others
    assert re.search(message, found[rule]), found[rule]


@pytest.mark.parametrize(
    ("loss", "rule", "message"),
    [
        (OneLayout, "right_beats_wrong", "view size is not compat"),
        (RowsWithoutGaps, "right_beats_wrong", "view size is not compat"),
        (MemoryOrder, "right_beats_wrong", "a perfect prediction costs"),
        (SlopeOfOneLayout, "gradcheck", "is a part of the computation detached"),
    ],
)
def test_every_rule_is_asked_with_logits_in_the_memory_of_a_network(loss: type[Sound], rule: str, message: str) -> None:
    found = failures([check for check in checks("loss", loss) if check.name == rule])
    assert message in found[rule]


@pytest.mark.parametrize("loss", SOUND)
def test_what_is_not_broken_fails_nowhere(loss: type[Sound]) -> None:
    assert failures(without("compiles", checks("loss", loss))) == {}


def test_every_rule_is_seen_to_fail() -> None:
    assert {each[1] for each in BROKEN} == {check.name for check in checks("loss", Sound)}


def test_what_cannot_be_asked_is_told() -> None:
    told = {check.name: check.ask() for check in checks("loss", ReadsValues)}
    reasons = {name: answer.why for name, answer in told.items() if answer.state == "not asked"}
    device = {"no_fixed_device": "it reads values, which torch's meta device"}
    assert reasons.keys() == {"class_weights"} | device.keys()
    assert all(reasons[name].startswith(text) for name, text in device.items())


def test_an_error_at_void_is_told_as_such() -> None:
    class TakesAllLabels(Sound):
        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(logits, target)

    told = failures(without("compiles", checks("loss", TakesAllLabels)))["scalar_float32"]
    assert told.startswith(
        "with 2 classes it raises for a target that holds void, ignore_index = 255, which it must leave out: "
        "IndexError: Target 255 is out of bounds."
    )


def test_class_weights_need_numbers() -> None:
    with pytest.raises(
        segkit.errors.ConfigError, match="class_weights: a formula needs a data set; give the checks one number"
    ):
        checks("loss", "cross_entropy", {"class_weights": "inverse"})
