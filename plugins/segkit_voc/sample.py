"""Writes a miniature Pascal VOC: palette masks with void borders, JPEG images of several sizes, split lists."""

from __future__ import annotations

from itertools import count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.sample import voc_palette

SIZES = ((48, 64), (64, 48), (56, 56))  # height, width: VOC's images are wide, tall and square
COUNTS = {"2007": {"train": 4, "val": 3, "test": 3}, "2012": {"train": 4, "val": 3}}
LABELS = (15, 7, 12, 8, 9)  # person, car, dog, cat, chair


def write_sample(root: Path) -> None:
    """Write ``VOCdevkit/VOC2007`` and ``VOCdevkit/VOC2012`` below ``root``."""
    random, colours = np.random.default_rng(0), np.array(voc_palette(256), dtype=np.uint8)
    for year, counts in COUNTS.items():
        folder, numbers = root / "VOCdevkit" / f"VOC{year}", count(1)
        for part in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for split, images in counts.items():
            names = []
            for number in islice(numbers, images):
                names.append(f"2007_{number:06d}" if year == "2012" else f"{number:06d}")
                labels = _labels(number, random)
                noise = random.integers(0, 100, (*labels.shape, 3), dtype=np.uint8)  # [H,W,3]
                image, mask = Image.fromarray(colours[labels] // 2 + noise), Image.fromarray(labels)
                image.save(folder / "JPEGImages" / f"{names[-1]}.jpg", quality=90)
                mask.putpalette(colours.tobytes())
                mask.save(folder / "SegmentationClass" / f"{names[-1]}.png")
            (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")


def _labels(number: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw labels ``[H,W]``: three objects in three corners, each inside a border of void."""
    height, width = SIZES[number % len(SIZES)]
    labels = np.zeros((height, width), dtype=np.uint8)
    for corner in range(3):
        top, left = 3 + corner // 2 * height // 2, 3 + corner % 2 * width // 2
        down, right = top + random.integers(12, height // 2 - 3), left + random.integers(12, width // 2 - 3)
        labels[top:down, left:right] = 255
        labels[top + 1 : down - 1, left + 1 : right - 1] = LABELS[(number + corner) % len(LABELS)]
    return labels
