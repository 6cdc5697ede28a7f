"""Find masks whose labels may mean other classes than assumed, and image and mask files with unusual properties."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import segkit
from segkit.data.issues import merged
from segkit.data.read import read_header
from segkit.data.statistics import SampleStatistics
from segkit.errors import DataError, Issue, first_few
from segkit_folder.palettes import OF_PALETTES

if TYPE_CHECKING:
    from segkit_folder.files import PairedFiles

Masks = Mapping[str, tuple[str, SampleStatistics]]
"""Path of a mask -> split and statistics of its sample."""

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


def inspected(dataset: PairedFiles, index: int) -> tuple[segkit.Sample, dict[str, Any]]:
    """Return a sample and {kind: detail} for its files' unusual properties; ``palette``: [label, colour] pairs."""
    palette = dataset.check_mask_file(index)  # first, because a damaged file gives wrong labels
    sample = dataset[index]
    properties: dict[str, Any] = {"palette": [*palette.items()]} if palette else {}
    with suppress(DataError, ValueError):  # the files are not an image and a mask, such as those of annotations
        image, mask = map(read_header, dataset.files(index))
        # the shapes match whether the mask was drawn on the upright image or on the pixels as they are stored
        square, on_their_sides = image.size[0] == image.size[1], {image.orientation > 4, mask.orientation > 4}
        if image.orientation != mask.orientation and (square or len(on_their_sides) == 1):
            properties["turned_image"] = ""

        if mask.white_is_zero:
            properties["white_zero"] = ""
        if dataset.no_data == "stop" and image.no_data is not None and bool((sample.image == image.no_data).any()):
            properties["declared_no_data"] = f"{image.no_data:g}"
    return sample, properties


def judged(
    dataset: PairedFiles,
    splits: Mapping[str, Sequence[tuple[Sequence[Path], SampleStatistics]]],
    left_out: Sequence[Issue],
) -> Iterator[Issue]:
    """Yield the issues of all splits (see :meth:`segkit.data.sample.Dataset.judge`)."""
    masks = {str(files[-1]): (split, each) for split, those in splits.items() for files, each in those}
    colours = {
        file: {label: tuple(colour) for label, colour in each.inspected.get("palette", ())}
        for file, (_, each) in masks.items()
    }
    for issue in merged(dataset.palette_issues(colours) if any(colours.values()) else []):
        files = tuple(file for pair in issue.files for file in pair.split(" and ") if file in masks)
        yield replace(issue, split=", ".join(dict.fromkeys(masks[file][0] for file in files)), files=files)
    if "train" in splits and len(dataset.classes) == 2 and dataset.void_is_assumed:
        yield from merged(_black_and_white(dataset, masks, left_out))
    yield from _odd_files({split: [each for _, each in those] for split, those in splits.items()})


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


def _odd_files(splits: Mapping[str, Sequence[SampleStatistics]]) -> Iterator[Issue]:
    """Report files with unusual properties, and splits that mix TIFF masks whose 0 is white with other masks."""
    if not (every := [each for those in splits.values() for each in those]):
        return
    odd = ["white_zero" in each.inspected for each in every]
    white = every[odd.index(2 * sum(odd) > len(odd))]  # the first of the majority
    for split, those in splits.items():
        for kind, (what, advice) in _ODD.items():
            if odd := [(each.name, each.inspected[kind]) for each in those if kind in each.inspected]:
                yield about(kind, split, odd, len(those), what, advice)

        is_white = "white_zero" in white.inspected
        if other := [(each.name, "") for each in those if ("white_zero" in each.inspected) != is_white]:
            what = f"have masks unlike that of {white.name}: TIFFs whose 0 is white, or not"
            yield about("mixed_white_zero", split, other, len(those), what, "save all masks alike, as PNG", error=True)
