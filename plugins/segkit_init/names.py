"""The labels that the masks of a reading store, with class names from class files."""

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
from segkit.data.scan import Scan
from segkit.errors import DataError, SegkitError, first_few
from segkit_folder.class_file import parse
from segkit_folder.files import is_name
from segkit_folder.meanings import meanings_of
from segkit_folder.pictures import folders_in
from segkit_folder.splits import read_text
from segkit_init.counts import StoredLabels, stored_labels
from segkit_init.judged import are_objects
from segkit_init.labels import VOID, answer_of, itself, question_of, what_is_0
from segkit_init.placed import LOOKED_AT, are_told_apart
from segkit_init.questions import Answer, Question
from segkit_init.reading import Reading
from segkit_init.stored import COLOUR, are_edges, each_mask, read_labels

_SOME = 8  # labels: more than these may belong to a much longer list of names
_LOOKED_AT = 5  # TIFF masks whose declared no data is read
_FEW = 12  # masks whose edges are looked at
_MOST_FILES = 20  # files with the name of a class file
_BACKGROUND = re.compile(
    r"(?i)back|bg|none|void|null|other|label|normal|ignore|nothing|empty|0|hintergrund|achtergrond|fond|fundo|"
    "arri[eè]re|фон|背景|배경"
)
_VOID_NAMES = ("void", "unlabeled", "unlabelled", "not labelled", "ignore", "ignored", "unknown", "no data", "nodata")
_NAMES = re.compile(
    r"(?i).*(class|label|names|categor|codes|colou?r|objectinfo|dataset|klassen|clases|классы|类别|類別|クラス|클래스).*"
    r"\.(txt|[ct]sv|names|json)|config.*\.json"
)
_OF_CLASSES = re.compile(r'"(?:classes|labels|categories)"\s*:')


def labels_asked(reading: Reading, masks: Sequence[Path], seen: set[int]) -> Iterator[Question]:
    """Ask what the labels of some masks mean, and add these labels to ``seen``."""
    if threshold := reading.options.get("threshold"):
        yield _thresholded(threshold, are_edges(masks[:: -(-len(masks) // _FEW)], threshold))
    read = read_labels(masks, threshold)
    stored = stored_labels(read.values())
    seen |= stored.pixels.keys()
    are_numbered = are_objects(str(reading.options.get("masks", ""))) and len(stored.pixels) > 3
    image_of = dict(zip(reading.masks, reading.images, strict=True))
    some = [(image_of[path], mask) for path, mask in read.items()][:: -(-len(read) // LOOKED_AT)]
    are_numbered |= len(stored.pixels) > 2 and are_told_apart(some, *sorted(stored.pixels)[:2])
    yield from _classes(reading, replace(stored, of_objects=stored.of_objects or are_numbered))


def unseen_in(scan: Scan, others: Collection[Path], labels: Collection[int]) -> list[Path]:
    """Return masks among ``others`` that hold labels besides these, at least one mask per label."""
    odd = {Path(file) for issue in scan.errors for file in issue.files}
    if VOID not in labels:
        every = [(data, each) for name, data in scan.splits.items() for each in enumerate(scan.statistics[name])]
        odd |= {data.files(index)[-1] for data, (index, each) in every if each.counts[-1]}
    found, known = [], {*labels}
    for path, mask in each_mask(sorted(odd & {*others})):
        if not isinstance(mask, DataError) and (new := {*np.unique(mask).tolist()} - known):
            found.append(path)
            known |= new
    return found


def _thresholded(threshold: float, are_edges: bool) -> Question:
    """Ask whether values between black and white are edges, not a class; where they cover no area, they are."""
    text = "the masks hold values between black and white, as made by JPEG, smooth edges or a matte"
    text += ", only along borders" if are_edges else ": are these borders?"
    yes = Answer("yes: pixels of at least half the highest value are the second class", {"threshold": threshold})
    return Question(text, [yes] if are_edges else [yes, Answer("no: export the masks again, one value per class")])


def _classes(reading: Reading, stored: StoredLabels) -> Iterator[Question]:
    """Ask what the labels mean, using a class file where one fits; note why a class file is not read."""
    plain = {label for label in stored.pixels if 0 <= label != VOID or len(stored.pixels) < 3}
    names: Sequence[str] = ()
    from_1 = False
    files = [*_class_files(reading)]
    yield from _clashing(files)
    for file, listed in files:
        if isinstance(listed, str):
            yield Question(f"class names not read: {listed}")
            continue
        known = {*map(_number, listed)}
        if isinstance(next(iter(listed)), tuple) and max(stored.pixels) < COLOUR:  # greys of files with colours
            known = {red for red, green, blue in listed if red == green == blue}
        is_inverted = stored.is_inverted and bool(_BACKGROUND.search(next(iter(listed.values()))))
        if plain <= known and len(known) <= max(2 * len(plain), (len(plain) > _SOME) * 256) and not is_inverted:
            yield _listed(stored, listed, file)
            return
        if 0 in plain and plain - {0} <= known - {0} and len(plain) > _SOME:
            is_background, void = 2 * stored.pixels[0] > stored.pixels.total(), {VOID} & stored.pixels.keys()
            text = f"{Path(file).name} has no name for 0"
            yield what_is_0(text, [*map(_number, listed)], [*listed.values()], void, is_background)
            return
        if COLOUR in plain - known and plain - {COLOUR} <= known:
            yield _what_is_black(listed, file, 2 * stored.pixels[COLOUR] > stored.pixels.total())
            return
        from_1 = from_1 or (not names and next(iter(listed)) == 1)
        names = names or [*listed.values()]
    if names and not _BACKGROUND.search(names[0]):
        stored = replace(stored, is_inverted=False)
    is_last = [bool(_BACKGROUND.search(name)) for name in names] == [False, True]
    if is_last and len(plain) == 2 and max(plain) < COLOUR:
        text = f"the masks hold {min(plain)} and {max(plain)}, and the names are {names[0]!r} and {names[1]!r}"
        ways = {names[1]: sorted(plain, reverse=True), names[0]: sorted(plain)}
        answers = [answer_of(f"{min(plain)} is {name!r}", itself(labels), names) for name, labels in ways.items()]
        yield Question(f"{text}: which is which?", answers)
        return
    yield question_of(stored, names, from_1, _declared(reading.masks))


def _class_files(reading: Reading) -> Iterator[tuple[str, dict[Any, str] | str]]:
    """Yield files that may name the classes, with stored label or colour -> name, or with why they are not read."""
    root, threshold = Path(reading.options["root"]).expanduser(), reading.options.get("threshold")
    files = sorted(folder / name for folder, names in folders_in(root, 2) for name in names if _NAMES.fullmatch(name))
    for path in files[:_MOST_FILES]:
        file = path.relative_to(root).as_posix()
        try:
            text = read_text(path)
        except DataError as error:
            yield file, str(error)
            continue
        if path.name.casefold().startswith("config") and not _OF_CLASSES.search(text):
            continue  # of a program, whose numbers are no labels
        with suppress(SegkitError):  # not a class file
            listed = parse(text, path.name)
            names = listed.names
            if not 1 <= len(names) <= VOID or not all(map(is_name, names)) or (threshold and len(names) != 2):
                continue
            if twice := [name for name, number in Counter(names).items() if number > 1]:
                yield file, f"{path} has {first_few(twice)} more than once"
                continue
            values, colours = meanings_of(listed, reading.masks, threshold=threshold)
            meant: Mapping[Any, int] = colours or values or dict(enumerate(range(len(names))))
            yield file, {each: names[at] for each, at in meant.items() if at < len(names)}


def _clashing(files: Sequence[tuple[str, dict[Any, str] | str]]) -> Iterator[Question]:
    """Ask where files of one name call a label differently, as labelme's for each picture: ids may differ, too."""
    first: dict[tuple[str, Any], tuple[str, str]] = {}
    for file, listed in files:
        for label, name in listed.items() if isinstance(listed, dict) else ():
            other, known = first.setdefault((Path(file).name, label), (file, name))
            if known != name:
                text = f"{other} calls {label} {known!r}, and {file} calls it {name!r}: has each folder its own labels?"
                mend = Answer("yes: export all masks with one list of classes, and run init again")
                yield Question(text, [Answer("no: a label means the same in all masks"), mend])
                return


def _declared(masks: Sequence[Path]) -> float | None:
    """Return the value that some TIFF masks declare as no data, if they agree."""
    some = [path for path in masks if ".tif" in path.name.casefold()][:_LOOKED_AT]
    values = set()
    for path in some:
        with suppress(DataError):  # the scan reports it
            values.add(read_header(path).no_data)
    return values.pop() if len(values) == 1 else None


def _listed(stored: StoredLabels, names: Mapping[Any, str], file: str) -> Question:
    """Return the classes of a file, without one that it calls void; ask about a 0 that may be a nameless background."""
    options = {"classes": file}
    void = [label for label, name in names.items() if name.casefold() in _VOID_NAMES]
    if len(void) == 1 and len(names) > 2:
        classes = {label: name for label, name in names.items() if label not in void}
        if isinstance(void[0], tuple):
            colours = {name: [*colour] for colour, name in classes.items()} | {"void": [*void[0]]}
            answer = Answer("", {"classes": [*classes.values()], "colour_map": colours})
        else:
            answer = answer_of("", itself(classes, [*void, VOID]), [*classes.values()])
        held = [*void[0]] if isinstance(void[0], tuple) else void[0]
        text = f"{file} calls {held} {names[void[0]]!r}"
        if void == [0] and VOID in stored.pixels.keys() - names and max(stored.pixels.keys() - {VOID}) < max(names):
            less = itself([label - 1 for label in classes])
            answers = [
                answer_of("no: they are one less than there", less, [*classes.values()]),
                replace(answer, text="yes"),
            ]
            return Question(f"{text}, but {VOID} marks unlabelled pixels: are the labels as in that file?", answers)
        return Question(f"{text}: such pixels are neither learned nor scored", [answer])
    share = stored.pixels[0] / stored.pixels.total()
    if [*names] != [*range(len(names))] or share < 0.5 or _BACKGROUND.search(names[0]):
        return Question("", [Answer("", options)])
    other = "no: it is the background, which that file does not name"
    background = answer_of(other, itself(range(len(names) + 1)), ["background", *names.values()])
    text = f"0 covers {share:.0%} of the masks, and {file} calls it {names[0]!r}: is that right?"
    return Question(text, [Answer("yes", options), background])


def _what_is_black(names: Mapping[Any, str], file: str, is_background: bool) -> Question:
    """Ask whether black is a background that a file of colours leaves out, or marks unlabelled pixels."""
    black = {"background": [0, 0, 0]}
    drawn = {name: [*colour] for colour, name in names.items()}
    background = Answer("the background class", {"classes": ["background", *drawn], "colour_map": black | drawn})
    void = Answer("unlabelled pixels", {"classes": [*drawn], "colour_map": {**drawn, "void": [0, 0, 0]}})
    text = f"{file} has no name for black: what is it?"
    return Question(text, [background, void] if is_background else [void, background])


def _number(label: Any) -> int:
    """Return a stored label or a colour as one number."""
    return COLOUR | label[0] << 16 | label[1] << 8 | label[2] if isinstance(label, tuple) else int(label)
