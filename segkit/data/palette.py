"""The colours classes are drawn in, and what the palettes of masks say of their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.sample import Palette
from segkit.data.visualize import VOID_COLOUR
from segkit.errors import Issue, first_few

Colour = tuple[int, int, int]
Drawn = Mapping[int, Colour]
"""Stored label -> the colour that a mask's palette gives it."""

_noted: ContextVar[dict[int, Colour] | None] = ContextVar("noted", default=None)


def voc_palette(count: int) -> Palette:
    """Pascal VOC's colours: the bits of a label, dealt in turn to the high bits of red, green and blue.

    Neighbouring labels look unlike each other and label 255 becomes (224, 224, 192), the cream of VOC's borders.

    Args:
        count: how many colours, at most 256.
    """
    return tuple(_colour(label) for label in range(count))


def _colour(label: int) -> tuple[int, int, int]:
    channels = [0, 0, 0]
    for position in range(8):
        for channel in range(3):
            channels[channel] |= (label >> (3 * position + channel) & 1) << (7 - position)
    return channels[0], channels[1], channels[2]


@contextmanager
def palettes_noted() -> Iterator[dict[int, Colour]]:
    """Inside, what is read of a mask is noted here: its stored labels, and the colours in which its palette draws them.

    Noted is what tells labels apart. A colour of two labels says nothing, as that of entries nobody set; nor does a
    palette that shows label k as grey k, or as the k-th step of a ramp from black to white.
    """
    drawn: dict[int, Colour] = {}
    token = _noted.set(drawn)
    try:
        yield drawn
    finally:
        _noted.reset(token)


def note_palette(
    palette: Callable[[], Sequence[Colour] | None], labels: Sequence[int], stored: NDArray[np.integer[Any]]
) -> None:
    """Note the palette of a mask that was read, where somebody wants to know (see :func:`palettes_noted`).

    Args:
        palette: gives the colours by index, None where the mask has none.
        labels: that masks may store.
        stored: those of the mask, ``[H,W]``.
    """
    noted = _noted.get()
    colours = None if noted is None else palette()
    if noted is None or not colours:
        return
    last = max((index for index, colour in enumerate(colours) if any(colour)), default=0)  # the rest is padding
    greys = [colour[0] for colour in colours[: last + 1] if len({*colour}) == 1]
    for step in (1, 255 / max(last, 1)):
        if last > 1 and len(greys) > last and all(abs(grey - index * step) <= 1 for index, grey in enumerate(greys)):
            return
    if stored.dtype == np.uint8:  # many times as fast as to sort them
        used = [label for label, count in enumerate(Image.fromarray(stored).histogram()) if count]
    else:
        bands = np.array_split(stored, max(1, stored.size >> 22))  # so that a large mask takes no memory
        used = sorted({label for band in bands for label in np.unique(band).tolist()})
    known = [
        colours[label] for label in labels if 0 <= label <= last or (label in used and last < label < len(colours))
    ]
    noted.update({label: colours[label] for label in used if label < len(colours) and known.count(colours[label]) == 1})


def palette_faults(
    masks: Mapping[str, Drawn],
    values: Mapping[int, int],
    classes: Sequence[str],
    palette: Palette,
    void: int,
    common: Sequence[Colour] = (),
) -> list[Issue]:
    """What is wrong where the palettes of masks contradict each other, or that of the classes.

    Args:
        masks: file -> what :func:`palettes_noted` noted of it.
        values: stored label -> class index or ``void``.
        classes: names.
        palette: the colours of the classes; empty where these say nothing about the masks.
        void: the index of void.
        common: colours that prove nothing alone, of a palette that nobody chose.
    """
    own = {colour: index for index, colour in enumerate(palette) if palette.count(colour) == 1}
    greys = {(label,) * 3: index for label, index in values.items() if 0 <= label <= 255}
    name = {**dict(enumerate(classes)), void: "void"}
    black_and_white = {(0, 0, 0), (255, 255, 255)}  # of any palette of two colours
    readings = [({VOID_COLOUR: void, **own}, {*common})] * bool(own) + [(greys, black_and_white)]

    def misdrawn(drawn: Drawn) -> dict[int, str]:
        """What is wrong with labels, where the colours of all classes in it are those of classes."""
        for meant, proves_nothing in readings:
            wrong = {
                label: colour
                for label, colour in drawn.items()
                if meant.get(colour, void) != values[label] and (colour in meant or values[label] != void)
            }
            if meant.keys() >= {*wrong.values()} and not {*wrong.values()} <= proves_nothing:
                return {
                    label: f"label {label} ('{name[values[label]]}') in {list(colour)}, "
                    f"which is '{name[meant[colour]]}'"
                    for label, colour in wrong.items()
                }
        return {}

    stored = Counter(pair for drawn in masks.values() for pair in drawn.items())
    apart = {file: {} if common else misdrawn(drawn) for file, drawn in masks.items()}
    if not any(apart.values()):
        if fault := _clash(masks, [label for label, index in values.items() if index == void]):
            return [replace(fault, stored=stored)]
        together = misdrawn(dict([*stored]))
        apart = {
            file: {label: together[label] for label in drawn if label in together} for file, drawn in masks.items()
        }
    return [_fault(file, masks[file], texts) for file, texts in apart.items() if texts]


def _fault(file: str, drawn: Drawn, texts: Mapping[int, str]) -> Issue:
    what = (
        "the palette draws labels in the colours of others, as after a mask was saved again and its colours renumbered"
    )
    return Issue("palette", file, what, "", first_few([*texts.values()]), stored=dict.fromkeys(drawn.items(), 1))


def _clash(masks: Mapping[str, Drawn], void: Collection[int]) -> Issue | None:
    """The first two masks in which one colour is two labels (``palettes``), or else one label has two colours."""
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
            own, first = colours.setdefault(label, (colour, file))
            if own != colour and label not in void and not found:
                detail = f"label {label} is {list(own)} in the first and {list(colour)} in the second"
                found = Issue("label_colours", f"{first} and {file}", what, "", detail)
    return found
