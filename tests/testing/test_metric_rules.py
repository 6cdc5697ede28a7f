"""The rules of metrics: each one is broken by a metric that breaks it, and kept by every metric there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

import segkit
from segkit.testing import Check, checks

# --- every metric there is


@pytest.mark.parametrize("name", segkit.metrics)
def test_every_metric_keeps_every_rule(name: str) -> None:
    answers = {check.name: check.ask() for check in checks("metric", name)}
    assert {each: answer.why for each, answer in answers.items() if answer.state == "FAILED"} == {}
    assert {each for each, answer in answers.items() if answer.state == "not asked"} == set()
    assert hasattr(segkit.metrics[name](3, 255), "merge")  # without it one rule has nothing to ask


def collection(num_classes: int, ignore_index: int) -> torchmetrics.MetricCollection:
    return torchmetrics.MetricCollection(
        {
            "mean_iou": MulticlassJaccardIndex(num_classes, ignore_index=ignore_index),
            "mean_dice": MulticlassF1Score(num_classes, ignore_index=ignore_index),
        }
    )


@pytest.mark.parametrize("metric", [MulticlassJaccardIndex, collection])
def test_metrics_of_torchmetrics_are_metrics_as_they_are(metric: Callable[..., Any]) -> None:
    assert failures(checks("metric", metric)) == {}


# --- metrics that are broken, in one way each


class Sound:
    """Mean IoU from a matrix of counts, in steps, of which the metrics below replace one."""

    name = "mean_iou"

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.counts = torch.zeros(num_classes, num_classes)

    def update(self, logits: Tensor, target: Tensor) -> None:
        self.counts = self.counts + self.counted(logits, target)

    def counted(self, logits: Tensor, target: Tensor) -> Tensor:
        labelled = self.labelled(target)
        places = self.labels(target, labelled)[labelled] * self.num_classes + self.predicted(logits)[labelled]
        # with a label that is too large there are more places than the matrix has
        return torch.bincount(places, minlength=self.num_classes**2).view(self.num_classes, self.num_classes)

    def predicted(self, logits: Tensor) -> Tensor:
        return logits.argmax(1)

    def labelled(self, target: Tensor) -> Tensor:
        return target != self.ignore_index

    def labels(self, target: Tensor, labelled: Tensor) -> Tensor:
        return target

    def compute(self) -> Any:
        return {self.name: self.mean(class_iou(self.counts))}

    def mean(self, scores: Tensor) -> Any:
        return scores.nanmean()

    def merge(self, other: Sound) -> None:
        self.counts = self.counts + other.counts

    def reset(self) -> None:
        self.counts = torch.zeros_like(self.counts)


def class_iou(counts: Tensor) -> Tensor:
    return counts.diagonal() / (counts.sum(0) + counts.sum(1) - counts.diagonal())


class OneNumber(Sound):
    """Nothing is wrong with it."""

    def compute(self) -> float:
        return float(super().compute()[self.name])


class NoMerge(Sound):
    """Nothing is wrong with it."""

    merge = None  # type: ignore[assignment]


class ClassByClass(Sound):
    def mean(self, scores: Tensor) -> Tensor:
        return scores


class AList(Sound):
    def compute(self) -> Any:
        return {**super().compute(), "thresholds": [0.5]}


class NamesThatAreNumbers(Sound):
    def compute(self) -> dict[int, Any]:
        return {0: super().compute()[self.name]}


class Nothing(Sound):
    def compute(self) -> dict[str, Any]:
        return {}


class AlwaysOne(Sound):
    name = "one"

    def mean(self, scores: Tensor) -> Any:
        return 1.0


class InfiniteAtTheBest(Sound):
    name = "log_error"

    def mean(self, scores: Tensor) -> Any:
        return (1 - scores.nanmean()).log()


class WrongOfTwo(Sound):
    """Right for any number of classes but the one that most data sets have."""

    def mean(self, scores: Tensor) -> Any:
        return 1 - scores.nanmean() if self.num_classes == 2 else scores.nanmean()


class BinsOf8Bits(Sound):
    """From 17 classes on a pair of classes does not fit."""

    name = "own"

    def labels(self, target: Tensor, labelled: Tensor) -> Tensor:
        if (target[labelled] >= self.num_classes).any():
            raise ValueError("labels out of range")
        return target

    def counted(self, logits: Tensor, target: Tensor) -> Tensor:
        labelled = self.labelled(target)
        places = self.labels(target, labelled)[labelled] * self.num_classes + self.predicted(logits)[labelled]
        return torch.bincount(places % 256, minlength=max(256, self.num_classes**2))[: self.num_classes**2].view(
            self.num_classes, self.num_classes
        )


class NothingIsAnError(Sound):
    def compute(self) -> Any:
        if not self.counts.any():
            raise ZeroDivisionError("no pixels")
        return super().compute()


class MergesIntoBoth(Sound):
    def merge(self, other: Sound) -> None:
        self.counts = other.counts = self.counts + other.counts


class SharesWhenMerged(Sound):
    """Counts in place, in the memory of the other."""

    def update(self, logits: Tensor, target: Tensor) -> None:
        self.counts += self.counted(logits, target)

    def merge(self, other: Sound) -> None:
        if not self.counts.any():
            self.counts = other.counts
        else:
            own, self.counts = self.counts, other.counts
            self.extra = own

    def compute(self) -> Any:
        return {self.name: self.mean(class_iou(self.counts + getattr(self, "extra", 0)))}

    def reset(self) -> None:
        self.counts = torch.zeros_like(self.counts)
        self.extra = torch.zeros_like(self.counts)


class MeanOfBatches(Sound):
    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__(num_classes, ignore_index)
        self.scores: list[Tensor] = []

    def update(self, logits: Tensor, target: Tensor) -> None:
        self.scores = [*self.scores, class_iou(self.counted(logits, target)).nanmean()]

    def compute(self) -> dict[str, Any]:
        return {self.name: torch.stack(self.scores).nanmean()}

    def merge(self, other: Any) -> None:
        self.scores = self.scores + other.scores

    def reset(self) -> None:
        self.scores = []


class KeepsAll(MeanOfBatches):
    """Keeps every prediction and puts them together in the end, which takes one size of images."""

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__(num_classes, ignore_index)

    def update(self, logits: Tensor, target: Tensor) -> None:
        self.scores = [*self.scores, torch.cat([logits, target[:, None]], 1)]

    def compute(self) -> dict[str, Any]:
        whole = torch.cat(self.scores)
        return {self.name: class_iou(self.counted(whole[:, :-1], whole[:, -1].long())).nanmean()}


class ForgetsSlowly(Sound):
    def update(self, logits: Tensor, target: Tensor) -> None:
        self.counts = 0.5 * self.counts + self.counted(logits, target)


class ResetsNothing(Sound):
    def reset(self) -> None:
        pass


class ComputesOnce(Sound):
    computed: Any = None

    def compute(self) -> Any:
        self.computed = self.computed or super().compute()
        return self.computed

    def reset(self) -> None:
        super().reset()
        self.computed = None


class ComputesAndForgets(Sound):
    def compute(self) -> Any:
        found = super().compute()
        self.reset()
        return found


class VoidAsBackground(Sound):
    name = "own"

    def labelled(self, target: Tensor) -> Tensor:
        return torch.ones_like(target, dtype=torch.bool)

    def labels(self, target: Tensor, labelled: Tensor) -> Tensor:
        return target.masked_fill(target == self.ignore_index, 0)


class ImageByImage(MeanOfBatches):
    """Of each image by itself, and one that is all void has 0."""

    name = "own"

    def update(self, logits: Tensor, target: Tensor) -> None:
        for image in range(len(target)):
            scores = class_iou(self.counted(logits[image : image + 1], target[image : image + 1]))
            self.scores = [*self.scores, scores.nanmean().nan_to_num(0)]


class Always255(Sound):
    def labelled(self, target: Tensor) -> Tensor:
        return target != 255


class NotTold(Sound):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)


class AbsentIsZero(Sound):
    name = "own"

    def mean(self, scores: Tensor) -> Any:
        return scores.nan_to_num(0).mean()


class AbsentIsOne(Sound):
    name = "own"

    def mean(self, scores: Tensor) -> Any:
        return scores.nan_to_num(1).mean()


class AbsentIsNan(Sound):
    name = "own"

    def mean(self, scores: Tensor) -> Any:
        return scores.mean()


class OneLayout(Sound):
    def predicted(self, logits: Tensor) -> Tensor:
        return logits.view(len(logits), -1).view(logits.shape).argmax(1)


class RowsWithoutGaps(Sound):
    """As logits are in memory that no network has cropped."""

    def predicted(self, logits: Tensor) -> Tensor:
        return logits.view(*logits.shape[:2], -1).argmax(1).view(len(logits), *logits.shape[2:])


class MemoryOrder(Sound):
    """Takes the numbers as they lie."""

    def predicted(self, logits: Tensor) -> Tensor:
        return logits.as_strided(logits.shape, torch.empty(logits.shape).stride()).argmax(1)


class WritesTarget(Sound):
    def labelled(self, target: Tensor) -> Tensor:
        labelled = super().labelled(target)
        target[~labelled] = 0
        return labelled


class WritesLogits(Sound):
    def predicted(self, logits: Tensor) -> Tensor:
        return logits.sub_(logits.amax(1, keepdim=True)).argmax(1)


class TakesTheOther(Sound):
    def merge(self, other: Sound) -> None:
        self.counts = other.counts


class MergesHalves(Sound):
    """As if both had seen as much."""

    def merge(self, other: Sound) -> None:
        shares = self.counts / self.counts.sum(), other.counts / other.counts.sum()
        self.counts = shares[0] + shares[1]


class RefusesNothing(Sound):
    def merge(self, other: Sound) -> None:
        if not other.counts.any():
            raise ValueError("the other one is empty")
        super().merge(other)


class HoldsAFunction(Sound):
    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__(num_classes, ignore_index)
        self.reduce = lambda scores: scores.nanmean()


class ForgetsInAPickle(Sound):
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.reset()


class LessIsSaid(Sound):
    higher_is_better = False


class Pooled(Sound):
    def compute(self) -> dict[str, Any]:
        right, pixels = self.counts.trace(), self.counts.sum()
        return {self.name: right / (2 * pixels - right)}


class PrecisionForRecall(Sound):
    name = "Sensitivity"

    def compute(self) -> dict[str, Any]:
        there = self.counts.sum(0) + self.counts.sum(1) > 0
        return {self.name: (self.counts.diagonal() / self.counts.sum(0).clamp_min(1))[there].mean()}


class ClipsLabels(Sound):
    def labels(self, target: Tensor, labelled: Tensor) -> Tensor:
        return target.clamp(max=self.num_classes - 1)


class DropsLabels(Sound):
    """As histograms do with what is out of their range."""

    def labelled(self, target: Tensor) -> Tensor:
        return target < self.num_classes


BROKEN: list[tuple[type[Sound], str, str, set[str]]] = [  # what breaks, the rule, its message, others that break too
    (LessIsSaid, "perfect_is_best", "higher_is_better = False, but perfect scores 1, predicting one class 0", set()),
    (Pooled, "worked_example", r"are predicted as .*: mean_iou = 0\.384615, expected", set()),
    (PrecisionForRecall, "worked_example", "are predicted as .*: Sensitivity = ", set()),
    (ClipsLabels, "unknown_label_refused", r"the label 2 was accepted, though there are 2 classes and void", set()),
    (DropsLabels, "unknown_label_refused", "the label 2 was accepted, .* The rule: .* raises an error", set()),
    (ClassByClass, "numbers", r"returned 'mean_iou': tensor.*; it must return a number, .*The rule: compute", set()),
    (AList, "numbers", r"'thresholds': \[0\.5\]; it must return a number, or numbers by name", set()),
    (NamesThatAreNumbers, "numbers", "returned 0: tensor.*; it must return a number", set()),
    (Nothing, "numbers", "an empty dict", {"perfect_is_best"}),
    (AlwaysOne, "perfect_is_best", "one of a single class score the same: {'one': 1.0}", set()),
    (InfiniteAtTheBest, "perfect_is_best", "a perfect prediction scores log_error = -inf", set()),
    (WrongOfTwo, "absent_class", "with 2 classes three further classes, which are absent", set()),
    (BinsOf8Bits, "absent_class", "with 21 classes three further classes, which are absent", set()),
    (NothingIsAnError, "batches", r"compute\(\) after .* void, where it may be NaN: ZeroDivisionError: no pix", set()),
    (MergesIntoBoth, "merge", "a metric that was merged into another: ", set()),
    (SharesWhenMerged, "merge", "an empty metric, merged: ", set()),
    (MeanOfBatches, "batches", "images given in two batches instead of one: mean_iou = ", set()),
    (KeepsAll, "batches", "KeepsAll, batches: RuntimeError: Sizes of tensors must match", set()),
    (ForgetsSlowly, "batches", "images given in two batches instead of one: mean_iou = ", {"merge"}),
    (ResetsNothing, "reset", r"another batch, reset\(\), and a batch: mean_iou = .*, expected", set()),
    (ComputesOnce, "reset", r"two batches with compute\(\) between them: ", set()),
    (ComputesAndForgets, "reset", r"compute\(\) called a second time: mean_iou = nan, expected", {"merge"}),
    (VoidAsBackground, "void_does_not_count", "with logits of 50.0 at void pixels only: own = ", {"batches"}),
    (ImageByImage, "batches", "a second batch that is all void: own = ", set()),
    (Always255, "void_label_is_given", "RuntimeError: shape", set()),
    (NotTold, "void_label_is_given", "the constructor has no parameter ignore_index", set()),
    (AbsentIsZero, "absent_class", "with 2 classes three further classes, which are absent: own = ", set()),
    (AbsentIsOne, "absent_class", "with 2 classes three further classes, which are absent: own = ", set()),
    (AbsentIsNan, "absent_class", "three further classes, which are absent: own = nan, expected 0", set()),
    (WritesTarget, "inputs_unchanged", r"it modifies the target", set()),
    (WritesLogits, "inputs_unchanged", r"it modifies the logits", set()),
    (TakesTheOther, "merge", "two metrics of a batch each, merged: mean_iou = ", set()),
    (MergesHalves, "merge", "two metrics of a batch each, merged: mean_iou = ", set()),
    (RefusesNothing, "merge", "ValueError: the other one is empty", set()),
    (HoldsAFunction, "copies", "no pickled copy can be made: AttributeError: Can't .*lambda", set()),
    (ForgetsInAPickle, "copies", "a pickled copy: mean_iou = ", set()),
]


def failures(asked: list[Check]) -> dict[str, str]:
    """The checks that fail, with their messages."""
    answers = {check.name: check.ask() for check in asked}
    return {name: answer.why for name, answer in answers.items() if answer.state == "FAILED"}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["this rule", "every rule"])
@pytest.mark.parametrize(("metric", "rule", "message", "others"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
def test_a_broken_metric_fails_just_there(
    metric: type[Sound], rule: str, message: str, others: set[str], every: bool
) -> None:
    found = failures([check for check in checks("metric", metric) if every or check.name in {rule} | others])
    assert found.keys() == {rule} | others
    assert re.search(message, found[rule]), found[rule]


@pytest.mark.parametrize(
    ("metric", "rule", "message"),
    [
        (OneLayout, "perfect_is_best", "view size is not"),
        (RowsWithoutGaps, "perfect_is_best", "view size is not"),
        (MemoryOrder, "worked_example", "are predicted as"),
        (MemoryOrder, "absent_class", "three further classes"),
    ],
)
def test_every_rule_is_asked_with_logits_in_the_memory_of_a_network(
    metric: type[Sound], rule: str, message: str
) -> None:
    found = failures([check for check in checks("metric", metric) if check.name == rule])
    assert message in found[rule]


@pytest.mark.parametrize("metric", [Sound, OneNumber, NoMerge])
def test_what_is_not_broken_fails_nowhere(metric: type[Sound]) -> None:
    assert failures(checks("metric", metric)) == {}


def test_every_rule_is_seen_to_fail() -> None:
    assert {each[1] for each in BROKEN} == {check.name for check in checks("metric", Sound)}


def test_what_cannot_be_asked_is_told() -> None:
    (merge,) = [check for check in checks("metric", NoMerge) if check.name == "merge"]
    assert merge.ask().why.startswith("it has no merge(other)")
