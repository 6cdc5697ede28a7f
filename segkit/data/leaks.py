"""The same picture, or nearly the same one, in two splits: what was trained on is no test.

A copy that was compressed again, resized or made brighter keeps its layout: its thumbnail is a linear function of the
original's. Measured on CamVid, VOC, Carvana, Cityscapes, COCO-Stuff and ``shapes``: JPEG of quality 50 to 95 and sizes
of 0.5 to 2 are found in 99 to 100 % of the pictures, brightness +-10 % in 95 to 100, 1 % cropped off each side in about
half, mirrored copies never; and no two different pictures across splits or sets. CamVid's train ends a second before
its test begins, in a moving car: correlation 0.969, not reported; nor are two views in Carvana's studio, 0.968.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.normalise import for_the_eye
from segkit.data.read import Pixels

SIDE = 16  # pixels of a thumbnail

_ALIKE = 0.995  # correlation of two thumbnails
_APART = 0.4  # standard deviations; more in any one pixel: something has moved, come or gone
_FLAT = 4.0  # grey levels; in a picture of less contrast, rounding alone costs a correlation of 0.005
_AT_ONCE = 1024  # pictures; against 25,000 others 100 MB

Pair = tuple[str, int, str, int]
"""(split, index, later split, index)"""


class Fingerprint(NamedTuple):
    """What is kept of a picture.

    Attributes:
        digest: of its pixels and shape, 16 bytes.
        thumbnail: grey, uint8 ``[SIDE,SIDE]``.
    """

    digest: bytes
    thumbnail: NDArray[np.uint8]


def fingerprint(image: Pixels) -> Fingerprint:
    """The fingerprint of an image ``[H,W,3]``."""
    pixels = np.ascontiguousarray(image)
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(pixels.data)
    grey = Image.fromarray(for_the_eye(pixels)).convert(
        "L"
    )  # in one step: reduced first, resized copies would be missed
    return Fingerprint(digest.digest(), np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.HAMMING)))


def same_pictures(splits: Mapping[str, Sequence[Fingerprint]]) -> list[Pair]:
    """Pictures of a later split with the very pixels of an earlier one's, each with the first of them.

    Pictures without contrast are left out: blank tiles are alike without being copies.
    """
    pairs = []
    for (earlier, known), (later, asked) in combinations(splits.items(), 2):
        first = {each.digest: index for index, each in reversed([*enumerate(known)])}
        pairs += [
            (earlier, first[each.digest], later, index)
            for index, each in enumerate(asked)
            if each.digest in first and each.thumbnail.std() >= _FLAT
        ]
    return pairs


def similar_pictures(splits: Mapping[str, Sequence[Fingerprint]]) -> list[Pair]:
    """Pictures of a later split that look like an earlier one's, each with the likest; the very same are left out.

    All pairs are compared, as one matrix product a thousand pictures; pictures without contrast never look alike.
    """
    layouts = {split: _layouts(pictures) for split, pictures in splits.items()}
    pairs = []
    for earlier, later in combinations(splits, 2):
        (known, places), (asked, asked_places) = layouts[earlier], layouts[later]
        if not len(known):
            continue
        for start in range(0, len(asked), _AT_ONCE):
            some = asked[start : start + _AT_ONCE]  # [N,256]
            likest = (some @ known.T).argmax(axis=1)  # [N]
            correlation = (some * known[likest]).mean(axis=1)
            apart = np.abs(some - known[likest]).max(axis=1)
            for position in np.flatnonzero((correlation >= _ALIKE) & (apart <= _APART)):
                one, other = int(places[likest[position]]), int(asked_places[start + position])
                if splits[earlier][one].digest != splits[later][other].digest:
                    pairs.append((earlier, one, later, other))
    return pairs


def _layouts(pictures: Sequence[Fingerprint]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Thumbnails of mean 0 and standard deviation 1, ``[N,256]``, and the indices of those N that are not flat."""
    thumbnails = np.array([each.thumbnail for each in pictures], np.float32).reshape(len(pictures), SIDE * SIDE)
    contrast = thumbnails.std(axis=1)
    places = np.flatnonzero(contrast >= _FLAT)
    centred = thumbnails[places] - thumbnails[places].mean(axis=1, keepdims=True)
    return centred / contrast[places, None], places
