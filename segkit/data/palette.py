"""The colours classes are drawn in, and what the palettes of masks say of their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from segkit.data.pictures import VOID_COLOUR
from segkit.data.sample import Palette
from segkit.errors import Fault, first_few

Colour = tuple[int, int, int]
Drawn = Mapping[int, Colour]
"""Stored label -> the colour that a mask's palette gives it."""


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


def drawn_by(palette: Sequence[Colour], labels: Sequence[int], used: Sequence[int]) -> dict[int, Colour]:
    """The colours that a palette gives to the labels of a mask, as far as they tell these labels from others.

    A colour of two labels says nothing, as that of entries nobody set; nor does a palette that shows label k as grey k,
    or as the k-th step of a ramp from black to white.

    Args:
        palette: by index.
        labels: that masks may store.
        used: those of them that the mask holds.
    """
    last = max((index for index, colour in enumerate(palette) if any(colour)), default=0)  # the rest is padding
    greys = [colour[0] for colour in palette[: last + 1] if len({*colour}) == 1]
    for step in (1, 255 / max(last, 1)):
        if last > 1 and len(greys) > last and all(abs(grey - index * step) <= 1 for index, grey in enumerate(greys)):
            return {}
    known = [palette[label] for label in labels if 0 <= label < len(palette)]
    return {label: palette[label] for label in used if 0 <= label < len(palette) and known.count(palette[label]) == 1}


def palette_faults(
    masks: Mapping[str, Drawn],
    values: Mapping[int, int],
    classes: Sequence[str],
    palette: Palette,
    void: int,
    common: Sequence[Colour] = (),
) -> list[Fault]:
    """What is wrong where the palettes of masks contradict each other, or that of the classes.

    Args:
        masks: file -> what :func:`drawn_by` says of it.
        values: stored label -> class index or ``void``.
        classes: names.
        palette: the colours of the classes; empty where these say nothing about the masks.
        void: the index of void.
        common: colours that prove nothing alone.
    """
    stored = Counter(pair for drawn in masks.values() for pair in drawn.items())
    fault = _clash(masks, [label for label, index in values.items() if index == void])
    if fault:
        return [replace(fault, stored=stored)]
    shown = {label: colour for label, colour in stored if values[label] != void}
    own = {colour: index for index, colour in enumerate(palette) if palette.count(colour) == 1}
    greys = {(label,) * 3: index for label, index in values.items() if 0 <= label <= 255}
    black_and_white = {(0, 0, 0), (255, 255, 255)}  # of any palette of two colours
    for meant, proves_nothing in (({VOID_COLOUR: void, **own}, {*common}), (greys, black_and_white)):
        wrong = {label: colour for label, colour in shown.items() if meant.get(colour) != values[label]}
        if meant.keys() >= {*shown.values()} and not {*wrong.values()} <= proves_nothing:
            names = {**dict(enumerate(classes)), void: "void"}
            texts = {
                label: f"label {label} ('{names[values[label]]}') in {list(colour)}, which is '{names[meant[colour]]}'"
                for label, colour in wrong.items()
            }
            return [_fault(file, drawn, texts) for file, drawn in masks.items() if texts.keys() & drawn]
    return []


def _fault(file: str, drawn: Drawn, texts: Mapping[int, str]) -> Fault:
    what = (
        "the palette draws labels in the colours of others, as after a mask was saved again and its colours renumbered"
    )
    detail = first_few([text for label, text in texts.items() if label in drawn])
    return Fault("palette", file, what, "", detail, stored=dict.fromkeys(drawn.items(), 1))


def _clash(masks: Mapping[str, Drawn], void: Collection[int]) -> Fault | None:
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
                return Fault("palettes", f"{first} and {file}", what, "", detail)
            own, first = colours.setdefault(label, (colour, file))
            if own != colour and label not in void and not found:
                detail = f"label {label} is {list(own)} in the first and {list(colour)} in the second"
                found = Fault("label_colours", f"{first} and {file}", what, "", detail)
    return found
