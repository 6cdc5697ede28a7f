"""The labels that the masks of a reading store, with class names and colours from class files and palettes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segkit.data.read import read_header
from segkit.data.sample import voc_palette
from segkit.data.scan import Scan
from segkit.errors import DataError, SegkitError, first_few
from segkit_folder.class_file import parse
from segkit_folder.files import is_name, telling_colours
from segkit_folder.meanings import meanings_of
from segkit_folder.pictures import folders_in
from segkit_folder.propose import colours_in
from segkit_folder.splits import read_text
from segkit_init.findings import Answer, Question
from segkit_init.judged import are_objects
from segkit_init.labels import VOID, answer_of, question_of
from segkit_init.reading import Reading
from segkit_init.stored import COLOUR, StoredLabels, are_edges, each_mask, read_labels, stored_labels

_SOME = 8  # labels: more than these may belong to a much longer list of names
_FEW_COLOURS = 16
_LOOKED_AT = 5  # images whose colours are counted
_FEW = 12  # masks whose edges are looked at
_MOST_FILES = 20  # files with the name of a class file
_BACKGROUND = re.compile(r"(?i)back|bg|none|void|null|other|label|normal|ignore|nothing|empty|0")
_VOID_NAMES = ("void", "unlabeled", "unlabelled", "not labelled", "ignore", "ignored")
_NAMES = re.compile(
    r"(?i).*(class|label|names|categor|codes|colou?r|objectinfo|dataset|klassen|clases|классы|类别|類別|クラス|클래스).*"
    r"\.(txt|[ct]sv|names|json)"
)


def labels_asked(reading: Reading, masks: Sequence[Path], notes: list[str], seen: set[int]) -> Iterator[Question]:
    """Ask what the labels of some masks mean, and add these labels to ``seen``."""
    yield from _few_colours(reading)
    if threshold := reading.options.get("threshold"):
        yield _thresholded(threshold, are_edges(masks[:: -(-len(masks) // _FEW)], threshold))
    stored = stored_labels(read_labels(masks, threshold))
    seen |= stored.pixels.keys()
    are_numbered = are_objects(str(reading.options.get("masks", ""))) and len(stored.pixels) > 3
    yield _classes(reading, replace(stored, of_objects=stored.of_objects or are_numbered), notes)


def unseen_in(scan: Scan, others: Collection[Path], labels: Collection[int]) -> list[Path]:
    """Return masks among ``others`` that hold labels besides these, at least one mask per label."""
    odd = {Path(file) for issue in scan.errors for file in issue.files}
    if VOID not in labels:
        every = [(data, each) for name, data in scan.splits.items() for each in enumerate(scan.statistics[name])]
        odd |= {data.files(index)[-1] for data, (index, each) in every if each.counts[-1]}
    found, known = [], {*labels}
    for path, mask in each_mask(sorted(odd & {*others})):
        if new := {*np.unique(mask).tolist()} - known:
            found.append(path)
            known |= new
    return found


def _few_colours(reading: Reading) -> Iterator[Question]:
    """Ask whether the files read as images are the images, where they hold as few colours as masks."""
    images = reading.images
    colours = [colours_in(path) or 0 for path in images[:: -(-len(images) // _LOOKED_AT)]]
    if 0 < max(colours) <= _FEW_COLOURS:
        text = f"{images[0]} and the other files read as images hold at most {max(colours)} colours, like masks"
        mend = Answer("no: give images and masks the same names in two folders, or names that differ in one part")
        yield Question(f"{text}: are they the images?", [Answer("yes"), mend], "images")


def _thresholded(threshold: float, are_edges: bool) -> Question:
    """Ask whether values between black and white are edges, not a class; where they cover no area, they are."""
    text = "the masks hold values between black and white, as made by JPEG, smooth edges or a matte"
    text += ", only along borders" if are_edges else ": are these borders?"
    yes = Answer("yes: pixels of at least half the highest value are the second class", {"threshold": threshold})
    return Question(text, [yes, Answer("no: export the masks again, one value per class")], "threshold", not are_edges)


def _classes(reading: Reading, stored: StoredLabels, notes: list[str]) -> Question:
    """Ask what the labels mean, using a class file where one fits; note a class file that is not text."""
    plain = {label for label in stored.pixels if 0 <= label != VOID or len(stored.pixels) < 3}
    names: Sequence[str] = ()
    from_1 = False
    for file, stored_as in _class_files(reading, notes):
        known = {*map(_number, stored_as)}
        if plain <= known and len(known) <= max(2 * len(plain), (len(plain) > _SOME) * 256):
            return _first_named(stored, stored_as, _void_apart(stored_as, {"classes": file}), file)
        if 0 in plain and plain - {0} <= known - {0} and len(plain) > _SOME:
            return _nameless_0(stored, {_number(label): name for label, name in stored_as.items()}, Path(file).name)
        from_1 = from_1 or (not names and next(iter(stored_as)) == 1)
        names = names or [*stored_as.values()]
    return question_of(stored, names, from_1, _declared(reading.masks))


def _class_files(reading: Reading, notes: list[str]) -> Iterator[tuple[str, dict[Any, str]]]:
    """Yield files that may name the classes, with stored label or colour -> name; note why a file is not read."""
    root, threshold = Path(reading.options["root"]).expanduser(), reading.options.get("threshold")
    files = sorted(folder / name for folder, names in folders_in(root, 2) for name in names if _NAMES.fullmatch(name))
    for path in files[:_MOST_FILES]:
        try:
            text = read_text(path)
        except DataError as error:
            notes.append(f"class names not read: {error}")
            continue
        with suppress(SegkitError):  # not a class file
            listed = parse(text, path.name)
            names = listed.names
            if not 1 <= len(names) <= VOID or not all(map(is_name, names)) or (threshold and len(names) != 2):
                continue
            if twice := [name for name, number in Counter(names).items() if number > 1]:
                notes.append(f"class names not read: {path} has {first_few(twice)} more than once")
                continue
            values, colours = meanings_of(listed, reading.masks, threshold=threshold)
            meant: Mapping[Any, int] = colours or values or dict(enumerate(range(len(names))))
            yield path.relative_to(root).as_posix(), {each: names[at] for each, at in meant.items() if at < len(names)}


def palette_asked(options: Mapping[str, Any], masks: Sequence[Path]) -> Iterator[Question]:
    """Propose class colours, where all masks share one palette that has a different colour for each class."""
    palettes = {tuple(read_header(path).palette or ()) for path in masks}
    count = len(options["classes"])
    first = {index: int(label) for label, index in reversed(options.get("value_map", {}).items())}
    labels = [first.get(index, index) for index in range(count)]
    if len(palettes) == 1 and "colour_map" not in options:
        colours = telling_colours(palettes.pop(), labels, np.array(labels).clip(0))
        own = [[*colours[label]] for label in labels if label in colours]
        are_chosen = own != [[*colour] for colour in voc_palette(count)] and any(len({*colour}) > 1 for colour in own)
        if len(own) == len(labels) and are_chosen:
            yield Question("the colours of the masks' palette", [Answer("", {"palette": own})], "palette", must=False)


def _declared(masks: Sequence[Path]) -> float | None:
    """Return the value that some TIFF masks declare as no data, if they agree."""
    some = [path for path in masks if ".tif" in path.name.casefold()][:_LOOKED_AT]
    values = set()
    for path in some:
        with suppress(DataError):  # the scan reports it
            values.add(read_header(path).no_data)
    return values.pop() if len(values) == 1 else None


def _nameless_0(stored: StoredLabels, names: Mapping[int, str], file: str) -> Question:
    """Ask what 0 means, where a file names all other labels."""
    void = [VOID] * (VOID in stored.pixels)
    unlabelled = answer_of("0 marks unlabelled pixels", [*names], [*names.values()], [0, *void])
    background = answer_of("0 is the background class", [0, *names], ["background", *names.values()], void)
    answers = [unlabelled, background]
    if 2 * stored.pixels[0] > stored.pixels.total():
        answers.reverse()
    return Question(f"{file} has no name for 0: what is it?", answers, "classes")


def _first_named(stored: StoredLabels, stored_as: Mapping[Any, str], listed: Question, file: str) -> Question:
    """Return the question of a class file; ask about 0 where it may be a background that the file does not name."""
    share = stored.pixels[0] / stored.pixels.total()
    if listed.text or [*stored_as] != [*range(len(stored_as))] or share < 0.5 or _BACKGROUND.search(stored_as[0]):
        return listed
    names = ["background", *stored_as.values()]
    other = answer_of("no: it is the background, which that file does not name", range(len(names)), names)
    text = f"0 covers {share:.0%} of the masks, and {file} calls it {stored_as[0]!r}: is that right?"
    return Question(text, [*listed.answers, other], "classes", must=False)


def _void_apart(stored_as: Mapping[Any, str], options: Mapping[str, Any]) -> Question:
    """Return the classes of a file, without one that it calls void or the like."""
    stored = {name: label for label, name in stored_as.items()}
    void = {name: stored.pop(name) for name in [*stored] if name.casefold() in _VOID_NAMES}
    if len(void) != 1 or len(stored) < 2:
        return Question("", [Answer("", options)], "classes", must=False)
    ((name, label),) = void.items()
    if isinstance(label, tuple):
        colours = {each: list(colour) for each, colour in {**stored, "void": label}.items()}
        answer = Answer("", {"classes": [*stored], "colour_map": colours})
    else:
        answer = answer_of("", [*stored.values()], [*stored], [label, VOID])
    held = list(label) if isinstance(label, tuple) else label
    text = f"{options['classes']} calls {held} {name!r}: such pixels are neither learned nor scored"
    return Question(text, [answer, Answer("a class of its own", options)], "classes", must=False)


def _number(label: Any) -> int:
    """Return a stored label or a colour as one number."""
    return COLOUR | label[0] << 16 | label[1] << 8 | label[2] if isinstance(label, tuple) else int(label)
