"""The dataset ``shapes``: generated pictures that fool a network as Pascal VOC does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

import segkit
from segkit.data.sample import SPLITS, Dataset, voc_palette
from segkit.errors import ConfigError, DataError, did_you_mean
from segkit_shapes.draw import VOID, draw
from segkit_shapes.outlines import VARIETIES


class ShapesDataset(Dataset):
    """Generated pictures of shapes on a large background: Pascal VOC in miniature, without files.

    About nine pixels of ten are background, one class is rare, objects have borders of void, and colours tell nothing
    about classes. A picture is a pure function of (seed, split, index).

    ``variety = "many"`` is the trap itself: small objects of twelve classes, 3 % of the labelled pixels, each class
    with a colour of its own; around them, three times as many of the same outlines and colours are background, for
    want of a faint grain. Whatever is seen of an object, "background" is the likelier guess until the grain is learned:
    a loss that counts pixels predicts no object at all (shares as measured at a size of 128).

    Args:
        split: train, val or test.
        size: height and width in pixels; 64 trains in half a minute on two cores.
        images: how many pictures in train, val and test.
        seed: another seed, other pictures.
        variety: few classes, or many; many need a size of at least 96, and 128 shows them well.
    """

    splits = SPLITS
    classes: tuple[str, ...] = VARIETIES["few"].classes
    palette = voc_palette(len(VARIETIES["few"].classes))
    ignore_index = VOID

    def __init__(
        self,
        split: str,
        size: int = 64,
        images: Sequence[int] = (240, 60, 60),
        seed: int = 0,
        variety: Literal["few", "many"] = "few",
    ) -> None:
        if split not in SPLITS:
            raise DataError(
                f"shapes has no split '{split}'; there are {', '.join(SPLITS)}{did_you_mean(split, SPLITS)}"
            )
        if len(images) != len(SPLITS) or min(images) < 1:
            raise ConfigError(f"images = {list(images)}: give three numbers of at least 1, for {', '.join(SPLITS)}")
        if variety not in VARIETIES:
            raise ConfigError(f"variety = '{variety}': allowed are {' and '.join(VARIETIES)}")
        smallest = VARIETIES[variety].smallest
        if not smallest <= size <= 4096:
            raise ConfigError(
                f"size = {size}: allowed are {smallest} to 4096 pixels for variety = '{variety}'; in less no two "
                "shapes can be told apart"
            )
        if seed < 0:
            raise ConfigError(f"seed = {seed}: give 0 or more")
        self.split, self.size, self.seed = split, size, seed
        self._variety = VARIETIES[variety]
        self.classes = self._variety.classes
        self.palette = voc_palette(len(self.classes))
        self._count = images[SPLITS.index(split)]
        self._drawn: dict[int, segkit.Sample] = {}  # drawing costs 2 ms, an epoch asks for every picture again

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int, /) -> segkit.Sample:
        if not -self._count <= index < self._count:
            raise IndexError(f"{self.split} has {self._count} pictures")
        index %= self._count
        if index not in self._drawn:
            seeds = np.random.SeedSequence([self.seed, SPLITS.index(self.split), index])
            picture, labels = draw(self._variety, self.size, np.random.Generator(np.random.PCG64(seeds)))
            image = torch.from_numpy(picture).permute(2, 0, 1).contiguous()  # [3,H,W]
            self._drawn[index] = segkit.Sample(image, torch.from_numpy(labels), f"{self.split}_{index:04d}")
        image, mask, name = self._drawn[index]
        return segkit.Sample(image.clone(), mask.clone(), name)  # who changes them in place leaves the kept ones alone
