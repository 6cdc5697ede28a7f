"""Questions about the splits of a data set, and about what its scan has found and what it has not read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import starmap
from pathlib import Path
from typing import Any

from segkit.data.read import file_of
from segkit.data.sample import RGB
from segkit.data.scan import Scan
from segkit.errors import Issue, first_few
from segkit_folder.pictures import folders_in
from segkit_folder.propose import colours_in
from segkit_folder.splits import split_called, split_in
from segkit_init.questions import Answer, Question
from segkit_init.reading import Reading
from segkit_init.text import options_text

_TOO_FEW = 10  # pictures: a score on one or two of them means little
_LOOKED_AT, _OF_A_MASK = 5, 4  # images, and the most colours of a picture that may rather be a mask
_SHORT = re.compile(r"(?i)(?<![^\W_])t[res](?![^\W_])")  # set-TR and set-TE
_WITHOUT_VAL = (["train"], ["train", "test"])
_OF_ALL = ("scaled", "fourth_channel")  # what these mean is true of all files; a few such files are rather damaged
_TEXTS = (".txt", ".md", ".pdf", ".html", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".toml", ".py", ".sh")


def division_asked(reading: Reading, known: Collection[str]) -> Iterator[Question]:
    """Propose to take val from train, or to split all images at random; ``known``: options of the data set.

    Ask whether folders with names of splits, which do not divide the images, are splits.
    """
    if "val" in known - reading.options.keys() and [*reading.files] in _WITHOUT_VAL:
        yield Question("no list or folder defines val: it is taken from train at random", [Answer("", {"val": 0.15})])
    elif {"fractions", "split_seed"} <= {*known} and reading.is_dealt:
        text = "no list or folder assigns images to splits: they are split at random, the same way every time"
        yield Question(text, [Answer("", {"fractions": [0.7, 0.15, 0.15]})])
        root = Path(reading.options["root"]).expanduser()
        paths = [path.relative_to(root) for path in reading.images if path.is_relative_to(root)]
        beside: dict[Path, set[str]] = {}
        for folder in {folder for path in paths for folder in path.parents[:-1]}:
            beside.setdefault(folder.parent, set()).add(folder.name)
        for names in beside.values():
            short = sorted(filter(_SHORT.search, names))
            called = sorted(filter(split_in, names)) or short * (len(short) > 1)
            if called and (len(called) < len(names) or called == short or {"train"} < {*map(split_in, called)}):
                mend = Answer("yes: name the folders train, val and test, and run init again")
                text = f"some folders have names of splits: {first_few(called)}; are these splits?"
                yield Question(text, [Answer("no: split all images at random"), mend])
                return


def issues_asked(scan: Scan, known: Collection[str]) -> Iterator[Question]:
    """Ask which way of an issue is right, or whether to leave out a few files; ``known``: options of the data set."""
    total = sum(map(len, scan.splits.values()))
    found: dict[str, tuple[Mapping[str, Mapping[str, Any]], list[Issue]]] = {}
    for issue in (*scan.errors, *scan.warnings):
        ways: Mapping[str, Mapping[str, Any]] = {
            text: options
            for text, options in issue.ways.items()
            if all(key.startswith("data.") or key in known for key in options)
        }
        are_few = issue.skippable and (2 if ways else 5) * len(issue.files) < total
        if are_few and (issue.kind in _OF_ALL or not ways):
            ways = {"leave these files out": {"data.on_bad": "skip"}, **ways}
        if ways:
            found.setdefault(repr(ways), (ways, []))[1].append(issue)
    for ways, issues in found.values():
        text, answers = "; ".join(map(str, issues)), [*starmap(Answer, ways.items())]
        if [*ways] == [""]:
            yield Question(f"{text}; taken: {options_text(ways[''])}", answers)
        else:
            yield Question(text, [*answers, Answer("correct that first, and run init again")])


def bands_asked(channels: Sequence[str]) -> Iterator[Question]:
    """Propose the bands that pictures show as red, green and blue."""
    if len(channels) <= 3:
        return
    words = [re.compile(rf"(?i)(?<![a-z]){each}(?![a-z])") for each in RGB]
    named = [at for word in words for at, name in enumerate(channels, 1) if word.search(name)]
    guess = [4, 3, 2] if len(channels) >= 12 else [3, 2, 1]  # Sentinel-2: coast, blue, green, red; others: blue first
    text = f"which of the {len(channels)} channels are red, green and blue in pictures? (the network sees all of them)"
    yield Question(text, [Answer("", {"data.rgb": named if len(named) == 3 else guess})])


def few_asked(total: int, options: Mapping[str, Any]) -> Iterator[Question]:
    """Ask whether to continue with very few pictures."""
    if total < _TOO_FEW:
        text = f"only {total} pictures: there is little to learn from, and scores on so few mean little"
        fractions = {"fractions": [0.7, 0.3]} if "fractions" in options else {}  # two splits instead of three
        answers = [Answer("continue, to see that training works", fractions), Answer("label about 20 more first")]
        yield Question(text, answers)


def images_asked(images: Sequence[Path]) -> Iterator[Question]:
    """Ask whether pictures of a few colours are the images: a folder of masks alone may pair with itself."""
    colours = [colours_in(path) for path in images[:_LOOKED_AT]]
    if all(number and number <= _OF_A_MASK for number in colours):
        text = f"the images, such as {images[0]}, hold at most {max(filter(None, colours))} colours, as masks do: "
        mend = Answer("no: put the photographs and their masks into one folder, and run init again")
        yield Question(f"{text}are these the images?", [Answer("yes"), mend])


def unread_noted(root: Path, scan: Scan, options: Mapping[str, Any]) -> Iterator[Question]:
    """Note folders and formats from which nothing is read, except texts, and images that no list names.

    Ask about masks of splits among them.
    """
    every = [data.files(index) for data in scan.splits.values() for index in range(len(data))]
    has_lists = not options.keys().isdisjoint(("lists", "pairs"))
    listed = {file_of(path)[0].resolve() for files in every for path in files if has_lists}
    of_images = {(path.parent.resolve(), path.suffix.lower()) for files in every for path in files[:1]}
    read = {(file_of(path)[0].parent, path.suffix.lower()) for files in every for path in files}
    images, masks = ({_kind(file_of(files[at])[0].parent) for files in every if files} for at in (0, -1))
    lacking, lost = {"val", "test"} - ({*scan.splits} - {*options}), set[str]()  # an option may take val from train
    used = {(folder.resolve(), suffix) for folder, suffix in read}  # for a link, the folder that holds it
    held, unlisted = Counter[str](), Counter[str]()
    stems: dict[Path, set[str]] = {}  # of the files in folders of the lacking splits
    others = set[str]()  # names of other folders
    for folder, names in folders_in(root):
        for name, suffix in ((name, Path(name).suffix.lower()) for name in names):
            place = folder.relative_to(root).as_posix()
            is_lacking = not lacking.isdisjoint(map(split_called, place.split("/")))
            if not is_lacking:
                others.add(_kind(folder))
            if listed and (folder.resolve(), suffix) in of_images and (folder / name).resolve() not in listed:
                unlisted[place] += 1
            elif suffix not in ("", *_TEXTS) and (folder.resolve(), suffix) not in used:
                held[f"{suffix} in {place}"] += 1
                if is_lacking:
                    stems.setdefault(folder, set()).add(Path(name).stem)
    pictures = set[str]().union(*(found for folder, found in stems.items() if _kind(folder) in images))
    for folder, found in stems.items():
        kind = _kind(folder)
        if kind not in images and (kind in masks or (kind not in others and found & pictures)):
            lost.add(folder.relative_to(root).as_posix())
    if lost:
        text = f"nothing is read from {first_few(sorted(lost))}, which seem to hold masks"
        mend = Answer("no: move or rename these folders so that they lie as those of train, and run init again")
        yield Question(f"{text}: leave these splits out?", [Answer("yes"), mend])
    if unlisted:
        where = first_few([f"{number} in {place}" for place, number in unlisted.items()])
        yield Question(f"images that no list names are not read: {where}")
    if held:
        yield Question(f"not read: {first_few([f'{number} {which}' for which, number in held.items()])}")


def _kind(folder: Path) -> str:
    """Return the last name in the path of a folder that is no split."""
    return next((name for name in folder.parts[::-1] if not split_called(name)), "")
