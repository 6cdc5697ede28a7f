"""What the rules of losses and of metrics share: batches with void, figures to compare, rules that hold for both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.testing.check import Subject, require

VOID = 255
Batch = tuple[Tensor, Tensor]
"""Logits ``[B,C,H,W]`` and target int64 ``[B,H,W]``."""
LAYOUTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "channels_last": lambda logits: logits.contiguous(memory_format=torch.channels_last),
    "transposed": lambda logits: logits.mT.contiguous().mT,
    "cut out of larger ones": lambda logits: F.pad(logits, (0, 1, 0, 1))[..., :-1, :-1],
}
"""Layouts of the same logits in memory, by the words that messages use."""


def batch(classes: int, *, images: int = 2, width: int = 7, seed: int = 0) -> Batch:
    """Random logits ``[images,C,6,width]`` beside a target int64 ``[images,6,width]``.

    In each image every class is about as often, and the first two columns are void.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(6 * (width - 2), generator=generator) for _ in range(images)]
    target = torch.stack(orders).remainder(classes).reshape(images, 6, width - 2)
    target = F.pad(target, (2, 0), value=VOID)
    return guess(target, classes, seed=seed), target


def guess(target: Tensor, classes: int, size: float = 1.0, seed: int = 0) -> Tensor:
    """Random logits ``[B,C,H,W]`` of the given size, beside a target ``[B,H,W]``."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return size * torch.randn(len(target), classes, *target.shape[1:], generator=generator)


def certain(target: Tensor, classes: int, size: float = 100.0) -> Tensor:
    """Logits ``[B,C,H,W]`` that are sure of the target: ``size`` for its class and ``-size`` for the others.

    A softmax and a sigmoid a class both find nothing wrong with it. Void is taken for class 0.
    """
    known = torch.where(target < classes, target, 0)
    return size * (2.0 * F.one_hot(known, classes).movedim(-1, 1).contiguous() - 1)


def wrong(target: Tensor, classes: int) -> Tensor:
    """The target with each class replaced by the next one, void as it is."""
    return torch.where(target < classes, (target + 1) % classes, target)


def at_void(batch: Batch, value: Tensor | float) -> Tensor:
    """The logits of a batch with other ones at its void pixels."""
    logits, target = batch
    return torch.where((target == VOID)[:, None], value, logits)


@dataclass(frozen=True)
class ScoredSubject(Subject):
    """A loss or a metric for a number of classes: it is fed batches, and says figures of them."""

    classes: int = 4

    def make(self, void: int = VOID, **given: Any) -> Any:
        """A new one, given what a dataset gives."""
        names = tuple(f"class {index}" for index in range(self.classes))
        return self.build(num_classes=self.classes, ignore_index=void, classes=names, **given)

    def feed(self, built: Any, logits: Tensor, target: Tensor) -> Mapping[str, float]:
        """Its figures by name after this batch."""
        raise NotImplementedError

    def figures(self, pixels: Batch | None = None, void: int = VOID) -> Mapping[str, float]:
        """The figures of a new one after a copy of this batch, or of an ordinary one."""
        logits, target = pixels or batch(self.classes)
        return self.feed(self.make(void), logits.clone(), target.clone())


def require_same(found: Mapping[str, float], expected: Mapping[str, float], what: str, tolerance: float = 1e-5) -> None:
    """The same figures, but for a relative ``tolerance``: rounding, sums in another order; NaN is the same as NaN."""
    same = found.keys() == expected.keys() and all(
        math.isclose(found[name], value, rel_tol=tolerance, abs_tol=1e-6)
        or (math.isnan(value) and math.isnan(found[name]))
        for name, value in expected.items()
    )
    require(same, f"{what}: {text(found)}, expected {text(expected)}")


def text(figures: Mapping[str, float]) -> str:
    """The figures in a message."""
    return ", ".join(f"{name} = {value:.6g}" for name, value in figures.items())


def void_label_is_given(case: ScoredSubject) -> None:
    """The dataset decides which label is void; it is given as ``ignore_index``, 255 or another one."""
    told = "the constructor has no parameter ignore_index: it cannot know which label is void"
    require(case.has_option("ignore_index"), told)
    logits, target = batch(case.classes)
    for void in (case.classes, 254):
        found = case.figures((logits, torch.where(target == VOID, void, target)), void=void)
        require_same(found, case.figures(), f"with ignore_index = {void} and that label in the place of {VOID}")


def unknown_label_refused(case: ScoredSubject) -> None:
    """A label that is neither a class nor void is not accepted: an exception, or of a loss NaN."""
    target = torch.where((known := batch(case.classes)[1]) == VOID, VOID, known.clamp(max=1))
    logits = certain(torch.full_like(target, case.classes - 1), case.classes)  # right for whoever clips labels
    for label in (case.classes, 254):
        target[0, 3, 4] = label
        try:
            found = case.figures((logits, target))
        except Exception:
            continue
        require(
            case.kind == "loss" and all(map(math.isnan, found.values())),
            f"the label {label}, of {case.classes} classes and not void ({VOID}), was accepted: {text(found)}; raise "
            "an exception; where looking would make a device wait a loss may be NaN, a metric raise in compute()",
        )


def inputs_unchanged(case: ScoredSubject) -> None:
    """Logits and target are left as they are: another loss or metric is given them too."""
    logits, target = batch(case.classes)
    case.feed(case.make(), logits, target)
    for name, given, before in zip(("logits", "target"), (logits, target), batch(case.classes), strict=True):
        require(torch.equal(given, before), f"it writes to the {name}")
