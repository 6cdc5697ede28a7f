"""Rule out readings of a folder by what their masks store."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from segkit.data.read import read_header
from segkit.data.sample import RGB
from segkit.errors import LabelError, SegkitError, first_few
from segkit_folder.pairs import BLANK, Pattern
from segkit_folder.propose import shared_ends
from segkit_init.compared import agree, are_one_picture, divide_alike, hold_the_same, merges
from segkit_init.findings import Answer, Question
from segkit_init.reading import Reading, name_of
from segkit_init.stored import COLOUR, read_labels, some_of, stored_labels, threshold_of

_FEW = 12  # masks of each reading that are compared
_OF_OBJECTS = re.compile("(?i)inst|object|panoptic|track|(?<!label)(?<!labels)(?<!class)(?<!train)_ids?(?![a-z])")
_OF_CLASSES = re.compile("(?i)semantic|categor|class|type|sem_?seg")
_DERIVED = re.compile(
    "(?i)boundar|contour|edges|overlay|visuali|preview|superpix|skeleton|cent(er|re)|visibility|trimap|"
    "scribble|(?<![a-z])(roi|parts?_\\d|edge(?![a-z]))"
)
_DERIVED_IMAGES = re.compile(
    "(?i)overlay|visuali|preview|blend|depth|disparity|normals|normal_(cam|map)|"
    "thumb|quick.?look|superpix|box|probab|mask|label|annot|"
    "(?<![a-z])([fb]g|(fore|back)ground|viz|vis|ref|right(?!.*left))(?![a-z])"
)
_PREDICTED = re.compile(r"(?i)(?<![a-z])(pred(ict(ion|ed)?)?s?|outputs?|results?)(?![a-z])")  # predictions come last
OF_A_DATE = re.compile(r"(?i)(?<![a-z])(pre|post|before|after|old|new|[ab]|(t|time|im|img)[-_]?[12])(?![a-z])")
_RGB = re.compile(r"(?i)(?<![a-z])rgb(?![a-z])")
_WORDS = re.compile(r"[^\W\d_]+([ _-][^\W\d_]+)*")  # a folder name that may be the name of a class
_MOST_CLASSES = 20  # classes that have a folder each
_MOST_COLOURS = 4  # channels of a photograph; red, green, blue and infrared
_OVERLAP = 0.2  # highest intersection over union of the masks of two classes


def select_readings(readings: Sequence[Reading], notes: list[str], questions: list[Question]) -> list[Reading]:
    """Return the readings that their masks do not rule out.

    Raises:
        LabelError: no reading has masks that can be read.
    """
    readings = sorted(readings, key=lambda each: not _is_split(each))  # preferred among copies
    readings = sorted(readings, key=lambda each: bool(_PREDICTED.search(str(each.options.get("masks", "")))))
    errors: dict[int, str] = {}
    for place, reading in enumerate(readings):
        try:
            reading.files  # noqa: B018  (this looks for the files)
        except SegkitError as error:
            errors[place] = str(error)
    usable = [reading for place, reading in enumerate(readings) if place not in errors]
    usable = [each for at, each in enumerate(usable) if all(each.files != other.files for other in usable[:at])]
    for place, message in errors.items():
        lists = {key: value for key, value in readings[place].options.items() if key in ("lists", "pairs")}
        questions.append(lists_question(message, lists))
    whole = [{*map(repr, reading.options.items())} for reading in usable]
    failed = [*errors.values()]
    kept: list[Reading] = []
    same: list[Reading] = []
    for reading, own in zip(usable, whole, strict=True):
        if any(own < other for other in whole):  # another one has more options, such as lists of splits
            continue
        try:
            reading = _with_masks(reading)
        except SegkitError as error:
            failed.append(str(error))
            continue
        apart = [at for at, each in enumerate(kept) if {*each.masks} != {*reading.masks}]
        twin = next((at for at in apart if divide_alike(reading.looked, kept[at].looked)), None)
        if twin is None and any(agree(kept[at].looked, reading.looked) for at in apart):
            notes.append(f"not read because they are nearly the same as others: {name_of(reading, readings)}")
        elif len(readings) > 1 and are_one_picture(reading.looked):
            notes.append(f"no labels, because they are nearly the same for every image: {name_of(reading, readings)}")
            same.append(reading)
        elif twin is None:
            kept.append(reading)
        else:  # labels order the classes, colours do not; and small labels are not ids of objects
            largest = [max(int(mask.max()) for mask in each.looked) for each in (kept[twin], reading)]
            pair = [reading, kept[twin]] if largest[1] < largest[0] else [kept[twin], reading]
            kept[twin] = pair[0]
            notes.append(f"not read because they divide images as others do: {name_of(pair[1], readings)}")
    if not (kept := kept or same[:1]):
        raise LabelError("\n".join(dict.fromkeys(failed)))
    preferred = _by_images(_preferred(kept, notes), notes)
    if layers := _as_layers(preferred):
        notes.append("masks of one label each, which hardly overlap, are combined")
    found = layers or preferred
    of_objects = any(stored_labels(each.looked).of_objects for each in kept)  # others may be their foreground
    is_one = len(found) == len(preferred) == 1 and not of_objects
    return [*_by_folders(preferred[0]), *found] if is_one else found


def _is_split(reading: Reading) -> bool:
    """Whether images and masks lie in folders of splits."""
    return all("{split}" in str(reading.options.get(side)) for side in ("images", "masks"))


def _by_folders(reading: Reading) -> Iterator[Reading]:
    """Yield a reading of one-label masks in folders whose names are words, where each folder may be a class.

    Yield nothing where the name of a folder says that it shows only background, or a folder has no labels.
    """
    own = {key: value for key, value in reading.options.items() if key != "masks"}
    sides = {"images": reading.options.get("images"), "annotations": reading.options.get("masks")}
    texts = [text for text in sides.values() if isinstance(text, str)]
    are_plain = all(len(np.unique(mask)) < 3 and mask.max() < COLOUR for mask in reading.looked)
    if not are_plain or "threshold" in own or len(texts) < 2:
        return
    found = Pattern(Path(own["root"]).expanduser(), texts[0]).files()
    if any(BLANK.search(word) for each in found for word in each.values.values()):
        return
    image_of = dict(zip(reading.masks, reading.images, strict=True))
    looked = [image_of[mask] for mask in some_of(reading.masks, _FEW)]
    empty = dict(zip(looked, (not mask.any() for mask in reading.looked), strict=False))
    for word in [each for each in ("folder", "folder2") if all(text.count(f"{{{each}}}") == 1 for text in texts)]:
        folders = Counter(each.values[word] for each in found)
        start = len(shared_ends([*folders])[0])
        are_words = all(_WORDS.fullmatch(name) and len(name) > start + 2 for name in folders)
        seen = [(each.values[word], empty[each.path]) for each in found if each.path in empty]
        blank = {name for name, _ in seen} - {name for name, is_empty in seen if not is_empty}
        if 2 <= len(folders) <= _MOST_CLASSES and min(folders.values()) > 1 and are_words and not blank:
            classes = {side: str(text).replace(f"{{{word}}}", "{class}") for side, text in sides.items()}
            yield Reading("layers", {**own, **classes}, False)
            return


def _by_images(kept: list[Reading], notes: list[str]) -> list[Reading]:
    """Among readings that share their masks, combine all grey images as channels, or keep the only colour images.

    Two dates may be channels of one picture, or one of them is meant. Drop images whose size is not their masks' size.
    """
    fitting = [each for each in kept if read_header(each.images[0]).size == each.looked[0].shape]
    for reading in kept if fitting else ():
        if all(reading is not each for each in fitting):
            notes.append(f"not read because images and masks differ in size: {name_of(reading, kept)}")
    kept = fitting or kept
    by_images: dict[str, list[Reading]] = {}
    for each in kept:
        by_images.setdefault(str(each.options.get("images", "")), []).append(each)
    others = {frozenset(frozenset(each.masks) for each in those) for those in by_images.values()}
    if len(by_images) == 1 or len(others) > 1:
        return kept
    images = sorted(by_images, key=lambda text: [name not in text.casefold() for name in RGB])  # red, green, blue first
    first = next(iter(by_images.values()))
    together = [replace(each, options={**each.options, "images": images}) for each in first]
    headers = {text: read_header(those[0].images[0]) for text, those in by_images.items()}
    colours = [text for text, header in headers.items() if header.has_colours or header.palette]
    if colours and all(map(OF_A_DATE.search, _differing(images))):
        return [*together, *kept]
    many = any(len(header.channels) > _MOST_COLOURS for header in headers.values())
    if many and colours:  # pictures of some bands, made for viewing
        notes.append(f"not read because others have more channels: {first_few(colours)}")
        return _by_images([each for each in kept if str(each.options.get("images", "")) not in colours], notes)
    colours = [text for text in colours if _RGB.search(text)] or colours
    if len(colours) > 1 and _are_copies([by_images[text][0].images for text in colours]):
        colours = sorted(colours, key=lambda text: "png" not in text.casefold())[:1]
    own = zip(colours, _differing(colours), strict=True)
    called = {*re.split("[/#]", str(first[0].options.get("masks", "")))}
    colours = [text for text, words in own if {words} & called] or colours
    if len(colours) == 1:
        left = first_few([text for text in by_images if text != colours[0]])
        more = "if they show what it does not, set `images` to a list of both: all become channels"
        notes.append(f"not read because {colours[0]} is in colour: {left}; {more}")
        return by_images[colours[0]]
    if colours:
        return kept
    notes.append("grey images of the same name are read as channels of one picture")
    return together


def _are_copies(sets: Sequence[Sequence[Path]]) -> bool:
    """Whether sets hold the same images in other formats: equal names, and in the first image nearly equal pixels."""
    stems = [{path.stem for path in paths} for paths in sets]
    first, *others = (min(paths, key=lambda path: path.stem) for paths in sets)
    return all(each == stems[0] for each in stems) and all(hold_the_same(first, each) for each in others)


def _as_layers(kept: Sequence[Reading]) -> list[Reading]:
    """Combine readings of the same images whose masks hold one class each; return nothing if they do not.

    Where the masks have numbers for names they may be of single objects: that reading then comes first.
    """
    first, *others = kept
    rows = [str(each.options.get("masks", "")).split("/") for each in kept]
    same = {repr({**each.options, "masks": ""}) for each in kept}
    if not others or len(same) > 1 or not isinstance(first.options.get("images"), str) or len({*map(len, rows)}) > 1:
        return []
    sets = [[mask != 0 for mask in each.looked] for each in kept]
    if any(len(np.unique(mask)) > 2 for each in kept for mask in each.looked):
        return []
    for one, other in combinations(sets, 2):
        pairs = [(a, b) for a, b in zip(one, other, strict=False) if len(one) == len(other) and a.shape == b.shape]
        if sum((a & b).sum() for a, b in pairs) > _OVERLAP * sum((a | b).sum() for a, b in pairs):
            return []
    parts: list[str] = []
    are_numbers = False
    for words in zip(*rows, strict=True):
        word = "*" if any("{class}" in part for part in parts) else "{class}"
        before, after = shared_ends(words)
        is_name = any("{" in each for each in words)
        are_numbers |= all(each[len(before) : len(each) - len(after)].isdecimal() for each in words)
        parts.append(words[0] if len({*words}) == 1 else f"{before}{word}{after}" if is_name else word)
    options = {key: value for key, value in first.options.items() if key != "masks"}
    classes, objects = "/".join(parts), "/".join(parts).replace("{class}", "*")
    ways = [objects, classes] if are_numbers else [classes]
    return [Reading("layers", {**options, "annotations": way}, False) for way in ways]


def _preferred(kept: Sequence[Reading], notes: list[str]) -> list[Reading]:
    """Return the readings of classes, without those of single objects, of one label, or derived from other masks."""
    masks, images = (_differing([str(each.options.get(side, "")) for each in kept]) for side in ("masks", "images"))
    of_classes = [each.looked for each, mask in zip(kept, masks, strict=True) if _OF_CLASSES.search(mask)]
    worth = []
    for each, mask, image in zip(kept, masks, images, strict=True):
        stored = stored_labels(each.looked)
        is_finer = any(merges(classes, each.looked) for classes in of_classes)  # than masks named after classes
        is_derived = _DERIVED.search(mask) or _DERIVED_IMAGES.search(image) or len(stored.pixels) == 1
        counts = (stored.of_objects or is_finer) and not _OF_CLASSES.search(mask)
        worth.append(-2 * bool(is_derived) - bool(counts or (are_objects(mask) and len(stored.pixels) > 2)))
    called = [str(each.options.get("masks", name_of(each, kept))) for each in kept]
    objects = {name: None for name, own in zip(called, worth, strict=True) if own == -1 < max(worth)}
    notes += [f"not read because they number single objects: {first_few([*objects])}"] * bool(objects)
    for reading, own in zip(kept, worth, strict=True):
        if own < min(max(worth), -1):
            notes.append(f"not read because they are made from others, or hold one label: {name_of(reading, kept)}")
    best = [each for each, own in zip(kept, worth, strict=True) if own == max(worth)]
    merged = [each for each in best if any(merges(each.looked, other.looked) for other in best)]
    coarser = dict.fromkeys(name for name, each in zip(called, kept, strict=True) if each in merged)
    notes += [f"not read because others distinguish more classes: {first_few([*coarser])}"] * bool(coarser)
    return [each for each in best if each not in merged]


def are_objects(masks: str) -> bool:
    """Whether a name says that masks number single objects."""
    return bool(_OF_OBJECTS.search(masks)) and not _OF_CLASSES.search(masks)


def _differing(texts: Sequence[str]) -> list[str]:
    """Return the words of each text that not all texts share."""
    parts = [{*re.split("[/#]", text)} for text in texts]
    return [" ".join(each - set.intersection(*parts)) for each in parts]


def _with_masks(reading: Reading) -> Reading:
    """Return a reading with some of its masks loaded, and with a threshold where they need one.

    Raises:
        DataError: the masks cannot be read.
    """
    some = some_of(reading.masks, _FEW)
    try:
        return reading.with_looked(read_labels(some))
    except LabelError:
        threshold = threshold_of(some)
        if threshold is None:
            raise
        return reading.with_looked(read_labels(some, threshold), threshold=threshold)


def lists_question(text: str, options: Mapping[str, Any]) -> Question:
    """Ask whether unusable files with names of split lists are such; ``options`` belong to the answer "yes"."""
    answers = Answer("no: they are not read"), Answer("yes: write one name per line, and run init again", options)
    return Question(f"{text}: are these lists of splits?", answers, "root")
