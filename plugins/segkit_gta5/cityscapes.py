"""The dataset ``cityscapes``: the unpacked archives, or other data with Cityscapes' file names and label ids."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from segkit.data.read import opened
from segkit.errors import DataError
from segkit_folder.files import VOID, PairedFiles
from segkit_folder.layout import Shares, dealt, read_layout
from segkit_folder.masks import read_mask
from segkit_folder.pictures import folders_in
from segkit_folder.propose import propose_layout, without_splits
from segkit_folder.splits import require_split
from segkit_gta5.dataset import CLASSES, COLOURS, PALETTE, VALUES

IDS = VALUES | {-1: 255}
TRAIN_IDS = {**{index: index for index in range(len(CLASSES))}, 255: 255}
_LOOKED_AT = 5  # masks
_LABELS = re.compile(r"_label(Train)?Ids\.png", re.IGNORECASE)


class CityscapesDataset(PairedFiles):
    """Cityscapes: 2,975 street scenes for training and 500 for validation, in 19 classes; all other ids are void.

    M. Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016, arXiv 1604.01685. The
    labels of the test images were never published, so there is no test split unless its masks hold classes.

    Args:
        root: the folder that holds ``leftImg8bit`` and ``gtFine``.
        split: ``train``, ``val`` or, where its masks hold classes, ``test``.
        images: a pattern of the images' paths, see the dataset ``folder``.
        masks: a pattern of the masks' paths. Masks named ``labelTrainIds`` hold 0 to 18 and 255, others hold the ids.
        fractions: shares of train, val and test, used if the paths name no splits.
        split_seed: the seed of a split by ``fractions``.
    """

    label_advice = "Cityscapes stores ids of -1 to 33, or train ids of 0 to 18 and 255, and no colours"

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        images: str = "leftImg8bit/{split}/{city}/{id}_leftImg8bit.png",
        masks: str = "gtFine/{split}/{city}/{id}_gtFine_labelIds.png",
        fractions: Sequence[float] = (0.7, 0.15, 0.15),
        split_seed: int = 0,
    ) -> None:
        base = Path(root).expanduser()
        values = TRAIN_IDS if "trainids" in masks.lower() else IDS
        layout = dealt(read_layout(base, images, masks), Shares(fractions, split_seed))
        test = layout.of("test")
        self.splits = tuple(each for each in layout.splits if each != "test" or _is_labelled(test[0][1], values))
        if "test" in {*layout.splits} - {*self.splits}:
            warnings.warn(f"no test split: {test[0][1]} and its like hold no classes, as published", stacklevel=2)
        layout.refuse(split)
        require_split(split, self.splits, base)
        super().__init__(
            [(image, mask) for image, mask, _ in layout.of(split)],
            classes=CLASSES,
            palette=PALETTE,
            values=values,
        )

    @classmethod
    def recognise(cls, root: Path) -> list[dict[str, str]]:
        """Return options for the archives, or patterns of masks with these names and labels, train ids preferred."""
        if not any(_LABELS.search(name) for _, names in folders_in(root) for name in names):
            return []
        if (root / "leftImg8bit").is_dir() and _are_of_cityscapes([*root.glob("gtFine/*/*/*_gtFine_labelIds.png")]):
            return [{}]
        ways = [each for each in propose_layout(root) if not each.splits or "train" in each.splits]
        found = [each for each in ways or without_splits(root) if _LABELS.search(each.options.get("masks", ""))]
        said: dict[str, dict[str, str]] = {}
        for each in sorted(found, key=lambda each: "trainids" not in each.options["masks"].lower()):
            if _are_of_cityscapes([*each.layout.masks.values()]):
                own = each.options
                said.setdefault(own["images"] + _LABELS.sub("", own["masks"]), own)
        return [*said.values()]

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


def _are_of_cityscapes(masks: Sequence[Path]) -> bool:
    """Whether masks hold Cityscapes' labels, and colour masks beside them show its colours.

    Without colour masks, the names must be the archives': CVAT and others use only the suffix, for any classes.
    """
    right = known = 0  # pixels of classes: with the right colour, and all
    for mask in masks[:: -(-len(masks) // _LOOKED_AT)] if masks else ():
        values = TRAIN_IDS if "trainids" in mask.name.lower() else IDS
        with suppress(DataError):  # reported when the dataset reads the mask
            labels = read_mask(mask)
            if not {*np.unique(labels).tolist()} <= values.keys():
                return False
            classes = np.array([values.get(label, VOID) for label in range(256)])[labels]  # [H,W]; -1: the last entry
            is_class, is_right = classes != VOID, np.full(labels.shape, "_gtFine_" in mask.name)
            beside = [Path(_LABELS.sub(f"_{word}.png", str(mask))) for word in ("color", "labelColor")]
            for path in [path for path in beside if path.is_file()]:
                with opened(path) as raster:
                    drawn = np.asarray(raster[...])[..., :3]  # [H,W,3]
                colours = np.array(PALETTE)[np.where(is_class, classes, 0)]
                is_right = (drawn == colours).all(2) if drawn.shape == colours.shape else ~is_class
            known, right = known + int(is_class.sum()), right + int((is_class & is_right).sum())
    return 2 * right > known


def _is_labelled(mask: Path, values: dict[int, int]) -> bool:
    """Whether a mask holds any class; true for an unreadable mask, which is reported when it is read."""
    with suppress(DataError):
        return any(values.get(label, 0) != 255 for label in np.unique(read_mask(mask)).tolist())
    return True
