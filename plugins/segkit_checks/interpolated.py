"""Does a mask look interpolated, or decoded from a JPEG: labels in between two others, all along their borders.

Smooth resizing makes of a border 2|7 the run 2 4 6 7. Every label may be a class, so no check of the range sees it; but
at a clean border labels jump, and only a thin object between two others lies in between. Measured as the share of the
places where it could be seen: 852 genuine masks of CamVid, VOC, Cityscapes, COCO-Stuff and Carvana have at most 2.1 %,
with their classes in another order at most 5 %, made four times smaller by nearest neighbour at most 9 %. Bilinear,
bicubic and Lanczos resizing and JPEG leave 15 to 95 %, averaging over areas 11 to 40 %. Masks of two classes show
nothing, those of three may not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import segkit
from segkit.data.statistics import SampleStatistics
from segkit.errors import Issue, first_few

_LIKELY = 0.1  # of the places; twice the worst genuine mask
_CERTAIN = 0.2  # where few masks of a split stand out, thin objects may be why
_FEW = 0.05  # of a split's masks
_FEWEST = 30  # places; one thin object in a small mask is no evidence
_THIN = 4  # pixels of a label for each place where it lies in between


class Borders(NamedTuple):
    """Places where a label lies strictly between its two neighbours', and where it could, as these are not adjacent."""

    suspicious: int
    possible: int


class Interpolated:
    """Masks that look interpolated, or saved as JPEG: labels in between two others along their borders."""

    def measure(self, sample: segkit.Sample) -> tuple[int, int]:
        """The suspicious and the possible places of a mask."""
        return borders(sample.mask.numpy())

    def judge(self, splits: Mapping[str, Sequence[tuple[SampleStatistics, Sequence[int]]]]) -> Iterator[Issue]:
        """One warning for each split with such masks."""
        for split, samples in splits.items():
            found = interpolated([Borders(*counted) for _, counted in samples])
            if names := tuple(samples[index][0].name for index in found):
                text = (
                    f"{len(names)} of {len(samples)} masks look interpolated, with thin seams of other labels along "
                    f"the borders of two: {first_few(names)}; resize masks by the nearest pixel, and never keep "
                    "them as JPEG"
                )
                yield Issue("interpolated", what=text, severity="warning", split=split, files=names)


def borders(mask: NDArray[np.unsignedinteger[Any]]) -> Borders:
    """Count the places, in rows and in columns, of a mask ``[H,W]``.

    A label that is nowhere but on borders, and alone makes up most of the places, is not counted: classes for outlines
    look like this.
    """
    possible = 0
    found = []
    for lines in (mask, mask.T):
        before, here, after = lines[:-2], lines[1:-1], lines[2:]
        rises, falls = lines[:-1] < lines[1:], lines[:-1] > lines[1:]
        found.append(here[(rises[:-1] & rises[1:]) | (falls[:-1] & falls[1:])])
        possible += int(np.count_nonzero(np.maximum(before, after) - np.minimum(before, after) > 1))
    counts = np.bincount(np.concatenate(found), minlength=1)
    suspicious, label = int(counts.sum()), int(counts.argmax())
    most = int(counts[label])
    if 2 * most > suspicious and np.count_nonzero(mask == label) <= _THIN * most:
        suspicious -= most
    return Borders(suspicious, possible)


def interpolated(split: Sequence[Borders]) -> list[int]:
    """Which masks of a split look interpolated, by index.

    A tenth of the places is enough where many masks agree; where it is few, a fifth.
    """

    def beyond(share: float) -> list[int]:
        seen = [(index, *each) for index, each in enumerate(split)]
        return [index for index, odd, possible in seen if odd >= _FEWEST and odd > share * possible]

    likely = beyond(_LIKELY)
    return likely if len(likely) >= _FEW * len(split) else beyond(_CERTAIN)
