"""The rules of a metric about how it counts: over batches, processes and devices, and without a trace."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import torch

from segkit.testing.batches import LAYOUTS, VOID, certain, guess, labels
from segkit.testing.check import CheckFailed, NotAsked, Subject, require
from segkit.testing.scoring import batch, build, read, require_same, score


def two_updates(subject: Subject) -> None:
    """Two batches score what they do as one: a mean over batches would depend on how they are cut."""
    first, second = batch(images=1), batch(images=3, seed=1)
    whole = score(subject, (torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])))
    require_same(score(subject, first, second), whole, "images given in two batches instead of one")


def batch_order(subject: Subject) -> None:
    """The order of the batches, and of the images in them, makes no difference; each may have another size."""
    (logits, target), other = batch(images=3), batch(width=9, seed=1)
    found = score(subject, other, (logits.flip(0), target.flip(0)))
    require_same(found, score(subject, (logits, target), other), "batches in the opposite order")


def reset(subject: Subject) -> None:
    """After reset() nothing is left of what was counted before."""
    metric = build(subject)
    metric.update(*batch(seed=1))
    metric.compute()
    metric.reset()
    metric.update(*batch())
    require_same(read(subject, metric), score(subject, batch()), "another batch, reset(), and a batch")


def reading_changes_nothing(subject: Subject) -> None:
    """compute() gives the same twice, and counting goes on after it."""
    metric = build(subject)
    metric.update(*batch())
    first = read(subject, metric)
    require_same(read(subject, metric), first, "compute() called a second time")
    metric.update(*batch(seed=1))
    expected = score(subject, batch(), batch(seed=1))
    require_same(read(subject, metric), expected, "two batches with compute() between them")


def layouts(subject: Subject) -> None:
    """Logits may lie in memory as they like: channels_last, transposed, cut out of larger ones; so may labels."""
    logits, target = batch()
    expected = score(subject, (logits, target))
    for name, layout in LAYOUTS.items():
        metric = build(subject)
        try:
            metric.update(layout(logits), target.mT.contiguous().mT)
        except RuntimeError as error:
            raise CheckFailed(f"it fails on logits that are {name}: {error}") from error
        require_same(read(subject, metric), expected, f"the same logits, {name}")


def inputs_unchanged(subject: Subject) -> None:
    """Logits and target are left as they are: the next metric is given them too."""
    logits, target = batch()
    before = logits.clone(), target.clone()
    build(subject).update(logits, target)
    require(torch.equal(logits, before[0]), "update() writes to the logits")
    require(torch.equal(target, before[1]), "update() writes to the target")


def merge(subject: Subject) -> None:
    """What two processes counted, merged in each of them, scores as if one had counted all.

    By ``merge(other)`` or torchmetrics' ``merge_state``; the other stays as it is, and may have seen nothing. A metric
    that has neither cannot be merged: every process then counts everything itself.
    """
    ours, theirs = build(subject), build(subject)
    if not (getattr(ours, "merge", None) or getattr(ours, "merge_state", None)):
        raise NotAsked("it has neither merge(other) nor merge_state(other): every process counts everything itself")
    ours.update(*batch(images=1))
    theirs.update(*batch(images=3, seed=1))
    there, arrived = copy.deepcopy(theirs), copy.deepcopy(ours)
    alone = score(subject, batch(images=3, seed=1))
    whole = score(subject, batch(images=1), batch(images=3, seed=1))
    _merge(ours, theirs)
    require_same(read(subject, ours), whole, "two metrics of a batch each, merged")
    require_same(read(subject, theirs), alone, "a metric that was merged into another")
    ours.update(*batch(seed=2))  # what the two shared would now be counted for both
    require_same(read(subject, theirs), alone, "a metric after the one it was merged into counted on")
    _merge(there, arrived)
    require_same(read(subject, there), whole, "two metrics merged in the other process")
    _merge(there, build(subject))
    require_same(read(subject, there), whole, "a metric that has seen nothing, merged into one that has")


def _merge(metric: Any, other: Any) -> None:
    (getattr(metric, "merge", None) or metric.merge_state)(other)


def picklable(subject: Subject) -> None:
    """It can be pickled, with what it has counted, to reach other processes."""
    metric = build(subject)
    metric.update(*batch())
    try:
        loaded = pickle.loads(pickle.dumps(metric))
    except Exception as error:
        raise CheckFailed(f"it cannot be pickled: {type(error).__name__}: {error}") from error
    loaded.update(*batch(seed=1))
    expected = score(subject, batch(), batch(seed=1))
    require_same(read(subject, loaded), expected, "a batch, a pickled copy, and another batch")


def many_pixels(subject: Subject) -> None:
    """A hundred times the same images, in one batch, score what they do once: counts are not kept in 16 bits."""
    target = labels(2, images=1, width=42).repeat(1, 5, 1).clamp(max=VOID)  # [1,30,42]
    target = torch.where((target == 1) & (torch.arange(42) % 4 > 0), 0, target)  # 88 % are class 0
    logits = guess(target, 2) + 2 * certain(target, 2, 1.0)
    expected = score(subject, (logits, target), classes=2)
    found = score(subject, (logits.repeat(100, 1, 1, 1), target.repeat(100, 1, 1)), classes=2)
    # not exactly: sums of float32, which torchmetrics' calibration error keeps, are off by 0.1 % there
    what = "a hundred times the same image, with more pixels of a class than float16 can count"
    require_same(found, expected, what, tolerance=2e-3)


def no_fixed_device(subject: Subject) -> None:
    """On CUDA it scores what it does on the CPU."""
    if not torch.cuda.is_available():
        raise NotAsked("there is no CUDA here, and what is not there has no values to count")
    metric = build(subject)
    metric = metric.to("cuda") if hasattr(metric, "to") else metric
    expected = score(subject, batch(), batch(seed=1))
    for logits, target in (batch(), batch(seed=1)):
        metric.update(logits.cuda(), target.cuda())
    require_same(read(subject, metric), expected, "on CUDA instead of the CPU")
