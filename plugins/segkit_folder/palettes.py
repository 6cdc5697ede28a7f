"""Palettes of masks: which colours identify a label, and masks whose palettes contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segkit.data.sample import Colour
from segkit.data.visualize import VOID_COLOUR
from segkit.errors import Issue, first_few

if TYPE_CHECKING:
    from segkit_folder.files import PairedFiles

OF_PALETTES = ("palette", "palettes", "label_colours")
"""Kinds of issues where the colours of a mask show that its labels mean other classes."""


def palette_issues(dataset: PairedFiles, masks: Mapping[str, Mapping[int, Colour]]) -> list[Issue]:
    """Return an issue for masks whose palettes contradict each other or the palette of the classes.

    Args:
        dataset: the dataset that the masks belong to.
        masks: file -> label -> colour, for colours that identify a label (see :func:`telling_colours`).
    """
    misdrawn = _misdrawn_by(dataset)
    apart = {file: {} if dataset.palette_is_assumed else misdrawn(drawn) for file, drawn in masks.items()}
    if not any(apart.values()):
        void = {label for label, index in dataset.values.items() if index == dataset.ignore_index}
        if issue := _first_clash(masks, void):
            stated = issue.kind == "label_colours" and dataset.labels_are_stated
            return [replace(issue, advice=dataset.advice(issue.kind), severity="warning" if stated else "error")]
        together = misdrawn({label: colour for drawn in masks.values() for label, colour in drawn.items()})
        apart = {file: {key: together[key] for key in drawn if key in together} for file, drawn in masks.items()}
    what = "the palette draws labels in the colours of others, as after a mask was saved again and its colours "
    what += "renumbered"
    return [
        Issue("palette", file, what, dataset.advice("palette"), first_few([*texts.values()]))
        for file, texts in apart.items()
        if texts
    ]


def _misdrawn_by(dataset: PairedFiles) -> Callable[[Mapping[int, Colour]], dict[int, str]]:
    """Return a function: label -> colour of a mask to {label: text}, for labels drawn in the colour of another class.

    Colours are compared with those of the classes, then with greys, where label k is grey k. Black and white greys, and
    the black of an assumed palette, prove nothing alone: almost every palette holds them.
    """
    # a map of the labels is better evidence than a default palette
    classes = () if dataset.palette_is_assumed and not dataset.stores_indices else dataset.palette
    of_classes = {colour: index for index, colour in enumerate(classes) if classes.count(colour) == 1}
    greys = {(label, label, label): index for label, index in dataset.values.items() if 0 <= label <= 255}
    readings = [(greys, {(0, 0, 0), (255, 255, 255)})]
    if of_classes:
        readings.insert(
            0, ({VOID_COLOUR: dataset.ignore_index, **of_classes}, {(0, 0, 0)} if dataset.palette_is_assumed else set())
        )
    names = {**dict(enumerate(dataset.classes)), dataset.ignore_index: "void"}

    def misdrawn(drawn: Mapping[int, Colour]) -> dict[int, str]:
        for meant, proves_nothing in readings:
            wrong = {
                label: colour
                for label, colour in drawn.items()
                if meant.get(colour, dataset.ignore_index) != dataset.values[label]
                and (colour in meant or dataset.values[label] != dataset.ignore_index)
            }
            if meant.keys() >= {*wrong.values()} and not {*wrong.values()} <= proves_nothing:
                return {
                    label: f"label {label} ('{names[dataset.values[label]]}') in {list(colour)}, which is "
                    f"'{names[meant[colour]]}'"
                    for label, colour in wrong.items()
                }
        return {}

    return misdrawn


def telling_colours(
    palette: Sequence[Colour], labels: Sequence[int], stored: NDArray[np.integer[Any]]
) -> dict[int, Colour]:
    """Return label -> palette colour for the labels in a mask whose colour identifies them.

    A colour shared by several labels, such as that of unset palette entries, identifies none; nor do the colours of a
    palette in which label k is grey k, or the k-th step of a ramp from black to white.

    Args:
        palette: the colours by index.
        labels: the labels that masks may store.
        stored: the labels in the mask, ``[H,W]``.
    """
    last = max((index for index, colour in enumerate(palette) if any(colour)), default=0)  # the rest is padding
    greys = [colour[0] for colour in palette[: last + 1] if len({*colour}) == 1]
    for step in (1, 255 / max(last, 1)):
        if last > 1 and len(greys) > last and all(abs(grey - index * step) <= 1 for index, grey in enumerate(greys)):
            return {}
    present = np.flatnonzero(np.bincount(stored.reshape(-1)))  # five times as fast as unique for uint8
    used = [label for label in present.tolist() if label < len(palette)]
    known = [palette[label] for label in labels if 0 <= label < len(palette) and (label <= last or label in used)]
    return {label: palette[label] for label in used if known.count(palette[label]) == 1}


def _first_clash(masks: Mapping[str, Mapping[int, Colour]], void: set[int]) -> Issue | None:
    """Find the first two masks in which one colour is two labels (``palettes``), or else one label has two colours."""
    what = "the palettes of these two masks differ, so that their labels mean different classes"
    labels: dict[Colour, tuple[int, str]] = {}
    colours: dict[int, tuple[Colour, str]] = {}
    found = None
    for file, drawn in masks.items():
        for label, colour in drawn.items():
            other, first = labels.setdefault(colour, (label, file))
            if other != label:
                detail = f"{list(colour)} is label {other} in the first and {label} in the second"
                return Issue("palettes", f"{first} and {file}", what, "", detail)
            known, first = colours.setdefault(label, (colour, file))
            if known != colour and label not in void and not found:
                detail = f"label {label} is {list(known)} in the first and {list(colour)} in the second"
                found = Issue("label_colours", f"{first} and {file}", what, "", detail)
    return found
