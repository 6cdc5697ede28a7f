"""Read the headers of pictures of one scene, and refuse those that lie at different places on Earth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segkit.data.read import MAX_PIXELS, Header, read_header
from segkit.errors import DataError, Issue


def aligned_headers(paths: Sequence[Path], most_pixels: int = MAX_PIXELS) -> list[Header]:
    """Return the headers of pictures whose georeferenced corners do not differ by a tenth of a pixel or more.

    Raises:
        DataError: a picture and the first one differ in position or coordinate system, or a file cannot be read.
    """
    headers = [read_header(path, most_pixels) for path in paths]
    for path, header in zip(paths[1:], headers[1:], strict=True):
        _refuse_apart(paths[0], headers[0], path, header)
    return headers


def _refuse_apart(one: Path, header: Header, other: Path, its: Header) -> None:
    place = its.place
    if header.place is None or place is None or len(header.place[1][0]) != len(place[1][0]):
        return
    systems, (corners, others) = (header.place[0], place[0]), (np.array(each[1]) for each in (header.place, place))
    sides = np.linalg.norm(corners[1:] - corners[0], axis=1) / header.size[::-1]
    is_apart = np.linalg.norm(corners - others, axis=1).max() >= sides.min() / 10
    if is_apart or (all(systems) and systems[0] != systems[1]):
        texts = [f"{each[0]} {[*each[1]]}".strip() for each in (place, header.place)]
        what = "its georeference differs from that of its image (position, pixel size or orientation)"
        advice = "resample it to the image's grid; or, if its pixels fit, copy the image's georeference to it"
        raise DataError(Issue("place", str(other), what, advice, f"corners {texts[0]}; {one}: {texts[1]}"))
