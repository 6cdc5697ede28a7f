"""The dataset ``cityscapes``: the unpacked archives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from segkit_folder.files import VOID, PairedFiles
from segkit_folder.layout import read_layout
from segkit_gta5.dataset import CLASSES, COLOURS, PALETTE, VALUES

IMAGES = "leftImg8bit/{split}/{city}/{id}_leftImg8bit.png"
MASKS = "gtFine/{split}/{city}/{id}_gtFine_labelIds.png"


class CityscapesDataset(PairedFiles):
    """Cityscapes: 2,975 street scenes for training and 500 for validation, in 19 classes; all other ids are void.

    M. Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016, arXiv 1604.01685. The
    labels of the test images were never published, so there is no test split.

    Args:
        root: the folder that holds ``leftImg8bit`` and ``gtFine``.
        split: ``train`` or ``val``.
    """

    label_advice = "Cityscapes stores ids of -1 to 33, and no colours"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        base = Path(root).expanduser()
        layout = read_layout(base, IMAGES, MASKS)
        layout.refuse(split)
        super().__init__([], classes=CLASSES, palette=PALETTE, values=VALUES | {-1: VOID})
        self.root = base
        self.choose(replace(layout, images=[each for each in layout.images if each.values["split"] != "test"]), split)

    @classmethod
    def recognise(cls, root: Path) -> list[dict[str, str]]:
        """Return that no options are needed where the archives' folders and names are."""
        masks = root.glob("gtFine/*/*/*_gtFine_labelIds.png") if (root / "leftImg8bit").is_dir() else ()
        return [{}] if any(masks) else []

    @classmethod
    def write_sample(cls, root: str | Path) -> None:
        """Write a miniature with four cities and all file types of the archives; the test masks hold no classes."""
        random = np.random.default_rng(0)
        for split, city in (("train", "aachen"), ("train", "ulm"), ("val", "lindau"), ("test", "bonn")):
            for number in range(4):
                labels = np.full((40, 80), 11, np.uint8)  # [H,W], buildings; real images are 1024 x 2048
                labels[:12], labels[26:], labels[37:] = 23, 7, 1  # sky, road, and the bonnet, which is void
                labels[18:32, (left := int(random.integers(0, 40))) : left + 16] = random.choice([26, 24, 8])
                pixels = COLOURS[labels] // 2 + random.integers(0, 100, (40, 80, 3), dtype=np.uint8)  # [H,W,3]
                labels = np.where(split == "test", 3 * (labels == 1), labels).astype(np.uint8)
                files = {
                    "leftImg8bit/{}_leftImg8bit": pixels,
                    "gtFine/{}_gtFine_labelIds": labels,
                    "gtFine/{}_gtFine_color": COLOURS[labels],
                    "gtFine/{}_gtFine_instanceIds": np.where(labels > 23, labels.astype(np.uint16) * 1000, labels),
                }
                for pattern, content in files.items():
                    name = f"{split}/{city}/{city}_{number:06}_000019"
                    path = Path(root) / f"{pattern.format(name)}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(content).save(path)
