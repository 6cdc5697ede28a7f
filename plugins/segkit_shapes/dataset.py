"""The dataset ``shapes``: generated, imbalanced images that mislead a network in the same ways as Pascal VOC."""

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
    """Generated images of shapes on a large background: Pascal VOC in miniature, without files.

    About 90 % of the pixels are background, one class is rare, object borders are void, and in the default variety
    colour does not depend on the class. An image is a pure function of (seed, split, index).

    ``variety = "many"`` makes predicting only background as tempting as possible. Small objects of twelve classes cover
    3 % of the labelled pixels, and each class has its own colour. Three times as many objects with the same outlines
    and colours lack a faint grain and are labelled background. Until the grain is learned, "background" is the likelier
    guess for every object, so a loss that counts pixels predicts no object at all (shares measured at size 128).

    Args:
        split: train, val or test.
        size: height and width in pixels; 64 trains in half a minute on two cores.
        images: the number of images in train, val and test.
        seed: the seed of the images.
        variety: few classes or many; many needs a size of at least 96, and 128 shows its objects well.
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
        self._drawn: dict[int, segkit.Sample] = {}  # a cache: drawing takes 2 ms, and every epoch needs every image

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
        return segkit.Sample(image.clone(), mask.clone(), name)  # so in-place changes do not reach the cache
