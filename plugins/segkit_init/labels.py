"""From what masks store to classes: every reading that is possible, the likeliest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import max_pool2d

from segkit.data.issues import messages
from segkit.data.parallel import cores, read_ahead
from segkit.data.visualize import VOID_COLOUR
from segkit.errors import DataError, Issue, LabelError
from segkit_folder.masks import read_mask
from segkit_init.findings import Answer, Question

Labels = NDArray[np.integer[Any]]
"""The labels of a mask ``[H,W]``; of colours :data:`COLOUR` and 65536 red + 256 green + blue."""

COLOUR = 1 << 24  # above all labels
VOID = 255  # of VOC, Cityscapes and most others
_MOST_IDS = 255  # that are written into a config
_LOOKED_AT = 40  # masks whose edges are looked at
_SIDE = 256  # pixels to which a mask is reduced for that
_WINDOW = 9  # pixels of it
_BETWEEN = 0.95  # share of all places where two labels meet: VOC's border has 0.97 to 1, no label of CamVid over 0.33
_NEAR = 0.3  # share of its pixels that have two others in the window: over 0.6 in 37 of 40 masks of VOC
_BLURRED = 0.3  # share of a label's pixels that are between those beside them
_AREA = 0.05  # share of a label's pixels that have their own label on all four sides
_OFF = 16  # greys by which JPEG is wrong beside a border
_FEWEST_BLURRED = 2  # labels; and a third of the mask's: CamVid made four times smaller has 3 of 11 at most
_THIN = 0.005  # share of all pixels that such labels have at most
_MOST_NAMELESS = 64  # labels that are classes though nobody has said so


@dataclass(frozen=True)
class StoredLabels:
    """What a set of masks stores.

    Attributes:
        pixels: stored label -> pixels.
        edges: labels that lie along the borders of others.
        thin: rare labels that cover no area.
        of_objects: whether they look like ids of single objects: each mask counts 0, 1, 2, ... to a number of its own,
            or most labels are in one mask alone.
    """

    pixels: Counter[int]
    edges: frozenset[int]
    thin: frozenset[int]
    of_objects: bool


def read_labels(paths: Sequence[Path]) -> list[Labels]:
    """The masks that can be read.

    Raises:
        LabelError: most of them cannot; with the reasons.
    """
    masks, errors = [], []
    for mask in read_ahead(lambda index: _read(paths[index]), range(len(paths)), cores(), "masks", True):
        if isinstance(mask, DataError):
            errors.append(mask)
        else:
            masks.append(mask)
    if 2 * len(errors) >= len(paths):
        raise LabelError("\n".join(messages(error.issue for error in errors if error.issue)) or "there are no masks")
    return masks


def _read(path: Path) -> Labels | DataError:
    try:
        mask: Labels = read_mask(path)
        return _blurred(mask, path) or mask
    except DataError as error:
        if error.issue is None or error.issue.kind != "colours":
            return error
        colours = [*error.issue.stored]
        numbers = np.array([COLOUR | red << 16 | green << 8 | blue for red, green, blue in colours])
        packed: Labels = numbers[read_mask(path, {colour: index for index, colour in enumerate(colours)})]
        return packed


def _blurred(mask: Labels, path: Path) -> LabelError | None:
    """What is wrong with a mask of whose labels a third were never drawn.

    Resizing and turning by interpolation give labels that lie between those of their neighbours, rising or falling. No
    label of CamVid, VOC, DRIVE or Carvana does so in 30% of its pixels. JPEG gives labels that cover no area, a little
    off those that do, on the dark side and on the bright one.
    """
    between, within = _between_and_within(mask)
    low, high = int(mask.min()), int(mask.max())
    pixels, of_between, of_within = (
        np.bincount(mask[where].ravel().astype(int) - low, minlength=high - low + 1) for where in (..., between, within)
    )
    labels = np.flatnonzero(pixels)
    is_odd = of_between[labels] > _BLURRED * pixels[labels]
    has_area = of_within[labels] > _AREA * pixels[labels]
    drawn = labels[has_area]
    if len(drawn) and drawn[-1] - drawn[0] > 4 * _OFF:
        off = [~has_area & (abs(labels - end) <= _OFF) for end in (drawn[0], drawn[-1])]
        if all(each.any() for each in off):
            is_odd |= off[0] | off[1]
    number = int(is_odd.sum())
    if number < max(_FEWEST_BLURRED, len(labels) / 3):
        return None
    what = "values between those of the classes, all along their borders, as of smooth resizing, anti-aliasing or JPEG"
    advice = (
        "export the masks again, one value a class; resize them by the nearest neighbour, and never keep them as JPEG"
    )
    return LabelError(Issue("blended", str(path), what, advice, f"{number} of {len(labels)} values"))


def _between_and_within(mask: Labels) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where a label lies between those on two sides, rising or falling; and where all four sides have the same one."""
    between, within = np.zeros(mask.shape, bool), np.ones(mask.shape, bool)
    for lines, found, same in ((mask, between, within), (mask.T, between.T, within.T)):
        rises, falls = lines[:-1] < lines[1:], lines[:-1] > lines[1:]
        found[1:-1] |= (rises[:-1] & rises[1:]) | (falls[:-1] & falls[1:])
        same[:-1] &= ~(rises | falls)
        same[1:] &= ~(rises | falls)
    return between, within


def stored_labels(masks: Iterable[Labels]) -> StoredLabels:
    """Count what masks store."""
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    looked_at: Counter[int] = Counter()
    edges: Counter[int] = Counter()
    inside: Counter[int] = Counter()
    highest: list[int] = []
    for mask in masks:
        values, numbers = np.unique(mask, return_counts=True)
        labels = values.tolist()
        pixels.update(dict(zip(labels, numbers.tolist(), strict=True)))
        images.update(labels)
        highest.append(labels[-1] if labels == [*range(len(labels))] else -1)
        if len(highest) <= _LOOKED_AT:
            looked_at.update(labels)
            edges.update(_edges(mask, values))
            inside.update(np.unique(mask[_between_and_within(mask)[1]]).tolist())
    along = frozenset(label for label, number in edges.items() if number >= 0.7 * looked_at[label])
    counting = len(highest) >= 5 and min(highest) >= 0 and len({*highest} - {0}) >= 4
    once = sum(number == 1 for number in images.values())
    few = _THIN * pixels.total()
    thin = frozenset(label for label, number in looked_at.items() if pixels[label] < few and not inside[label])
    return StoredLabels(pixels, along, thin, counting or (once >= 8 and 2 * once > len(images)))


def _edges(mask: Labels, values: Labels) -> set[int]:
    """The labels that lie between the others: those hardly touch one another, and are both near each such pixel."""
    if not 3 <= len(values) <= 64:
        return set()
    indices = np.searchsorted(values, mask).astype(np.uint8)  # [H,W]
    sides = [(indices[:, 1:], indices[:, :-1]), (indices[1:], indices[:-1])]
    touching = np.concatenate([np.stack([one[one != two], two[one != two]]) for one, two in sides], axis=1)  # [2,N]
    step = -(-max(mask.shape) // _SIDE)
    small = indices[::step, ::step]  # [h,w]
    found = set()
    for index, label in enumerate(values.tolist()):
        own = small == index
        if 0 < own.sum() < 0.2 * own.size and (touching == index).any(axis=0).mean() > _BETWEEN:
            # of the other labels around each pixel, the least and the most
            others = np.stack([np.where(own, -64.0, -1.0 * small), np.where(own, -64.0, small)]).astype(np.float32)
            least, most = max_pool2d(torch.from_numpy(others), _WINDOW, 1, _WINDOW // 2).numpy()  # [h,w]
            if (-least < most)[own].mean() > _NEAR:
                found.add(label)
    return found


def question_of(stored: StoredLabels, names: Sequence[str] = (), from_1: bool = False) -> Question:
    """What the labels of masks mean.

    Args:
        stored: what the masks store.
        names: of the classes, where a file has given them, in the order of the labels.
        from_1: whether that file counts the labels from 1.

    Raises:
        LabelError: they are, as ids of objects mostly, too many to be written into a config.
    """
    labels = sorted(stored.pixels)
    if labels[-1] >= COLOUR:
        return _of_colours(stored, names)
    if near := _left_by_jpeg(labels, stored.thin):
        beside = _listed(sorted({*near.values()}))
        text = f"{_listed([*near])} cover no area, and lie near {beside}: are they what JPEG has left?"
        kept = [label for label in labels if label not in near]
        drawn = answer_of("yes: they are the labels that they lie near", kept, names)
        value_map = {str(label): kept.index(near.get(label, label)) for label in labels}
        rounded = Answer(drawn.text, {**drawn.options, "value_map": value_map})
        return Question(text, (rounded, answer_of("no: each is a class", labels, ())), "value_map")
    if stored.of_objects:
        return _of_objects(labels)
    rest = [label for label in labels if label != VOID]
    void = [VOID] * (VOID in labels)
    if len(rest) < 2:  # 0 and 255: with 255 void there would be nothing to learn
        return _plain(labels, names, [])
    steps = {second - first for first, second in pairwise(labels)}
    if void and len(rest) > 1 and max(steps) - min(steps) <= 1 < min(steps):
        spread = answer_of(f"{len(labels)} classes, whose greys are spread to be seen", labels, names)
        unlabelled = answer_of(f"{len(rest)} classes, and {VOID} is not labelled", rest, names, void)
        return Question(f"the masks hold {_listed(labels)}: is {VOID} a class?", (spread, unlabelled), "value_map")
    if edge := [label for label in rest if label in stored.edges and len(rest) > 2]:
        kept = [label for label in rest if label not in edge]
        unlabelled = answer_of("not labelled: it is neither learned nor scored", kept, names, [*edge, *void])
        own = answer_of("a class of its own", rest, names, void)
        text = f"{_listed(edge)} lies along the borders of the others: is it a class?"
        return Question(text, (unlabelled, own), "classes")
    if names and len(names) + 1 == len(rest) and rest[0] == 0:
        background = answer_of("0 is the background, a class too", rest, ["background", *names], void)
        unlabelled = answer_of("0 is not labelled", rest[1:], names, [0, *void])
        answers = (unlabelled, background) if from_1 else (background, unlabelled)
        return Question(f"{len(names)} names for {len(rest)} labels: what is 0?", answers, "classes")
    return _plain(rest, names, void)


def _left_by_jpeg(labels: Sequence[int], thin: Collection[int]) -> dict[int, int]:
    """Label -> the one beside it that was drawn, of labels that cover no area where the others lie far apart."""
    drawn = [label for label in labels if label not in thin]
    if len(drawn) < 2 or len(drawn) == len(labels) or drawn[-1] - drawn[0] <= 4 * _OFF:
        return {}
    near = {label: min(drawn, key=lambda each: abs(each - label)) for label in labels if label in thin}
    return near if all(abs(label - beside) <= _OFF for label, beside in near.items()) else {}


def _plain(labels: Sequence[int], names: Sequence[str], void: Sequence[int]) -> Question:
    """Labels that can be read in one way; at most their names are open, or whether so many are classes.

    Raises:
        LabelError: there are too many to be written into a config.
    """
    text = f"{VOID} is not labelled, as most have it" if void else ""
    if len(names) != len(labels):
        held = f"there are {len(names)} names for {len(labels)} labels" if names else "the masks hold numbers alone"
        text = f"what are the classes called? {held}{'; ' * bool(void)}{text}"
        text += "; and is one of them not labelled? void = [...]" if len(labels) > 2 and not void else ""
        if len(labels) > _MOST_NAMELESS:
            text = f"{len(labels)} labels, from {labels[0]} to {labels[-1]}: is each a class? {held}"
            if len(labels) > _MOST_IDS:
                raise LabelError(f"{text}; a config has at most {_MOST_IDS}: export the classes alone")
            mend = Answer("no: export the masks again with one value a class, or give the names in classes.txt")
            return Question(text, [answer_of("yes", labels, names, void), mend], "classes")
    return Question(text, [answer_of("", labels, names, void)], "classes", must=False)


def _of_objects(labels: Sequence[int]) -> Question:
    """Ids of objects, or labels that happen to look like them.

    Raises:
        LabelError: there are too many to be written into a config.
    """
    text = f"the masks hold {len(labels)} labels, up to {labels[-1]}, as if each object had one of its own"
    classes = [label // 1000 if label >= 1000 else label for label in labels]  # of Cityscapes and its kin
    known = sorted({*classes} - {VOID})
    if len(labels) > _MOST_IDS:
        raise LabelError(f"{text}: export the class of each pixel in place of the object's number")
    if labels[-1] >= 1000 and len(known) < len(labels):
        merged = answer_of("thousands are the classes, as Cityscapes has them", known, ())
        indices = [VOID if each == VOID else known.index(each) for each in classes]
    else:
        merged = answer_of("they are objects of one class", labels[:2], ["background", "object"])
        indices = [VOID if label == VOID else int(label > 0) for label in labels]
    value_map = {str(label): index for label, index in zip(labels, indices, strict=True)}
    merged = Answer(merged.text, {**merged.options, "value_map": value_map})
    return Question(f"{text}: what are these?", (merged, answer_of("each is a class", labels, ())), "value_map")


def _of_colours(stored: StoredLabels, names: Sequence[str]) -> Question:
    """Colours: black first, as it is the background mostly, then the most frequent; VOC's cream is void."""
    ordered = sorted(stored.pixels, key=lambda label: (label > COLOUR, -stored.pixels[label], label))
    colours = [[label >> 16 & 255, label >> 8 & 255, label & 255] for label in ordered]
    known = [colour for colour in colours if colour != [*VOID_COLOUR]]
    called = [*names] if len(names) == len(known) == 2 else _made_up(len(known), not any(known[0]))
    mapped = dict(zip([*called, "void"], [*known, [*VOID_COLOUR]][: len(colours)], strict=False))
    text = "what are the classes called, in `classes` and `colour_map` alike? or void; the masks hold colours"
    return Question(text, (Answer("", {"classes": called, "colour_map": mapped}),), "classes", must=False)


def answer_of(text: str, labels: Sequence[int], names: Sequence[str], void: Sequence[int] = ()) -> Answer:
    """The options that read these labels as classes in their order.

    Args:
        text: what it means.
        labels: stored ones of the classes.
        names: of the classes; others are made up where there are not as many.
        void: stored labels that are not labelled.
    """
    called = [*names] if len(names) == len(labels) else _made_up(len(labels), labels[0] == 0)
    options: dict[str, Any] = {"classes": called}
    if list(labels) != list(range(len(labels))):
        options["value_map"] = {str(label): index for index, label in enumerate(labels)}
        options["value_map"] |= {str(label): VOID for label in void}
    elif [*void] not in ([], [VOID]):
        options["void"] = [*void]
    return Answer(text, options)


def _made_up(count: int, has_background: bool) -> list[str]:
    return ["background", "foreground"] if count == 2 and has_background else [f"class_{each}" for each in range(count)]


def _listed(labels: Sequence[int]) -> str:
    texts = [str(label) for label in labels]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
