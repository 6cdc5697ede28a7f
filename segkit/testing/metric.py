"""The rules of a metric: ``update(logits, target)``, ``compute()`` -> numbers, ``reset()``; void does not count.

The constructor may take ``**kwargs``, as torchmetrics' do: a config cannot set what has no name in the signature.
"""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.testing.batches import LAYOUTS, VOID, batch, certain, guess, labelled, wrong
from segkit.testing.check import CheckFailed, NotAsked, Subject, failing, require

CLASSES = 4
COUNTS = (2, 4, 21)  # classes; 2, as most data sets have, and 21, whose pairs do not fit 8 bits
Batch = tuple[Tensor, Tensor]
"""Logits ``[B,C,H,W]`` and target ``[B,H,W]``."""


@dataclass(frozen=True)
class MetricSubject(Subject):
    """A metric, built the same each time, and its figures by name."""

    def metric(self, *batches: Batch, classes: int = CLASSES, void: int = VOID) -> Any:
        """A new metric, given what a dataset gives, that has been told of copies of the batches."""
        names = tuple(f"class {index}" for index in range(classes))
        metric = self.build(num_classes=classes, ignore_index=void, classes=names)
        for logits, target in batches:
            metric.update(logits.clone(), target.clone())
        return metric

    def score(self, *batches: Batch, classes: int = CLASSES, void: int = VOID) -> dict[str, float]:
        """The figures of a new metric after the batches."""
        return self.figures(self.metric(*batches, classes=classes, void=void))

    def figures(self, metric: Any) -> dict[str, float]:
        """What it computes, by name; several numbers under one name, which another rule refuses, by their mean."""
        value = metric.compute()
        values = value if isinstance(value, Mapping) else {self.name: value}
        return {str(name): float(torch.as_tensor(each, dtype=torch.float64).nanmean()) for name, each in values.items()}


def _batch(images: int = 2, width: int = 7, seed: int = 0) -> Batch:
    return batch(CLASSES, images=images, width=width, seed=seed)


def _require_same(
    found: Mapping[str, float], expected: Mapping[str, float], what: str, tolerance: float = 1e-5
) -> None:
    """The same figures, but for a relative ``tolerance``: rounding; NaN is the same as NaN."""
    same = found.keys() == expected.keys() and all(
        math.isclose(found[name], value, rel_tol=tolerance, abs_tol=1e-7)
        or (math.isnan(value) and math.isnan(found[name]))
        for name, value in expected.items()
    )
    require(same, f"{what}: scored {_text(found)}, expected {_text(expected)}")


def _text(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:.6g}" for name, value in figures.items())


def numbers(subject: MetricSubject) -> None:
    """compute() returns a number, or a dict of numbers by their names."""
    value = subject.metric(_batch()).compute()
    require(not isinstance(value, Mapping) or value, "compute() returned an empty dict")
    for name, each in value.items() if isinstance(value, Mapping) else [(subject.name, value)]:
        require(isinstance(name, str), f"compute() returned a dict with the key {name!r}; keys are names")
        given = f"a tensor {list(each.shape)}" if isinstance(each, Tensor) else repr(each)
        require(
            not getattr(each, "ndim", 0) and isinstance(each.item() if hasattr(each, "item") else each, int | float),
            f"'{name}' is {given}; compute() returns a number, or a dict of numbers by their names: give each its own",
        )


def perfect_is_best(subject: MetricSubject) -> None:
    """A perfect prediction scores finite numbers, better than one that is wrong everywhere, and no other is better."""
    for classes in COUNTS:
        of = f", of {classes} classes"
        _, target = batch(classes)
        best = subject.score((certain(target, classes), target), classes=classes)
        for name, value in best.items():
            require(math.isfinite(value), f"a perfect prediction scores {name} = {value}{of}")
        worst = subject.score((certain(wrong(target, classes), classes), target), classes=classes)
        telling = [name for name in best if math.isfinite(worst.get(name, math.nan)) and best[name] != worst[name]]
        # two classes in each other's place have the same boundary: a metric of boundaries sees more classes alone
        require(
            telling or classes < COUNTS[-1],
            f"a perfect prediction and one that is wrong everywhere score the same: {_text(best)}{of}",
        )
        guesses = [subject.score(batch(classes, seed=seed), classes=classes) for seed in range(4)]
        for found, name in product(guesses, telling):
            require(
                found[name] <= best[name] if best[name] > worst[name] else found[name] >= best[name],
                f"{name} is {worst[name]:.6g} for a prediction that is wrong everywhere and {best[name]:.6g} for a "
                f"perfect one, but {found[name]:.6g} for a random one{of}",
            )


def worked_example(subject: MetricSubject) -> None:
    """What has the name of a known score is that score, on ten pixels worked out by hand."""
    # of five classes one is there and never predicted, one predicted and not there, one neither
    truth = torch.tensor([[[0, 0, 0, 0, 0, 0, 1, 1, 2, VOID]]])
    predicted = torch.tensor([[[0, 0, 0, 0, 1, 3, 1, 0, 1, 2]]])
    found = subject.score((certain(predicted, 5), truth), classes=5)
    known = [name for name in found if name.lower() in _BY_HAND]
    if not known:
        raise NotAsked(f"no score of a known name is among {', '.join(found)}; work one out in a test of your own")
    for name in known:
        by_hand = _BY_HAND[name.lower()]
        require(
            any(math.isclose(found[name], value, rel_tol=1e-5) for value in by_hand),
            f"{name} is {found[name]:.6g}, and {' or '.join(f'{value:.6g}' for value in by_hand)} by hand, where the "
            f"labels are {truth.flatten().tolist()} ({VOID} is void), predicted as {predicted.flatten().tolist()}",
        )


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


def two_updates(subject: MetricSubject) -> None:
    """Two batches score what they do as one: a mean over batches would depend on how they are cut."""
    first, second = _batch(images=1), _batch(images=3, seed=1)
    whole = subject.score((torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])))
    _require_same(subject.score(first, second), whole, "images given in two batches instead of one")


def batch_order(subject: MetricSubject) -> None:
    """The order of the batches, and of the images in them, makes no difference; each may have another size."""
    (logits, target), other = _batch(images=3), _batch(width=9, seed=1)
    found = subject.score(other, (logits.flip(0), target.flip(0)))
    _require_same(found, subject.score((logits, target), other), "batches in the opposite order")


def reset(subject: MetricSubject) -> None:
    """After reset() nothing is left of what was counted before."""
    metric = subject.metric(_batch(seed=1))
    metric.compute()
    metric.reset()
    metric.update(*_batch())
    _require_same(subject.figures(metric), subject.score(_batch()), "another batch, reset(), and a batch")


def reading_changes_nothing(subject: MetricSubject) -> None:
    """compute() gives the same twice, and counting goes on after it."""
    metric = subject.metric(_batch())
    first = subject.figures(metric)
    _require_same(subject.figures(metric), first, "compute() called a second time")
    metric.update(*_batch(seed=1))
    expected = subject.score(_batch(), _batch(seed=1))
    _require_same(subject.figures(metric), expected, "two batches with compute() between them")


def void_does_not_count(subject: MetricSubject) -> None:
    """Whatever is predicted at void pixels, the score is the same, and so it is with an image that is all void."""
    logits, target = _batch()
    expected = subject.score((logits, target))
    other = torch.where(labelled(target, CLASSES), logits, -50 * logits)
    _require_same(subject.score((other, target)), expected, "other predictions at void pixels alone")
    nothing = logits, torch.full_like(target, VOID)
    _require_same(subject.score((logits, target), nothing), expected, "a second batch that is all void")
    with failing("compute() after a batch that is all void", "; a split may have no labelled pixel: return NaN"):
        subject.metric(nothing).compute()


def void_label_is_given(subject: MetricSubject) -> None:
    """The dataset decides which label is void; it is given as ``ignore_index``, 255 or another one."""
    message = "the constructor has no parameter ignore_index: it cannot know which label is void"
    require(subject.has_option("ignore_index"), message)
    logits, target = _batch()
    for void in (CLASSES, 254):
        found = subject.score((logits, torch.where(target == VOID, void, target)), void=void)
        what = f"ignore_index = {void} and that label in the place of {VOID}"
        _require_same(found, subject.score((logits, target)), what)


def absent_class(subject: MetricSubject) -> None:
    """A class that is nowhere, neither in the labels nor predicted, changes no score: it is neither 0 nor 1 nor NaN."""
    for classes in COUNTS:
        logits, target = batch(classes)
        more = F.pad(logits, (0, 0, 0, 0, 0, 3), value=-100.0)
        expected = subject.score((logits, target), classes=classes)
        found = subject.score((more, target), classes=classes + 3)
        common = {name: found[name] for name in expected if name in found}  # not those of the three classes alone
        _require_same(common, expected, f"three classes more than {classes}, which are nowhere")


def unknown_label_refused(subject: MetricSubject) -> None:
    """A label that is neither a class nor void is refused by update() or compute()."""
    target = batch(CLASSES)[1].clamp(max=1)
    target[:, :, :2] = VOID
    logits = certain(torch.full_like(target, CLASSES - 1), CLASSES)  # right for whoever clips labels
    for label in (CLASSES, 254):
        unknown = target.clone()
        unknown[0, 3, 4] = label
        try:
            found = subject.score((logits, unknown))
        except Exception:
            continue
        raise CheckFailed(
            f"the label {label}, of {CLASSES} classes and not void ({VOID}), was accepted: {_text(found)}; raise an "
            "exception in update(), or in compute() where looking at labels would make a device wait"
        )


def many_pixels(subject: MetricSubject) -> None:
    """A hundred times the same images, in one batch, score what they do once: counts are not kept in 16 bits."""
    target = batch(2, images=1, width=42)[1].repeat(1, 5, 1)  # [1,30,42]
    target = torch.where((target == 1) & (torch.arange(42) % 4 > 0), 0, target)  # 88 % are class 0
    logits = guess(target, 2) + 2 * certain(target, 2, 1.0)
    expected = subject.score((logits, target), classes=2)
    found = subject.score((logits.repeat(100, 1, 1, 1), target.repeat(100, 1, 1)), classes=2)
    # not exactly: sums of float32, which torchmetrics' calibration error keeps, are off by 0.1 % there
    what = "a hundred times the same image, with more pixels of a class than float16 can count"
    _require_same(found, expected, what, tolerance=2e-3)


def layouts(subject: MetricSubject) -> None:
    """Logits may lie in memory as they like: channels_last, transposed, cut out of larger ones; so may labels."""
    logits, target = _batch()
    for name, layout in LAYOUTS.items():
        metric = subject.metric()
        with failing(f"it fails on logits that are {name}"):
            metric.update(layout(logits), target.mT.contiguous().mT)
        _require_same(subject.figures(metric), subject.score((logits, target)), f"the same logits, {name}")


def inputs_unchanged(subject: MetricSubject) -> None:
    """Logits and target are left as they are: the next metric is given them too."""
    logits, target = _batch()
    subject.metric().update(logits, target)
    require(torch.equal(logits, _batch()[0]), "update() writes to the logits")
    require(torch.equal(target, _batch()[1]), "update() writes to the target")


def merge(subject: MetricSubject) -> None:
    """What two processes counted, merged in each, scores as if one had counted all; the other stays as it is."""
    first, second = _batch(images=1), _batch(images=3, seed=1)
    ours, theirs = subject.metric(first), subject.metric(second)
    if not (getattr(ours, "merge", None) or getattr(ours, "merge_state", None)):
        raise NotAsked("it has neither merge(other) nor merge_state(other): every process counts everything itself")
    there, arrived = copy.deepcopy(theirs), copy.deepcopy(ours)
    alone, whole = subject.score(second), subject.score(first, second)
    _merge(ours, theirs)
    _require_same(subject.figures(ours), whole, "two metrics of a batch each, merged")
    _require_same(subject.figures(theirs), alone, "a metric that was merged into another")
    ours.update(*_batch(seed=2))  # what the two shared would now be counted for both
    _require_same(subject.figures(theirs), alone, "a metric after the one it was merged into counted on")
    _merge(there, arrived)
    _require_same(subject.figures(there), whole, "two metrics merged in the other process")
    _merge(there, subject.metric())
    _require_same(subject.figures(there), whole, "a metric that has seen nothing, merged into one that has")


def _merge(metric: Any, other: Any) -> None:
    """By its own ``merge``, or torchmetrics' ``merge_state``."""
    (getattr(metric, "merge", None) or metric.merge_state)(other)


def no_fixed_device(subject: MetricSubject) -> None:
    """On CUDA it scores what it does on the CPU."""
    if not torch.cuda.is_available():
        raise NotAsked("there is no CUDA here, and what is not there has no values to count")
    metric = subject.metric()
    metric = metric.to("cuda") if hasattr(metric, "to") else metric
    batches = _batch(), _batch(seed=1)
    for logits, target in batches:
        metric.update(logits.cuda(), target.cuda())
    _require_same(subject.figures(metric), subject.score(*batches), "on CUDA instead of the CPU")


def picklable(subject: MetricSubject) -> None:
    """It can be pickled, with what it has counted, to reach other processes."""
    metric = subject.metric(_batch())
    with failing("it cannot be pickled"):
        loaded = pickle.loads(pickle.dumps(metric))
    loaded.update(*_batch(seed=1))
    expected = subject.score(_batch(), _batch(seed=1))
    _require_same(subject.figures(loaded), expected, "a batch, a pickled copy, and another batch")
