"""Which image belongs to which mask: files of two folders, paired by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from segkit.data.faults import refuse
from segkit.data.text import composed
from segkit.errors import DataError, Fault, first_few

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp")


def pair_by_stem(images: Path, masks: Path, mask_suffix: str = "") -> list[tuple[Path, Path]]:
    """The files of two folders that share a name: ``images/cat.jpg`` with ``masks/cat<mask_suffix>.png``.

    In natural order (``2`` before ``10``). Hidden files and files that are no images are ignored. Both folders may be
    the same one where ``mask_suffix`` tells the masks apart.

    Raises:
        DataError: a folder is missing or empty, or not every file has exactly one partner.
    """
    if images == masks and not mask_suffix:
        raise DataError(f"{images} is the folder of the images and of the masks; a mask_suffix must tell them apart")
    mask_suffix = composed(mask_suffix)
    images_of, masks_of = (_by_stem(images, masks, mask_suffix, of_masks) for of_masks in (False, True))
    pairs: list[tuple[Path, Path]] = []
    faults: list[Fault] = []
    without_mask: dict[str, Path] = {}
    for stem, found in images_of.items():
        partners = masks_of.pop(stem + mask_suffix, [])
        if len(found) == len(partners) == 1:
            pairs.append((found[0], partners[0]))
        elif len(found) == 1 and not partners:
            without_mask[stem] = found[0]
        else:
            faults += _repeated(found) + _repeated(partners)
    faults += [fault for found in masks_of.values() for fault in _repeated(found)]
    without_image = {stem: found[0] for stem, found in masks_of.items() if len(found) == 1}
    faults += _different_case(without_mask, without_image, mask_suffix)
    cat = f"the mask of cat.jpg is cat{mask_suffix}.png"
    advice = f"in {masks}, {cat}; rename, add or remove files{_suffix_hint(without_mask, without_image, mask_suffix)}"
    faults += [Fault("image_without_mask", str(x), "image without a mask", advice) for x in without_mask.values()]
    advice = f"in {images} there is none; {cat}"
    faults += [Fault("mask_without_image", str(x), "mask without an image", advice) for x in without_image.values()]
    refuse(faults)
    return pairs


def _by_stem(images: Path, masks: Path, mask_suffix: str, of_masks: bool) -> dict[str, list[Path]]:
    """Name without suffix, :func:`composed`, -> files."""
    files = _picture_files(masks if of_masks else images)
    if images == masks:
        files = [path for path in files if composed(path.stem).endswith(mask_suffix) is of_masks]
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(composed(path.stem), []).append(path)
    return found


def _picture_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"folder {folder} {state}; {_nearest(folder)}. Set the dataset's root to where the data lies")
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    named = [path for path in entries if path.suffix.lower() in SUFFIXES]
    files = [path for path in named if path.is_file()]
    what, advice = "no regular file, although its name is an image's", "fetch or remove it"
    kinds = {path: "a folder" if path.is_dir() else "a link to nowhere" if path.is_symlink() else "" for path in named}
    refuse([Fault("no_file", str(path), what, advice, kinds[path]) for path in named if path not in set(files)])
    if not files:
        folders = sum(path.is_dir() for path in entries)
        raise DataError(
            f"folder {folder} holds no images, but {len(entries) - folders} other files and {folders} folders; "
            f"read are {', '.join(SUFFIXES)}"
        )
    return sorted(files, key=_natural)


def _nearest(folder: Path) -> str:
    """What lies in the nearest parent that exists."""
    parent = next(path for path in folder.absolute().parents if path.is_dir())
    beside = sorted(path.name for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    return f"{parent} holds " + (f"the folders {first_few(beside)}" if beside else "no folders")


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Digits compare as numbers, ``2 < 10``; where these are equal, as of 1 and 01, the names as texts."""
    name = composed(path.name)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"([0-9]+)", name)], name


def _repeated(files: Sequence[Path]) -> list[Fault]:
    """A fault for each of several files of one name."""
    what = "another file has the same name but for the suffix"
    return [
        Fault("duplicate_stem", str(path), what, "keep one of them", ", ".join(x.name for x in files if x != path))
        for path in files
        if len(files) > 1
    ]


def _different_case(without_mask: dict[str, Path], without_image: dict[str, Path], mask_suffix: str) -> list[Fault]:
    """Take out the images and masks whose names are the same but for upper and lower case, and tell them."""
    lowered = {stem.lower(): stem for stem in without_image}
    faults = []
    for stem in list(without_mask):
        partner = lowered.pop((stem + mask_suffix).lower(), None)
        if partner is not None:
            what = "the name of the mask differs in upper and lower case"
            path, detail = str(without_mask.pop(stem)), without_image.pop(partner).name
            faults.append(Fault("different_case", path, what, "rename the image or the mask", detail))
    return faults


def _suffix_hint(without_mask: Mapping[str, Path], without_image: Mapping[str, Path], mask_suffix: str) -> str:
    """The suffix by which most of the images would have a mask."""
    first = next(iter(without_mask), "")
    longer = [mask.removeprefix(first) for mask in without_image if mask.startswith(first)]
    for suffix in longer[:20] if first and not mask_suffix else []:  # image 1 also begins the masks 10 to 19 and 100
        if 2 * sum(stem + suffix in without_image for stem in without_mask) > len(without_mask):
            return f'; perhaps mask_suffix = "{suffix}"'
    return ""
