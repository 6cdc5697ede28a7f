"""What the rules of losses and of metrics share: batches with void, figures to compare, rules that hold for both."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.testing.check import CheckFailed, Rule, Subject, failing, require

VOID = 255
Batch = tuple[Tensor, Tensor]
"""Logits ``[B,C,H,W]`` and target int64 ``[B,H,W]``."""
Figures = Mapping[str, Any]
"""By name: numbers, and of a loss the gradient ``[B,C,H,W]``."""
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


def at_void(batch: Batch, value: Tensor | float) -> Batch:
    """A batch with other logits at its void pixels."""
    logits, target = batch
    return torch.where((target == VOID)[:, None], value, logits), target


@dataclass(frozen=True)
class ScoredSubject(Subject):
    """A loss or a metric for a number of classes: it is fed batches, and has figures of them."""

    classes: int = 4
    counts: ClassVar[tuple[int, ...]] = (4,)
    once: ClassVar[tuple[str, ...]] = ("named_options",)

    def ask(self, rule: Rule) -> None:
        """Ask with several numbers of classes; or with as many as there are class weights; some rules once."""
        weights = self.options.get("class_weights")
        for classes in self.counts if weights is None else (len(weights),):
            if rule.__name__ in self.once:
                return rule(self)
            try:
                rule(replace(self, classes=classes))
            except CheckFailed as error:
                raise CheckFailed(f"with {classes} classes {error}") from error.__cause__
        return None

    def make(self, void: int = VOID, **given: Any) -> Any:
        """A new one, given what a dataset gives."""
        names = tuple(f"class {index}" for index in range(self.classes))
        return self.build(num_classes=self.classes, ignore_index=void, classes=names, **given)

    def feed(self, built: Any, logits: Tensor, target: Tensor) -> None:
        """Give it a batch, as a run does."""
        raise NotImplementedError

    def figures(self, *batches: Batch, built: Any = None, layout: Callable[[Tensor], Tensor] = Tensor.clone) -> Figures:
        """The figures of one that was built, or of a new one, after copies of batches, or of an ordinary one.

        Args:
            batches: a loss has figures of the last one.
            built: left out: a new one.
            layout: makes the copy of logits.
        """
        raise NotImplementedError


def require_same(found: Figures, expected: Figures, what: str, tolerance: float = 1e-5) -> None:
    """The same figures, but for a relative ``tolerance``: rounding, sums in another order; NaN is the same as NaN."""
    numbers, others = ({name: it for name, it in each.items() if name != "gradient"} for each in (found, expected))
    same = numbers.keys() == others.keys() and all(
        math.isclose(number, others[name], rel_tol=tolerance, abs_tol=1e-6)
        or (math.isnan(number) and math.isnan(others[name]))
        for name, number in numbers.items()
    )
    require(same, f"{what}: {text(numbers)}, expected {text(others)}")
    if "gradient" in found:
        difference = (found["gradient"] - expected["gradient"]).abs().max().item()
        require(difference < 1e-5, f"{what}, the gradient differs by {difference:.3g}")


def text(figures: Figures) -> str:
    """The figures in a message."""
    return ", ".join(f"{name} = {value:.6g}" for name, value in figures.items())


def void_label_is_given(case: ScoredSubject) -> None:
    """The dataset decides which label is void; it is given as ``ignore_index``, 255 or another one."""
    told = "the constructor has no parameter ignore_index: it cannot know which label is void"
    require(case.has_option("ignore_index"), told)
    logits, target = batch(case.classes)
    for void in (case.classes, 254):
        found = case.figures((logits, torch.where(target == VOID, void, target)), built=case.make(void))
        require_same(found, case.figures(), f"with ignore_index = {void} and that label in the place of {VOID}")


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


def inputs_unchanged(case: ScoredSubject) -> None:
    """Logits and target are left as they are: another loss or metric is given them too."""
    given = batch(case.classes)
    case.feed(case.make(), *given)
    for name, now, before in zip(("logits", "target"), given, batch(case.classes), strict=True):
        require(torch.equal(now, before), f"it writes to the {name}")


def layouts(case: ScoredSubject) -> None:
    """Logits may lie in memory as they like: channels_last, transposed, cut out of larger ones; so may labels."""
    logits, target = batch(case.classes)
    for name, layout in LAYOUTS.items():
        with failing(f"it fails on logits that are {name}"):
            found = case.figures((logits, target.mT.contiguous().mT), layout=layout)
        require_same(found, case.figures(), f"for the same logits, {name}")


def picklable(case: ScoredSubject) -> None:
    """It can be pickled, with what it has counted, to reach other processes, and its copy gives the same."""
    first, second, built = batch(case.classes, images=1), batch(case.classes, images=3, seed=1), case.make()
    case.feed(built, *(each.clone() for each in first))
    with failing("it cannot be pickled"):
        pickled = pickle.loads(pickle.dumps(built))
    require_same(case.figures(second, built=pickled), case.figures(first, second), "for its pickled copy")
