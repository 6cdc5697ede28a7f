"""From folders to splits: which mask belongs to which image, and which images to train, val and test."""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from segkit.data.issues import TooFewImages, refuse
from segkit.data.sample import SPLITS
from segkit.errors import ConfigError, DataError, Issue, did_you_mean, first_few, reason

MAX_TEXT_BYTES = 16 << 20
"""Half a million names of 32 letters; what is larger is another file, or a device that never ends."""


def composed(name: str) -> str:
    """A file's name in the one form (NFC) in which names are compared, sorted and hashed.

    What a person types as one name is stored in several forms: a Mac, and an archive made on it, write an umlaut as two
    characters. The same folder must give the same split on every system.
    """
    return unicodedata.normalize("NFC", name)


def read_text(path: Path) -> str:
    """The text of a file, UTF-8.

    Raises:
        DataError: no regular file, larger than 16 MiB, or no text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for ever
            raise DataError(f"{path} is no regular file")
        with path.open("rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
        if len(content) > MAX_TEXT_BYTES:
            raise DataError(f"{path} is larger than {MAX_TEXT_BYTES:,} bytes; a list of names is not")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path} cannot be read as text: line {place} is not UTF-8; save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a zero byte in the name
        raise DataError(f"{path} cannot be read as text: {reason(error)}") from error


def split_by_fraction(keys: Sequence[str], fractions: Sequence[float], seed: int) -> dict[str, list[str]]:
    """Deal ``keys`` to train, val and test in the order of SHA-256("seed/key").

    The result does not depend on the order of ``keys``, nor on the Unicode form in which a file system stores them, as
    they are hashed and sorted :func:`composed`, nor on a version of Python or NumPy. A split whose
    fraction is not 0 gets at least one key.

    Args:
        keys: unique names: of images, or of what must stay together, such as the car of several images.
        fractions: two (train, val) or three (train, val, test) numbers that sum to 1.
        seed: another seed, another split.

    Returns:
        The sorted keys of each split, as many splits as fractions.

    Raises:
        ConfigError: the fractions are not two or three numbers that sum to 1.
        TooFewImages: fewer keys than splits.
        DataError: a key twice.
    """
    check_fractions(fractions)
    distinct = {composed(key) for key in keys}
    if len(distinct) != len(keys):
        raise DataError(f"cannot split {len(keys)} names of which only {len(distinct)} differ")
    wanted = [fraction > 0 for fraction in fractions]
    if len(keys) < sum(wanted):
        raise TooFewImages(
            f"cannot split {len(keys)} images into {sum(wanted)} parts of which none is empty; "
            "add images or set a fraction to 0"
        )

    def digest(key: str) -> bytes:
        return hashlib.sha256(f"{seed}/{composed(key)}".encode(errors="surrogateescape")).digest()  # no valid UTF-8

    ordered, sizes = sorted(keys, key=digest), _sizes(len(keys), fractions)
    starts = [sum(sizes[:part]) for part in range(len(sizes))]
    return {
        name: sorted(ordered[start : start + size], key=composed)
        for name, start, size in zip(SPLITS, starts, sizes, strict=False)  # two fractions make no test split
    }


def check_fractions(fractions: Any) -> None:
    """Refuse what is no division into train, val and test.

    Raises:
        ConfigError: not two or three numbers of 0 or more that sum to 1.
    """
    try:
        right = 2 <= len(fractions) <= 3 and min(fractions) >= 0 and math.isclose(sum(fractions), 1, abs_tol=1e-6)
    except TypeError:  # no sequence, or not of numbers
        right = False
    if not right:
        given = list(fractions) if isinstance(fractions, tuple) else fractions
        raise ConfigError(
            f"fractions = {given!r}: give two (train, val) or three (train, val, test) numbers that sum to 1"
        )


def require_split(split: str, splits: Sequence[str], place: object, advice: str = "") -> None:
    """Refuse a split that a data set does not have.

    Raises:
        DataError: with those there are.
    """
    if split not in splits:
        there = ", ".join(splits) or "none"
        raise DataError(f"no split '{split}' in {place}; there are {there}{did_you_mean(split, splits)}{advice}")


def _sizes(total: int, fractions: Sequence[float]) -> list[int]:
    """Whole numbers near ``total * fraction`` that sum to ``total``, at least 1 where the fraction is not 0."""
    sizes = [max(round(total * fraction), fraction > 0) for fraction in fractions]
    while sum(sizes) != total:  # rounding leaves one or two over; the largest part bears it
        sizes[sizes.index(max(sizes))] += 1 if sum(sizes) < total else -1
    return sizes


SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp")
_SYSTEM = ("thumbs.db", "desktop.ini")  # of Windows, in any folder


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
    issues: list[Issue] = []
    for found in (*images_of.values(), *masks_of.values()):
        what = "another file has the same name but for the suffix"
        for path in found if len(found) > 1 else ():
            others = ", ".join(each.name for each in found if each != path)
            issues.append(Issue("duplicate_stem", str(path), what, "keep one of them", others))
    without_mask: dict[str, Path] = {}
    for stem, found in images_of.items():
        partners = masks_of.pop(stem + mask_suffix, [])
        if len(found) == len(partners) == 1:
            pairs.append((found[0], partners[0]))
        elif len(found) == 1 and not partners:
            without_mask[stem] = found[0]
    without_image = {stem: found[0] for stem, found in masks_of.items() if len(found) == 1}
    issues += _different_case(without_mask, without_image, mask_suffix)
    several = _several_masks(dict(pairs), without_mask, without_image)
    suffix, renamed = _called_otherwise(without_mask, without_image, mask_suffix, not (pairs or several))
    issues += [*several, *renamed]
    cat = f"the mask of cat.jpg is cat{suffix}.png"
    advice = f"in {masks}, {cat}; rename, add or remove files"
    issues += [Issue("image_without_mask", str(x), "image without a mask", advice) for x in without_mask.values()]
    advice = f"in {images} there is none; {cat}"
    issues += [Issue("mask_without_image", str(x), "mask without an image", advice) for x in without_image.values()]
    refuse(issues)
    return pairs


def _by_stem(images: Path, masks: Path, mask_suffix: str, of_masks: bool) -> dict[str, list[Path]]:
    """Name without suffix, :func:`composed`, -> files."""
    found: dict[str, list[Path]] = {}
    for path in _picture_files(masks if of_masks else images, {images, masks}):
        stem = composed(path.stem)
        if images != masks or stem.endswith(mask_suffix) is of_masks:
            found.setdefault(stem, []).append(path)
    return found


def _picture_files(folder: Path, read: Collection[Path]) -> list[Path]:
    """The pictures in a folder; a warning says what else lies there, but for folders that are ``read`` too."""
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        advice = "Name the folder that is meant, or set the dataset's root to where the data lies"
        if folder.parent.is_dir() and _holds_pictures(folder.parent):
            advice = (
                f"Images and masks are divided into folders alike: move the files that lie in {folder.parent} there"
            )
        parent = next(path for path in folder.absolute().parents if path.is_dir())
        beside = sorted(path.name for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
        held = f"the folders {first_few(beside)}" if beside else "no folders"
        raise DataError(f"folder {folder} {state}; {parent} holds {held}. {advice}")
    entries = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name.lower() not in _SYSTEM]
    named = [path for path in entries if path.suffix.lower() in SUFFIXES]
    files = [path for path in named if path.is_file()]
    what, advice = "no regular file, although its name is an image's", "fetch or remove it"
    kinds = {path: "a folder" if path.is_dir() else "a link to nowhere" if path.is_symlink() else "" for path in named}
    refuse([Issue("no_file", str(path), what, advice, kinds[path]) for path in named if path not in set(files)])
    folders = sorted(str(path) for path in entries if path.is_dir() and path not in read and _holds_pictures(path))
    others = Counter(path.suffix.lower() for path in entries if path.suffix.lower() not in SUFFIXES and path.is_file())
    if not files:
        inside = f"; images are in its folders {first_few(folders)}, which are not looked into" if folders else ""
        inside += "; those of splits are called train, val and test" if folders else ""
        inner = sum(path.is_dir() for path in entries)
        raise DataError(
            f"folder {folder} holds no images, but {len(entries) - inner} other files and {inner} folders{inside}; "
            f"read are {', '.join(SUFFIXES)}"
        )
    if folders:
        warnings.warn(f"not read: images in {first_few(folders)}; read is {folder} without its folders", stacklevel=4)
    if others:
        warnings.warn(
            f"not read: {others.total()} of {others.total() + len(files)} files in {folder}, which are no images that "
            f"are read: {by_suffix(others)}; read are {', '.join(SUFFIXES)}",
            stacklevel=4,
        )
    return sorted(files, key=_natural)


def _holds_pictures(folder: Path) -> bool:
    with suppress(OSError):
        return any(path.suffix.lower() in SUFFIXES and not path.name.startswith(".") for path in folder.iterdir())
    return False


def by_suffix(counted: Counter[str]) -> str:
    """``12 .jp2, 1 .txt``."""
    return first_few([f"{count} {suffix or 'without an ending'}" for suffix, count in counted.most_common()], 8)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Digits compare as numbers, ``2 < 10``; where these are equal, as of 1 and 01, the names as texts."""
    name = composed(path.name)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"([0-9]+)", name)], name


# ---- why files have no partner; each function takes out the images and masks that it explains ----


def _different_case(images: dict[str, Path], masks: dict[str, Path], mask_suffix: str) -> list[Issue]:
    """Names that are the same but for upper and lower case."""
    lowered = {stem.lower(): stem for stem in masks}
    what, advice, issues = "the name of the mask differs in upper and lower case", "rename the image or the mask", []
    for stem in list(images):
        if (stem + mask_suffix).lower() in lowered:
            mask = masks.pop(lowered.pop((stem + mask_suffix).lower()))
            issues.append(Issue("different_case", str(images.pop(stem)), what, advice, mask.name))
    return issues


def _several_masks(paired: Mapping[Path, Path], images: dict[str, Path], masks: dict[str, Path]) -> list[Issue]:
    """Images of which several masks begin with the name, that of its pair included."""
    known = {composed(image.stem): image for image in paired} | images
    owned: dict[str, list[str]] = {}
    for mask in masks:
        ends = [  # 1 does not begin 10
            end for end in range(len(mask), 0, -1) if not (mask[end - 1].isdigit() and mask[end : end + 1].isdigit())
        ]
        if owner := next((mask[:end] for end in ends if mask[:end] in known), ""):
            owned.setdefault(owner, []).append(mask)
    what = "several masks for one image"
    advice = (
        "an image has one mask, which holds all its labels: merge them into one, or move what is of another kind to a "
        "folder of its own"
    )
    issues = []
    for stem, stems in owned.items():
        own = [paired[known[stem]].name] if known[stem] in paired else []
        if len(stems) + len(own) > 1:
            images.pop(stem, None)
            detail = first_few([*own, *(masks.pop(mask).name for mask in stems)])
            issues.append(Issue("several_masks", str(known[stem]), what, advice, detail))
    return issues


def _called_otherwise(
    images: dict[str, Path], masks: dict[str, Path], mask_suffix: str, propose_suffix: bool
) -> tuple[str, list[Issue]]:
    """Names that are the same but for what all of a side begin or end with, if that holds for most of the images.

    Returns:
        The ``mask_suffix`` that should be set, or the one that is, and the issues.
    """
    image_begin, image_end, image_of = _without_affixes(images)
    mask_begin, mask_end, mask_of = _without_affixes(masks)
    if len(images) == 1:  # what all begin and end with is not known
        (stem,) = images
        partners = [mask for mask in masks if mask.startswith(stem)]
        image_begin = image_end = mask_begin = ""
        image_of, mask_of = {stem: stem}, {stem: partners[0]} if partners else {}
        mask_end = "".join(partners[:1])[len(stem) :]
    common = [core for core in image_of if core in mask_of]
    same = _shared_words(image_begin[::-1], mask_begin[::-1])
    image_begin, mask_begin = image_begin[: len(image_begin) - same], mask_begin[: len(mask_begin) - same]
    same = _shared_words(image_end, mask_end)
    parts = {"image's name begins with": image_begin, "image's name ends in": image_end[same:]}
    parts |= {"mask's name begins with": mask_begin, "mask's name ends in": mask_end[same:]}
    differences = [f'the {where} "{part}"' for where, part in parts.items() if part]
    named = [(image_of[core], mask_of[core]) for core in common]
    suffixes = {mask[len(image) :] if mask.startswith(image) else None for image, mask in named}
    if 2 * len(common) <= len(images) or not (differences or propose_suffix):
        return mask_suffix, []
    if propose_suffix and len(suffixes) == 1 and None not in suffixes:
        kind, mask_suffix = "mask_suffix", str(*suffixes)
        what, advice = f'the name has "{mask_suffix}" more than its image\'s', f'set mask_suffix = "{mask_suffix}"'
        if not mask_suffix:
            what, advice = "the name is its image's, without a suffix", "leave mask_suffix out"
    else:
        kind, what = "other_name", f"image and mask are called differently: {' and '.join(differences)}"
        image, mask = images[named[0][0]], masks[named[0][1]]
        advice = (
            "a mask is found by its image's name, which at most a mask_suffix may follow: rename the masks, "
            f"{mask.name} to {image.stem}{mask_suffix}{mask.suffix}"
        )
    issues = [Issue(kind, str(masks.pop(mask)), what, advice) for _, mask in named]
    for image_name, _ in named:
        del images[image_name]
    return mask_suffix, issues


def _without_affixes(names: Collection[str]) -> tuple[str, str, dict[str, str]]:
    """What all names begin and end with; and what lies between -> name."""
    begin = _common(names)
    end = _common([name[len(begin) :][::-1] for name in names])[::-1]
    return begin, end, {name[len(begin) : len(name) - len(end)]: name for name in names}


def _common(names: Collection[str]) -> str:
    """The letters that all names begin with."""
    return os.path.commonprefix([*names])  # noqa: RUF071  (names are no paths)


def _shared_words(one: str, other: str) -> int:
    """How many letters are the same at the beginning, up to the end of a word or a number in both."""

    def ends(name: str, at: int) -> bool:
        return at == len(name) or not name[at].isalnum() or name[at].isdigit() != name[at - 1].isdigit()

    most = len(_common([one, other]))
    return next((at for at in range(most, 0, -1) if ends(one, at) and ends(other, at)), 0)
