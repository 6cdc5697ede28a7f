"""A miniature of the layout that ``folder`` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from segkit.data.sample import voc_palette

COUNTS = {"train": 4, "val": 2, "test": 2}
CLASSES = ("background", "left", "right")


def write(root: Path) -> None:
    """Write a few JPEG images of 40 x 30 pixels and their palette PNG masks below ``root``."""
    random = np.random.default_rng(0)
    palette = [part for colour in voc_palette(256) for part in colour]
    for split, count in COUNTS.items():
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            labels = np.zeros((30, 40), dtype=np.uint8)
            for label, left in ((1, 2), (2, 22)):
                top = int(random.integers(2, 12))
                labels[top - 1 : top + 15, left - 1 : left + 15] = 255  # void around each object
                labels[top : top + 14, left : left + 14] = label
            colours = np.array([(90, 110, 90), (200, 60, 60), (60, 60, 200)])
            image = colours[np.where(labels == 255, 0, labels)] + random.integers(-20, 20, (30, 40, 3))  # [H,W,3]
            Image.fromarray(image.astype(np.uint8)).save(root / "images" / split / f"{split}_{index}.jpg", quality=95)
            mask = Image.fromarray(labels).convert("P")
            mask.putpalette(palette)
            mask.save(root / "masks" / split / f"{split}_{index}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
