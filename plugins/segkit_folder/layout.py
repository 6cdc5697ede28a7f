"""Which of a person's folders is which split, and what lies beside them and is not read."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from segkit.data.sample import SPLITS
from segkit.errors import DataError, first_few
from segkit_folder.splits import SUFFIXES

NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""What people call the folder of each split, in small letters or large ones."""

_NAMES = "|".join([*(name for names in NAMES.values() for name in names), "trainval", "splits?"])
_LIST = re.compile(
    rf"(?:lists?[-_])?(?:{_NAMES})\d*(?:[-_](?:lists?|ids?|files?|names?|set))?\.(?:txt|csv|lst|json)", re.IGNORECASE
)

Parts = dict[str, tuple[Path, Path]]
"""Split -> (folder of images, folder of masks)."""


def split_folders(root: Path, images: str, masks: str) -> Parts:
    """The folders of each split; empty where the images are not divided into folders. A test split may lack masks.

    Raises:
        DataError: several folders are one split, or ``images`` is not where it is said to be.
    """
    parts: Parts = {}
    for split in SPLITS:
        name, folder = _folder(root, images, split)
        if folder is not None:
            parts[split] = folder, _folder(root, masks, split)[1] or root / _pattern(masks).replace("{split}", name)
    if parts:
        return parts
    if "{split}" in images:
        called = ", ".join(name for names in NAMES.values() for name in names)
        raise DataError(f'images = "{images}": {root} has no such folder for any of {called}')
    inside = f"{{split}}/{images}"
    there = [str(folder) for split in SPLITS if (folder := _folder(root, inside, split)[1])]
    if there and not (root / images).exists():
        raise DataError(
            f"folder {root / images} does not exist, and {first_few(there)} do: set "
            f'images = "{inside}" and, where they lie beside them, masks = "{{split}}/{masks}"'
        )
    return parts


def without_unlabelled_test(parts: Parts) -> Parts:
    """The splits without a test whose folder of masks is not there, which is told."""
    folder, masks = parts.get("test", (None, None))
    if masks is None or masks.exists():
        return parts
    warnings.warn(
        f"no test split: {folder} holds its images, and {masks}, where their masks would be, does not exist; "
        "`predict` needs no masks",
        stacklevel=3,
    )
    return {split: own for split, own in parts.items() if split != "test"}


def tell_unread(root: Path, images: str, parts: Parts, fractions: Sequence[float]) -> None:
    """Warn of lists of splits, and of pictures beside the folders of the splits: neither is read."""
    come = f"the splits are dealt by fractions = {list(fractions)}"
    if parts:
        come = f"the splits are the folders {', '.join(str(folder.relative_to(root)) for folder, _ in parts.values())}"
    if lists := _lists(root):
        warnings.warn(
            f"not read, though called as a split: {first_few([str(path) for path in lists])}; {come}. To have other "
            "splits, sort images and masks into folders train, val and test",
            stacklevel=3,
        )
    if parts and "{split}" not in images:
        own = {folder.name.casefold() for folder, _ in parts.values()}
        beside = [path for path in (root / images).iterdir() if path.name.casefold() not in own]
        pictures = [path for path in beside if path.suffix.lower() in SUFFIXES or path.is_dir()]
        if unread := sorted(str(path) for path in pictures if not path.name.startswith(".")):
            warnings.warn(f"not read: {first_few(unread)}; {come}", stacklevel=3)


def _folder(root: Path, option: str, split: str) -> tuple[str, Path | None]:
    """The folder of a split and what it calls the split; None where there is none."""
    written = [each for name in NAMES[split] for each in (name, name.capitalize(), name.upper())]
    found: dict[tuple[int, int], tuple[str, Path]] = {}
    for name in written:
        path = root / _pattern(option).replace("{split}", name)
        if path.is_dir():
            state = path.stat()  # some file systems know no difference between train and Train
            found.setdefault((state.st_dev, state.st_ino), (name, path))
    if len(found) > 1:
        several = " and ".join(str(path) for _, path in found.values())
        raise DataError(f"{several} are both the {split} split; put their files into one folder, or rename one")
    return next(iter(found.values()), (split, None))


def _pattern(option: str) -> str:
    return option if "{split}" in option else f"{option}/{{split}}"


def _lists(root: Path) -> list[Path]:
    """Files called as a split (``train.txt``, ``val_list.csv``), in the root and up to two folders deeper."""
    named = [sorted(path for path in root.glob(deep) if _LIST.fullmatch(path.name)) for deep in ("*", "*/*", "*/*/*")]
    parts = {path: path.relative_to(root).parts for paths in named for path in paths if path.is_file()}
    return [path for path, own in parts.items() if not any(part.startswith(".") for part in own)]
