"""Options to paste into a config, from what the masks hold: TOML that maps their labels or colours to the classes.

What can be pasted is certain; where it is a guess, "?" stands in the place of what a person has to say.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from segkit.data.sample import Colour

VOID = 255
VOID_COLOUR = (224, 224, 192)  # of Pascal VOC's borders
IN_ANY_PALETTE = {(0, 0, 0), (255, 255, 255)}
AT_THE_END = ", at the end of the config:\n\n"


def zero_and_255(kind: str, classes: Sequence[str], stored: Mapping[int, int]) -> str:
    """Two classes and masks of 0 and 255, which is void or the second class.

    Args:
        kind: ``one_class`` where a person has said that 255 is void, ``mixed_void`` where other masks hold 0 and 1.
        classes: names.
        stored: labels -> pixels.
    """
    if kind == "mixed_void":
        meaning = f"where it means unlabelled, in [dataset] void = [{VOID}]; where it is '{classes[1]}' too"
        return f"{meaning}, value_map = {_inline({0: 0, 1: 1, VOID: 1})}"
    options = AT_THE_END + _value_map(classes, {0: 0, VOID: 1}, stored)
    if kind == "one_class":
        said = f"the masks hold 0 and {VOID} alone, and {VOID} is what `void` says"
        return f"{said}; where it is the class '{classes[1]}', leave `void` out, and add{options}"
    return f"where it does mean unlabelled, in [dataset] void = [{VOID}]; where it is the class '{classes[1]}'{options}"


def values(
    classes: Sequence[str], wrong: Mapping[int, int], stored: Mapping[int, int], void: Sequence[int], ordered: bool
) -> str:
    """Labels that are not allowed: void, or, where there are as many labels as classes, these in order.

    Args:
        classes: names.
        wrong: labels that are not allowed -> pixels.
        stored: all labels -> pixels.
        void: the option as it is.
        ordered: whether labels may be the classes in their order: no value map is there, and no palette.
    """
    if len(classes) == 1:
        names = json.dumps(["background", *classes], ensure_ascii=False)
        return f"; the background is a class too: classes = {names}"
    known, total = {*stored} - {VOID}, sum(stored.values())
    text = "; so many labels are ids of single objects, or come of blended edges: export the classes again"
    if len(wrong) > 2 and sum(wrong.values()) < total / 1000:
        text = "; so few pixels of several labels come of blended or compressed edges: export these masks again"
    elif len(wrong) > 5 and known == {*range(len(known))}:
        text = (
            f"; the masks hold the labels 0 to {len(known) - 1}, so give `classes` {len(known)} names, or list those "
        )
        text += "that mean unlabelled in `void`"
    elif len(wrong) <= 5:
        text = f"; where {' and '.join(map(str, sorted(wrong)))} mean{'s' * (len(wrong) == 1)} unlabelled, "
        text += f"in [dataset] void = {sorted({*void, *wrong})}"
    labels = [label for label in sorted(stored) if label != VOID or len(stored) == len(classes)]
    if ordered and labels == list(range(len(classes) + 1)) and labels[-1] in wrong:
        shifted = {label: label - 1 if label else VOID for label in labels}
        return f"; where 0 means unlabelled, in [dataset] value_map = {_inline(shifted)}{text}"
    if not ordered or len(labels) != len(classes):
        return text
    indices = {label: index for index, label in enumerate(labels)}
    if len(labels) > 2 and labels[:-1] == list(range(len(labels) - 1)):  # one more than the others may be void
        return f"{text}; where it is the class '{classes[-1]}', value_map = {_inline(indices)}"
    return f"{text}; where the labels are the classes in this order{AT_THE_END}{_value_map(classes, indices, stored)}"


def void_of_a_class(classes: Sequence[str], void: Sequence[int]) -> str:
    """What to do where a label of ``void`` is a class's too: it is no class, or the classes are the other labels."""
    unlabelled = " and ".join(f"'{classes[label]}'" for label in sorted({*void} & {*range(len(classes))}))
    kept = [label for label in range(len(classes)) if label not in void]
    others = [label for label in range(len(classes) + len(void)) if label not in void][: len(classes)]
    maps = [
        _inline({**dict.fromkeys(void, VOID), **{label: index for index, label in enumerate(labels)}})
        for labels in (others, kept)
    ]
    return (
        f"where the masks hold {', '.join(map(str, others))} for the classes, leave `void` out and set value_map = "
        f"{maps[0]}; where {unlabelled} is what is unlabelled, take it off `classes` and set value_map = {maps[1]}"
    )


def colours(
    palette: Mapping[str, Colour],
    stored: Mapping[Colour, int],
    drawn: Mapping[tuple[str, Colour], int] | None = None,
    given: bool = False,
    labels: Mapping[int, str] | None = None,
) -> str:
    """The map that reads masks by their colours: by the first of these that is certain, or else to be filled in.

    The colours of the classes, or greys, prove themselves where masks hold one of them that is not in any palette, or
    where a person has chosen them; one colour more is void's or a guess. Then, for masks with palettes, what two
    thirds of them draw in a colour.

    Args:
        palette: class -> the colour it is drawn in.
        stored: colours -> pixels; of masks with palettes masks.
        drawn: of these: class and the colour it is drawn in -> masks.
        given: whether somebody chose the colours of the classes.
        labels: of masks with palettes, stored label -> class, or void.
    """
    greys = {name: (label, label, label) for label, name in (labels or {}).items()}
    unit = "mask" if drawn else ""
    for known in (palette, greys):
        others = [colour for colour in stored if colour not in known.values()]
        if len(others) <= 1 and (given or {*stored}.intersection(known.values()) - IN_ANY_PALETTE):
            void = [("void" if colour == VOID_COLOUR else "?1", colour) for colour in others]
            return _colour_map("by the palette", [*known.items(), *void], stored, unit)
    if chosen := _by_most(drawn, stored) if drawn else {}:
        # a class that no mask holds takes the colour that it is drawn in
        chosen |= {name: colour for name, colour in palette.items() if name not in chosen and colour not in stored}
        names = [(name, chosen[name]) for name in [*palette, "void"] if name in chosen]
        return _colour_map("as most masks have it", names, stored, unit)
    reason = "put a class in the place of each ?, or void for what is unlabelled"
    if not 0 <= len(stored) - len(palette) <= 1:
        reason += f"; {len(stored)} colours for {len(palette)} classes, so change `classes` too"
    ordered = sorted(stored, key=lambda colour: (-stored[colour], colour))
    return _colour_map(reason, [(f"?{number}", colour) for number, colour in enumerate(ordered, 1)], stored, unit)


def palettes(
    palette: Mapping[str, Colour],
    labels: Mapping[int, str],
    stored: Mapping[tuple[int, Colour], int],
    given: bool,
    mapped: bool,
    by_label: bool,
) -> str:
    """Masks whose palettes differ: :func:`colours`, of label and colour -> masks.

    Args:
        palette: class -> the colour it is drawn in.
        labels: stored label -> class, or void.
        stored: label and colour -> masks.
        given: whether somebody chose the colours of the classes.
        mapped: whether a value map is there already.
        by_label: whether the labels may be right, and the colours differ for no reason.
    """
    masks: Counter[Colour] = Counter()
    for (_, colour), count in stored.items():
        masks[colour] += count
    hint = "where the labels are right whatever the colours, write a value_map; else " * (by_label and not mapped)
    hint += "read the masks by their colours: " + "take value_map out, and " * mapped
    drawn = {(labels[label], colour): count for (label, colour), count in stored.items()}
    return hint + colours(palette, masks, drawn, given, labels)


def _by_most(drawn: Mapping[tuple[str, Colour], int], masks: Mapping[Colour, int]) -> dict[str, Colour]:
    """Class -> colour where two thirds of the masks agree for each colour, or all for each but one; else nothing."""
    chosen = {name: colour for (name, colour), count in drawn.items() if 3 * count >= 2 * masks[colour]}
    rest = masks.keys() - chosen.values()
    if len(rest) == 1:
        agreed = {colour for (_, colour), count in drawn.items() if count == masks[colour]}
        left = {name for name, colour in drawn if colour in rest} - chosen.keys()
        if agreed == {*chosen.values()} and len(left) == 1:
            chosen[left.pop()] = rest.pop()
    return chosen if sorted(chosen.values()) == sorted(masks) else {}


def unknown_colours(wrong: Mapping[Colour, int], has_void: bool) -> str:
    """Colours that the map lacks: a single one may be void's, if that has none yet."""
    if has_void or len(wrong) != 1:
        return ""
    return f"where it means unlabelled, add to [dataset.colour_map]: void = {list(*wrong)}; else correct the mask"


def _inline(indices: Mapping[int, int]) -> str:
    """A value map as TOML in one line."""
    return "{ " + ", ".join(f'"{label}" = {index}' for label, index in sorted(indices.items())) + " }"


def _value_map(classes: Sequence[str], labels: Mapping[int, int], stored: Mapping[int, int]) -> str:
    total = sum(stored.values())
    names = {**dict(enumerate(classes)), VOID: "void"}
    lines = [
        f'"{label}" = {index}  # {names[index]}, {stored.get(label, 0) / total:.1%}' for label, index in labels.items()
    ]
    return "[dataset.value_map]\n" + "\n".join(lines)


def _colour_map(reason: str, names: Sequence[tuple[str, Colour]], stored: Mapping[Colour, int], unit: str = "") -> str:
    total = sum(stored.values())
    told = {
        colour: f"{count:,} {unit}{'s' * (count > 1)}" if unit else f"{count / total:.1%}"
        for colour, count in stored.items()
    }
    lines = [f"{_key(name)} = {list(colour)}  # {told.get(colour, 'not seen')}" for name, colour in names]
    return f"say which colour is which class ({reason}){AT_THE_END}[dataset.colour_map]\n" + "\n".join(lines)


def _key(name: str) -> str:
    """A key of TOML: quoted where it must be."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
