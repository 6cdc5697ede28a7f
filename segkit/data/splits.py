"""From folders to splits: which mask belongs to which image, and which images to train, val and test."""

from __future__ import annotations

import hashlib
import math
import re
import stat
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from segkit.data.issues import TooFewImages, refuse
from segkit.data.sample import SPLITS
from segkit.errors import ConfigError, DataError, Issue, first_few, reason

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
    they are hashed and sorted :func:`segkit.data.text.composed`, nor on a version of Python or NumPy. A split whose
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
    ordered = sorted(keys, key=lambda key: _digest(f"{seed}/{composed(key)}"))
    sizes = _sizes(len(keys), fractions)
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


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()  # a name may be no valid UTF-8


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
    faults: list[Issue] = []
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
    several = _several_masks(images_of, dict(pairs), without_mask, without_image)
    faults += several
    suffix = None if pairs or several else _suffix_of_most(without_mask, without_image)
    if suffix is not None:  # what is told next is what would be wrong with it
        mask_suffix = suffix
        what = (
            f'the name has "{suffix}" more than its image\'s' if suffix else "the name is its image's, without a suffix"
        )
        advice = f'set mask_suffix = "{suffix}"' if suffix else "leave mask_suffix out"
        for stem in [stem for stem in without_mask if stem + suffix in without_image]:
            faults.append(Issue("mask_suffix", str(without_image.pop(stem + suffix)), what, advice))
            del without_mask[stem]
    faults += _called_otherwise(without_mask, without_image, mask_suffix)
    cat = f"the mask of cat.jpg is cat{mask_suffix}.png"
    advice = f"in {masks}, {cat}; rename, add or remove files"
    faults += [Issue("image_without_mask", str(x), "image without a mask", advice) for x in without_mask.values()]
    advice = f"in {images} there is none; {cat}"
    faults += [Issue("mask_without_image", str(x), "mask without an image", advice) for x in without_image.values()]
    refuse(faults)
    return pairs


def _by_stem(images: Path, masks: Path, mask_suffix: str, of_masks: bool) -> dict[str, list[Path]]:
    """Name without suffix, :func:`composed`, -> files."""
    files = _picture_files(masks if of_masks else images, {images, masks})
    if images == masks:
        files = [path for path in files if composed(path.stem).endswith(mask_suffix) is of_masks]
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(composed(path.stem), []).append(path)
    return found


def _picture_files(folder: Path, read: Collection[Path]) -> list[Path]:
    """The pictures in a folder; what else lies there is told, but for folders that are ``read`` too."""
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        advice = "Name the folder that is meant, or set the dataset's root to where the data lies"
        if folder.parent.is_dir() and any(path.suffix.lower() in SUFFIXES for path in folder.parent.iterdir()):
            advice = (
                f"Images and masks are divided into folders alike: move the files that lie in {folder.parent} there"
            )
        raise DataError(f"folder {folder} {state}; {_nearest(folder)}. {advice}")
    entries = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name.lower() not in _SYSTEM]
    named = [path for path in entries if path.suffix.lower() in SUFFIXES]
    files = [path for path in named if path.is_file()]
    what, advice = "no regular file, although its name is an image's", "fetch or remove it"
    kinds = {path: "a folder" if path.is_dir() else "a link to nowhere" if path.is_symlink() else "" for path in named}
    refuse([Issue("no_file", str(path), what, advice, kinds[path]) for path in named if path not in set(files)])
    folders = sorted(str(path) for path in entries if path.is_dir() and path not in read and _holds_pictures(path))
    if not files:
        inner = sum(path.is_dir() for path in entries)
        inside = f"; images are in its folders {first_few(folders)}, which are not looked into" if folders else ""
        inside += "; those of splits are called train, val and test" if folders else ""
        raise DataError(
            f"folder {folder} holds no images, but {len(entries) - inner} other files and {inner} folders{inside}; "
            f"read are {', '.join(SUFFIXES)}"
        )
    if folders:
        warnings.warn(f"not read: images in {first_few(folders)}; read is {folder} without its folders", stacklevel=4)
    others = Counter(path.suffix.lower() for path in entries if path.suffix.lower() not in SUFFIXES and path.is_file())
    if others:
        count = others.total()
        warnings.warn(
            f"not read: {count} of {count + len(files)} files in {folder}, which are no images that are read: "
            f"{by_suffix(others)}; read are {', '.join(SUFFIXES)}",
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


def _nearest(folder: Path) -> str:
    """What lies in the nearest parent that exists."""
    parent = next(path for path in folder.absolute().parents if path.is_dir())
    beside = sorted(path.name for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    return f"{parent} holds " + (f"the folders {first_few(beside)}" if beside else "no folders")


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Digits compare as numbers, ``2 < 10``; where these are equal, as of 1 and 01, the names as texts."""
    name = composed(path.name)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"([0-9]+)", name)], name


def _repeated(files: Sequence[Path]) -> list[Issue]:
    """A fault for each of several files of one name."""
    what = "another file has the same name but for the suffix"
    return [
        Issue("duplicate_stem", str(path), what, "keep one of them", ", ".join(x.name for x in files if x != path))
        for path in files
        if len(files) > 1
    ]


def _different_case(without_mask: dict[str, Path], without_image: dict[str, Path], mask_suffix: str) -> list[Issue]:
    """Take out the images and masks whose names are the same but for upper and lower case, and tell them."""
    lowered = {stem.lower(): stem for stem in without_image}
    faults = []
    for stem in list(without_mask):
        partner = lowered.pop((stem + mask_suffix).lower(), None)
        if partner is not None:
            what = "the name of the mask differs in upper and lower case"
            path, detail = str(without_mask.pop(stem)), without_image.pop(partner).name
            faults.append(Issue("different_case", path, what, "rename the image or the mask", detail))
    return faults


def _several_masks(
    images: Mapping[str, list[Path]],
    mask_of: Mapping[Path, Path],
    without_mask: dict[str, Path],
    without_image: dict[str, Path],
) -> list[Issue]:
    """Take out the images of which several masks begin with the name, and these masks, and tell them."""
    masks: dict[str, list[str]] = {}
    for stem in without_image:
        masks.setdefault(_image_of(stem, images), []).append(stem)
    faults = []
    what = "several masks for one image"
    advice = (
        "an image has one mask, which holds all its labels: merge them into one, or move what is of another kind to a "
        "folder of its own"
    )
    for image, stems in masks.items():
        if image and len(stems) + (image not in without_mask) > 1:
            without_mask.pop(image, None)
            path = images[image][0]
            own = [mask_of[path]] if path in mask_of else []
            detail = first_few([mask.name for mask in (*own, *map(without_image.pop, stems))])
            faults.append(Issue("several_masks", str(path), what, advice, detail))
    return faults


def _image_of(mask: str, images: Mapping[str, object]) -> str:
    """The longest image's name that a mask's begins with; 1 does not begin 10."""
    ends = [end for end in range(len(mask), 0, -1) if not (mask[end - 1].isdigit() and mask[end : end + 1].isdigit())]
    return next((mask[:end] for end in ends if mask[:end] in images), "")


def _suffix_of_most(without_mask: Mapping[str, Path], without_image: Mapping[str, Path]) -> str | None:
    """The suffix by which more than half of the images have a mask."""
    owners = {mask: _image_of(mask, without_mask) for mask in without_image}
    suffixes = Counter(mask.removeprefix(image) for mask, image in owners.items() if image)
    return next((suffix for suffix, count in suffixes.most_common(1) if 2 * count > len(without_mask)), None)


def _called_otherwise(without_mask: dict[str, Path], without_image: dict[str, Path], mask_suffix: str) -> list[Issue]:
    """Take out images and masks whose names are the same but for what all of a side begin or end with; tell them."""
    images, masks = _cores(without_mask), _cores(without_image)
    if len(images.of) < 2 or images.of.keys() != masks.of.keys():
        return []
    same = _shared_words(images.begin[::-1], masks.begin[::-1])
    begins = [side.begin[: len(side.begin) - same] for side in (images, masks)]
    same = _shared_words(images.end, masks.end)
    ends = [side.end[same:] for side in (images, masks)]
    differences = [
        f'the {side}\'s name {verb} "{part}"'
        for side, begin, end in zip(("image", "mask"), begins, ends, strict=True)
        for verb, part in (("begins with", begin), ("ends in", end))
        if part
    ]
    if not differences:  # names are the same, and others have a mask_suffix more
        return []
    what = f"image and mask are called differently: {' and '.join(differences)}"
    core, name = next(iter(images.of.items()))
    image, mask = without_mask[name], without_image[masks.of[core]]
    advice = (
        "a mask is found by its image's name, which at most a mask_suffix may follow: rename the masks, "
        f"{mask.name} to {image.stem}{mask_suffix}{mask.suffix}"
    )
    faults = [Issue("other_name", str(without_image[stem]), what, advice) for stem in masks.of.values()]
    without_mask.clear()
    without_image.clear()
    return faults


class _Cores(NamedTuple):
    """What all names of a side begin and end with, and between these: core -> name."""

    begin: str
    end: str
    of: dict[str, str]


def _cores(names: Iterable[str]) -> _Cores:
    begin = _shared(names)
    rest = [name[len(begin) :] for name in names]
    end = _shared([name[::-1] for name in rest])[::-1]
    return _Cores(begin, end, {name[: len(name) - len(end)]: begin + name for name in rest})


def _shared(names: Iterable[str]) -> str:
    """What all of them begin with."""
    first, last = min(names, default=""), max(names, default="")
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _shared_words(one: str, other: str) -> int:
    """How many letters are the same at the beginning, up to the end of a word or a number in both."""

    def ends(name: str, at: int) -> bool:
        return at == len(name) or not name[at].isalnum() or name[at].isdigit() != name[at - 1].isdigit()

    most = len(_shared([one, other]))
    return next((at for at in range(most, 0, -1) if ends(one, at) and ends(other, at)), 0)
