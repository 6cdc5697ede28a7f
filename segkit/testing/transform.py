"""The rules of transforms: ``transform(image, mask, random) -> (image, mask)``, by the chance of ``random`` alone."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segkit.errors import first_few
from segkit.testing.check import Subject, failing, require

LABELS = (0, 1, 2, 3, 255)  # four classes and void
SEEDS = range(8)


@dataclass(frozen=True)
class TransformSubject(Subject):
    """A transform, built the same each time, and the samples it is asked with."""

    def transform(self) -> Any:
        """A new one."""
        return self.build(num_classes=4, ignore_index=255, classes=("a", "b", "c", "d"), in_channels=3)

    def seen(self, transform: Any, seed: int = 0, dtype: torch.dtype = torch.uint8) -> tuple[Tensor, Tensor]:
        """What it makes of an image ``[3,40,56]`` and its mask ``[40,56]``, by the chance of a seed."""
        draw = np.random.default_rng(9)
        image = torch.from_numpy(draw.integers(0, 256, (3, 40, 56), np.uint8)).to(dtype)
        mask = torch.from_numpy(np.kron(draw.choice(LABELS, (5, 7)), np.ones((8, 8))).astype(np.uint8))
        with failing(f"an image {dtype} {list(image.shape)} and its mask"):
            found = transform(image, mask, np.random.default_rng(seed))
            pair = isinstance(found, tuple) and len(found) == 2 and all(isinstance(each, Tensor) for each in found)
            require(pair, f"it returned a {type(found).__name__}; a transform returns two tensors, (image, mask)")
        return found  # type: ignore[no-any-return]


def _require_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], what: str) -> None:
    for name, one, other in zip(("image", "mask"), found, expected, strict=True):
        require(torch.equal(one, other), f"{what}: the {name} is another one")


def types_and_sizes(case: TransformSubject) -> None:
    """The image keeps its type and its channels, the mask stays uint8, and both have one size, which may be another."""
    transform = case.transform()
    for dtype in (torch.uint8, torch.float32):
        for seed in SEEDS:
            image, mask = case.seen(transform, seed, dtype)
            given = f"an image {dtype} [3,40,56] became {image.dtype} {list(image.shape)}"
            require(image.dtype == dtype and image.ndim == 3 and len(image) == 3, f"{given}; type and channels stay")
            wanted = f"its mask {mask.dtype} {list(mask.shape)}; it must be uint8 {list(image.shape[1:])}"
            require(mask.dtype == torch.uint8 and mask.shape == image.shape[1:], f"{given}, and {wanted}")
            require(image.numel(), f"{given}: nothing is left of it")


def labels(case: TransformSubject) -> None:
    """Masks hold the labels of classes, and ignore_index: nothing is interpolated between two labels."""
    transform = case.transform()
    for seed in SEEDS:
        found = set(np.unique(case.seen(transform, seed)[1]).tolist()) - set(LABELS)
        told = f"{first_few(sorted(map(str, found)))}; resize and rotate masks by the nearest pixel"
        require(not found, f"of the labels {', '.join(map(str, LABELS))} it made {told}")


def same_for_the_same_generator(case: TransformSubject) -> None:
    """Chance comes from ``random`` alone: the same generator gives the same sample, whatever was asked before."""
    transform = case.transform()
    for seed in SEEDS:
        first = case.seen(transform, seed)
        _require_same(case.seen(transform, seed), first, f"asked twice with numpy.random.default_rng({seed})")
        _require_same(case.seen(case.transform(), seed), first, f"built anew, with numpy.random.default_rng({seed})")


def picklable(case: TransformSubject) -> None:
    """It can be pickled, to reach the workers of a loader, and its copy does the same."""
    transform = case.transform()
    with failing("it cannot be pickled"):
        pickled = pickle.loads(pickle.dumps(transform))
    _require_same(case.seen(pickled), case.seen(transform), "a pickled copy")
