"""The dataset ``gta5``: label ids, splits, and pairs that are skipped; and the classes shared with ``cityscapes``."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from segkit.data.read import read_header
from segkit.data.sample import SPLITS
from segkit.errors import DataError, first_few, refuse
from segkit_folder.files import PairedFiles
from segkit_folder.layout import Shares, dealt, read_layout
from segkit_folder.lists import Lists
from segkit_folder.splits import require_split

# Class, stored id, colour: the table of github.com/mcordts/cityscapesScripts, helpers/labels.py, whose ids GTA5 uses
# too; the same map is in AdaptSegNet's dataset/gta5_dataset.py.
TABLE = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
CLASSES = [name for name, _, _ in TABLE]
PALETTE = [colour for _, _, colour in TABLE]
COLOURS = np.zeros((256, 3), dtype=np.uint8)  # by stored id
COLOURS[[stored for _, stored, _ in TABLE]] = PALETTE
VOID_IDS = dict.fromkeys((*range(35), 255), 255)  # 34 is the last id in use
VALUES = VOID_IDS | {stored: index for index, (_, stored, _) in enumerate(TABLE)}
FRACTIONS = (0.7, 0.15, 0.15)  # used if there is no official split


class Gta5Dataset(PairedFiles):
    """GTA5 ("Playing for Data"): 24,966 rendered street scenes in the 19 classes of Cityscapes.

    S. Richter, V. Vineet, S. Roth, V. Koltun, "Playing for Data: Ground Truth from Computer Games", ECCV 2016, arXiv
    1608.02192. Pairs whose image and labels differ in size are skipped with a warning and listed in ``left_out``.

    Args:
        root: the folder that holds ``images`` and ``labels`` and, for the official split, ``train.txt``, ``val.txt``
            and ``test.txt`` (one name per line) or the published ``split.mat`` (read with scipy).
        split: ``train``, ``val`` or ``test``.
        fractions: shares of train, val and optionally test; default: the official split, or 70/15/15 without one.
        split_seed: the seed of a split by fractions.

    Raises:
        DataError: the data or a listed pair is missing, or there is no such split.
    """

    label_advice = "GTA5 stores the ids of Cityscapes, not its train ids and not colours"

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        fractions: Sequence[float] | None = None,
        split_seed: int = 0,
    ) -> None:
        root = Path(root).expanduser().absolute()
        if not (root / "images").is_dir() or not (root / "labels").is_dir():
            raise DataError(
                f"{root}: no GTA5 there; expected are {root / 'images'}/*.png and {root / 'labels'}/*.png. "
                "Unpack the archives of https://download.visinf.tu-darmstadt.de/data/from_games/ there"
            )
        official = _official_split(root) if fractions is None else {}
        layout = read_layout(root, "images/{id}.png", "labels/{id}.png", lists=official or None)
        advice = f"unpack the missing parts, or split what is there: fractions = {list(FRACTIONS)}"
        issues = [issue for of, issue in layout.issues if of in (None, split)]
        refuse([replace(issue, advice=advice) if issue.kind == "missing" else issue for issue in issues])
        layout = dealt(layout, Shares(FRACTIONS if fractions is None else fractions, split_seed))
        self.splits = layout.splits
        require_split(split, self.splits, root)
        pairs = [(image, mask) for image, mask, _ in layout.of(split)]
        # Only the headers are read: 50 microseconds each, 2.5 seconds for the whole dataset.
        unequal = [pair for pair in pairs if _differ_in_size(*pair)]
        self.left_out = tuple(image.stem for image, _ in unequal)
        if unequal:
            warnings.warn(
                f"gta5: skipped {len(unequal)} of {len(pairs)} {split} pairs because image and labels differ in size: "
                f"{first_few(self.left_out)}",
                stacklevel=2,
            )
        super().__init__(
            [pair for pair in pairs if pair[0].stem not in set(self.left_out)],
            classes=CLASSES,
            palette=PALETTE,
            values=VALUES,
        )

    @classmethod
    def recognise(cls, root: Path) -> list[dict[str, object]]:
        """Return options if names have five digits and the label palettes hold Cityscapes' colours."""
        for labels in sorted((root / "labels").glob("[0-9][0-9][0-9][0-9][0-9].png"))[:1]:
            with suppress(DataError):
                palette = read_header(labels).palette or []
                known = len(palette) > 33 and all(palette[stored] == colour for _, stored, colour in TABLE)
                return [{}] if known and (root / "images" / labels.name).is_file() else []
        return []

    @classmethod
    def write_sample(cls, root: str | Path) -> None:
        """Write thirteen pairs in the layout of the archives; in one, image and labels differ in size."""
        random = np.random.default_rng(0)
        for folder in ("images", "labels"):
            (Path(root) / folder).mkdir(parents=True, exist_ok=True)
        for number in range(1, 14):
            labels = np.full((42, 76), 11, dtype=np.uint8)  # [H,W], buildings; real images are 1052 x 1914
            labels[:12], labels[28:], labels[40:] = 23, 7, 1  # sky, road, and the bonnet, which is void
            labels[18:34, (left := int(random.integers(0, 30))) : left + 20] = 26  # a car
            labels[14:32, 60:64] = random.choice([17, 24, 33])  # a pole, a person or a bicycle
            pixels = COLOURS[labels] // 2 + random.integers(0, 100, (42, 76, 3), dtype=np.uint8)  # [H,W,3]
            Image.fromarray(pixels).save(Path(root) / "images" / f"{number:05d}.png")
            mask = Image.fromarray(labels[:40] if number == 13 else labels)
            mask.putpalette(COLOURS.tobytes())
            mask.save(Path(root) / "labels" / f"{number:05d}.png")


def _differ_in_size(image: Path, mask: Path) -> bool:
    try:
        return read_header(image).size != read_header(mask).size
    except DataError:  # reported when the pair is read
        return False


def _official_split(root: Path) -> Lists:
    """Return the list file of each split, or the names from ``split.mat``; empty if neither exists."""
    if lists := {split: f"{split}.txt" for split in SPLITS if (root / f"{split}.txt").is_file()}:
        return lists  # lines may be 00001, 00001.png or images/00001.png
    file = root / "split.mat"
    if not file.is_file():
        return {}
    advice = f"write the names to train.txt, val.txt and test.txt there, or set fractions = {list(FRACTIONS)}"
    try:
        content = importlib.import_module("scipy.io").loadmat(file, variable_names=[f"{split}Ids" for split in SPLITS])
        return {split: [f"{int(number):05d}" for number in content[f"{split}Ids"].flat] for split in SPLITS}
    except ImportError:
        raise DataError(f"{file}: needs scipy to be read (pip install scipy); or {advice}") from None
    except Exception as error:  # scipy may raise any exception on a damaged file
        raise DataError(f"{file}: not the published split ({error}); {advice}") from error
