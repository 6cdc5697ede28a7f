"""Find masks whose labels may mean other classes than assumed, and image and mask files with unusual properties."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import segkit
from segkit.data.statistics import SampleStatistics
from segkit.errors import Issue, first_few, merged
from segkit_folder.palettes import OF_PALETTES

if TYPE_CHECKING:
    from segkit_folder.files import PairedFiles

Masks = Mapping[str, tuple[str, SampleStatistics]]
"""Path of a mask -> split and statistics of its sample."""
Measured = tuple[Sequence[Path], SampleStatistics, Mapping[str, Any]]
"""The files of a sample, its statistics, and the result of :func:`facts`."""

MISREAD = (*OF_PALETTES, "black_and_white")
"""Kinds of issues that put the labels of all masks in doubt."""

_ODD = {
    "white_zero": (
        "have masks that are TIFFs whose 0 is white (photometric interpretation 0)",
        "labels are read as they are stored, 0 as 0; where what viewers show is meant, export the masks as PNG",
    ),
    "declared_no_data": (
        "hold the value that their file declares as no data",
        'the network learns it as any other; data.no_data = "void" leaves such pixels out',
    ),
    "turned_image": (
        "and their masks or shapes are turned differently by their EXIF orientation, which one of the two may lack",
        "if these were drawn on the pixels as they are stored, they do not fit: take the orientation out of the "
        "files (exiftool -Orientation= FILES); if they were drawn on the upright images, all is well",
    ),
}
"""Kind -> description of the unusual property, and what to do about it."""
_WAYS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "declared_no_data": {"": {"data.no_data": "void"}},
    "turned_image": {"these were drawn on the upright images": {}},
}


def about(
    kind: str, split: str, odd: Sequence[tuple[str, str]], total: int, what: str, advice: str, error: bool = False
) -> Issue:
    """Return an issue about some images of a split: ``"2 of 6 images are blank: a, b; leave them out"``.

    Args:
        kind: the kind of the issue, one word.
        split: the split of the images.
        odd: name and detail (may be "") of each affected image.
        total: number of images in the split.
        what: the text after "2 of 6 images".
        advice: what to do.
        error: whether the issue stops a run.
    """
    names = [f"{name} ({detail})" if detail else name for name, detail in odd]
    text = f"{len(odd)} of {total} images {what}: {first_few(names)}; {advice}"
    severity: Literal["error", "warning"] = "error" if error else "warning"
    return Issue(kind, what=text, severity=severity, split=split, files=tuple(name for name, _ in odd))


def facts(dataset: PairedFiles, sample: segkit.Sample, index: int) -> dict[str, Any]:
    """Return {kind: detail} for unusual properties of a sample's files; ``palette``: [label, colour] pairs."""
    image, *masks = dataset.headers(index)
    palette = dataset.drawn(index, masks)
    found: dict[str, Any] = {"palette": [*palette.items()]} if palette else {}
    if dataset.is_turned(index, image, masks):
        found["turned_image"] = ""
    if any(mask.white_is_zero for mask in masks):
        found["white_zero"] = ""
    if dataset.no_data == "stop" and image.no_data is not None and bool((sample.image == image.no_data).any()):
        found["declared_no_data"] = f"{image.no_data:g}"
    return found


def judged(
    dataset: PairedFiles,
    splits: Mapping[str, Sequence[Measured]],
    left_out: Sequence[Issue],
) -> Iterator[Issue]:
    """Yield the issues of all splits; ``left_out``: those of samples that cannot be used."""
    masks = {str(files[-1]): (split, each) for split, those in splits.items() for files, each, _ in those}
    colours = {
        str(files[-1]): {label: tuple(colour) for label, colour in found.get("palette", ())}
        for those in splits.values()
        for files, _, found in those
    }
    for issue in merged(dataset.palette_issues(colours) if any(colours.values()) else []):
        files = tuple(file for pair in issue.files for file in pair.split(" and ") if file in masks)
        yield replace(issue, split=", ".join(dict.fromkeys(masks[file][0] for file in files)), files=files)
    if "train" in splits and len(dataset.classes) == 2 and dataset.void_is_assumed:
        yield from merged(_black_and_white(dataset, masks, left_out))
    yield from _odd_files({split: [(each.name, found) for _, each, found in those] for split, those in splits.items()})


def _black_and_white(dataset: PairedFiles, masks: Masks, left_out: Sequence[Issue]) -> Iterator[Issue]:
    """Report two-class masks with 255 and no 1 where no option declares 255 void: it is probably the foreground.

    This is a warning where other masks hold 1; nothing is reported where one mask holds both 1 and 255.
    """
    counts = np.array([each.counts for _, each in masks.values()]).reshape(-1, 3)  # of 0, 1 and 255
    zeros, ones, both = counts[:, 0].any(), np.count_nonzero(counts[:, 1]), (counts[:, 1:] > 0).all(1).any()
    ones += sum(1 in issue.stored for issue in left_out)
    kind, what = "black_and_white", "the only labels are 0 and 255, and 255 is void by default"
    if ones:
        kind, what = (
            "mixed_void",
            f"holds 255, which is read as void, and no 1, while {ones} other masks hold 1 and no 255",
        )
    advice = dataset.advice(kind)
    for (file, (split, _)), (_, foreground, void) in zip(masks.items(), counts.tolist(), strict=True):
        if void and not foreground and not both and (ones or zeros):
            yield Issue(kind, file, what, advice, severity="warning" if ones else "error", split=split)


def _odd_files(splits: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]]) -> Iterator[Issue]:
    """Report files with unusual properties, and splits that mix TIFF masks whose 0 is white with other masks.

    Args:
        splits: for each split, the name and the result of :func:`facts` of each sample.
    """
    if not (every := [each for those in splits.values() for each in those]):
        return
    whites = ["white_zero" in found for _, found in every]
    is_white = 2 * sum(whites) > len(whites)
    usual = every[whites.index(is_white)][0]  # the first of the majority
    for split, those in splits.items():
        for kind, (what, advice) in _ODD.items():
            if odd := [(name, found[kind]) for name, found in those if kind in found]:
                yield replace(about(kind, split, odd, len(those), what, advice), ways=_WAYS.get(kind, {}))
        if other := [(name, "") for name, found in those if ("white_zero" in found) != is_white]:
            what = f"have masks unlike that of {usual}: TIFFs whose 0 is white, or not"
            yield about("mixed_white_zero", split, other, len(those), what, "save all masks alike, as PNG", error=True)
