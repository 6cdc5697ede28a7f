"""The rules of metrics: ``update(logits, target)``, ``compute()`` -> numbers, ``reset()``; void does not count."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.testing.check import NotAsked, failing, require
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
    text,
    wrong,
)


@dataclass(frozen=True)
class MetricSubject(ScoredSubject):
    """A metric, asked with 2 classes, as most data sets have, 4, and 21, whose pairs do not fit 8 bits."""

    counts: ClassVar[tuple[int, ...]] = (2, 4, 21)
    once: ClassVar[tuple[str, ...]] = ("named_options", "worked_example", "many_pixels")

    def feed(self, built: Any, logits: Tensor, target: Tensor) -> None:
        """Update it."""
        built.update(logits, target)

    def figures(self, *batches: Batch, built: Any = None, layout: Callable[[Tensor], Tensor] = Tensor.clone) -> Figures:
        """What it computes after the batches, by name."""
        return self.read(self.fed(*(batches or [batch(self.classes)]), built=built, layout=layout))

    def fed(self, *batches: Batch, built: Any = None, layout: Callable[[Tensor], Tensor] = Tensor.clone) -> Any:
        """One that was built, or a new one, that has been told of copies of the batches."""
        metric = self.make() if built is None else built
        for logits, target in batches:
            metric.update(layout(logits), target.clone())
        return metric

    def read(self, metric: Any) -> Figures:
        """What it computes now; several numbers under one name, which another rule refuses, by their mean."""
        value = metric.compute()
        values = value if isinstance(value, Mapping) else {self.name: value}
        return {str(name): float(torch.as_tensor(each, dtype=torch.float64).nanmean()) for name, each in values.items()}


def _batches(case: MetricSubject) -> tuple[Batch, Batch]:
    """One of a single image, and one of three others."""
    return batch(case.classes, images=1), batch(case.classes, images=3, seed=1)


def numbers(case: MetricSubject) -> None:
    """compute() returns a number, or a dict of numbers by their names."""
    value = case.fed(batch(case.classes)).compute()
    require(not isinstance(value, Mapping) or value, "compute() returned an empty dict")
    for name, each in value.items() if isinstance(value, Mapping) else [(case.name, value)]:
        require(isinstance(name, str), f"compute() returned a dict with the key {name!r}; keys are names")
        given = f"a tensor {list(each.shape)}" if isinstance(each, Tensor) else repr(each)
        plain = each.item() if hasattr(each, "item") and not getattr(each, "ndim", 0) else each
        require(isinstance(plain, int | float), f"'{name}' is {given}; give each number its own name")


def perfect_is_best(case: MetricSubject) -> None:
    """A perfect prediction scores finite numbers, better than one that is wrong everywhere, and no other is better."""
    _, target = batch(case.classes)
    best = case.figures((certain(target, case.classes), target))
    worst = case.figures((certain(wrong(target, case.classes), case.classes), target))
    for name, value in best.items():
        require(math.isfinite(value), f"a perfect prediction scores {name} = {value}")
    telling = [name for name in best if math.isfinite(worst.get(name, math.nan)) and best[name] != worst[name]]
    # two classes in each other's place have the same boundary: a metric of boundaries sees more classes alone
    same = f"a perfect prediction and one that is wrong everywhere score the same: {text(best)}"
    require(telling or case.classes < max(case.counts), same)
    guesses = [case.figures(batch(case.classes, seed=seed)) for seed in range(4)]
    for found, name in product(guesses, telling):
        told = f"wrong everywhere scores {worst[name]:.6g}, perfect {best[name]:.6g}, and random {found[name]:.6g}"
        fits = found[name] <= best[name] if best[name] > worst[name] else found[name] >= best[name]
        require(fits, f"{name}: a prediction that is {told}")


def worked_example(case: MetricSubject) -> None:
    """What has the name of a known score is that score, on ten pixels worked out by hand."""
    # of five classes one is there and never predicted, one predicted and not there, one neither
    truth = torch.tensor([[[0, 0, 0, 0, 0, 0, 1, 1, 2, VOID]]])
    predicted = torch.tensor([[[0, 0, 0, 0, 1, 3, 1, 0, 1, 2]]])
    found = replace(case, classes=5).figures((certain(predicted, 5), truth))
    known = {name: _BY_HAND[name.lower()] for name in found if name.lower() in _BY_HAND}
    if not known:
        raise NotAsked(f"no score of a known name is among {', '.join(found)}; work one out in a test of your own")
    for name, by_hand in known.items():
        told = f"{name} is {found[name]:.6g}, and {' or '.join(f'{value:.6g}' for value in by_hand)} by hand, where "
        pixels = f"{truth.flatten().tolist()} ({VOID} is void) are predicted as {predicted.flatten().tolist()}"
        require(any(math.isclose(found[name], value, rel_tol=1e-5) for value in by_hand), told + pixels)


def _mean(*of_class: float) -> tuple[float, float]:
    """Over the classes in the target, as segkit has it; or with the one that is only predicted as 0, as others do."""
    return sum(of_class) / len(of_class), sum(of_class) / (len(of_class) + 1)


# right: 4 of class 0, 1 of class 1; labelled: 6, 2, 1, 0; predicted there: 5, 3, 0, 1
_IOU, _DICE, _RECALL = _mean(4 / 7, 1 / 4, 0), _mean(8 / 11, 2 / 5, 0), _mean(4 / 6, 1 / 2, 0)
_BY_HAND: dict[str, tuple[float, ...]] = {
    "mean_iou": _IOU,
    "mean_dice": _DICE,
    "mean_accuracy": _RECALL[:1],
    "precision": _mean(4 / 5, 1 / 3, 0),
    "recall": _RECALL,
    "pixel_accuracy": (5 / 9,),
    "frequency_weighted_iou": ((6 * 4 / 7 + 2 * 1 / 4 + 0) / 9,),
    # other names for them, some of which are used for the foreground alone or for two scores
    **dict.fromkeys(("iou", "miou", "jaccard"), (*_IOU, *_mean(1 / 4, 0))),
    **dict.fromkeys(("dice", "f1"), (*_DICE, *_mean(2 / 5, 0))),
    "sensitivity": _RECALL,
    "accuracy": (5 / 9, _RECALL[0]),
}


def two_updates(case: MetricSubject) -> None:
    """Two batches score what they do as one: a mean over batches would depend on how they are cut."""
    first, second = _batches(case)
    whole = (torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]]))
    require_same(case.figures(first, second), case.figures(whole), "images given in two batches instead of one")


def batch_order(case: MetricSubject) -> None:
    """The order of the batches, and of the images in them, makes no difference; each may have another size."""
    (logits, target), other = batch(case.classes, images=3), batch(case.classes, width=9, seed=1)
    found = case.figures(other, (logits.flip(0), target.flip(0)))
    require_same(found, case.figures((logits, target), other), "batches in the opposite order")


def reset(case: MetricSubject) -> None:
    """After reset() nothing is left of what was counted before."""
    first, second = _batches(case)
    metric = case.fed(second)
    metric.compute()
    metric.reset()
    require_same(case.figures(first, built=metric), case.figures(first), "another batch, reset(), and a batch")


def reading_changes_nothing(case: MetricSubject) -> None:
    """compute() gives the same twice, and counting goes on after it."""
    first, second = _batches(case)
    metric = case.fed(first)
    once = case.read(metric)
    require_same(case.read(metric), once, "compute() called a second time")
    found = case.figures(second, built=metric)
    require_same(found, case.figures(first, second), "two batches with compute() between them")


def void_does_not_count(case: MetricSubject) -> None:
    """Whatever is predicted at void pixels, the score is the same, and so it is with an image that is all void."""
    logits, target = own = batch(case.classes)
    expected = case.figures(own)
    require_same(case.figures(at_void(own, -50 * logits)), expected, "other predictions at void pixels alone")
    nothing = logits, torch.full_like(target, VOID)
    require_same(case.figures(own, nothing), expected, "a second batch that is all void")
    with failing("compute() after a batch that is all void, where it may be NaN"):
        case.fed(nothing).compute()


def absent_class(case: MetricSubject) -> None:
    """A class that is nowhere, neither in the labels nor predicted, changes no score: it is neither 0 nor 1 nor NaN."""
    logits, target = batch(case.classes)
    expected = case.figures((logits, target))
    more = F.pad(logits, (0, 0, 0, 0, 0, 3), value=-100.0)
    found = replace(case, classes=case.classes + 3).figures((more, target))
    common = {name: found[name] for name in expected if name in found}  # not those of the three classes alone
    require_same(common, expected, "three classes more, which are nowhere")


def many_pixels(case: MetricSubject) -> None:
    """A hundred times the same images, in one batch, score what they do once: counts are not kept in 16 bits."""
    case = replace(case, classes=2)
    target = batch(2, images=1, width=42)[1].repeat(1, 5, 1)  # [1,30,42]
    target = torch.where((target == 1) & (torch.arange(42) % 4 > 0), 0, target)  # 88 % are class 0
    logits = guess(target, 2) + 2 * certain(target, 2, 1.0)
    found = case.figures((logits.repeat(100, 1, 1, 1), target.repeat(100, 1, 1)))
    # not exactly: sums of float32, which torchmetrics' calibration error keeps, are off by 0.1 % there
    what = "a hundred times the same image, with more pixels of a class than float16 can count"
    require_same(found, case.figures((logits, target)), what, tolerance=2e-3)


def merge(case: MetricSubject) -> None:
    """What two processes counted, merged in each, scores as if one had counted all; the other stays as it is."""
    first, second = _batches(case)
    ours, theirs = case.fed(first), case.fed(second)
    if not (getattr(ours, "merge", None) or getattr(ours, "merge_state", None)):
        raise NotAsked("it has neither merge(other) nor merge_state(other): every process counts everything itself")
    there, arrived = copy.deepcopy(theirs), copy.deepcopy(ours)
    alone, whole = case.figures(second), case.figures(first, second)
    _merge(ours, theirs)
    require_same(case.read(ours), whole, "two metrics of a batch each, merged")
    require_same(case.read(theirs), alone, "a metric that was merged into another")
    ours.update(*batch(case.classes, seed=2))  # what the two shared would now be counted for both
    require_same(case.read(theirs), alone, "a metric after the one it was merged into counted on")
    _merge(there, arrived)
    require_same(case.read(there), whole, "two metrics merged in the other process")
    _merge(there, case.make())
    require_same(case.read(there), whole, "a metric that has seen nothing, merged into one that has")


def _merge(metric: Any, other: Any) -> None:
    """By its own ``merge``, or torchmetrics' ``merge_state``."""
    (getattr(metric, "merge", None) or metric.merge_state)(other)


def no_fixed_device(case: MetricSubject) -> None:
    """On CUDA it scores what it does on the CPU."""
    if not torch.cuda.is_available():
        raise NotAsked("there is no CUDA here, and what is not there has no values to count")
    metric = case.make()
    metric = metric.to("cuda") if hasattr(metric, "to") else metric
    there = [(logits.cuda(), target.cuda()) for logits, target in _batches(case)]
    require_same(case.figures(*there, built=metric), case.figures(*_batches(case)), "on CUDA instead of the CPU")
