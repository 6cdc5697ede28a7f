"""Find greys that are one class: 127 in some masks and 128 in others."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from segkit_folder.meanings import VOID
from segkit_init.counts import StoredLabels
from segkit_init.stored import JPEG_OFF

_NEAR = 2  # by which programs change a grey


def of_one_grey(stored: StoredLabels) -> dict[int, int]:
    """Map each label to the more frequent one 1 or 2 beside it, where no mask holds both and all others lie far away.

    Programs that scale or save greys again change 127 to 128. Of 254 and 255 alone, others ask: 255 may be void.
    """
    labels = sorted(stored.pixels)
    groups = [labels[:1]]
    for before, label in pairwise(labels):
        if label - before > _NEAR:
            groups.append([])
        groups[-1].append(label)
    is_far = all(second[0] - first[-1] >= JPEG_OFF for first, second in pairwise(groups))
    if not is_far or labels[-1] > VOID or max(map(len, groups)) > 2 or stored.beside or len(groups[-1]) == len(labels):
        return {}
    near = [sorted(group, key=lambda label: (label != VOID, -stored.pixels[label])) for group in groups]
    same = {other: label for label, *others in near for other in others if label > JPEG_OFF}
    return same if {*same.values()} - {VOID} else {}


def with_greys(options: Mapping[str, Any], same: Mapping[int, int]) -> dict[str, Any]:
    """Return options in which the labels of ``same`` mean what the labels beside them do."""
    known = options.get("value_map", {str(label): label for label in range(len(options.get("classes", ())))})
    return {**options, "value_map": known | {str(each): known.get(str(own), VOID) for each, own in same.items()}}
