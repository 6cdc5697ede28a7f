"""Splitting a list of names into train, val and test by fractions, the same way for ever."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

from segkit.data.text import composed
from segkit.errors import ConfigError, DataError

SPLITS = ("train", "val", "test")


class TooFew(DataError):
    """Fewer images, or whatever is dealt, than splits."""


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
        TooFew: fewer keys than splits.
        DataError: a key twice.
    """
    check_fractions(fractions)
    distinct = {composed(key) for key in keys}
    if len(distinct) != len(keys):
        raise DataError(f"cannot split {len(keys)} names of which only {len(distinct)} differ")
    wanted = [fraction > 0 for fraction in fractions]
    if len(keys) < sum(wanted):
        raise TooFew(
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
