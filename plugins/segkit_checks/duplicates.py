"""The check ``duplicates``: finds images that are equal or nearly equal in two splits, which leaks data into a test.

The thumbnail of a recompressed, resized or brightened copy is close to a linear function of the original's. Measured on
CamVid, VOC, Carvana, Cityscapes, COCO-Stuff and ``shapes``: the check finds 99 to 100 % of copies saved as JPEG of
quality 50 to 95 or resized by 0.5 to 2, 95 to 100 % with brightness changed by 10 %, about half with 1 % cropped off
each side, and no pair of different images. CamVid's train ends one second before its test begins, in a moving car
(correlation 0.969), and two views in Carvana's studio correlate by 0.968; neither is reported. Mirrored and rotated
copies are searched only among names that begin alike, such as ``7`` and ``7_flip``, and images of equal histograms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import segkit
from segkit.data.normalise import displayable
from segkit.data.statistics import SampleStatistics
from segkit.errors import Issue, first_few
from segkit_checks.images import no_data_value

SIDE = 16  # pixels of a thumbnail
_DIGITS = 2 * SIDE**2  # hexadecimal, of a thumbnail

_ALIKE = 0.995  # minimum correlation of two thumbnails
_APART = 0.4  # standard deviations; a larger difference in any pixel means that an object moved, appeared or vanished
_FLAT = 4.0  # grey levels of contrast; below it, rounding alone lowers the correlation by 0.005
_ROUNDED = 2  # grey levels; maximum rounding difference between a thumbnail and that of a rotated copy
_MOST_COPIES = 32  # names with the same beginning
_AT_ONCE = 1024  # images per matrix product; 100 MB against 25,000 others


class Picture(NamedTuple):
    """The digest of an image's pixels, its grey thumbnail, uint8 ``[SIDE,SIDE]``, and the digest of its histogram."""

    digest: str
    thumbnail: NDArray[np.uint8]
    histogram: str = ""


class Duplicates:
    """Images in two splits: equal ones are errors unless ``data.allow_leaks`` is set, similar ones are warnings."""

    version = 2

    def __init__(self, settings: Any) -> None:
        self._allowed = settings.allow_leaks

    def measure(self, sample: segkit.Sample, *_: Any) -> str:
        """Return the thumbnail of an image, and the digest of its histogram, as hexadecimal digits."""
        small, histogram = fingerprint(np.stack([*sample.image.numpy()], axis=-1))
        return small.tobytes().hex() + histogram

    def judge(self, splits: Mapping[str, Sequence[tuple[SampleStatistics, str]]], *_: Any) -> Iterator[Issue]:
        """Yield an issue for each pair of splits with rotated, equal or similar images."""
        pictures = {
            split: [
                Picture(each.digest, np.frombuffer(bytes.fromhex(text[:_DIGITS]), np.uint8), text[_DIGITS:])
                for each, text in those
            ]
            for split, those in splits.items()
        }
        alike = {pair: alike_pictures(*(pictures[split] for split in pair)) for pair in combinations(splits, 2)}
        for first, second in alike:
            own = [
                {each.name: picture for (each, _), picture in zip(splits[name], pictures[name], strict=True)}
                for name in (first, second)
            ]
            if names := turned_copies(*own):
                yield self._issue(first, second, names, True, is_turned=True)
        for equal in (True, False):
            for (first, second), pairs in alike.items():
                names = [
                    (splits[first][one][0].name, splits[second][other][0].name)
                    for one, other in pairs
                    if (pictures[first][one].digest == pictures[second][other].digest) is equal
                ]
                if names:
                    yield self._issue(first, second, names, equal)

    def _issue(
        self, first: str, second: str, names: Sequence[tuple[str, str]], equal: bool, is_turned: bool = False
    ) -> Issue:
        stop = equal and not self._allowed
        text = f"{len(names)} pictures are" if len(names) > 1 else "1 picture is"
        how = ", turned or mirrored," if is_turned else "" if equal else " nearly the same"
        text += f"{how} in both; the score on {second} is of pictures that "
        text += "were trained on: " if first == "train" else "the best epoch is chosen by: "
        text += first_few([one if one == other else f"{one} = {other}" for one, other in names])
        advice = "take them out of one" if equal else "keep pictures of one scene or film in one split"
        return Issue(
            "turned_picture" if is_turned else "same_picture" if equal else "similar_picture",
            what=text,
            advice=advice + (", or set data.allow_leaks = true" if stop else ""),
            severity="error" if stop else "warning",
            split=f"{first} and {second}",
            files=tuple(dict.fromkeys(name for pair in names for name in pair)),
            ways={"continue; the scores are then too high": {"data.allow_leaks": True}} if stop else {},
        )


def fingerprint(image: NDArray[np.uint8 | np.float32]) -> tuple[NDArray[np.uint8], str]:
    """Return the grey thumbnail of an image ``[H,W,C]``, and the digest of its grey values in any order.

    Pixels without data are set to the mean.
    """
    if image.dtype == np.float32:
        mark = no_data_value(image[..., 0])
        holes = (image == np.float32(mark if mark else np.nan)) | ~np.isfinite(image)
        image = np.where(holes, np.nan_to_num(np.mean(image, axis=(0, 1), where=~holes)), image)
    grey = Image.fromarray(displayable(np.ascontiguousarray(image))).convert("L")
    # resize in one step: reducing first would miss resized copies
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.HAMMING))
    return small, blake2b(repr(grey.histogram()).encode(), digest_size=8).hexdigest()


def alike_pictures(earlier: Sequence[Picture], later: Sequence[Picture]) -> list[tuple[int, int]]:
    """Find images of one split that equal or resemble images of an earlier split: indices (earlier, later).

    Each is paired with the first equal image, or else the most similar one. All pairs are compared, by one matrix
    product per thousand images. Images without contrast are skipped: blank tiles are alike without being copies.
    """
    (known, known_indices), (asked, asked_indices) = _layouts(earlier), _layouts(later)
    first = {earlier[index].digest: index for index in reversed(known_indices)}
    pairs = []
    for start in range(0, len(asked), _AT_ONCE) if len(known) else ():
        some = asked[start : start + _AT_ONCE]  # [N,256]
        likest = (some @ known.T).argmax(axis=1)  # [N]
        correlation = (some * known[likest]).mean(axis=1)
        similar = (correlation >= _ALIKE) & (np.abs(some - known[likest]).max(axis=1) <= _APART)
        for index, like, is_similar in zip(asked_indices[start:], likest.tolist(), similar.tolist(), strict=False):
            equal = first.get(later[index].digest)
            if equal is not None or is_similar:
                pairs.append((known_indices[like] if equal is None else equal, index))
    return pairs


def turned_copies(earlier: Mapping[str, Picture], later: Mapping[str, Picture]) -> list[tuple[str, str]]:
    """Find images that are mirrored or rotated copies of images of an earlier split, as names (earlier, later).

    Only images whose names begin alike (``7.png``, ``7_flip.png``), or that have each grey value equally often, are
    compared, in groups of ``_MOST_COPIES`` at most.

    Args:
        earlier: images by name.
        later: images of another split by name.
    """
    begun: dict[str, tuple[list[str], list[str]]] = {}
    for place, pictures in enumerate((earlier, later)):
        for name, picture in pictures.items():
            beginnings = (name[: sign.start()] for sign in re.finditer(r"[-_./ ]", name))
            for beginning in (*beginnings, name, f"\0{picture.histogram}"):
                begun.setdefault(beginning, ([], []))[place].append(name)
    few = [names for names in begun.values() if len(names[0]) + len(names[1]) <= _MOST_COPIES]
    return [
        pair
        for pair in dict.fromkeys(each for names in few for each in product(*names))
        if _is_turned(earlier[pair[0]], later[pair[1]])
    ]


def _is_turned(one: Picture, other: Picture) -> bool:
    """Whether a thumbnail is a mirrored or rotated copy of another, up to rounding."""
    if one.digest == other.digest or abs(int(one.thumbnail.sum()) - int(other.thumbnail.sum())) > SIDE * SIDE:
        return False
    upright, wanted = (each.thumbnail.reshape(SIDE, SIDE).astype(np.int16) for each in (one, other))
    ways = [np.rot90(side, turns) for side in (upright, upright.T) for turns in range(4)][1:]
    return bool(upright.std() >= _FLAT) and any(np.abs(each - wanted).max() <= _ROUNDED for each in ways)


def _layouts(pictures: Sequence[Picture]) -> tuple[NDArray[np.float32], list[int]]:
    """Return standardised thumbnails ``[N,256]`` of the images with enough contrast, and their indices."""
    thumbnails = np.array([each.thumbnail for each in pictures], np.float32).reshape(len(pictures), SIDE * SIDE)
    contrast = thumbnails.std(axis=1)
    indices = np.flatnonzero(contrast >= _FLAT)
    centred = thumbnails[indices] - thumbnails[indices].mean(axis=1, keepdims=True)
    return centred / contrast[indices, None], indices.tolist()
