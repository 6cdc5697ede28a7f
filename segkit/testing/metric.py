"""Rules of metrics: ``update(logits, target)``, ``compute()`` -> numbers, ``reset()``; void does not count."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from segkit.metric.scores import CLASS_SCORES, OVERALL_SCORES, score
from segkit.testing.check import NotAsked, Same, difference, failing, require
from segkit.testing.scored import VOID, Batch, Figures, ScoredSubject, batch, certain, of_network


@dataclass(frozen=True)
class MetricSubject(ScoredSubject):
    """A metric, checked with 2 classes, like most data sets, with 4, and with 21, whose pairs do not fit 8 bits."""

    counts: ClassVar[tuple[int, ...]] = (2, 4, 21)

    def figures(self, *batches: Batch, built: Any = None) -> Figures:
        """Return the metric's values after the batches by name; several numbers of one name (an error) are averaged."""
        metric = self.make() if built is None else built
        for logits, target in batches if batches or built is not None else [batch(self.classes)]:
            metric.update(*of_network(logits, target))
        value = metric.compute()
        values = value if isinstance(value, Mapping) else {self.name: value}
        return {str(name): float(torch.as_tensor(each, dtype=torch.float64).nanmean()) for name, each in values.items()}

    def instance(self) -> Any:
        """Return a metric that has counted one batch."""
        metric = self.make()
        metric.update(*batch(self.classes, seed=1))
        return metric

    def two_batches(self) -> tuple[Batch, Batch]:
        """Return a batch of one image, and a batch of three others."""
        return batch(self.classes, images=1), batch(self.classes, images=3, seed=1)


def numbers(case: MetricSubject) -> None:
    """compute() returns a number, or a dict of numbers by name."""
    value = case.instance().compute()
    require(not isinstance(value, Mapping) or value, "compute() returned an empty dict")
    for name, each in value.items() if isinstance(value, Mapping) else [(case.name, value)]:
        fits = isinstance(name, str) and torch.as_tensor(each).ndim == 0
        require(fits, f"compute() returned {name!r}: {each!r:.60}; it must return a number, or numbers by name")


def perfect_is_best(case: MetricSubject) -> None:
    """A perfect prediction has finite scores, which differ from those of a constant one, and are better."""
    _, target = batch(case.classes)
    best = case.figures((certain(target, case.classes), target))
    worst = case.figures((certain(torch.zeros_like(target), case.classes), target))
    more = getattr(case.make(), "higher_is_better", None)  # by which a single number selects the best epoch
    for name, value in best.items():
        require(math.isfinite(value), f"a perfect prediction scores {name} = {value}")
        problem = f"higher_is_better = {more}, but perfect scores {value:.6g}, predicting one class {worst[name]:.6g}"
        contradicts = worst[name] > value if more else worst[name] < value
        require(more is None or len(best) > 1 or not contradicts, problem)
    require(difference(worst, best), f"a perfect prediction and one of a single class score the same: {best}")


_ALSO = {"miou": "mean_iou", "jaccard": "mean_iou", "f1": "mean_dice", "sensitivity": "recall"}
"""Other common names of segkit's scores."""


def worked_example(case: MetricSubject) -> Iterator[Same]:
    """A metric with the name of a segkit score (mean_iou, recall) equals that score on ten pixels."""
    truth = torch.tensor([[[0, 0, 0, 0, 0, 0, 1, 1, 2, VOID]]])  # class 2 is never predicted; all classes occur
    predicted = torch.tensor([[[0, 0, 0, 0, 1, 1, 1, 0, 1, 2]]])
    matrix = torch.tensor([[4, 2, 0], [1, 1, 0], [0, 1, 0]])
    case = replace(case, classes=3)
    found = case.figures((certain(predicted, 3), truth))
    for name in found:
        known = _ALSO.get(name.lower(), name.lower())
        if known in (*CLASS_SCORES, *OVERALL_SCORES):
            what = f"where {truth.flatten().tolist()} ({VOID} is void) are predicted as {predicted.flatten().tolist()}"
            yield what, {name: found[name]}, {name: score(known, matrix)}


def batches(case: MetricSubject) -> Iterator[Same]:
    """Images score the same in one batch or several, of any sizes and in any order, and with images all void."""
    first, second = case.two_batches()
    whole = (torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]]))
    yield "images given in two batches instead of one", case.figures(first, second), case.figures(whole)
    other, flipped = batch(case.classes, width=9, seed=1), (second[0].flip(0), second[1].flip(0))
    yield "batches in the opposite order", case.figures(other, flipped), case.figures(second, other)
    nothing = first[0], torch.full_like(first[1], VOID)
    yield "a second batch that is all void", case.figures(second, nothing), case.figures(second)
    with failing("compute() after a batch that is all void, where it may be NaN"):
        case.figures(nothing)


def reset(case: MetricSubject) -> Iterator[Same]:
    """reset() clears all counts; compute() returns the same twice and does not stop the counting."""
    first, second = case.two_batches()
    metric = case.make()
    once = case.figures(second, built=metric)
    yield "compute() called a second time", case.figures(built=metric), once
    yield "two batches with compute() between them", case.figures(first, built=metric), case.figures(second, first)
    metric.reset()
    yield "another batch, reset(), and a batch", case.figures(first, built=metric), case.figures(first)


def absent_class(case: MetricSubject) -> Iterator[Same]:
    """A class that is neither in the target nor predicted changes no score: it does not count as 0, 1 or NaN."""
    logits, target = batch(case.classes)
    expected = case.figures((logits, target))
    found = replace(case, classes=case.classes + 3).figures((F.pad(logits, (0, 0, 0, 0, 0, 3), value=-100.0), target))
    common = {name: found[name] for name in expected if name in found}  # without scores of the three new classes
    yield "three further classes, which are absent", common, expected


def merge(case: MetricSubject) -> Iterator[Same]:
    """Merging the metrics of two processes scores as if one had counted everything; the other one is unchanged."""
    first, second = case.two_batches()
    ours, theirs = case.make(), case.make()
    if not getattr(ours, "merge", None):
        raise NotAsked("it has no merge(other): every process counts everything")
    alone, whole = case.figures(second), case.figures(first, second)
    ours.update(*first)
    theirs.update(*second)
    nothing = case.make()  # of a process that had no images
    for what, other in (("two metrics of a batch each, merged", theirs), ("an empty metric, merged", nothing)):
        ours.merge(other)
        yield what, case.figures(built=ours), whole
    yield "a metric that was merged into another", case.figures(built=theirs), alone
