"""From what masks store to classes: every reading that is possible, the likeliest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import max_pool2d

from segkit.data.visualize import VOID_COLOUR
from segkit.errors import LabelError
from segkit_init.findings import Answer, Question, StoredLabels

VOID = 255  # of VOC, Cityscapes and most others
MOST_CLASSES = 255
_LOOKED_AT = 40  # masks whose edges are looked at
_SIDE = 256  # pixels to which a mask is reduced for that
_WINDOW = 9  # pixels of it
_BETWEEN = 0.95  # share of all places where two labels meet: VOC's border has 0.97 to 1, no label of CamVid over 0.33
_NEAR = 0.3  # share of its pixels that have two others in the window: over 0.6 in 37 of 40 masks of VOC


def stored_labels(masks: Iterable[NDArray[Any] | dict[Any, int]]) -> StoredLabels:
    """Count what masks store.

    Args:
        masks: of each its labels ``[H,W]``; or, where it holds colours, pixels by colour.
    """
    pixels: Counter[Any] = Counter()
    images: Counter[Any] = Counter()
    looked_at: Counter[int] = Counter()
    edges: Counter[int] = Counter()
    highest: list[int] = []
    count = 0
    for mask in masks:
        count += 1
        if isinstance(mask, dict):
            counted = mask
        else:
            values, numbers = np.unique(mask, return_counts=True)
            counted = dict(zip(values.tolist(), numbers.tolist(), strict=True))
            highest.append(int(values[-1]) if values.tolist() == list(range(len(values))) else -1)
            if count <= _LOOKED_AT:
                looked_at.update([*counted])
                edges.update(_edges(mask, values))
        pixels.update(counted)
        images.update([*counted])
    along = frozenset(label for label, number in edges.items() if number >= 0.7 * looked_at[label])
    counting = count >= 5 and min(highest, default=-1) >= 0 and len({*highest} - {0}) >= 4
    once = sum(number == 1 for number in images.values())
    return StoredLabels(pixels, images, count, along, counting or (once >= 8 and 2 * once > len(images)))


def _edges(mask: NDArray[Any], values: NDArray[Any]) -> set[int]:
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


def questions_of(stored: StoredLabels, names: Sequence[str] = ()) -> list[Question]:
    """What the masks' labels mean: one question, whose first answer is taken, and whether it has to be answered.

    Args:
        stored: what the masks store.
        names: of the classes, where a person or a file has given them, in the order of the labels.
    """
    if stored.has_colours:
        return [_of_colours(stored, names)]
    labels = sorted(stored.pixels)
    if stored.of_objects:
        return [_of_objects(labels)]
    rest = [label for label in labels if label != VOID]
    if len(rest) < 2:  # 0 and 255: with 255 void there would be nothing to learn
        return [_plain(stored, labels, names)]
    even = {second - first for first, second in pairwise(labels)}
    if VOID in labels and len(labels) > 2 and len(even) <= 2 and max(even) - min(even) <= 1 and min(even) > 1:
        scaled = _answer(f"{len(labels)} classes, whose greys are spread to be seen", labels, names)
        unlabelled = _answer(f"{len(rest)} classes, and {VOID} is not labelled", rest, names, [VOID])
        return [Question(f"the masks hold {_listed(labels)}: is {VOID} a class?", (scaled, unlabelled), "value_map")]
    if edge := [label for label in rest if label in stored.edges and len(rest) > 2]:
        kept = [label for label in rest if label not in edge]
        text = f"{_listed(edge)} lies along the borders of the others ({stored.share(edge[0])} of the pixels)"
        void = [*edge, *([VOID] if VOID in labels else [])]
        unlabelled = _answer("not labelled: it is neither learned nor scored", kept, names, void)
        own = _answer("a class of its own", rest, names, [VOID] if VOID in labels else [])
        return [Question(f"{text}: is it a class?", (unlabelled, own), "void")]
    if names and len(names) + 1 == len(rest) and rest[0] == 0:
        background = _answer("0 is the background, a class too", rest, ["background", *names])
        unlabelled = _answer("0 is not labelled", rest[1:], names, [0])
        text = f"{len(names)} names for {len(rest)} labels: what is 0 ({stored.share(0)} of the pixels)?"
        return [Question(text, (background, unlabelled), "classes")]
    return [_plain(stored, rest, names, [VOID] if VOID in labels else [])]


def _plain(stored: StoredLabels, labels: Sequence[int], names: Sequence[str], void: Sequence[int] = ()) -> Question:
    """Labels that can be read in one way; at most their names are open."""
    if len(names) == len(labels):
        return Question("", (_answer("", labels, names, void),), "classes", must=False)
    text = "the masks hold numbers alone: write what each is called"
    if names:
        text = f"there are {len(names)} names, and {len(labels)} labels: write what each is called"
    if len(labels) > 2 and not void:
        text += "; what is not labelled goes into `void` in place of a class"
    return Question(text, (_answer("", labels, (), void),), "classes", must=False)


def _of_objects(labels: Sequence[int]) -> Question:
    """Ids of objects, or labels that happen to look like them.

    Raises:
        LabelError: there are too many to be written into a config.
    """
    text = f"the masks hold {len(labels)} labels, up to {labels[-1]}, as if each object had one of its own"
    classes = [label // 1000 if label >= 1000 else label for label in labels]  # of Cityscapes and its kin
    known = sorted({*classes} - {VOID})
    if len(labels) > MOST_CLASSES:
        raise LabelError(f"{text}: export the class of each pixel in place of the object's number")
    if labels[-1] >= 1000 and len(known) < len(labels):
        merged = _answer("thousands are the classes, as Cityscapes has them", known, ())
        indices = [VOID if each == VOID else known.index(each) for each in classes]
    else:
        merged = _answer("they are objects of one class", labels[:2], ["background", "object"])
        indices = [VOID if label == VOID else int(label > 0) for label in labels]
    value_map = {str(label): index for label, index in zip(labels, indices, strict=True)}
    merged = Answer(merged.text, {**merged.options, "value_map": value_map})
    return Question(f"{text}: what are these?", (merged, _answer("each is a class", labels, ())), "value_map")


def _of_colours(stored: StoredLabels, names: Sequence[str]) -> Question:
    """Colours: black first, as it is the background mostly, then the most frequent; VOC's cream is void."""
    colours = sorted(stored.pixels, key=lambda colour: (any(colour), -stored.pixels[colour], colour))
    known = [colour for colour in colours if colour != VOID_COLOUR]
    called = list(names) if len(names) == len(known) == 2 else _made_up(len(known))
    mapped = dict(zip(called, map(list, known), strict=True))
    if VOID_COLOUR in colours:
        mapped["void"] = list(VOID_COLOUR)
    text = "the masks hold colours: write what each is called, in `classes` and `colour_map` alike; or `void`"
    return Question(text, (Answer("", {"classes": called, "colour_map": mapped}),), "classes", must=False)


def _answer(text: str, labels: Sequence[int], names: Sequence[str], void: Sequence[int] = ()) -> Answer:
    """The options that read these labels as classes in their order.

    Args:
        text: what it means.
        labels: stored ones of the classes.
        names: of the classes; others are made up where there are not as many.
        void: stored labels that are not labelled.
    """
    called = list(names) if len(names) == len(labels) else _made_up(len(labels))
    options: dict[str, Any] = {"classes": called}
    if list(labels) != list(range(len(labels))):
        options["value_map"] = {str(label): index for index, label in enumerate(labels)}
        options["value_map"] |= {str(label): VOID for label in void}
    elif [*void] not in ([], [VOID]):
        options["void"] = [*void]
    return Answer(text, options)


def _made_up(count: int) -> list[str]:
    return ["background", "foreground"] if count == 2 else [f"class_{index}" for index in range(count)]


def _listed(labels: Sequence[int]) -> str:
    texts = [str(label) for label in labels]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
