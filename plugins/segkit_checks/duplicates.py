"""The same picture, or nearly the same one, in two splits: what was trained on is no test.

A copy that was compressed again, resized or made brighter keeps its layout: its thumbnail is a linear function of the
original's. Measured on CamVid, VOC, Carvana, Cityscapes, COCO-Stuff and ``shapes``: JPEG of quality 50 to 95 and sizes
of 0.5 to 2 are found in 99 to 100 % of the pictures, brightness +-10 % in 95 to 100, 1 % cropped off each side in about
half, mirrored copies never; and no two different pictures across splits or sets. CamVid's train ends a second before
its test begins, in a moving car: correlation 0.969, not reported; nor are two views in Carvana's studio, 0.968.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.normalise import for_the_eye
from segkit.data.sample import Sample
from segkit.data.scan import SampleStatistics
from segkit.errors import Issue, first_few
from segkit.settings import DataSettings

SIDE = 16  # pixels of a thumbnail

_ALIKE = 0.995  # correlation of two thumbnails
_APART = 0.4  # standard deviations; more in any one pixel: something has moved, come or gone
_FLAT = 4.0  # grey levels; in a picture of less contrast, rounding alone costs a correlation of 0.005
_AT_ONCE = 1024  # pictures; against 25,000 others 100 MB


class Picture(NamedTuple):
    """One image: the digest of its pixels, and its grey thumbnail, uint8 ``[SIDE,SIDE]``."""

    digest: str
    thumbnail: NDArray[np.uint8]


class Pair(NamedTuple):
    """A picture of a split and one of a later split, by index, that are alike."""

    earlier: str
    first: int
    later: str
    second: int


class Duplicates:
    """Images that are in two splits: equal ones are an error, unless ``data.allow_leaks`` is set, similar ones not."""

    def __init__(self, settings: DataSettings) -> None:
        self._allowed = settings.allow_leaks

    def measure(self, sample: Sample) -> str:
        """The thumbnail of an image, as hexadecimal digits."""
        return thumbnail(np.stack([*sample.image.numpy()], axis=-1)).tobytes().hex()

    def judge(self, splits: Mapping[str, Sequence[tuple[SampleStatistics, str]]]) -> Iterator[Issue]:
        """One issue for each two splits with equal images, and for each two with similar ones."""
        pictures = {
            split: [
                Picture(each.digest, np.frombuffer(bytes.fromhex(text), np.uint8).reshape(SIDE, SIDE))
                for each, text in those
            ]
            for split, those in splits.items()
        }
        names = {split: [each.name for each, _ in those] for split, those in splits.items()}
        equal, similar = same_pictures(pictures), similar_pictures(pictures)
        for first, second in combinations(splits, 2):
            use = "were trained on" if first == "train" else "the best epoch is chosen by"
            for pairs in (equal, similar):
                own = [(names[first][i], names[second][j]) for a, i, b, j in pairs if (a, b) == (first, second)]
                if not own:
                    continue
                text = f"{len(own)} pictures are" if len(own) > 1 else "1 picture is"
                text += " in both" if pairs is equal else " nearly the same in both"
                listed = first_few([one if one == other else f"{one} = {other}" for one, other in own])
                text += f"; the score on {second} is of pictures that {use}: {listed}; "
                if pairs is similar:
                    kind, text = "similar_picture", text + "keep pictures of one scene or film in one split"
                else:
                    kind, text = "same_picture", text + "take them out of one"
                    text += "" if self._allowed else ", or set data.allow_leaks = true"
                stop = pairs is equal and not self._allowed
                files = tuple(dict.fromkeys(name for pair in own for name in pair))
                where = f"{first} and {second}"
                yield Issue(kind, what=text, severity="error" if stop else "warning", split=where, files=files)


def thumbnail(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """The grey thumbnail of an image ``[H,W,3]``."""
    grey = Image.fromarray(for_the_eye(np.ascontiguousarray(image))).convert("L")
    # in one step: reduced first, resized copies would be missed
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.HAMMING))


def same_pictures(splits: Mapping[str, Sequence[Picture]]) -> list[Pair]:
    """Pictures of a later split with the very pixels of an earlier one's, each with the first of them.

    Pictures without contrast are left out: blank tiles are alike without being copies.
    """
    pairs = []
    for (earlier, known), (later, asked) in combinations(splits.items(), 2):
        first = {each.digest: index for index, each in reversed([*enumerate(known)])}
        pairs += [
            Pair(earlier, first[each.digest], later, index)
            for index, each in enumerate(asked)
            if each.digest in first and each.thumbnail.std() >= _FLAT
        ]
    return pairs


def similar_pictures(splits: Mapping[str, Sequence[Picture]]) -> list[Pair]:
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
                    pairs.append(Pair(earlier, one, later, other))
    return pairs


def _layouts(pictures: Sequence[Picture]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Thumbnails of mean 0 and standard deviation 1, ``[N,256]``, and the indices of those N that are not flat."""
    thumbnails = np.array([each.thumbnail for each in pictures], np.float32).reshape(len(pictures), SIDE * SIDE)
    contrast = thumbnails.std(axis=1)
    places = np.flatnonzero(contrast >= _FLAT)
    centred = thumbnails[places] - thumbnails[places].mean(axis=1, keepdims=True)
    return centred / contrast[places, None], places
