"""Derive classes from the labels that masks store: every possible meaning, the likeliest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations, pairwise
from typing import Any

from segkit.data.visualize import VOID_COLOUR
from segkit.errors import LabelError
from segkit_init.counts import StoredLabels
from segkit_init.greys import of_one_grey, with_greys
from segkit_init.questions import Answer, Question
from segkit_init.stored import COLOUR, JPEG_OFF

VOID = 255  # of VOC, Cityscapes and most others
_DEEP = 65535  # the same of 16 bits
_MOST_IDS = 255  # labels that a config may list
_RARE = 0.005  # share of all pixels of a label that a list of names may have left out
_ON_BLACK = 0.05  # share of all pixels; less may be unlabelled
_NEAR = 2  # by which red, green and blue of one colour may differ between programs
_MOST_NAMELESS = 64  # labels that count as classes without names and without a question

Meaning = Mapping[int, int | None]
"""Stored label -> the label whose class it has, mostly itself; None: unlabelled. Its order is that of the classes."""


def answer_of(text: str, meaning: Meaning, names: Sequence[str] = ()) -> Answer:
    """Return an answer that states a meaning; names are made up where their number is not that of the classes."""
    classes = [*dict.fromkeys(own for own in meaning.values() if own is not None)]
    void = [label for label, own in meaning.items() if own is None]
    called = [*names] if len(names) == len(classes) else _made_up(len(classes), classes[0] == 0)
    if classes == [*range(len(classes))] and all(own in (label, None) for label, own in meaning.items()):
        return Answer(text, {"classes": called, **({"void": void} if void not in ([], [VOID]) else {})})
    value_map = {str(label): classes.index(own) for label, own in meaning.items() if own is not None}
    return Answer(text, {"classes": called, "value_map": value_map | {str(label): VOID for label in void}})


def itself(labels: Collection[int], void: Collection[int] = ()) -> dict[int, int | None]:
    """Return the meaning in which each label is a class, except those of unlabelled pixels."""
    return {**{label: label for label in labels}, **dict.fromkeys(void)}


def question_of(
    stored: StoredLabels, names: Sequence[str] = (), from_1: bool = False, no_data: float | None = None
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
    if max(stored.pixels) >= COLOUR:
        return _of_colours(stored, names)
    if same := of_one_grey(stored):
        pixels = Counter({label: number for label, number in stored.pixels.items() if label not in same})
        asked = question_of(replace(stored, pixels=pixels), names, from_1, no_data)
        held = ", ".join(f"{own} or {each}" for each, own in same.items())
        text = f"the masks hold {held}, but none of them both: is each pair one class? {asked.text}"
        merged = [Answer(f"yes; {each.text}".rstrip("; "), with_greys(each.options, same)) for each in asked.answers]
        return Question(text, [*merged, answer_of("no: each is a class", itself(sorted(stored.pixels)), names)])
    return next(_doubts(stored, names, from_1, no_data), None) or _plain(stored, names)


def what_is_0(
    text: str, labels: Collection[int], names: Sequence[str], void: Collection[int], is_background: bool
) -> Question:
    """Ask whether 0 is a background that the names of the other labels leave out, or marks unlabelled pixels."""
    background = answer_of("0 is the background class", itself([0, *labels], void), ["background", *names])
    unlabelled = answer_of("0 marks unlabelled pixels", itself(labels, [0, *void]), names)
    return Question(f"{text}: what is 0?", [background, unlabelled] if is_background else [unlabelled, background])


def _classes_and_void(stored: StoredLabels) -> tuple[list[int], list[int]]:
    """Return the labels of classes and those of unlabelled pixels, as most data sets have them: 255, -1, and 65535."""
    labels = sorted(stored.pixels)
    is_deep = labels[-1] == _DEEP and labels[-2:-1] < [VOID]  # greys spread over 16 bits lie higher
    classes = [label for label in labels if 0 <= label != VOID and not (is_deep and label == _DEEP)]
    if len(classes) < 2:  # 0 and 255: with 255 void there would be nothing to learn
        return labels, []
    return classes, [label for label in labels if label not in classes]


def _doubts(stored: StoredLabels, names: Sequence[str], from_1: bool, no_data: float | None) -> Iterator[Question]:
    """Ask about labels that may be no class, or that of another label; the first question is the one to ask."""
    labels, (rest, void) = sorted(stored.pixels), _classes_and_void(stored)
    every, plain, ask = itself(labels), itself(rest, void), partial(_ask, names)
    if numbered := _with_numbers(labels):
        text = f"labels such as {next(iter(numbered))} seem to hold a class and the number of an object: is it so?"
        yield ask(text, ("yes: only the class counts", {**every, **numbered}), ("no: each is a class", every))
    near = _left_by_jpeg(labels, stored.thin)
    if near and (2 * len(near) > len(labels) or not stored.of_objects):
        text = f"{_listed([*near])} cover no area, and lie near {_listed(sorted({*near.values()}))}: did JPEG "
        text += "compression make them?"
        yield ask(
            text, ("yes: each becomes the label that it lies near", {**every, **near}), ("no: each is a class", every)
        )
    if stored.of_objects:
        yield _of_objects(labels)
    if stored.is_inverted:
        share, called = stored.pixels[0] / stored.pixels.total(), names or ("background", "foreground")
        text = f"0 covers {share:.0%} of the masks, hardly at their edges: are objects black, on white?"
        orders = {"yes: 0 is the object": labels[::-1], "no: 0 is the background": labels}
        yield Question(text, [answer_of(way, itself(order), called) for way, order in orders.items()])
    if len(rest) < 2 or (rest == labels and not 0 <= labels[0] <= labels[-1] < VOID):  # all of them are classes
        return
    if void == [VOID]:
        yield from _about_255(stored, names)
    if most := [label for label in void if 2 * stored.pixels[label] > stored.pixels.total()]:
        others = [label for label in void if label not in most]
        called = ["background", *names] if len(names) == len(rest) else ()
        background = answer_of("it is the background class", itself([*most, *rest], others), called)
        unlabelled = answer_of("it marks unlabelled pixels, as in most data sets", plain, names)
        share = sum(stored.pixels[label] for label in most) / stored.pixels.total()
        answers = [background, unlabelled] if most == [-1] else [unlabelled, background]
        yield Question(f"{_listed(most)} covers {share:.0%} of the masks: what is it?", answers)
    doubtful = {
        "the masks declare {} as no data": [label for label in rest if label == no_data],
        "{} lies along the borders of the others": [label for label in rest if label in stored.edges],
    }
    for text, odd in doubtful.items() if len(rest) > 2 else ():
        if odd:
            left_out = ("no: it is neither learned nor scored", itself(sorted({*rest} - {*odd}), [*odd, *void]))
            yield ask(f"{text.format(_listed(odd))}: is it a class?", left_out, ("yes: a class of its own", plain))
    yield from _names_that_lack_one(stored, names, from_1)


def _about_255(stored: StoredLabels, names: Sequence[str]) -> Iterator[Question]:
    """Ask whether 255, the only label that may be void, is a class or the same as another label."""
    labels, (rest, void) = sorted(stored.pixels), _classes_and_void(stored)
    every, plain, ask = itself(labels), itself(rest, void), partial(_ask, names)
    if rest[-1] == VOID - 1:
        one = ("one class: white and nearly white", plain | {VOID: VOID - 1})
        ways = [one, (f"{VOID} marks unlabelled pixels", plain), ("each is a class", every)]
        if len(rest) > 2:
            ways.insert(0, ("both mark unlabelled pixels", plain | {VOID - 1: None}))
        yield ask(f"the masks hold {VOID - 1} and {VOID}: what are these?", *ways)
    steps = [second - first for first, second in pairwise(rest)]
    # 0, 100 and 255 are greys spread for viewing; 10, 20, 30 and 255 are codes, and so are 0, 100, 200 and 255
    is_near = min(steps) - 2 <= VOID - rest[-1] <= 2 * max(steps)
    if min(steps) > 1 and (is_near or not rest[0]):
        ways = [(f"{len(labels)} classes, whose greys are spread for viewing", every)]
        ways.insert(is_near, (f"{len(rest)} classes, and {VOID} marks unlabelled pixels", plain))
        even = [VOID * at / len(rest) for at in range(len(rest))]  # of no codes of classes, beside a 255 for void
        text = f"the masks hold {_listed(labels)}"
        if len(rest) > 2 and all(abs(label - at) < 1 for label, at in zip(rest, even, strict=True)):
            unnamed = "; what are the classes called?" * (len(names) != len(labels))
            yield ask(f"{text}, greys that are spread for viewing{unnamed}", ways[0])
        yield ask(f"{text}: is {VOID} a class?", *ways)
    if stored.black_and_white:
        text = f"{stored.black_and_white} masks hold only 0 and {VOID}, and no mask with other labels holds {VOID}"
        same = [("the same as 1", plain | {VOID: 1})] * (rest == [0, 1])
        asked = ask(f"{text}: what does {VOID} mean?", *same, ("it marks unlabelled pixels", plain))
        yield Question(asked.text, [*asked.answers, Answer("these masks are of another kind: export them again")])


def _ask(names: Sequence[str], text: str, *ways: tuple[str, Meaning]) -> Question:
    return Question(text, [answer_of(way, meaning, names) for way, meaning in ways])


def _names_that_lack_one(stored: StoredLabels, names: Sequence[str], from_1: bool) -> Iterator[Question]:
    """Ask what 0 is where there is one name less than labels, or tell that names counted from 1 leave 0 void."""
    rest, void = _classes_and_void(stored)
    if names and len(names) + 1 == len(rest) and rest[0] == 0 and "background" not in names:
        is_background = not from_1 and stored.pixels[0] > _ON_BLACK * stored.pixels.total()
        asked = what_is_0(f"{len(names)} names for {len(rest)} labels", rest[1:], names, void, is_background)
        last = answer_of(f"as named, and {rest[-1]} has no name", itself(rest, void), [*names, f"class_{rest[-1]}"])
        is_rare = stored.pixels[rest[-1]] < _RARE * stored.pixels.total()
        # a 0 on most pixels is rather the background, and the names are those of the others
        is_rare &= 2 * stored.pixels[0] < stored.pixels.total()
        answers = [last, *asked.answers] if is_rare else [*asked.answers, last]
        yield asked if from_1 else Question(asked.text, answers)
    if from_1 and len(names) + 1 == len(rest) and rest[0] == 0 and "background" in names:
        text = (
            f"{len(names)} names for {len(rest)} labels count from 1 and hold a background: 0 marks unlabelled pixels"
        )
        yield Question(text, [answer_of("", itself(rest[1:], [0, *void]), names)])


def _with_numbers(labels: Sequence[int]) -> dict[int, int]:
    """Map labels such as 26001, class 26 and object 1, to the first label of their class; {} if there are none.

    Cityscapes and others multiply the class by 1000, KITTI by 256.
    """
    for base in (1000, 256):
        numbered = [label for label in labels if label >= base]
        first = {label // base: label for label in numbered[::-1]}
        if max(2 * len(first), len(labels) / 2) <= len(numbered) and 4 * max(label % base for label in numbered) < base:
            return {label: first[label // base] for label in numbered} | {
                label: first[label] for label in labels if label in first
            }
    return {}


def _left_by_jpeg(labels: Sequence[int], thin: Collection[int]) -> dict[int, int]:
    """Map each label that covers no area to the drawn label near it; empty where JPEG cannot explain all of them."""
    drawn = [label for label in labels if label not in thin]
    if len(drawn) < 2 or len(drawn) == len(labels) or drawn[-1] - drawn[0] <= 4 * JPEG_OFF:
        return {}
    near = {label: min(drawn, key=lambda each: abs(each - label)) for label in labels if label in thin}
    return near if all(abs(label - beside) <= JPEG_OFF for label, beside in near.items()) else {}


def _plain(stored: StoredLabels, names: Sequence[str]) -> Question:
    """Return the question about labels with one meaning: at most, what they are called or whether all are classes.

    Raises:
        LabelError: there are too many labels for a config.
    """
    labels, void = _classes_and_void(stored)
    text = f"{_listed(void)} marks unlabelled pixels, as in most data sets" if void else ""
    answer = answer_of("", itself(labels, void), names)
    if len(names) != len(labels):
        held = f"there are {len(names)} names for {len(labels)} labels" if names else "the masks hold only numbers"
        text = f"what are the classes called? {held}{'; ' * bool(void)}{text}"
        text += "; if one of them marks unlabelled pixels: void = [...]" if len(labels) > 2 and not void else ""
        if len(labels) > _MOST_NAMELESS:
            text = f"{len(labels)} labels, from {labels[0]} to {labels[-1]}: is each a class? {held}"
            if len(labels) > _MOST_IDS:
                raise LabelError(f"{text}; a config has at most {_MOST_IDS}: export only the classes")
            mend = Answer("no: export the masks again with one value per class, or give the names in classes.txt")
            return Question(text, [Answer("yes", answer.options), mend])
    return Question(text, [answer])


def _of_objects(labels: Sequence[int]) -> Question:
    """Ask whether labels are ids of objects or only look like them.

    Raises:
        LabelError: there are too many labels for a config.
    """
    text = f"the masks hold {len(labels)} labels, up to {labels[-1]}, as if each object had its own"
    if len(labels) > _MOST_IDS:
        raise LabelError(f"{text}: export the class of each pixel instead of the object's number")
    each = answer_of("each is a class", itself(labels))
    if labels[0] > 0:
        mend = Answer("they are objects of one class: export them with a background, or there is nothing to learn")
        return Question(f"{text}, and no background: what are these?", [each, mend])
    first = next(label for label in labels if label > 0)
    meaning = {label: None if label == VOID else first if label > 0 else labels[0] for label in labels}
    merged = answer_of("they are objects of one class", meaning, ["background", "object"])
    return Question(f"{text}: what are these?", [merged, each])


def _of_colours(stored: StoredLabels, names: Sequence[str]) -> Question:
    """Ask about colours: black first (mostly background), then by frequency; VOC's cream is void.

    Raises:
        LabelError: there are too many colours for a config.
    """
    ordered = sorted(stored.pixels, key=lambda label: (label > COLOUR, -stored.pixels[label], label))
    colours = [[label >> 16 & 255, label >> 8 & 255, label & 255] for label in ordered]
    known = [colour for colour in colours if colour != [*VOID_COLOUR]]
    has_background = not any(known[0])
    called = [*names] if len(names) == len(known) == 2 else _made_up(len(known), has_background)
    names_of_colours = [*called, "void"][: len(colours)]
    mapped = dict(zip(names_of_colours, [*known, [*VOID_COLOUR]], strict=False))
    own: dict[str, Any] = {"classes": called, "colour_map": mapped}
    too_many = len(known) > _MOST_IDS
    are_on_black = stored.of_objects and has_background and stored.pixels[COLOUR] > _ON_BLACK * stored.pixels.total()
    has_numbers = any(2 * len({*part}) <= len(known) for part in zip(*known, strict=True))
    vary = sum(len({*part}) > 1 for part in zip(*known, strict=True))
    are_numbers = 1 < max(map(max, known)) < len(known) and vary > 1
    if (too_many or are_numbers or (stored.of_objects and has_numbers)) and not are_on_black:
        what = f"the masks hold {len(known):,} colours" + f", and a config has at most {_MOST_IDS}" * too_many
        cause = "mostly, each object has its own colour, or the channels store numbers of classes and objects"
        advice = "export one number or colour for all objects of a class"
        each_class = "; if each colour is a class, list all in classes.txt, in lines such as 'cat 255 0 0'"
        raise LabelError(f"{what}: {cause}; {advice}{'' if too_many else each_class}")
    each = Answer("each is a class", own)
    mend = Answer("export the class of each pixel: one colour or number for all objects of a class")
    if not stored.of_objects:
        pairs = combinations(known, 2) if max(map(max, known)) > _MOST_NAMELESS else ()  # else single numbers
        if near := next((pair for pair in pairs if max(abs(x - y) for x, y in zip(*pair, strict=True)) <= _NEAR), None):
            mend = Answer("no: export the masks again, all with the same colours")
            return Question(f"{near[0]} and {near[1]} are nearly the same colour: is each a class?", [each, mend])
        text = "what are the classes called, in both `classes` and `colour_map`? (void: unlabelled) the masks hold "
        if len(known) > _MOST_NAMELESS:
            return Question(f"{text}{len(known)} colours: is each a class?", [each, mend])
        return Question(f"{text}colours", [Answer("", own)])
    merged = Answer("objects of one class", {"classes": ["background", "object"], "threshold": 0.1})
    text = f"the masks hold {len(colours)} colours, as if each object had its own: what are these?"
    return Question(text, [merged, mend if too_many else each] if are_on_black else [each, mend])


def _made_up(count: int, has_background: bool) -> list[str]:
    return ["background", "foreground"] if count == 2 and has_background else [f"class_{each}" for each in range(count)]


def _listed(labels: Sequence[int]) -> str:
    texts = [str(label) for label in labels]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
