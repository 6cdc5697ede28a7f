"""Questions about the splits of a data set, and about what its scan has found and what it has not read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from itertools import islice, permutations, starmap
from pathlib import Path
from typing import Any

from segkit.data.read import file_of
from segkit.data.sample import RGB
from segkit.data.scan import Scan
from segkit.errors import Issue, LabelError, SegkitError, first_few
from segkit_folder.lists import lines_of
from segkit_folder.pictures import folders_in
from segkit_folder.propose import MOST_COLOURS, MOST_OF_A_MASK, colours_in
from segkit_folder.splits import split_called, split_in
from segkit_folder.tables import SITES, columns_of_groups, unread_columns, unread_files
from segkit_init.placed import are_upright
from segkit_init.questions import Answer, Question
from segkit_init.reading import Reading
from segkit_init.text import options_text

_TOO_FEW = 10  # pictures: a score on one or two of them means little
_LOOKED_AT, _OF_A_MASK = 5, 4  # images, and the most colours of a picture that may rather be a mask
_MADE = re.compile(r"(?i)(?<![a-z])preds?(?![a-z])|predict|overlay|visuali|preview|blend|heat.?map")  # of masks
_SHORT = re.compile(r"(?i)(?<![^\W_])t[res](?![^\W_])")  # set-TR and set-TE
_WITHOUT_VAL = (["train"], ["train", "test"])
_OF_ALL = ("scaled", "fourth_channel")  # what these mean is true of all files; a few such files are rather damaged
TEXTS = (".txt", ".md", ".pdf", ".html", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".toml", ".py", ".sh")


def division_asked(reading: Reading, known: Collection[str]) -> Iterator[Question]:
    """Propose to take val from train, or to split all images at random; ``known``: options of the data set.

    Ask whether folders with names of splits, which do not divide the images, are splits.
    """
    root, lists = Path(reading.options["root"]).expanduser(), reading.options.get("lists")
    with suppress(SegkitError):  # there is one fold
        if isinstance(lists, str) and [*lines_of(root, lists)] != [*lines_of(root, lists, 1)]:
            yield Question(f"{lists} holds folds, of which the first is val: fold = 1 and so on make others val")
    is_random = "split_seed" in known and ("val" not in reading.files or reading.is_dealt)
    every = reading.images if is_random else []  # a data set of a plugin may have no files
    paths = [path.relative_to(root) for path in every if path.is_relative_to(root)]
    names = {path.stem for path in paths}
    if is_random and "group" in known - reading.options.keys() and len(names) == len(paths):
        for group, number in islice(columns_of_groups(root, names), 1):
            text = f"{group} names {number} groups of images: every group stays in one split"
            yield Question(text, [Answer("", {"group": group})])
        for group, number in islice(columns_of_groups(root, names, SITES), 1):
            text = f"{group} names {number} groups of images: are the scores to be of sites that train has not seen? "
            yield Question(f'{text}then group = "{group}" keeps each in one split')
    if "val" in known - reading.options.keys() and [*reading.files] in _WITHOUT_VAL:
        yield Question("no list or folder defines val: it is taken from train at random", [Answer("", {"val": 0.15})])
    elif is_random and "fractions" in known:
        text = "no list or folder assigns images to splits: they are split at random, the same way every time"
        yield Question(text, [Answer("", {"fractions": [0.7, 0.15, 0.15]})])
        columns = [*unread_columns(root, names)]
        for column in columns:
            mend = Answer("yes: write train, val or test into this column, and run init again")
            yield Question(f"{column} is not read: does it assign images to splits?", [Answer("no"), mend])
        for files, are_kinds in () if columns or "annotations" in reading.options else unread_files(root, names):
            how = "save a CSV with a column of the images' names and one of train, val or test, or list "
            how += "the images of each split in train.txt, val.txt and test.txt, and run init again"
            text = f"not read: {files}; does this assign images to splits?" + f" then {how}" * are_kinds
            yield Question(text, [] if are_kinds else [Answer("no"), Answer(f"yes: {how}")])
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
    turned = {(issue.split, name) for issue in scan.warnings if issue.kind == "turned_image" for name in issue.files}
    are_right = are_upright(scan, turned)
    for issue in (*scan.errors, *scan.warnings):
        if issue.kind == "turned_image" and are_right:
            continue
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
    for ways, issues in sorted(found.values(), key=lambda each: len(each[0]) == 1):  # its answer may be one of others
        text, answers = "; ".join(map(str, issues)), [*starmap(Answer, ways.items())]
        are_masks = {issue.kind for issue in issues} == {"mask_without_image"}  # a few such masks are of no use
        if [*ways] == [""] or (are_masks and 10 * sum(len(issue.files) for issue in issues) <= total):
            yield Question(f"{text}; taken: {options_text(next(iter(ways.values())))}", answers[:1])
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


def images_asked(images: Sequence[Path], masks: str) -> Iterator[Question]:
    """Ask whether pictures of a few colours are the images: a folder of masks alone may pair with itself.

    Ask also whether masks are to be learned that a network has predicted, by the option ``masks``.
    """
    colours = [colours_in(path) for path in images[:_LOOKED_AT]]
    if all(number and number <= _OF_A_MASK for number in colours):
        text = f"the images, such as {images[0]}, hold at most {max(filter(None, colours))} colours, as masks do: "
        mend = Answer("no: put the photographs and their masks into one folder, and run init again")
        yield Question(f"{text}are these the images?", [Answer("yes"), mend])
    if _MADE.search(masks):  # drawn ones come before
        mend = Answer("no: name the drawn masks as their images, and run init again")
        yield Question(f'masks = "{masks}" may be of a network: are these to be learned?', [Answer("yes"), mend])


def unread_noted(root: Path, scan: Scan, options: Mapping[str, Any]) -> Iterator[Question]:
    """Note files that are not read, except texts, and images that no list names; ask about masks among them.

    Raises:
        LabelError: the masks that are read seem to be made by a program, and others are not read.
    """
    samples = [(data, index) for data in scan.splits.values() for index in range(len(data))]
    every = [tuple(file_of(path)[0] for path in data.files(index)) for data, index in samples]
    has_lists = not options.keys().isdisjoint(("lists", "pairs"))
    listed = {path.resolve() for files in every for path in files if has_lists}
    of_images = {(path.parent.resolve(), path.suffix.lower()) for files in every for path in files[:1]}
    used = {(path.parent.resolve(), path.suffix.lower()) for files in every for path in files}
    unread, unlisted = dict[Path, list[str]](), Counter[str]()
    for folder, names in folders_in(root):
        for name, suffix in ((name, Path(name).suffix.lower()) for name in names):
            kind = (folder.resolve(), suffix)  # for a link, the folder that holds it
            if listed and kind in of_images and (folder / name).resolve() not in listed:
                unlisted[folder.relative_to(root).as_posix()] += 1
            elif suffix not in ("", *TEXTS) and kind not in used:
                unread.setdefault(folder, []).append(name)
    yield from _lost_splits_asked(root, every, {"val", "test"} - ({*scan.splits} - {*options}), unread)
    if _MADE.search(masks := str(options.get("masks"))):
        for folder, names in unread.items():
            seen = [colours_in(folder / name) or MOST_COLOURS for name in names[:_LOOKED_AT]]
            if not _MADE.search(folder.name) and 2 * len(names) > len(every) and max(seen) <= MOST_OF_A_MASK:
                what = f'only masks = "{masks}" have the names of the images, and may be of a network; {folder} may '
                raise LabelError(f"{what}hold the drawn masks: name these as their images, and run init again")
    if unlisted:
        where = first_few([f"{number} in {place}" for place, number in unlisted.items()])
        yield Question(f"images that no list names are not read: {where}")
    held = Counter((folder, Path(name).suffix.lower()) for folder, names in unread.items() for name in names)
    if held:
        places = [(number, suffix, folder.relative_to(root).as_posix()) for (folder, suffix), number in held.items()]
        yield Question(f"not read: {first_few([f'{number} {suffix} in {place}' for number, suffix, place in places])}")


def _lost_splits_asked(
    root: Path, every: Sequence[Sequence[Path]], lacking: Set[str], unread: Mapping[Path, Sequence[str]]
) -> Iterator[Question]:
    """Ask whether splits are left out whose folders seem to hold masks.

    These folders have the name of the masks' folders, or a name that stands in folders of lacking splits alone and
    files with the names of files in another such folder, or in one of images.

    Args:
        root: the folder of the data set.
        every: the files of each sample that is read: the image first, the mask last.
        lacking: splits that no folder or list defines.
        unread: folder -> names of files there that are not read.
    """
    images, masks = ({_kind(files[at].parent) for files in every if files} for at in (0, -1))
    others, stems = set[str](), dict[Path, set[str]]()
    for folder, names in folders_in(root):
        if split_in(folder.relative_to(root).as_posix()) not in lacking:
            others |= {_kind(folder)} if names else set()
        elif folder in unread:
            stems[folder] = {Path(name).stem for name in unread[folder]}
    sides = [one for one, other in permutations(stems, 2) if stems[one] & stems[other]]
    sides = [folder for folder in sides if _kind(folder) not in others - images]
    kinds = masks | ({*map(_kind, sides)} if len({*map(_kind, sides)}) > 1 else set())
    lost = sorted(folder.relative_to(root).as_posix() for folder in stems if _kind(folder) in kinds - images)
    if lost:
        text = f"nothing is read from {first_few(lost)}, which seem to hold masks"
        mend = Answer("no: move or rename these folders so that they lie as those of train, and run init again")
        yield Question(f"{text}: leave these splits out?", [Answer("yes"), mend])


def _kind(folder: Path) -> str:
    """Return the last name in the path of a folder that is no split."""
    return next((name for name in folder.parts[::-1] if not split_called(name)), "")
