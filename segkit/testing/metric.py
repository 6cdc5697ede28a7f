"""The rules of a metric: ``update(logits, target)``, ``compute()`` -> numbers, ``reset()``; void does not count.

The constructor may take ``**kwargs``, as torchmetrics' do: a config cannot set what has no name in the signature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.testing import counting
from segkit.testing.batches import VOID, certain, labelled, labels, wrong
from segkit.testing.check import CheckFailed, NotAsked, Rule, Subject, require
from segkit.testing.constructor import named_options
from segkit.testing.scoring import CLASSES, batch, build, read, require_same, score, told

COUNTS = (2, 4, 21)  # classes; 2, as most data sets have, and 21, whose pairs do not fit 8 bits


def numbers(subject: Subject) -> None:
    """compute() returns a number, or a dict of numbers by their names."""
    metric = build(subject)
    metric.update(*batch())
    value = metric.compute()
    require(not isinstance(value, Mapping) or value, "compute() returned an empty dict")
    for name, each in value.items() if isinstance(value, Mapping) else [(subject.name, value)]:
        require(isinstance(name, str), f"compute() returned a dict with the key {name!r}; keys are names")
        given = f"a tensor {list(each.shape)}" if isinstance(each, Tensor) else repr(each)
        require(
            not getattr(each, "ndim", 0) and isinstance(each.item() if hasattr(each, "item") else each, int | float),
            f"'{name}' is {given}; compute() returns a number, or a dict of numbers by their names: give each its own",
        )


def perfect_is_best(subject: Subject) -> None:
    """A perfect prediction scores finite numbers, better than one that is wrong everywhere, and no other is better.

    Asked with 2 classes, with 4 and with 21.
    """
    for classes in COUNTS:
        _perfect_is_best(subject, classes)


def _perfect_is_best(subject: Subject, classes: int) -> None:
    target = labels(classes)
    perfect = score(subject, (certain(target, classes), target), classes=classes)
    of = f", of {classes} classes"
    for name, value in perfect.items():
        require(math.isfinite(value), f"a perfect prediction scores {name} = {value}{of}")
    missed = score(subject, (certain(wrong(target, classes), classes), target), classes=classes)
    telling = [name for name in perfect if math.isfinite(missed.get(name, math.nan)) and perfect[name] != missed[name]]
    require(telling, f"a perfect prediction and one that is wrong everywhere score the same: {told(perfect)}{of}")
    for seed in range(4):
        found = score(subject, batch(seed=seed, classes=classes), classes=classes)
        for name in telling:
            up = perfect[name] > missed[name]
            require(
                found[name] <= perfect[name] if up else found[name] >= perfect[name],
                f"{name} is {missed[name]:.6g} for a prediction that is wrong everywhere and {perfect[name]:.6g} for "
                f"a perfect one, but {found[name]:.6g} for a random one{of}",
            )


def worked_example(subject: Subject) -> None:
    """What has the name of a known score is that score, on ten pixels worked out by hand.

    Of five classes one is there and never predicted, one predicted and not there, one neither.
    """
    truth = torch.tensor([[[0, 0, 0, 0, 0, 0, 1, 1, 2, VOID]]])
    predicted = torch.tensor([[[0, 0, 0, 0, 1, 3, 1, 0, 1, 2]]])
    found = score(subject, (certain(predicted, 5), truth), classes=5)
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
_PIXEL_ACCURACY = 5 / 9
_FOREGROUND_IOU, _FOREGROUND_DICE = _mean(1 / 4, 0), _mean(2 / 5, 0)
_BY_HAND: dict[str, tuple[float, ...]] = {
    "mean_iou": _IOU,
    "mean_dice": _DICE,
    "mean_accuracy": _RECALL[:1],
    "precision": _mean(4 / 5, 1 / 3, 0),
    "recall": _RECALL,
    "pixel_accuracy": (_PIXEL_ACCURACY,),
    "frequency_weighted_iou": ((6 * 4 / 7 + 2 * 1 / 4 + 0) / 9,),
    # other names for them, some of which are used for the foreground alone or for two scores
    **dict.fromkeys(("iou", "miou", "jaccard"), (*_IOU, *_FOREGROUND_IOU)),
    **dict.fromkeys(("dice", "f1"), (*_DICE, *_FOREGROUND_DICE)),
    "sensitivity": _RECALL,
    "accuracy": (_PIXEL_ACCURACY, _RECALL[0]),
}


def void_does_not_count(subject: Subject) -> None:
    """Whatever is predicted at void pixels, the score is the same, and so it is with an image that is all void."""
    logits, target = batch()
    expected = score(subject, (logits, target))
    other = torch.where(labelled(target, CLASSES), logits, -50 * logits)
    require_same(score(subject, (other, target)), expected, "other predictions at void pixels alone")
    nothing = logits, torch.full_like(target, VOID)
    require_same(score(subject, (logits, target), nothing), expected, "a second batch that is all void")
    metric = build(subject)
    metric.update(*nothing)
    try:
        metric.compute()
    except Exception as error:
        raise CheckFailed(
            f"after a batch that is all void compute() raises {type(error).__name__}: {error}; a split may have no "
            "labelled pixel: return NaN"
        ) from error


def void_label_is_given(subject: Subject) -> None:
    """The dataset decides which label is void; it is given as ``ignore_index``, 255 or another one."""
    require(
        subject.has_option("ignore_index"),
        "the constructor has no parameter ignore_index: it cannot know which label is void",
    )
    logits, target = batch()
    expected = score(subject, (logits, target))
    for void in (CLASSES, 254):
        found = score(subject, (logits, torch.where(target == VOID, void, target)), void=void)
        require_same(found, expected, f"ignore_index = {void} and that label in the place of {VOID}")


def absent_class(subject: Subject) -> None:
    """A class that is nowhere, neither in the labels nor predicted, changes no score: it is neither 0 nor 1 nor NaN.

    Asked by adding three such classes to 2, 4 and 21; what is told of them alone, by their own names, is not looked at.
    """
    for classes in COUNTS:
        logits, target = batch(classes=classes)
        more = F.pad(logits, (0, 0, 0, 0, 0, 3), value=-100.0)
        expected = score(subject, (logits, target), classes=classes)
        found = score(subject, (more, target), classes=classes + 3)
        common = {name: found[name] for name in expected if name in found}
        require_same(common, expected, f"three classes more than {classes}, which are nowhere")


def unknown_label_refused(subject: Subject) -> None:
    """A label that is neither a class nor void is refused by update() or compute()."""
    target = labels(CLASSES).clamp(max=1)
    target[:, :, :2] = VOID
    logits = certain(torch.full_like(target, CLASSES - 1), CLASSES)  # right for whoever clips labels
    for label in (CLASSES, 254):
        unknown = target.clone()
        unknown[0, 3, 4] = label
        metric = build(subject)
        try:
            metric.update(logits, unknown)
            found = read(subject, metric)
        except Exception:
            continue
        raise CheckFailed(
            f"the label {label}, of {CLASSES} classes and not void ({VOID}), was accepted: {told(found)}; raise an "
            "exception in update(), or in compute() where looking at labels would make a device wait"
        )


RULES: tuple[Rule, ...] = (
    named_options,
    numbers,
    perfect_is_best,
    worked_example,
    counting.two_updates,
    counting.batch_order,
    counting.reset,
    counting.reading_changes_nothing,
    void_does_not_count,
    void_label_is_given,
    absent_class,
    unknown_label_refused,
    counting.many_pixels,
    counting.layouts,
    counting.inputs_unchanged,
    counting.merge,
    counting.no_fixed_device,
    counting.picklable,
)
