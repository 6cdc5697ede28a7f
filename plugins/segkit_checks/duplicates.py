"""The check ``duplicates``: finds images that are equal or nearly equal in two splits, which leaks data into a test.

The thumbnail of a recompressed, resized or brightened copy is close to a linear function of the original's. Measured on
CamVid, VOC, Carvana, Cityscapes, COCO-Stuff and ``shapes``: the check finds 99 to 100 % of copies saved as JPEG of
quality 50 to 95 or resized by 0.5 to 2, 95 to 100 % with brightness changed by 10 %, about half with 1 % cropped off
each side, and no pair of different images. CamVid's train ends one second before its test begins, in a moving car
(correlation 0.969), and two views in Carvana's studio correlate by 0.968; neither is reported. Mirrored and rotated
copies are found if their pixels are otherwise unchanged: each image is compared with the likeliest one after averaging
over all eight positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import segkit
from segkit.data.normalise import displayable
from segkit.data.statistics import SampleStatistics
from segkit.errors import Issue, first_few
from segkit_checks.images import no_data_value

SIDE = 16  # pixels of a thumbnail

_ALIKE = 0.995  # minimum correlation of two thumbnails
_APART = 0.4  # standard deviations; a larger difference in any pixel means that an object moved, appeared or vanished
_FLAT = 4.0  # grey levels of contrast; below it, rounding alone lowers the correlation by 0.005
_ROUNDED = 2  # grey levels; maximum rounding difference between a thumbnail and that of a rotated copy
_AT_ONCE = 1024  # images per matrix product; 100 MB against 25,000 others

Thumbnails = NDArray[np.uint8]
"""``[N,SIDE,SIDE]``, grey."""
Pairs = list[tuple[int, int]]
"""Indices of images in an earlier and a later split."""


class Duplicates:
    """Images in two splits: equal ones are errors unless ``data.allow_leaks`` is set, similar ones are warnings."""

    version = 3

    def __init__(self, settings: Any) -> None:
        self._allowed = settings.allow_leaks

    def measure(self, sample: segkit.Sample, *_: Any) -> str:
        """Return the thumbnail of an image as hexadecimal digits."""
        return thumbnail(np.stack([*sample.image.numpy()], axis=-1)).tobytes().hex()

    def judge(self, splits: Mapping[str, Sequence[tuple[SampleStatistics, str]]], *_: Any) -> Iterator[Issue]:
        """Yield an issue for each pair of splits with rotated, equal or similar images."""
        found: dict[str, list[tuple[str, str, Pairs]]] = {"turned": [], "same": [], "similar": []}
        small = {
            name: np.frombuffer(bytes.fromhex("".join(text for _, text in those)), np.uint8).reshape(-1, SIDE, SIDE)
            for name, those in splits.items()
        }
        for first, second in combinations(splits, 2):
            one, other = ([each.digest for each, _ in splits[name]] for name in (first, second))
            same = same_pictures(one, other, has_contrast(small[second]))
            equal = {index for _, index in same}
            found["same"] += [(first, second, same)]
            for kind, search in (("turned", turned_pictures), ("similar", similar_pictures)):
                pairs = search(small[first], small[second])
                found[kind] += [(first, second, [pair for pair in pairs if pair[1] not in equal])]
        for kind, each in found.items():
            for first, second, pairs in each:
                names = [(splits[first][one][0].name, splits[second][other][0].name) for one, other in pairs]
                if names:
                    yield self._issue(first, second, names, kind)

    def _issue(self, first: str, second: str, names: Sequence[tuple[str, str]], kind: str) -> Issue:
        equal = kind != "similar"
        stop = equal and not self._allowed
        text = f"{len(names)} pictures are" if len(names) > 1 else "1 picture is"
        how = {"turned": ", turned or mirrored,", "same": "", "similar": " nearly the same"}[kind]
        text += f"{how} in both; the score on {second} is of pictures that "
        text += "were trained on: " if first == "train" else "the best epoch is chosen by: "
        text += first_few([one if one == other else f"{one} = {other}" for one, other in names])
        advice = "take them out of one" if equal else "keep pictures of one scene or film in one split"
        return Issue(
            f"{kind}_picture",
            what=text,
            advice=advice + (", or set data.allow_leaks = true" if stop else ""),
            severity="error" if stop else "warning",
            split=f"{first} and {second}",
            files=tuple(dict.fromkeys(name for pair in names for name in pair)),
            ways={"continue; the scores are then too high": {"data.allow_leaks": True}} if stop else {},
        )


def thumbnail(image: NDArray[np.uint8 | np.float32]) -> NDArray[np.uint8]:
    """Return the grey thumbnail of an image ``[H,W,C]``; pixels without data are set to the mean."""
    if image.dtype == np.float32:
        mark = no_data_value(image[..., 0])
        holes = (image == np.float32(mark if mark else np.nan)) | ~np.isfinite(image)
        image = np.where(holes, np.nan_to_num(np.mean(image, axis=(0, 1), where=~holes)), image)
    grey = Image.fromarray(displayable(np.ascontiguousarray(image))).convert("L")
    # resize in one step: reducing first would miss resized copies
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.HAMMING))


def has_contrast(thumbnails: Thumbnails) -> NDArray[np.bool_]:
    """Return ``[N]``, False for blank tiles and the like, which are alike without being copies."""
    contrast: NDArray[np.bool_] = thumbnails.std(axis=(1, 2)) >= _FLAT
    return contrast


def same_pictures(earlier: Sequence[str], later: Sequence[str], counts: NDArray[np.bool_]) -> Pairs:
    """Pair the images of a later split that count with the first one of the same digest in an earlier split."""
    first = {digest: index for index, digest in reversed([*enumerate(earlier)])}
    return [(first[digest], index) for index, digest in enumerate(later) if counts[index] and digest in first]


def similar_pictures(earlier: Thumbnails, later: Thumbnails) -> Pairs:
    """Pair the images of a later split with the most similar ones of an earlier split, if they are nearly the same."""
    pairs: Pairs = []
    for one, other, known, asked in _likeliest(earlier, later, earlier, later):
        is_similar = ((asked * known).mean(1) >= _ALIKE) & (np.abs(asked - known).max(1) <= _APART)
        pairs += zip(one[is_similar].tolist(), other[is_similar].tolist(), strict=True)
    return pairs


def turned_pictures(earlier: Thumbnails, later: Thumbnails) -> Pairs:
    """Pair the images of a later split with those of an earlier split that they are mirrored or rotated copies of."""
    pairs: Pairs = []
    for one, other, _, _ in _likeliest(earlier, later, _folded(earlier), _folded(later)):
        upright, wanted = earlier[one].astype(np.int16), later[other].astype(np.int16)
        sides = (upright, upright.transpose(0, 2, 1))
        ways = [np.rot90(side, turns, (1, 2)) for side in sides for turns in range(4)][1:]
        is_turned = np.any([np.abs(each - wanted).max((1, 2)) <= _ROUNDED for each in ways], axis=0)
        is_turned &= np.abs(wanted.mean((1, 2)) - upright.mean((1, 2))) <= 1
        pairs += zip(one[is_turned].tolist(), other[is_turned].tolist(), strict=True)
    return pairs


def _folded(thumbnails: Thumbnails) -> NDArray[np.float32]:
    """Return the sums of each pixel and those it may become by mirroring and rotating: ``[N,SIDE/2,SIDE/2]``."""
    half = (thumbnails.astype(np.float32) + thumbnails[:, ::-1])[:, : SIDE // 2]
    half = (half + half[:, :, ::-1])[:, :, : SIDE // 2]
    return half + half.transpose(0, 2, 1)


def _likeliest(earlier: Thumbnails, later: Thumbnails, known: NDArray[Any], asked: NDArray[Any]) -> Iterator[Any]:
    """Find for each image of a later split the one of an earlier split whose values correlate most with its own.

    All pairs are compared, by one matrix product per thousand images. Images without contrast are skipped.

    Yields:
        Indices in the earlier and the later split ``[n]``, and the standardised values of both ``[n,K]``.
    """
    (places, known), (others, asked) = (
        (np.flatnonzero(has_contrast(small)), _standardised(values[has_contrast(small)]))
        for small, values in ((earlier, known), (later, asked))
    )
    for start in range(0, len(asked), _AT_ONCE) if len(known) else ():
        some = asked[start : start + _AT_ONCE]
        likeliest = (some @ known.T).argmax(axis=1)
        yield places[likeliest], others[start : start + _AT_ONCE], known[likeliest], some


def _standardised(values: NDArray[Any]) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = values.reshape(len(values), math.prod(values.shape[1:])).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.maximum(rows.std(axis=1, keepdims=True), 1e-6)
    return rows
