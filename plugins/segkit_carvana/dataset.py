"""The dataset ``carvana``: photographs of cars and their masks, split so that no car is in two splits."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from segkit.data.sample import SPLITS
from segkit.errors import ConfigError, DataError
from segkit_folder.files import PairedFiles
from segkit_folder.layout import Shares, dealt, read_layout
from segkit_folder.splits import check_fractions

CLASSES = ("background", "car")
PALETTE = ((0, 0, 0), (255, 255, 255))  # as in the masks' own palette
VALUES = {0: 0, 1: 1, 255: 1}  # the published masks hold 0 and 1; masks re-saved by other programs hold 0 and 255


class CarvanaDataset(PairedFiles):
    """Carvana: studio photographs of cars, sixteen views of each; background and car.

    Kaggle, "Carvana Image Masking Challenge", 2017: 5088 images of 318 cars. The sixteen views of a car are alike, and
    a split by image would test on cars seen in training; this dataset splits by car.

    Args:
        root: the folder that holds ``train`` (``*.jpg``) and ``train_masks`` (``*_mask.gif``).
        split: ``train``, ``val`` or ``test``.
        fractions: shares of the cars for train, val and optionally test; by default 222, 48 and 48 of the 318.
        split_seed: the seed of the split.
        split_by: ``"car"``, or ``"none"`` to put all images into every split. Use ``"none"`` only to check that
            training works: its scores are those of the training images and say nothing about other cars. It requires
            ``data.allow_leaks = true``.

    Raises:
        DataError: the data or some files are missing, there are fewer cars than splits, or the split does not exist.
    """

    label_advice = "the masks as published hold 0 and 1; unpack train_masks.zip again"

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        fractions: Sequence[float] = (0.7, 0.15, 0.15),
        split_seed: int = 0,
        split_by: Literal["car", "none"] = "car",
    ) -> None:
        root = Path(root).expanduser().absolute()
        if not (root / "train").is_dir() or not (root / "train_masks").is_dir():
            raise DataError(
                f"{root}: no Carvana images there; expected are {root / 'train'}/*.jpg and "
                f"{root / 'train_masks'}/*_mask.gif. Kaggle gives them to those who have an account: unpack train.zip "
                "and train_masks.zip of https://www.kaggle.com/c/carvana-image-masking-challenge/data there"
            )
        if split_by not in ("car", "none"):
            raise ConfigError(f"split_by = {split_by!r}: allowed are 'car' and 'none'")
        check_fractions(fractions)
        layout = read_layout(root, images="train/{group}_{id}", masks="train_masks/{group}_{id}_mask")
        layout.refuse(split)
        if split_by == "none":
            warnings.warn(
                'carvana, split_by = "none": train, val and test are the same images, so scores say nothing about '
                "other cars",
                stacklevel=2,
            )
            layout = replace(layout, images=[each.in_split(name) for name in SPLITS for each in layout.images])
        else:
            try:
                layout = dealt(layout, Shares(fractions, split_seed))
            except DataError as error:
                advice = 'or, only to check that training works, set split_by = "none" and data.allow_leaks = true'
                raise DataError(f"{root}, where a car is a group: {error}; {advice}") from None
        super().__init__([], classes=CLASSES, palette=PALETTE, values=VALUES)
        self.root = root
        self.choose(layout, split)

    @classmethod
    def recognise(cls, root: Path) -> list[dict[str, object]]:
        """Return options for a folder with Carvana's mask names: twelve hex digits of a car and two of a view."""
        masks = (root / "train_masks").glob("*_mask.gif") if (root / "train").is_dir() else ()
        names = [each[1] for path in masks if (each := re.fullmatch(r"([0-9a-f]{12})_\d\d_mask", path.stem))]
        if len({*names}) in (1, 2):  # too few cars for the default fractions
            return [{"split_by": "none"} if len({*names}) == 1 else {"fractions": [0.5, 0.5]}]
        return [{}] if names else []

    @classmethod
    def write_sample(cls, root: str | Path) -> None:
        """Write eight cars with two views each, in the layout of the archives."""
        random = np.random.default_rng(0)
        for folder in ("train", "train_masks"):
            (Path(root) / folder).mkdir(parents=True, exist_ok=True)
        for name in (f"{car * 0x1234567:012x}_{view:02d}" for car in range(1, 9) for view in (1, 2)):
            labels = np.zeros((40, 60), dtype=np.uint8)  # [H,W]; the true ones are 1280 x 1918
            top, left = random.integers(4, 16, 2)
            labels[top : top + 18, left : left + 36] = 1
            pixels = random.integers(0, 80, (40, 60, 3), dtype=np.uint8) + 120 * (1 - labels[..., None])  # [H,W,3]
            Image.fromarray(pixels).save(Path(root) / "train" / f"{name}.jpg", quality=90)
            mask = Image.fromarray(labels)
            mask.putpalette([0, 0, 0, 255, 255, 255])
            mask.save(Path(root) / "train_masks" / f"{name}_mask.gif")
