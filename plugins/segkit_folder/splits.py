"""Splits: names in the one form in which they are compared, lists of them, and shares of them dealt at random."""

from __future__ import annotations

import hashlib
import math
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segkit.data.read import suffixes
from segkit.data.sample import SPLITS
from segkit.errors import ConfigError, DataError, did_you_mean, first_few, reason

CONTAINERS = (".npz", ".mat", ".h5", ".hdf5", ".nii", ".gz")
"""Files of arrays, which are named one by one: ``x.npz#image``; or of slices."""
TABLES = (".txt", ".csv")
"""What may hold the labels of a mask as text."""
SUFFIXES = tuple(each for each in suffixes() if each not in CONTAINERS)
SEVERAL = (".tif", ".tiff", ".npy", ".dcm", *CONTAINERS)  # may hold several pictures
SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""What people call each split, in small letters or large ones."""
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
SPLIT_WORDS = "|".join(sorted(_SPLIT_OF, key=len, reverse=True))
ANY_SPLIT = rf"(?:{SPLIT_WORDS})(?:20\d\d)?"
"""A pattern of these names, which may have a year: ``val2017``."""
TRAIN_AND_VAL = r"train[-_+ ]?val(?:id|idation)?"
"""A pattern of what holds both, which is train where nothing is train alone."""
SPLIT_IN_A_NAME = re.compile(
    rf"(?:(?<![A-Za-z0-9])|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]))(?i:{TRAIN_AND_VAL}|{ANY_SPLIT})"
    r"(?:(?![A-Za-z])|(?<=[a-z])(?=[A-Z])|(?=(?i:data|set)))"
)
"""One of these names beside other words: ``Training Images``, ``TrainData``, ``data_val``."""


def split_called(name: str) -> str | None:
    """train, val or test, by any of their names; train for what is both train and val; None for other words."""
    return "train" if is_train_and_val(name) else _SPLIT_OF.get(re.sub(r"20\d\d$", "", name.casefold()))


def is_train_and_val(name: str) -> bool:
    """Whether it is one of the names of both, as ``trainval`` or ``train_val``."""
    return re.fullmatch(TRAIN_AND_VAL, name, re.IGNORECASE) is not None


def split_in(name: str) -> str | None:
    """Likewise, of a name that may hold other words."""
    match = SPLIT_IN_A_NAME.search(name)
    return split_called(match[0]) if match else None


MAX_TEXT_BYTES = 16 << 20
"""Half a million names of 32 letters; what is larger is another file, or a device that never ends."""


def composed(name: str) -> str:
    """A file's name in the one form (NFC) in which names are compared, sorted and hashed.

    What a person types as one name is stored in several forms: a Mac, and an archive made on it, write an umlaut as two
    characters. The same folder must give the same split on every system.
    """
    return unicodedata.normalize("NFC", name)


def read_text(path: Path) -> str:
    """The text of a file, UTF-8; or UTF-16 as Windows writes it, with the mark that says so at its begin.

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
        is_utf_16 = content[:2] in (b"\xff\xfe", b"\xfe\xff") and b"\0" in content
        return content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        place = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path} cannot be read as text: line {place} is not UTF-8; save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a zero byte in the name
        raise DataError(f"{path} cannot be read as text: {reason(error)}") from error


class TooFewError(DataError):
    """There are fewer images, or groups of them, than splits."""


def split_by_fraction(
    keys: Sequence[str], fractions: Sequence[float], seed: int, what: str = "images"
) -> dict[str, list[str]]:
    """Deal ``keys`` to train, val and test in the order of SHA-256("seed/key").

    The result does not depend on the order of ``keys``, nor on the Unicode form in which a file system stores them, as
    they are hashed and sorted :func:`composed`, nor on a version of Python or NumPy. A split whose
    fraction is not 0 gets at least one key.

    Args:
        keys: unique names: of images, or of what must stay together, such as the car of several images.
        fractions: two (train, val) or three (train, val, test) numbers that sum to 1.
        seed: another seed, another split.
        what: the keys are, in a message.

    Returns:
        The sorted keys of each split, as many splits as fractions.

    Raises:
        ConfigError: the fractions are not two or three numbers that sum to 1.
        TooFewError: fewer keys than splits.
        DataError: a key twice.
    """
    check_fractions(fractions)
    distinct = {composed(key) for key in keys}
    if len(distinct) != len(keys):
        raise DataError(f"cannot split {len(keys)} names of which only {len(distinct)} differ")
    wanted = [fraction > 0 for fraction in fractions]
    if len(keys) < sum(wanted):
        raise TooFewError(
            f"cannot split {len(keys)} {what} into {sum(wanted)} parts of which none is empty; "
            f"label more, some 20 to begin with, or set a fraction to 0"
        )

    ordered, sizes = _shuffled(keys, seed), _sizes(len(keys), fractions)
    starts = [sum(sizes[:part]) for part in range(len(sizes))]
    return {
        name: sorted(ordered[start : start + size], key=composed)
        for name, start, size in zip(SPLITS, starts, sizes, strict=False)  # two fractions make no test split
    }


def split_into_folds(keys: Sequence[str], folds: int, seed: int) -> list[list[str]]:
    """Deal ``keys`` to folds of sizes that differ by at most one, in the order that :func:`split_by_fraction` has.

    Raises:
        DataError: fewer keys than folds.
    """
    if len(keys) < folds:
        raise DataError(f"cannot deal {len(keys)} to {folds} folds of which none is empty; set `folds` to fewer")
    ordered = _shuffled(keys, seed)
    return [sorted(ordered[fold::folds], key=composed) for fold in range(folds)]


def _shuffled(keys: Sequence[str], seed: int) -> list[str]:
    """In the order of the digests, which depends on the names and the seed alone."""

    def digest(key: str) -> bytes:
        return hashlib.sha256(f"{seed}/{composed(key)}".encode(errors="surrogateescape")).digest()  # no valid UTF-8

    return sorted(keys, key=digest)


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


def by_suffix(counted: Counter[str]) -> str:
    """``12 .jp2, 1 .txt``."""
    return first_few([f"{count} {suffix or 'without an ending'}" for suffix, count in counted.most_common()], 8)
