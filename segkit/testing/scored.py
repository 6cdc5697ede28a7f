"""What losses and metrics are asked alike: batches with void, what comes of them, and the rules that hold for both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.testing.check import CheckFailed, Rule, Same, Subject, failing, named_options, require

VOID = 255
Batch = tuple[Tensor, Tensor]
"""Logits ``[B,C,H,W]`` and target int64 ``[B,H,W]``."""
Figures = Mapping[str, Any]
"""By name: numbers, and of a loss the gradient ``[B,C,H,W]``."""
Layout = Callable[[Tensor], Tensor]


def batch(classes: int, *, images: int = 2, width: int = 7, seed: int = 0) -> Batch:
    """Random logits ``[images,C,6,width]`` beside a target int64 ``[images,6,width]``.

    In each image every class is about as often, and the first two columns are void.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(6 * (width - 2), generator=generator) for _ in range(images)]
    target = torch.stack(orders).remainder(classes).reshape(images, 6, width - 2)
    generator.manual_seed(1000 + seed)
    return torch.randn(images, classes, 6, width, generator=generator), F.pad(target, (2, 0), value=VOID)


def certain(target: Tensor, classes: int, size: float = 100.0) -> Tensor:
    """Logits ``[B,C,H,W]``: ``size`` for the class of the target (of void for class 0) and ``-size`` for the others."""
    known = torch.where(target < classes, target, 0)
    return size * (2.0 * F.one_hot(known, classes).movedim(-1, 1).contiguous() - 1)


def wrong(target: Tensor, classes: int) -> Tensor:
    """The target with each class replaced by the next one, void as it is."""
    return torch.where(target < classes, (target + 1) % classes, target)


@dataclass(frozen=True)
class ScoredSubject(Subject):
    """A loss or a metric for a number of classes: it is given batches, and has figures of them."""

    classes: int = 4
    counts: ClassVar[tuple[int, ...]]
    one_count: ClassVar[Mapping[str, int]] = {
        "constant_costs_much": 21,
        "half_precision": 4,
        "compiles": 4,
        "worked_example": 3,
        "many_pixels": 2,
    }

    def ask(self, rule: Rule) -> None:
        """Ask with several numbers of classes, and with class weights too where there is such an option."""
        if rule is named_options:
            return super().ask(rule)
        given, once = self.options.get("class_weights"), self.one_count.get(rule.__name__)
        for classes in self.counts if once is None else (once,):
            classes = classes if given is None else len(given)
            asked = {f"with {classes} classes": replace(self, classes=classes)}
            if given is None and once is None and self.has_option("class_weights") and rule.__name__ != "class_weights":
                options = {**self.options, "class_weights": [10.0, *[1.0] * (classes - 1)]}
                asked[f"with {classes} classes and class weights"] = replace(self, classes=classes, options=options)
            for what, case in asked.items():
                try:
                    super(ScoredSubject, case).ask(rule)
                except CheckFailed as error:
                    raise CheckFailed(f"{what} {error}") from error.__cause__
        return None

    def make(self, void: int = VOID, **given: Any) -> Any:
        """A new one, given what a dataset gives."""
        names = tuple(f"class {index}" for index in range(self.classes))
        return self.build(num_classes=self.classes, ignore_index=void, classes=names, **given)

    def used(self) -> Any:
        """One that has counted what there was, of a metric."""
        return self.make()

    def seen(self, built: Any) -> Any:
        """The figures of an ordinary batch."""
        return self.figures(batch(self.classes), built=built)

    def figures(self, *batches: Batch, built: Any = None, layout: Layout = lambda given: given) -> Figures:
        """The figures of one that was built, or of a new one, after copies of batches, or of an ordinary one.

        Its logits are handed over in another ``layout`` in memory, which no copy of them would keep.
        """
        raise NotImplementedError


def void_label_is_given(case: ScoredSubject) -> Iterator[Same]:
    """The dataset decides which label is void; it is given as ``ignore_index``, 255 or another one."""
    told = "the constructor has no parameter ignore_index: it cannot know which label is void"
    require(case.has_option("ignore_index"), told)
    logits, target = batch(case.classes)
    for void in (case.classes, 254):
        found = case.figures((logits, torch.where(target == VOID, void, target)), built=case.make(void))
        yield f"with ignore_index = {void} and that label in the place of {VOID}", found, case.figures()


def unknown_label_refused(case: ScoredSubject) -> None:
    """A label that is neither a class nor void raises an error, of a metric in compute() at last, or a loss is NaN."""
    target = torch.where((known := batch(case.classes)[1]) == VOID, VOID, known.clamp(max=1))
    logits = certain(torch.full_like(target, case.classes - 1), case.classes)  # right for whoever clips labels
    for label in (case.classes, 254):
        target[0, 3, 4] = label
        try:
            found = case.figures((logits, target))
        except Exception:
            continue
        told = f"the label {label}, of {case.classes} classes and not void ({VOID}), was accepted"
        require(math.isnan(found.get("cost", 0)), told)


def inputs_unchanged(case: ScoredSubject) -> Iterator[Same]:
    """Logits and target are left as they are: another loss or metric is given them too."""
    given, built = batch(case.classes), case.make()
    getattr(built, "update", built)(*given)
    for name, now, before in zip(("logits", "target"), given, batch(case.classes), strict=True):
        yield f"it writes to the {name}", now, before


def layouts(case: ScoredSubject) -> Iterator[Same]:
    """Logits may lie in channels_last or be cut out of larger ones, labels transposed: take reshape(), not view()."""
    logits, target = batch(case.classes)
    cases: dict[str, Layout] = {
        "in channels_last": lambda given: given.contiguous(memory_format=torch.channels_last),
        "cut out of larger ones": lambda given: F.pad(given, (0, 1, 0, 1))[..., :-1, :-1],  # by a network that pads
    }
    for name, layout in cases.items():
        with failing(f"it fails on logits {name}"):
            found = case.figures((logits, target.mT.contiguous().mT), layout=layout)
        yield f"for the same logits {name}", found, case.figures()


def void_does_not_count(case: ScoredSubject) -> Iterator[Same]:
    """Logits at void, infinite or NaN too, change no figure and no gradient: logits.masked_fill(void[:, None], 0)."""
    # float16 overflows there first, as nothing holds these logits down, and 0 times NaN is NaN
    logits, target = batch(case.classes)
    void = (target == VOID)[:, None]
    own = case.figures((logits, target))
    for extreme in (50.0, -math.inf, math.inf, math.nan):
        for first in (0, 1):  # of all classes, of all but the first
            other = torch.cat([logits[:, :first], logits[:, first:].masked_fill(void, extreme)], 1)
            yield f"with logits of {extreme} at void pixels alone", case.figures((other, target)), own
