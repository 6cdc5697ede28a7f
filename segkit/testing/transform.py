"""Rules of transforms: ``transform(image, mask, random) -> (image, mask)``; all randomness comes from ``random``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segkit.errors import first_few
from segkit.testing.check import Same, Subject, failing, require

LABELS = (0, 1, 2, 3, 255)  # four classes and void
SEEDS = range(8)
VARIANCE = 9_300  # variance of the test image, summed over its channels


@dataclass(frozen=True)
class TransformSubject(Subject):
    """A transform, and the samples to check it with."""

    def instance(self) -> Any:
        """Build the transform."""
        return self.build(num_classes=4, ignore_index=255, classes=("a", "b", "c", "d"), in_channels=3)

    def outputs(self, transform: Any, seed: int = 0, dtype: torch.dtype = torch.uint8) -> dict[str, Tensor]:
        """Transform an image ``[3,40,56]`` and its mask ``[40,56]`` with a generator of this seed."""
        draw = np.random.default_rng(9)
        mask = torch.from_numpy(np.kron(draw.choice(LABELS, (5, 7)), np.ones((8, 8))).astype(np.uint8))
        colours = torch.from_numpy(draw.integers(20, 236, (3, 256)))  # one per label; the image adds a little noise
        image = (colours[:, mask.long()] + torch.from_numpy(draw.integers(-20, 20, (3, 40, 56)))).to(dtype)
        with failing(f"an image {dtype} {list(image.shape)} and its mask"):
            found = transform(image, mask, np.random.default_rng(seed))
            pair = isinstance(found, tuple) and len(found) == 2 and all(isinstance(each, Tensor) for each in found)
            require(pair, f"it returned a {type(found).__name__}; it must return two tensors, (image, mask)")
        return {"image": found[0], "mask": found[1]}


def results(case: TransformSubject) -> None:
    """The image keeps its dtype and channels; the mask is uint8, of the image's size, with no new labels."""
    transform = case.instance()
    for dtype, seed in product((torch.uint8, torch.float32), SEEDS):
        image, mask = case.outputs(transform, seed, dtype).values()
        kept = image.dtype == dtype and image.ndim == 3 and len(image) == 3 and image.numel()
        problem = f"an image {dtype} [3,40,56] became {image.dtype} {list(image.shape)}"
        require(kept, f"{problem}; dtype and channels must stay the same, and the result must not be empty")
        problem = f"{problem}, and its mask {mask.dtype} {list(mask.shape)}; it must be uint8 {list(image.shape[1:])}"
        require(mask.dtype == torch.uint8 and mask.shape == image.shape[1:], problem)
        found = first_few(sorted(map(str, {*np.unique(mask).tolist()} - {*LABELS})))
        require(not found, f"from the labels {LABELS} it made {found}; resize and rotate masks by the nearest pixel")


def mask_follows_image(case: TransformSubject) -> None:
    """The mask is cropped, rotated and mirrored like its image: pixels of one colour keep one label."""
    transform = case.instance()
    for seed in SEEDS:
        image, mask = case.outputs(transform, seed).values()
        within = image.flatten(1).double()  # [3,N]
        whole = max(float(within.var(1).sum()), VARIANCE)  # a crop may show a single label
        for label in np.unique(mask):
            of_label = (mask == label).flatten()
            within = torch.where(of_label, within - within[:, of_label].mean(1, keepdim=True), within)
        left = float(within.var(1).sum()) / whole
        # 0.04 if unchanged, 0.5 after heavy blur or noise, at least 0.87 if only one is mirrored or shifted by a block
        advice = "draw parameters once, and crop, rotate and mirror both alike"
        require(not left > 0.8, f"labels explain {1 - left:.0%} of the image's variance, before it 96 %: {advice}")


def same_for_the_same_generator(case: TransformSubject) -> Iterator[Same]:
    """All randomness comes from ``random``: equal generators give equal samples, whatever was transformed before."""
    transform = case.instance()
    for seed in SEEDS:
        first = case.outputs(transform, seed)
        yield f"called twice with numpy.random.default_rng({seed})", case.outputs(transform, seed), first
        yield f"built again, with numpy.random.default_rng({seed})", case.outputs(case.instance(), seed), first
