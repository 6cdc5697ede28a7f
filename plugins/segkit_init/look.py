"""Look at a folder: which data set it is, what its masks store, what a scan of it says, and what stays open."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import segkit
from segkit.compose import scan_dataset
from segkit.data.read import read_header
from segkit.data.sample import voc_palette
from segkit.data.scan import Scan
from segkit.errors import DataError, SegkitError, first_few
from segkit.options import options_of
from segkit_folder.class_file import parse
from segkit_folder.files import is_name, telling_colours
from segkit_folder.lists import partial_lists
from segkit_folder.meanings import meanings_of
from segkit_folder.pictures import folders_in
from segkit_folder.propose import colours_in
from segkit_folder.splits import TooFewError, read_text
from segkit_init.findings import Answer, Findings, Question
from segkit_init.groups import MANY, group_of
from segkit_init.labels import VOID, answer_of, question_of
from segkit_init.placed import placed
from segkit_init.plan import Facts
from segkit_init.readings import (
    BLANK,
    TOO_FEW,
    Reading,
    are_objects,
    config_of,
    pictures_in,
    readings_of,
    said,
)
from segkit_init.stored import COLOUR, StoredLabels, are_edges, each_mask, read_labels, some_of, stored_labels
from segkit_init.text import options_text

_TOO_FEW = 10  # pictures: a score of one or two says next to nothing
_WITHOUT_VAL = (["train"], ["train", "test"])
_SOME = 8  # labels that a longer list of names may well be of
_FEW_COLOURS = 16
_LOOKED_AT = 5  # images whose colours are counted
_FEW = 12  # masks whose edges are looked at
_MOST_FILES = 20  # that are called as a file of names
_UNREAD = re.compile(  # photographs, slides, microscopes, volumes, films, drawings
    r"(?i)\.(heic|heif|avif|jxl|exr|dng|cr[23w]|nef|arw|rw2|orf|raf|raw|psd|xcf|tga|dds|svg|eps|pdf|pbm|pnm|sgi|pcx|"
    r"svs|ndpi|mrxs|scn|vms|bif|vsi|czi|lif|lsm|nd2|oi[bf]|img|bil|bsq|bip|ecw|sid|vrt|hdr|nc|grib2?|zarr|fits?|mha|"
    r"mhd|nrrd|mgz|mp4|avi|mov|mkv|webm)$"
)
_VOID_NAMES = ("void", "unlabeled", "unlabelled", "not labelled", "ignore", "ignored")
_NAMES = re.compile(r"(?i).*(class|label|names|categor|codes|colou?r|objectinfo|dataset).*\.(txt|[ct]sv|names|json)")


_OPEN: Mapping[str, Any] = {  # an option that a warning of a data set names -> the question, and its answers
    "blank_unpaired = true": (
        "is it to be seen there",
        Answer("it is not to be seen in these images", {"blank_unpaired": True}),
        Answer("it is not annotated there: add these masks, or take the images away, and start again"),
    ),
    "images = FOLDER": (
        "were the polygons drawn on those that are read",
        Answer("yes"),
        Answer("no: take these away, and start again"),
    ),
    "first_pixel = 0": (
        "which number has the first one",
        Answer("1, as in most such tables", {"first_pixel": 1}),
        Answer("0", {"first_pixel": 0}),
    ),
}


def look(root: Path) -> Findings:
    """All that is found in a folder; of what is open, the first answer is taken, and the question kept.

    Raises:
        SegkitError: nothing can be trained from it, and why.
    """
    try:
        return _look(root)
    except TooFewError:
        raise DataError(f"{root}: {TOO_FEW}") from None


class _Look:
    """The options of a reading, which the first answer to each question adds to, and the questions."""

    def __init__(self, reading: Reading, questions: Sequence[Question]) -> None:
        self.reading, self.options, self.questions = reading, dict(reading.options), [*questions]
        self._scanned: tuple[str, Scan] | None = None

    def ask(self, asked: Iterable[Question]) -> None:
        """Keep questions, but of those that take the same answer one."""
        for question in asked:
            taken = question.answers[0].options if question.answers else {}
            if not taken or not taken.items() <= self.options.items():
                self.questions.append(question)
                self.options.update(taken)

    @property
    def scan(self) -> Scan:
        """The scan with these options."""
        if self._scanned is None or self._scanned[0] != repr(self.options):
            self._scanned = repr(self.options), scan_dataset(config_of(self.reading.dataset, self.options))
        return self._scanned[1]


def _look(root: Path) -> Findings:
    of_lists: list[Question] = []
    of_readings: list[str] = []
    readings = readings_of(root, of_readings, of_lists)
    first = readings[0]
    known = {option.name for option in options_of(segkit.datasets.find(first.dataset))}
    if "val" in known - {*first.options} and [*first.files] in _WITHOUT_VAL:
        first = replace(first, options={**first.options, "val": 0.15})
    masks = some_of(first.masks) if first.asks_for_classes else []
    while True:
        notes, look = [*of_readings], _Look(first, of_lists)
        if len(readings) > 1:
            answers = [Answer(said(each, readings)) for each in readings]
            look.ask([Question("the folder can be read in several ways: which one is meant?", answers, "root")])
        labels = _ask_of_labels(look, masks, notes) if masks else ()
        options = look.options
        if isinstance(options.get("classes"), list) and "palette" in known - {*options} and "threshold" not in options:
            look.ask(_palette(options, masks or first.masks))
        is_dealt = "split_seed" in known and first.is_dealt
        look.ask(_division(options, known) if is_dealt else ())
        if is_dealt and "lists" in known and not of_lists:
            look.ask(_lists(first.images, options))
        if not masks or not (unseen := _unseen(look.scan, {*first.masks} - {*masks}, labels)):
            break
        masks += unseen
    if is_dealt and "group" in known - {*options}:
        look.ask(_groups(look.scan, Path(options["root"]).expanduser(), options))
    look.ask(_issues(look.scan, known))
    look.ask(_inverted(look.scan))
    look.ask(placed(look.scan) if look.scan.statistics["train"] else ())
    look.ask(_others(root, sum(map(len, look.scan.splits.values()))))
    look.ask(_bands(look.scan.splits["train"].channels))
    if not any(question.must for question in look.questions):
        look.ask(_few(sum(map(len, look.scan.splits.values())), options))
    scan = look.scan
    if not scan.statistics["train"]:
        scan.refuse_errors()
    if masks and len(masks) < len(first.masks):
        notes.append(f"{len(masks)} of {len(first.masks)} masks were looked at to learn what they store; all were read")
    return Findings(first.dataset, options, scan, look.questions, [*notes, *_unread(root, scan)])


def _ask_of_labels(look: _Look, masks: Sequence[Path], notes: list[str]) -> Collection[int]:
    """Ask what these masks store; their labels."""
    look.ask(_few_colours(look.reading))
    if threshold := look.options.get("threshold"):
        look.questions.append(_thresholded(threshold, are_edges(masks[:: -(-len(masks) // _FEW)], threshold)))
    stored = stored_labels(read_labels(masks, threshold))
    are_numbered = are_objects(str(look.options.get("masks", ""))) and len(stored.pixels) > 3
    stored = replace(stored, of_objects=stored.of_objects or are_numbered)
    look.ask([_classes(look.reading, stored, notes)])
    return stored.pixels


def _unseen(scan: Scan, others: Collection[Path], labels: Collection[int]) -> list[Path]:
    """Of masks that were not looked at those that hold other labels than these, one for each label at least."""
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


def facts_of(found: Findings) -> Facts:
    """What the plan follows from."""
    dataset, train = found.scan.splits["train"], found.scan.statistics["train"]
    return Facts(
        sizes=[each.size for each in train],
        channels=len(dataset.channels),
        is_8_bit=train[0].dtype == "uint8",
        shares=found.scan.counts("train").shares.tolist(),
        card=torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0,
    )


def _few_colours(reading: Reading) -> Iterator[Question]:
    """Whether pictures that hold as few colours as masks are the images."""
    images = reading.images
    colours = [colours_in(path) or 0 for path in images[:: -(-len(images) // _LOOKED_AT)]]
    if 0 < max(colours) <= _FEW_COLOURS:
        text = f"{images[0]} and the others that are read as images hold {max(colours)} colours at most, as masks do"
        mend = Answer("no: give images and masks the same names in two folders, or names that differ in one part")
        yield Question(f"{text}: are they the images?", [Answer("yes"), mend], "images")


def _thresholded(threshold: float, are_edges: bool) -> Question:
    """Whether what lies between black and white is an edge, and no class; where it covers no area, it is."""
    text = "the masks hold values between two, as JPEG, smooth edges or a matte leave"
    text += ", along borders alone" if are_edges else ": are these borders?"
    yes = Answer("yes: from half of the highest on it is the one class, below the other", {"threshold": threshold})
    return Question(text, [yes, Answer("no: export the masks again, one value a class")], "threshold", not are_edges)


def _classes(reading: Reading, stored: StoredLabels, notes: list[str]) -> Question:
    """What the labels mean; by a file of names or colours where one fits. One that is no text is noted."""
    plain = {label for label in stored.pixels if 0 <= label != VOID or len(stored.pixels) < 3}
    names: Sequence[str] = ()
    from_1 = False
    threshold = reading.options.get("threshold")
    for file, stored_as in _class_files(reading, notes):
        known = {*map(_number, stored_as)}
        if plain <= known and len(known) <= max(2 * len(plain), (len(plain) > _SOME) * 256):
            return _void_apart(stored_as, {"classes": file})
        if 0 in plain and plain - {0} <= known - {0} and len(plain) > _SOME:
            return _nameless_0(stored, {_number(label): name for label, name in stored_as.items()}, Path(file).name)
        from_1 = from_1 or (not names and next(iter(stored_as)) == 1)
        names = names or [*stored_as.values()]
    return question_of(stored, names, from_1, threshold is not None, _declared(reading.masks))


def _class_files(reading: Reading, notes: list[str]) -> Iterator[tuple[str, dict[Any, str]]]:
    """Files that may name the classes: stored label or colour -> name; why one is not read is noted."""
    root, threshold = Path(reading.options["root"]).expanduser(), reading.options.get("threshold")
    files = sorted(folder / name for folder, names in folders_in(root, 2) for name in names if _NAMES.fullmatch(name))
    for path in files[:_MOST_FILES]:
        try:
            text = read_text(path)
        except DataError as error:
            notes.append(f"no names of classes: {error}")
            continue
        with suppress(SegkitError):  # no class file
            listed = parse(text, path.name)
            names = listed.names
            if not 1 <= len(names) <= VOID or not all(map(is_name, names)):
                continue
            if twice := [name for name, number in Counter(names).items() if number > 1]:
                notes.append(f"no names of classes: {path} has {first_few(twice)} more than once")
                continue
            values, colours = meanings_of(listed, reading.masks, threshold=threshold)
            meant: Mapping[Any, int] = colours or values or dict(enumerate(range(len(names))))
            yield path.relative_to(root).as_posix(), {each: names[at] for each, at in meant.items() if at < len(names)}


def _palette(options: Mapping[str, Any], masks: Sequence[Path]) -> Iterator[Question]:
    """The colours of the classes, where the masks have one palette, which tells these apart."""
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
    """The value that masks, which are TIFFs, declare as no data, where some of them agree."""
    some = [path for path in masks if ".tif" in path.name.casefold()][:_LOOKED_AT]
    values = set()
    for path in some:
        with suppress(DataError):  # told by the scan
            values.add(read_header(path).no_data)
    return values.pop() if len(values) == 1 else None


def _nameless_0(stored: StoredLabels, names: Mapping[int, str], file: str) -> Question:
    """What 0 is, where a file names all other labels."""
    void = [VOID] * (VOID in stored.pixels)
    unlabelled = answer_of("0 is not labelled", [*names], [*names.values()], [0, *void])
    background = answer_of("0 is the background, a class too", [0, *names], ["background", *names.values()], void)
    answers = [unlabelled, background]
    if 2 * stored.pixels[0] > stored.pixels.total():
        answers.reverse()
    return Question(f"{file} has no name for 0: what is it?", answers, "classes")


def _void_apart(stored_as: Mapping[Any, str], options: Mapping[str, Any]) -> Question:
    """The classes of a file; one that it calls void, or the like, is none."""
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
    """A stored label, or a colour, as a number."""
    return COLOUR | label[0] << 16 | label[1] << 8 | label[2] if isinstance(label, tuple) else int(label)


def _division(options: Mapping[str, Any], known: Collection[str]) -> Iterator[Question]:
    """What is said of splits that chance deals."""
    if "val" in options:
        yield Question("nothing says which images are val: chance takes them from train", (), "val", must=False)
    elif "fractions" in known:
        text = "nothing says which images are which split: chance deals them, every time alike"
        yield Question(text, [Answer("", {"fractions": [0.7, 0.15, 0.15]})], "fractions", must=False)


def _lists(images: Sequence[Path], options: Mapping[str, Any]) -> Iterator[Question]:
    """Whether to deal pictures at random beside files that seem to say how, and that cannot be used."""
    if {"lists", "pairs"} & {*options}:
        return
    root, named = Path(options["root"]).expanduser(), {str(value) for value in options.values()}
    files = [path for path in partial_lists(root, {path.stem for path in images}) if path.name not in named]
    if files:
        text = f"{first_few([str(path) for path in files])} may say which images are which split, and cannot be used"
        answers = [Answer("no: chance deals the images"), Answer("yes: write a name a line there, and start again")]
        yield Question(f"{text}: are these lists of splits?", answers, "root")


def _groups(scan: Scan, root: Path, options: Mapping[str, Any]) -> Iterator[Question]:
    """Whether pictures belong together; where they look so, they do."""
    dealt = [data for name, data in scan.splits.items() if "val" not in options or name != "test"]
    if group := group_of(dealt, root):
        text, option = f"the names come in {group.number} groups", {"group": group.pattern}
        alike = f"a picture is like another of its group ({group.inside:.2f}) and unlike others ({group.between:.2f})"
        too_few = group.number < 3 and "fractions" in options  # for train, val and test
        if group.tells and not too_few:
            yield Question(f"{text}, and {alike}: no group is in two splits", [Answer("", option)], "group", must=False)
        elif group.number >= MANY and any(issue.kind == "turned_picture" for issue in scan.errors):
            text += ", of which some hold one picture turned or mirrored: no group is in two splits"
            yield Question(text, [Answer("", option)], "group", must=False)
        elif group.is_certain and not too_few:
            text += f", as {group.words}: no group is in two splits"
            yield Question(text, [Answer("", option)], "group", must=False)
        elif group.words:
            keep = Answer(
                "yes: all its pictures stay in one split", option | ({"fractions": [0.5, 0.5]} if too_few else {})
            )
            deal = Answer("no: chance deals single pictures")
            text += f", as {group.words}: is each of one patient, scene or film?"
            likelier = [deal, keep] if too_few and not group.is_certain else [keep, deal]
            yield Question(text, likelier, "group" if likelier[0] is keep else "fractions")
        else:
            text += f": is each of one object, patient or film? then {options_text(option)} keeps it in one split"
            yield Question(text, (), "fractions", must=False)


def _issues(scan: Scan, known: Collection[str]) -> Iterator[Question]:
    """How to go on in spite of errors, where there is a way; and of masks that look interpolated."""
    leave = Answer("leave them out", {"skip_unpaired": True})
    flattered = Answer("go on; the scores are then flattered", {"data.allow_leaks": True})
    ways = {
        "same_picture": flattered,
        "turned_picture": flattered,
        "image_without_mask": leave,
        "mask_without_image": leave,
        "smaller": Answer("each of their pixels stands for a block of the image's", {"enlarge": True}),
        "overlap": Answer("the smallest object of a pixel counts", {"overlap": "smallest"}),
        "interpolated": Answer("go on: they are as they were drawn"),
        "scaled": Answer("", {"resize_masks": True}),
        "scaled_or_cut": Answer("a mask shows the whole image: the nearest label counts", {"resize_masks": True}),
        "no_numbers": Answer("pixels that are no numbers are void", {"data.no_data": "void"}),
    }
    total = sum(map(len, scan.splits.values()))
    if any(issue.kind == "declared_no_data" for issue in scan.warnings):
        void = Answer("", {"data.no_data": "void"})
        yield Question("pixels that an image declares as no data are void", [void], "data.no_data", must=False)
    warned = [issue.what.partition("; ") for issue in scan.warnings]
    for option, (end, *answers) in _OPEN.items():
        if told := [what for what, _, hint in warned if option in hint]:
            yield Question(f"{'; '.join(told)}: {end}?", answers, option.partition(" ")[0])
    interpolated = [issue for issue in scan.warnings if issue.kind == "interpolated"]
    for issue in (*scan.errors, *interpolated[:1]):
        answer = ways.get(issue.kind)
        if answer is None and issue.skippable and 5 * len(issue.files) < total:
            answer = Answer("leave these files out", {"data.on_bad": "skip"})
        if answer and all(key.startswith("data.") or key in known for key in answer.options):
            answers = [answer, Answer("mend that first, and start again")]
            if issue.kind == "image_without_mask" and "blank_unpaired" in known:
                are_blank = all(map(BLANK.search, issue.files))
                answers.insert(not are_blank, Answer("they show nothing but the first class", {"blank_unpaired": True}))
            key = next(iter(answers[0].options), "root")
            is_scaled = issue.kind == "scaled"
            text = "images and masks differ in size, not in height to width: the nearest label counts"
            yield Question(text if is_scaled else str(issue), answers, key, must=not is_scaled)


def _inverted(scan: Scan) -> Iterator[Question]:
    """Whether a few masks of two classes are inverted: the second has the share that the first has in all others."""
    every = [(data, place) for data in scan.splits.values() for place in range(len(data))]
    if len(scan.splits["train"].classes) != 2 or len(every) < _TOO_FEW:
        return
    counts = np.concatenate([scan.pixels(split) for split in scan.splits])[:, :2]  # [N,2]
    shares = counts[:, 1] / counts.sum(1).clip(1)
    usual, odd = shares[(shares > 0) & (shares < 0.4)], np.flatnonzero(shares > 0.6)
    if len(usual) + (shares == 0).sum() + len(odd) < len(every) or not 0 < 2 * len(odd) < len(usual):
        return
    like = (usual.min() <= 1 - shares[odd]) & (1 - shares[odd] <= usual.max())
    masks = [every[place][0][every[place][1]] for place in odd.tolist()]
    borders = [torch.cat([*each[:, [0, -1]].T, *each[[0, -1]]]) for each in (mask.mask == 1 for mask in masks)]
    if like.all() and all(each.float().mean() > 0.8 for each in borders):
        named = first_few([mask.name for mask in masks])
        text = f"{len(odd)} of {len(every)} masks are mostly of the second class, the others of the first: {named}"
        yield Question(f"{text}; are these inverted?", (), "classes", must=False)


def _bands(channels: Sequence[str]) -> Iterator[Question]:
    """Which bands people are shown."""
    if len(channels) <= 3:
        return
    lower = [name.casefold() for name in channels]
    named = [lower.index(each) + 1 for each in ("red", "green", "blue") if each in lower]
    guess = (
        [4, 3, 2] if len(channels) >= 12 else [3, 2, 1]
    )  # Sentinel-2 has coast, blue, green, red; most begin at blue
    text = f"which of the {len(channels)} channels are red, green and blue in pictures? (the network sees all of them)"
    yield Question(text, [Answer("", {"data.rgb": named if len(named) == 3 else guess})], "data.rgb", must=False)


def _few(total: int, options: Mapping[str, Any]) -> Iterator[Question]:
    """Whether to go on with hardly any pictures."""
    if total < _TOO_FEW:
        text = f"{total} pictures in all: there is little to learn from, and scores of so few say next to nothing"
        fractions = {"fractions": [0.7, 0.3]} if "fractions" in options else {}  # of so few two splits, not three
        answers = [Answer("go on, to see that training works", fractions), Answer("label some 20 more first")]
        yield Question(text, answers, next(iter(fractions), "root"))


def _others(root: Path, total: int) -> Iterator[Question]:
    """Whether pictures belong to the set whose format is not read: half as many as are read may be of it."""
    names = [name for _, names in folders_in(root) for name in names]
    held = Counter(match[0].lower() for name in names if (match := _UNREAD.search(name)))
    for ending, number in held.items():
        is_open = 2 * number >= total
        text = f"{number} files {ending} are not read, as no reader is installed for them"
        mend = Answer("yes: save them as PNG, TIFF or .npy, and start again")
        answers = [Answer("no: they are not needed"), mend] if is_open else ()
        yield Question(f"{text}: are they images or labels of this set?" if is_open else text, answers, "root", is_open)


def _unread(root: Path, scan: Scan) -> Iterator[str]:
    """What is said of folders of pictures from which nothing is read."""
    files = [path for data in scan.splits.values() for index in range(len(data)) for path in data.files(index)]
    used = {folder.resolve() for folder in {path.parent for path in files}}  # of a link the folder that it lies in
    held = {name: number for name, number in pictures_in(root).items() if (root / name).resolve() not in used}
    if held:
        yield f"pictures that are not read: {first_few([f'{number} in {name}' for name, number in held.items()])}"
