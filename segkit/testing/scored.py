"""Shared by the checks of losses and metrics: batches with void, and the rules that hold for both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.testing.check import CheckFailed, Rule, Same, Subject, require

VOID = 255
Batch = tuple[Tensor, Tensor]
"""Logits ``[B,C,H,W]`` and target int64 ``[B,H,W]``."""
Figures = Mapping[str, Any]
"""Results by name: numbers, and for a loss the gradient ``[B,C,H,W]``."""


def batch(classes: int, *, images: int = 2, width: int = 7, seed: int = 0) -> Batch:
    """Create random logits ``[images,C,6,width]`` and a target int64 ``[images,6,width]``.

    Every image has about equally many pixels of each class, and its first two columns are void.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(6 * (width - 2), generator=generator) for _ in range(images)]
    target = torch.stack(orders).remainder(classes).reshape(images, 6, width - 2)
    generator.manual_seed(1000 + seed)
    return torch.randn(images, classes, 6, width, generator=generator), F.pad(target, (2, 0), value=VOID)


def of_network(logits: Tensor, target: Tensor) -> Batch:
    """Copy a batch; logits become channels_last slices of larger ones, as of a network that pads, labels transposed.

    A loss or metric must use reshape() for them, because view() fails.
    """
    larger = F.pad(logits, (0, 1, 0, 1)).contiguous(memory_format=torch.channels_last)
    return larger[..., :-1, :-1], target.mT.contiguous().mT


def certain(target: Tensor, classes: int, size: float = 100.0) -> Tensor:
    """Create logits ``[B,C,H,W]``: ``size`` for the target's class (class 0 at void), ``-size`` for the others."""
    known = torch.where(target < classes, target, 0)
    return size * (2.0 * F.one_hot(known, classes).movedim(-1, 1).contiguous() - 1)


def wrong(target: Tensor, classes: int) -> Tensor:
    """Replace each class of the target by the next one; void stays."""
    return torch.where(target < classes, (target + 1) % classes, target)


@dataclass(frozen=True)
class ScoredSubject(Subject):
    """A loss or metric for a number of classes, and its results for batches."""

    classes: int = 4
    counts: ClassVar[tuple[int, ...]]

    def ask(self, rule: Rule) -> None:
        """Check a rule with several numbers of classes, and also with class weights if there is such an option."""
        given, few = self.options.get("class_weights"), self.counts[0]
        counts = self.counts if given is None else (len(given),)
        cases = {f"with {count} classes": replace(self, classes=count) for count in counts}
        if given is None and self.has_option("class_weights"):
            options = {**self.options, "class_weights": [1.0] * (few - 1) + [10.0]}
            cases[f"with {few} classes and class weights"] = replace(self, classes=few, options=options)
        for what, case in cases.items():
            try:
                super(ScoredSubject, case).ask(rule)
            except CheckFailed as error:
                raise CheckFailed(f"{what} {error}") from error.__cause__

    def make(self, void: int = VOID, **given: Any) -> Any:
        """Build the loss or metric with the parameters that a dataset determines."""
        names = tuple(f"class {index}" for index in range(self.classes))
        return self.build(num_classes=self.classes, ignore_index=void, classes=names, **given)

    def instance(self) -> Any:
        """Return a loss, or a metric that has counted a batch."""
        return self.make()

    def outputs(self, built: Any) -> Any:
        """Return the results for an ordinary batch."""
        return self.figures(batch(self.classes), built=built)

    def figures(self, *batches: Batch, built: Any = None) -> Figures:
        """Return the results of ``built`` (default: a new one) for copies of the batches (default: an ordinary batch).

        The copies are laid out in memory by :func:`of_network`.
        """
        raise NotImplementedError


def void_label_is_given(case: ScoredSubject) -> Iterator[Same]:
    """The label of void is the parameter ``ignore_index``, which the dataset determines; 255 is only common."""
    problem = "the constructor has no parameter ignore_index: it cannot know which label is void"
    require(case.has_option("ignore_index"), problem)
    logits, target = batch(case.classes)
    for void in (case.classes, 254):
        found = case.figures((logits, torch.where(target == VOID, void, target)), built=case.make(void))
        yield f"with ignore_index = {void} and that label instead of {VOID}", found, case.figures()


def unknown_label_refused(case: ScoredSubject) -> None:
    """A label that is neither a class nor void raises an error (a metric's in compute() at the latest) or costs NaN."""
    target = torch.where((known := batch(case.classes)[1]) == VOID, VOID, known.clamp(max=1))
    logits = certain(torch.full_like(target, case.classes - 1), case.classes)  # correct if labels were clipped
    for label in (case.classes, 254):
        target[0, 3, 4] = label
        try:
            found = case.figures((logits, target))
        except Exception:
            continue
        problem = f"the label {label} was accepted, though there are {case.classes} classes and void is {VOID}"
        require(math.isnan(found.get("cost", 0)), problem)


def inputs_unchanged(case: ScoredSubject) -> Iterator[Same]:
    """Logits and target are not modified: other losses and metrics use them too."""
    given, built = batch(case.classes), case.make()
    getattr(built, "update", built)(*given)
    for name, now, before in zip(("logits", "target"), given, batch(case.classes), strict=True):
        yield f"it modifies the {name}", now, before


def void_does_not_count(case: ScoredSubject) -> Iterator[Same]:
    """Logits at void, even infinite or NaN, change no result and no gradient: logits.masked_fill(void[:, None], 0)."""
    # float16 overflows first at void, where nothing limits the logits, and 0 * NaN is NaN
    logits, target = batch(case.classes)
    void = (target == VOID)[:, None]
    own = case.figures((logits, target))
    for extreme in (50.0, -math.inf, math.inf, math.nan):
        for first in (0, 1):  # for all classes; for all except the first
            other = torch.cat([logits[:, :first], logits[:, first:].masked_fill(void, extreme)], 1)
            yield f"with logits of {extreme} at void pixels only", case.figures((other, target)), own
