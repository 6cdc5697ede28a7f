"""The check ``interpolated``: finds masks that were interpolated or saved as JPEG, by in-between labels along borders.

Smooth resizing turns a border 2|7 into the run 2 4 6 7. Each of these labels may be a class, so a range check misses
it. But at a clean border the label jumps; only a thin object between two others has an in-between label. The measure is
the share of such places among all where they are possible. 852 genuine masks of CamVid, VOC, Cityscapes, COCO-Stuff and
Carvana have at most 2.1 %; at most 5 % with their classes reordered, and at most 9 % when reduced four times by nearest
neighbour. Bilinear, bicubic and Lanczos resizing and JPEG leave 15 to 95 %, area averaging 11 to 40 %. Masks of two
classes show nothing, and masks of three classes may not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import segkit
from segkit.data.statistics import SampleStatistics
from segkit.errors import Issue, first_few

_LIKELY = 0.1  # share of the places; twice the worst genuine mask at its original size
_CERTAIN = 0.2  # share required if few masks of a split stand out, which thin objects may cause
_FEW = 0.05  # share of a split's masks
_FEWEST = 30  # places; one thin object in a small mask is no evidence
_THIN = 4  # maximum pixels of an outline label per place where it is in between


class Interpolated:
    """Masks that look interpolated or saved as JPEG: in-between labels along the borders of two others."""

    def measure(self, sample: segkit.Sample, *_: Any) -> tuple[int, int]:
        """Return the numbers of suspicious and possible places of a mask."""
        return borders(sample.mask.numpy())

    def judge(self, splits: Mapping[str, Sequence[tuple[SampleStatistics, Sequence[int]]]], *_: Any) -> Iterator[Issue]:
        """Yield one warning for each split with such masks."""
        for split, samples in splits.items():
            found = interpolated([counted for _, counted in samples])
            if names := tuple(samples[index][0].name for index in found):
                text = (
                    f"{len(names)} of {len(samples)} masks look interpolated, with thin seams of other labels along "
                    f"the borders of two: {first_few(names)}; resize masks by the nearest pixel, and never keep "
                    "them as JPEG"
                )
                ways: Mapping[str, Any] = {"the masks are as they were drawn": {}}
                yield Issue("interpolated", what=text, severity="warning", split=split, files=names, ways=ways)


def borders(mask: NDArray[np.unsignedinteger[Any]]) -> tuple[int, int]:
    """Count where a label is strictly between its two neighbours', and where that is possible, in a mask ``[H,W]``.

    A label that occurs only on borders and makes up most of the places is not counted: it is likely an outline class.
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
    return suspicious, possible


def interpolated(split: Sequence[Sequence[int]]) -> list[int]:
    """Return the indices of a split's masks that look interpolated, by the counts of :func:`borders`.

    A tenth of the places is enough if many masks of the split agree; otherwise a fifth is required.
    """

    def beyond(share: float) -> list[int]:
        return [index for index, (odd, possible) in enumerate(split) if odd >= _FEWEST and odd > share * possible]

    likely = beyond(_LIKELY)
    return likely if len(likely) >= _FEW * len(split) else beyond(_CERTAIN)
