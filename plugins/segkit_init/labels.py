"""Derive classes from the labels that masks store: every possible meaning, the likeliest first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from segkit.data.visualize import VOID_COLOUR
from segkit.errors import LabelError
from segkit_init.findings import Answer, Question
from segkit_init.stored import COLOUR, JPEG_OFF, StoredLabels, are_counted

VOID = 255  # of VOC, Cityscapes and most others
_MOST_IDS = 255  # labels that a config may list
_MOST_NAMELESS = 64  # labels that count as classes without names and without a question


def question_of(
    stored: StoredLabels,
    names: Sequence[str] = (),
    from_1: bool = False,
    no_data: float | None = None,
) -> Question:
    """Ask what the labels of masks mean.

    Args:
        stored: what the masks store.
        names: class names that a file gives, in the order of the labels; empty without such a file.
        from_1: whether that file counts the labels from 1.

        no_data: value that, as the masks declare, marks pixels without data.

    Raises:
        LabelError: there are too many labels for a config, mostly ids of objects.
    """
    labels = sorted(stored.pixels)
    if labels[-1] >= COLOUR:
        return _of_colours(stored, names)
    if near := _left_by_jpeg(labels, stored.thin):
        return _of_jpeg(labels, near, names)
    if stored.kinds and not stored.of_objects and len(names) < len({*labels} - {0, VOID}):
        return _of_two_kinds(labels, stored.kinds, names)
    if stored.of_objects or _divisor(labels):
        return _of_objects(labels, names)
    rest = [label for label in labels if 0 <= label != VOID]
    void = [label for label in labels if label not in rest]  # -1 means void too
    if len(rest) < 2:  # 0 and 255: with 255 void there would be nothing to learn
        return _plain(labels, names, [])
    if void == [VOID] and rest[-1] == VOID - 1:
        return _of_254(rest, names)
    steps = [second - first for first, second in pairwise(rest)]
    # 0, 100 and 255 are greys spread for viewing; 10, 20, 30 and 255 are codes, and so are 0, 100, 200 and 255
    is_near = min(steps) - 2 <= VOID - rest[-1] <= 2 * max(steps)
    if void == [VOID] and min(steps) > 1 and (is_near or not rest[0]):
        spread = answer_of(f"{len(labels)} classes, whose greys are spread for viewing", labels, names)
        unlabelled = answer_of(f"{len(rest)} classes, and {VOID} marks unlabelled pixels", rest, names, void)
        answers = (spread, unlabelled) if is_near else (unlabelled, spread)
        return Question(f"the masks hold {_listed(labels)}: is {VOID} a class?", answers, "value_map")
    if void == [VOID] and (number := stored.black_and_white):
        unlabelled = answer_of("it marks unlabelled pixels", rest, names, void)
        other = Answer("these masks are of another kind: export them like the others")
        answers = (unlabelled, other)
        if rest == [0, 1]:
            value_map = {"0": 0, "1": 1, str(VOID): 1}
            answers = (Answer("the same as 1", {**unlabelled.options, "value_map": value_map}), unlabelled)
        what = f"{number} masks hold only 0 and {VOID}, and no mask with other labels holds {VOID}"
        return Question(f"{what}: what does {VOID} mean?", answers, "classes")
    if most := [label for label in void if 2 * stored.pixels[label] > stored.pixels.total()]:
        called = ["background", *names] if len(names) == len(rest) else ()
        others = [label for label in void if label not in most]
        background = answer_of("it is the background class", [*most, *rest], called, others)
        unlabelled = answer_of("it marks unlabelled pixels, as in most data sets", rest, names, void)
        ordered = (background, unlabelled) if most == [-1] else (unlabelled, background)
        share = sum(stored.pixels[label] for label in most) / stored.pixels.total()
        return Question(f"{_listed(most)} covers {share:.0%} of the masks: what is it?", ordered, "classes")
    if doubtful := _of_doubtful(stored, rest, names, void, no_data):
        return doubtful
    if names and len(names) + 1 == len(rest) and rest[0] == 0 and "background" not in names:
        background = answer_of("0 is the background class", rest, ["background", *names], void)
        unlabelled = answer_of("0 marks unlabelled pixels", rest[1:], names, [0, *void])
        answers = (unlabelled, background) if from_1 else (background, unlabelled)
        return Question(f"{len(names)} names for {len(rest)} labels: what is 0?", answers, "classes")
    return _plain(rest, names, void)


def _of_jpeg(labels: Sequence[int], near: Mapping[int, int], names: Sequence[str]) -> Question:
    """Ask whether JPEG compression made the labels that cover no area and lie near another label, ``near``."""
    beside = _listed(sorted({*near.values()}))
    text = f"{_listed([*near])} cover no area, and lie near {beside}: did JPEG compression make them?"
    kept = [label for label in labels if label not in near]
    drawn = answer_of("yes: each becomes the label that it lies near", kept, names)
    value_map = {str(label): kept.index(near.get(label, label)) for label in labels}
    rounded = Answer(drawn.text, {**drawn.options, "value_map": value_map})
    return Question(text, (rounded, answer_of("no: each is a class", labels, ())), "value_map")


def _of_doubtful(
    stored: StoredLabels, rest: Sequence[int], names: Sequence[str], void: Sequence[int], no_data: float | None
) -> Question | None:
    """Ask whether labels that look like no data, borders or strays are classes; None without such labels."""
    strays = [label for label in rest if label in stored.strays and len(names) != len(rest)]
    number = sum(stored.pixels[label] for label in strays)
    doubtful = {
        "the masks declare {} as no data": [label for label in rest if label == no_data],
        "{} lies along the borders of the others": [label for label in rest if label in stored.edges],
        f"{number} of {stored.pixels.total()} pixels hold {{}}, each label in a single mask": strays,
    }
    for text, odd in doubtful.items() if len(rest) > 2 else ():
        if odd:
            kept = [label for label in rest if label not in odd]
            unlabelled = answer_of("no: it is neither learned nor scored", kept, names, [*odd, *void])
            own = answer_of("yes: a class of its own", rest, names, void)
            is_next = odd == strays and rest == [*range(len(rest))]  # the label that continues the count is meant
            answers = (own, unlabelled) if is_next else (unlabelled, own)
            return Question(f"{text.format(_listed(odd))}: is it a class?", answers, "classes")
    return None


def _of_two_kinds(labels: Sequence[int], kinds: Sequence[Sequence[int]], names: Sequence[str]) -> Question:
    """Ask whether two kinds of masks hold the same classes, the second with multiples of the first's labels."""
    first, second = kinds
    text = f"some masks hold {_listed(first)}, others {_listed(second)}, none holds both: are these the same classes?"
    void = [label for label in labels if label < 0 or label == VOID]
    each = answer_of("no: each is a class", [label for label in labels if label not in void], (), void)
    number_of = dict(zip(second, first, strict=False))
    if len(first) != len(second) or len({high / low for high, low in number_of.items() if low}) != 1:
        return Question(text, (each, Answer("yes: export all masks alike, and run init again")), "classes")
    own = [label for label in labels if label not in void and label not in second]
    options = dict(answer_of("", own, names).options)
    indices = {label: own.index(number_of.get(label, label)) for label in labels if label not in void}
    value_map = {str(label): VOID if label in void else indices[label] for label in labels}
    merged = Answer("yes, with other numbers", {"classes": options["classes"], "value_map": value_map})
    return Question(text, (merged, each), "value_map")


def _of_254(rest: Sequence[int], names: Sequence[str]) -> Question:
    """Ask whether 254 and 255 are the same class, two classes, or mark unlabelled pixels."""
    one = answer_of("one class: white and nearly white", rest, names)
    value_map = {**one.options.get("value_map", {}), str(VOID): len(rest) - 1}
    same = Answer(one.text, {**one.options, "value_map": value_map})
    unlabelled = answer_of(f"{VOID} marks unlabelled pixels", rest, names, [VOID])
    each = answer_of("each is a class", [*rest, VOID], names)
    neither = [answer_of("both mark unlabelled pixels", rest[:-1], names, [VOID - 1, VOID])] * (len(rest) > 2)
    return Question(
        f"the masks hold {VOID - 1} and {VOID}: what are these?", (*neither, same, unlabelled, each), "classes"
    )


def _left_by_jpeg(labels: Sequence[int], thin: Collection[int]) -> dict[int, int]:
    """Map each label that covers no area to the drawn label near it; empty where JPEG cannot explain all of them."""
    drawn = [label for label in labels if label not in thin]
    if len(drawn) < 2 or len(drawn) == len(labels) or drawn[-1] - drawn[0] <= 4 * JPEG_OFF:
        return {}
    near = {label: min(drawn, key=lambda each: abs(each - label)) for label in labels if label in thin}
    return near if all(abs(label - beside) <= JPEG_OFF for label, beside in near.items()) else {}


def _plain(labels: Sequence[int], names: Sequence[str], void: Sequence[int]) -> Question:
    """Return the question about labels with one meaning: at most, what they are called or whether all are classes.

    Raises:
        LabelError: there are too many labels for a config.
    """
    text = f"{_listed(void)} marks unlabelled pixels, as in most data sets" if void else ""
    if len(names) != len(labels):
        held = f"there are {len(names)} names for {len(labels)} labels" if names else "the masks hold only numbers"
        text = f"what are the classes called? {held}{'; ' * bool(void)}{text}"
        text += "; if one of them marks unlabelled pixels: void = [...]" if len(labels) > 2 and not void else ""
        if len(labels) > _MOST_NAMELESS:
            text = f"{len(labels)} labels, from {labels[0]} to {labels[-1]}: is each a class? {held}"
            if len(labels) > _MOST_IDS:
                raise LabelError(f"{text}; a config has at most {_MOST_IDS}: export only the classes")
            mend = Answer("no: export the masks again with one value per class, or give the names in classes.txt")
            return Question(text, [answer_of("yes", labels, names, void), mend], "classes")
    return Question(text, [answer_of("", labels, names, void)], "classes", must=False)


def _divisor(labels: Sequence[int]) -> int:
    """Return 1000 or 256, where labels are class * divisor + object number (Cityscapes, KITTI); else 0.

    Of the two it is the divisor that leaves the smaller object numbers.
    """
    high = [label for label in labels if label > VOID]
    remainder, divisor = min((max((label % each for label in high), default=0), each) for each in (1000, 256))
    return divisor if remainder < divisor and len({label // divisor for label in high}) < len(high) else 0


def _of_objects(labels: Sequence[int], names: Sequence[str]) -> Question:
    """Ask whether labels are ids of objects or only look like them.

    Raises:
        LabelError: there are too many labels for a config.
    """
    text = f"the masks hold {len(labels)} labels, up to {labels[-1]}, as if each object had its own"
    if len(labels) > _MOST_IDS:
        raise LabelError(f"{text}: export the class of each pixel instead of the object's number")
    if divisor := _divisor(labels):
        classes = [label // divisor if label >= divisor else label for label in labels]
        known = sorted({*classes} - {VOID})
        merged = answer_of(f"divided by {divisor} they are the classes, as in Cityscapes and KITTI", known, names)
        indices = [VOID if each == VOID else known.index(each) for each in classes]
    else:
        merged = answer_of("they are objects of one class", labels[:2], ["background", "object"])
        indices = [VOID if label == VOID else int(label > 0) for label in labels]
    value_map = {str(label): index for label, index in zip(labels, indices, strict=True)}
    merged = Answer(merged.text, {**merged.options, "value_map": value_map})
    each = answer_of("each is a class", labels, ())
    if not divisor and labels[0] > 0:
        mend = Answer("they are objects of one class: export them with a background, or there is nothing to learn")
        return Question(f"{text}, and no background: what are these?", (each, mend), "classes")
    return Question(f"{text}: what are these?", (merged, each), "value_map")


def _of_colours(stored: StoredLabels, names: Sequence[str]) -> Question:
    """Ask about colours: black first (mostly background), then by frequency; VOC's cream is void."""
    ordered = sorted(stored.pixels, key=lambda label: (label > COLOUR, -stored.pixels[label], label))
    colours = [[label >> 16 & 255, label >> 8 & 255, label & 255] for label in ordered]
    known = [colour for colour in colours if colour != [*VOID_COLOUR]]
    called = [*names] if len(names) == len(known) == 2 else _made_up(len(known), not any(known[0]))
    mapped = dict(zip([*called, "void"], [*known, [*VOID_COLOUR]][: len(colours)], strict=False))
    if stored.of_objects:
        text = f"the masks hold {len(colours)} colours, as if each object had its own: what are these?"
        each = Answer("each is a class", {"classes": called, "colour_map": mapped})
        mend = Answer("export the class of each pixel: one colour or number for all objects of a class")
        merged = Answer("objects of one class", {"classes": ["background", "object"], "threshold": 0.1})
        channels = [{*channel} for channel in zip(*known[1:], strict=True)]
        varying = sum(len(channel) > 1 for channel in channels)  # if other channels vary too, these may be the class
        of_one = not any(known[0]) and (varying == 1 or not are_counted([*stored.pixels]))
        return Question(text, (merged, each) if of_one else (each, mend), "colour_map")
    text = "what are the classes called, in both `classes` and `colour_map`? (void: unlabelled) the masks hold colours"

    return Question(text, (Answer("", {"classes": called, "colour_map": mapped}),), "classes", must=False)


def answer_of(text: str, labels: Sequence[int], names: Sequence[str], void: Sequence[int] = ()) -> Answer:
    """Return an answer whose options read these labels as classes, in this order.

    Args:
        text: of the answer.
        labels: stored labels of the classes.
        names: of the classes; made up where their number is not that of the labels.
        void: stored labels of unlabelled pixels.
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


def _listed(labels: Sequence[int | list[int]]) -> str:
    texts = [str(label) for label in labels]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
