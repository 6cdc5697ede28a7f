"""The rules of a metric: ``update(logits, target)``, ``compute()`` -> numbers, ``reset()``; void does not count.

The constructor may take ``**kwargs``, as torchmetrics' do: a config cannot set what has no name in the signature.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.testing.batches import LAYOUTS, VOID, certain, guess, labelled, labels, wrong
from segkit.testing.check import CheckFailed, Rule, Subject, require

CLASSES = 4
Batch = tuple[Tensor, Tensor]
"""Logits ``[B,C,H,W]`` and target ``[B,H,W]``."""


def numbers(subject: Subject) -> None:
    """compute() returns a number, or a dict of numbers by their names."""
    metric = _build(subject)
    metric.update(*_batch())
    value = metric.compute()
    require(not isinstance(value, Mapping) or value, "compute() returned an empty dict")
    for name, each in value.items() if isinstance(value, Mapping) else [(subject.name, value)]:
        require(isinstance(name, str), f"compute() returned a dict with the key {name!r}; keys are names")
        given = f"a tensor {list(each.shape)}" if isinstance(each, Tensor) else repr(each)
        require(
            not getattr(each, "ndim", 0) and isinstance(each.item() if hasattr(each, "item") else each, int | float),
            f"'{name}' is {given}; compute() returns a number, or a dict of numbers by their names",
        )


def perfect_is_best(subject: Subject) -> None:
    """A perfect prediction scores finite numbers, better than one that is wrong everywhere, and no other is better."""
    target = labels(CLASSES)
    perfect = _score(subject, (certain(target, CLASSES), target))
    for name, value in perfect.items():
        require(math.isfinite(value), f"a perfect prediction scores {name} = {value}")
    missed = _score(subject, (certain(wrong(target, CLASSES), CLASSES), target))
    telling = [name for name in perfect if math.isfinite(missed.get(name, math.nan)) and perfect[name] != missed[name]]
    require(telling, f"a perfect prediction and one that is wrong everywhere score the same: {_told(perfect)}")
    for seed in range(4):
        found = _score(subject, _batch(seed=seed))
        for name in telling:
            up = perfect[name] > missed[name]
            require(
                found[name] <= perfect[name] if up else found[name] >= perfect[name],
                f"{name} is {missed[name]:.6g} for a prediction that is wrong everywhere and {perfect[name]:.6g} for "
                f"a perfect one, but {found[name]:.6g} for a random one",
            )


def worked_example(subject: Subject) -> None:
    """What has the name of a known score is that score, on ten pixels worked out by hand.

    Of five classes one is there and never predicted, one predicted and not there, one neither. Where no known name is
    among the results, there is nothing to compare with.
    """
    truth = torch.tensor([[[0, 0, 0, 0, 0, 0, 1, 1, 2, VOID]]])
    predicted = torch.tensor([[[0, 0, 0, 0, 1, 3, 1, 0, 1, 2]]])
    found = _score(subject, (certain(predicted, 5), truth), classes=5)
    for name in found.keys() & _BY_HAND.keys():
        require(
            math.isclose(found[name], _BY_HAND[name], rel_tol=1e-5),
            f"{name} is {found[name]:.6g}, and {_BY_HAND[name]:.6g} by hand, where the labels are "
            f"{truth.flatten().tolist()} ({VOID} is void), predicted as {predicted.flatten().tolist()}",
        )


_BY_HAND = {  # right: 4 of class 0, 1 of class 1; labelled: 6, 2, 1, 0; predicted there: 5, 3, 0, 1
    "mean_iou": (4 / 7 + 1 / 4 + 0 + 0) / 4,
    "mean_dice": (8 / 11 + 2 / 5 + 0 + 0) / 4,
    "mean_accuracy": (4 / 6 + 1 / 2 + 0) / 3,
    "precision": (4 / 5 + 1 / 3 + 0 + 0) / 4,
    "recall": (4 / 6 + 1 / 2 + 0 + 0) / 4,
    "pixel_accuracy": 5 / 9,
    "frequency_weighted_iou": (6 * 4 / 7 + 2 * 1 / 4 + 0) / 9,
}


def two_updates(subject: Subject) -> None:
    """Two batches score what they do as one: a mean over batches would depend on how they are cut."""
    first, second = _batch(images=1), _batch(images=3, seed=1)
    whole = _score(subject, (torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])))
    _require_same(_score(subject, first, second), whole, "images given in two batches instead of one")


def batch_order(subject: Subject) -> None:
    """The order of the batches, and of the images in them, makes no difference; each may have another size."""
    (logits, target), other = _batch(images=3), _batch(width=9, seed=1)
    found = _score(subject, other, (logits.flip(0), target.flip(0)))
    _require_same(found, _score(subject, (logits, target), other), "batches in the opposite order")


def reset(subject: Subject) -> None:
    """After reset() nothing is left of what was counted before."""
    metric = _build(subject)
    metric.update(*_batch(seed=1))
    metric.compute()
    metric.reset()
    metric.update(*_batch())
    _require_same(_read(subject, metric), _score(subject, _batch()), "another batch, reset(), and a batch")


def reading_changes_nothing(subject: Subject) -> None:
    """compute() gives the same twice, and counting goes on after it."""
    metric = _build(subject)
    metric.update(*_batch())
    first = _read(subject, metric)
    _require_same(_read(subject, metric), first, "compute() called a second time")
    metric.update(*_batch(seed=1))
    expected = _score(subject, _batch(), _batch(seed=1))
    _require_same(_read(subject, metric), expected, "two batches with compute() between them")


def void_does_not_count(subject: Subject) -> None:
    """Whatever is predicted at void pixels, the score is the same, and so it is with an image that is all void."""
    logits, target = _batch()
    expected = _score(subject, (logits, target))
    other = torch.where(labelled(target, CLASSES), logits, -50 * logits)
    _require_same(_score(subject, (other, target)), expected, "other predictions at void pixels alone")
    nothing = logits, torch.full_like(target, VOID)
    _require_same(_score(subject, (logits, target), nothing), expected, "a second batch that is all void")


def void_label_is_given(subject: Subject) -> None:
    """The dataset decides which label is void; it is given as ``ignore_index``, 255 or another one."""
    require(
        subject.has_option("ignore_index"),
        "the constructor has no parameter ignore_index: it cannot know which label is void",
    )
    logits, target = _batch()
    expected = _score(subject, (logits, target))
    for void in (CLASSES, 254):
        found = _score(subject, (logits, torch.where(target == VOID, void, target)), void=void)
        _require_same(found, expected, f"ignore_index = {void} and that label in the place of {VOID}")


def absent_class(subject: Subject) -> None:
    """A class that is nowhere, neither in the labels nor predicted, changes no score: it is neither 0 nor 1 nor NaN.

    Asked by adding three such classes; what is told of them alone, by their own names, is not looked at.
    """
    logits, target = _batch()
    more = F.pad(logits, (0, 0, 0, 0, 0, 3), value=-100.0)
    expected, found = _score(subject, (logits, target)), _score(subject, (more, target), classes=CLASSES + 3)
    common = {name: found[name] for name in expected if name in found}
    _require_same(common, expected, "three classes more, which are nowhere")


def unknown_label_refused(subject: Subject) -> None:
    """A label that is neither a class nor void is refused by update() or compute()."""
    target = labels(CLASSES).clamp(max=1)
    target[:, :, :2] = VOID
    logits = certain(torch.full_like(target, CLASSES - 1), CLASSES)  # right for whoever clips labels
    for label in (CLASSES, 254):
        unknown = target.clone()
        unknown[0, 3, 4] = label
        metric = _build(subject)
        try:
            metric.update(logits, unknown)
            found = _read(subject, metric)
        except Exception:
            continue
        raise CheckFailed(
            f"the label {label}, of {CLASSES} classes and not void ({VOID}), was accepted: {_told(found)}; raise an "
            "exception in update(), or in compute() where looking at labels would make a device wait"
        )


def layouts(subject: Subject) -> None:
    """Logits may lie in memory as they like: channels_last, transposed, cut out of larger ones; so may labels."""
    logits, target = _batch()
    expected = _score(subject, (logits, target))
    for name, layout in LAYOUTS.items():
        metric = _build(subject)
        try:
            metric.update(layout(logits), target.mT.contiguous().mT)
        except RuntimeError as error:
            raise CheckFailed(f"it fails on logits that are {name}: {error}") from error
        _require_same(_read(subject, metric), expected, f"the same logits, {name}")


def inputs_unchanged(subject: Subject) -> None:
    """Logits and target are left as they are: the next metric is given them too."""
    logits, target = _batch()
    before = logits.clone(), target.clone()
    _build(subject).update(logits, target)
    require(torch.equal(logits, before[0]), "update() writes to the logits")
    require(torch.equal(target, before[1]), "update() writes to the target")


def merge(subject: Subject) -> None:
    """What two processes counted, merged, scores as if one had counted all.

    By ``merge(other)`` or torchmetrics' ``merge_state``; the other may have seen nothing. A metric that has neither
    cannot be merged, and is not asked.
    """
    metric, other = _build(subject), _build(subject)
    add = getattr(metric, "merge", None) or getattr(metric, "merge_state", None)
    if add is None:
        return
    metric.update(*_batch(images=1))
    other.update(*_batch(images=3, seed=1))
    add(other)
    whole = _score(subject, _batch(images=1), _batch(images=3, seed=1))
    _require_same(_read(subject, metric), whole, "two metrics of a batch each, merged")
    add(_build(subject))
    _require_same(_read(subject, metric), whole, "a metric that has seen nothing, merged into one that has")


def picklable(subject: Subject) -> None:
    """It can be pickled, with what it has counted, to reach other processes."""
    metric = _build(subject)
    metric.update(*_batch())
    try:
        copy = pickle.loads(pickle.dumps(metric))
    except Exception as error:
        raise CheckFailed(f"it cannot be pickled: {type(error).__name__}: {error}") from error
    copy.update(*_batch(seed=1))
    expected = _score(subject, _batch(), _batch(seed=1))
    _require_same(_read(subject, copy), expected, "a batch, a pickled copy, and another batch")


def _build(subject: Subject, classes: int = CLASSES, void: int = VOID) -> Any:
    names = tuple(f"class {index}" for index in range(classes))
    return subject.build(num_classes=classes, ignore_index=void, classes=names)


def _batch(images: int = 2, width: int = 7, seed: int = 0) -> Batch:
    target = labels(CLASSES, images=images, width=width, seed=seed)
    return guess(target, CLASSES, seed=seed), target


def _score(subject: Subject, *batches: Batch, classes: int = CLASSES, void: int = VOID) -> dict[str, float]:
    """The figures of a new metric that is given copies of the batches."""
    metric = _build(subject, classes, void)
    for logits, target in batches:
        metric.update(logits.clone(), target.clone())
    return _read(subject, metric)


def _read(subject: Subject, metric: Any) -> dict[str, float]:
    """What it computes, by name; several numbers under one name, which another rule refuses, by their mean."""
    value = metric.compute()
    values = value if isinstance(value, Mapping) else {subject.name: value}
    return {str(name): float(torch.as_tensor(each, dtype=torch.float64).nanmean()) for name, each in values.items()}


def _require_same(found: Mapping[str, float], expected: Mapping[str, float], what: str) -> None:
    same = found.keys() == expected.keys() and all(
        math.isclose(found[name], value, rel_tol=1e-5, abs_tol=1e-7) or (math.isnan(value) and math.isnan(found[name]))
        for name, value in expected.items()
    )
    require(same, f"{what}: scored {_told(found)}, expected {_told(expected)}")


def _told(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:.6g}" for name, value in figures.items())


RULES: tuple[Rule, ...] = (
    numbers,
    perfect_is_best,
    worked_example,
    two_updates,
    batch_order,
    reset,
    reading_changes_nothing,
    void_does_not_count,
    void_label_is_given,
    absent_class,
    unknown_label_refused,
    layouts,
    inputs_unchanged,
    merge,
    picklable,
)
