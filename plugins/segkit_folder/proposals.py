"""Options to paste into a config, from what the masks hold: TOML that maps their labels or colours to the classes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

Colour = tuple[int, int, int]

VOID = 255
AT_THE_END = ", at the end of the config:\n\n"


def black_and_white(classes: Sequence[str], stored: Mapping[int, int]) -> str:
    """Two classes and masks of 0 and 255; where others hold 1 too, both may be the class."""
    void = f'in [dataset] value_map = {{ "0" = 0, "1" = 1, "255" = {VOID} }}'
    if stored.get(1):
        both = 'value_map = { "0" = 0, "1" = 1, "255" = 1 }'
        return f"other masks hold 1. Where 255 means unlabelled, {void}; where both are '{classes[1]}', {both}"
    return (
        f"where it does mean unlabelled, {void}; where it is the class "
        f"'{classes[1]}'{AT_THE_END}{_value_map(classes, [0, VOID], stored)}"
    )


def values(
    classes: Sequence[str], wrong: Mapping[int, int], stored: Mapping[int, int], void: Sequence[int], mapped: bool
) -> str:
    """Labels that are not allowed: void, or, where there are as many labels as classes, these in order.

    Args:
        classes: names.
        wrong: labels that are not allowed -> pixels.
        stored: all labels -> pixels.
        void: the option as it is.
        mapped: whether a value map is there already.
    """
    text = ""
    if 0 < len(wrong) <= 5:
        text = f"; where {' and '.join(map(str, sorted(wrong)))} mean{'s' * (len(wrong) == 1)} unlabelled, "
        text += f"in [dataset] void = {sorted({*void, *wrong})}"
    elif wrong:
        text = "; so many labels come of blended or compressed edges: then export the masks again"
    labels = sorted(stored)
    if len(labels) == len(classes) + 1 and VOID in labels:
        labels.remove(VOID)
    if mapped or len(labels) != len(classes):
        return text
    return f"{text}; where the labels are the classes in this order{AT_THE_END}{_value_map(classes, labels, stored)}"


def colours(palette: Mapping[str, Colour], stored: Mapping[Colour, int]) -> str:
    """Masks of colours: the map by the palette where it fits, else black first, then the most frequent colour.

    Args:
        palette: class -> the colour it is drawn in.
        stored: colours -> pixels.
    """
    others = [colour for colour in stored if colour not in palette.values()]
    if len(others) <= 1 and len(stored) - len(others) > 1:  # black alone proves nothing, it is in every palette
        return _colour_map("by the palette", [*palette.items(), *(("void", colour) for colour in others)], stored)
    ordered = sorted(stored, key=lambda colour: (colour != (0, 0, 0), -stored[colour], colour))
    spare = len(stored) == len(palette) + 1 and "void" not in palette
    names = [*palette, "void"] if spare else list(palette)
    names += [f"class_{index}" for index in range(len(names), len(stored))]
    reason = "here by their share, so put the names right; what is unlabelled is called void"
    if not 0 <= len(stored) - len(palette) <= 1:
        reason += f"; {len(stored)} colours for {len(palette)} classes, so change `classes` too"
    return _colour_map(reason, list(zip(names, ordered, strict=False)), stored)


def unknown_colours(wrong: Mapping[Colour, int], has_void: bool) -> str:
    """Colours that the map lacks: a single one may be void's, if that has none yet."""
    if has_void or len(wrong) != 1:
        return ""
    return f"where it means unlabelled, add to [dataset.colour_map]: void = {list(*wrong)}; else correct the mask"


def _value_map(classes: Sequence[str], labels: Sequence[int], stored: Mapping[int, int]) -> str:
    total = sum(stored.values())
    lines = [
        f'"{label}" = {index}  # {classes[index]}, {stored.get(label, 0) / total:.1%}'
        for index, label in enumerate(labels)
    ]
    return "[dataset.value_map]\n" + "\n".join(lines)


def _colour_map(reason: str, names: Sequence[tuple[str, Colour]], stored: Mapping[Colour, int]) -> str:
    total = sum(stored.values())
    lines = [f"{_key(name)} = {list(colour)}  # {stored.get(colour, 0) / total:.1%}" for name, colour in names]
    if "right" in reason:
        lines = ["# guessed by share: look at a mask, and put every name right", *lines]
    return f"say which colour is which class ({reason}){AT_THE_END}[dataset.colour_map]\n" + "\n".join(lines)


def _key(name: str) -> str:
    """A key of TOML: quoted where it must be."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
