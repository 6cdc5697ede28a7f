"""Rule out readings of a folder by what their masks store."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np

from segkit.data.read import read_header
from segkit.data.sample import RGB
from segkit.errors import LabelError, SegkitError
from segkit_folder.pairs import BLANK, Pattern
from segkit_folder.propose import shared_ends
from segkit_folder.splits import SUFFIXES
from segkit_init.questions import Question
from segkit_init.reading import Reading, name_of
from segkit_init.stored import COLOUR, Labels

_FEW = 12  # masks of each reading that are compared
_OF_OBJECTS = re.compile("(?i)inst|object|panoptic|track|(?<!label)(?<!labels)(?<!class)(?<!train)_ids?(?![a-z])")
_OF_CLASSES = re.compile("(?i)semantic|categor|class|type|sem_?seg")
_DERIVED = re.compile(
    "(?i)boundar|contour|edges|overlay|visuali|preview|superpix|skeleton|cent(er|re)|visibility|trimap|void|ignore|"
    "scribble|(?<![a-z])(roi|parts?_\\d|edge(?![a-z]))"
)
_DERIVED_IMAGES = re.compile(
    "(?i)overlay|visuali|preview|blend|depth|disparity|normals|normal_(cam|map)|heat.?map|boundar|contour|predict|"
    "thumb|quick.?look|superpix|box|probab|mask|label|annot|"
    "(?<![a-z])([fb]g|(fore|back)ground|viz|vis|ref|right(?!.*left))(?![a-z])"
)
_PREDICTED = re.compile(r"(?i)(?<![a-z])(pred(ict(ion|ed)?)?s?|outputs?|results?)(?![a-z])")  # predictions come last
_OLD = re.compile(r"(?i)(?<![a-z])(old|alt|backup|bak|archived?|copy|kopie)(?![a-z])")
OF_A_DATE = re.compile(r"(?i)(?<![a-z])(pre|post|before|after|old|new|[ab]|(t|time|im|img)[-_]?[12])(?![a-z])")
OF_A_SIDE = re.compile(r"(?i)left|right|[lr]|o[ds]")  # of two cameras, or eyes
_RGB = re.compile(r"(?i)(?<![a-z])rgb(?![a-z])")
_WORDS = re.compile(r"[^\W\d_]+([ _-][^\W\d_]+)*")  # a folder name that may be the name of a class
_MOST_CLASSES = 20  # classes that have a folder each
_MOST_LABELS = 64  # more labels are probably numbers of objects
_SAME = 0.97  # share of equal pixels in masks that hardly vary, such as DRIVE's fields of view
_MOST_COLOURS = 4  # channels of a photograph; red, green, blue and infrared
_OVERLAP = 0.2  # highest intersection over union of the masks of two classes


def select_readings(readings: Sequence[Reading], asked: list[Question]) -> list[Reading]:
    """Return the readings that their masks do not rule out, the likeliest first, and add notes and questions.

    Raises:
        LabelError: no reading has masks that can be read.
    """
    usable: list[Reading] = []
    failed: list[str] = []
    ways = [*map(_sides, readings)]
    for reading in sorted((each for each in readings if not _is_crossed(each, ways)), key=_comes_late):
        try:
            if reading.files not in [each.files for each in usable]:
                usable.append(reading)
        except SegkitError as error:
            failed.append(str(error))
            asked.append(Question(f"not read: {error}"))
    options = [{*map(repr, reading.options.items())} for reading in usable]
    kept: list[Reading] = []
    same: list[Reading] = []
    for reading, own in zip(usable, options, strict=True):
        if any(own < other for other in options):  # another one has more options, such as lists of splits
            continue
        try:
            loaded = reading.with_masks(_FEW)
        except SegkitError as error:
            failed.append(str(error))
            continue
        if len(readings) > 1 and _are_one_picture([*loaded.looked.values()]):
            what = "no labels, because they are nearly the same for every image"
            asked.append(Question(f"{what}: {name_of(loaded, readings)}"))
            same.append(loaded)
        else:
            kept.append(loaded)
    if not (kept := kept or same[:1]):
        raise LabelError("\n".join(dict.fromkeys(failed)))
    preferred = _by_images(_preferred(kept, asked), asked)
    if layers := _as_layers(preferred):
        asked.append(Question("masks of one label each, which hardly overlap, are combined"))
    found = layers or preferred
    of_objects = any(each.stored.of_objects for each in kept)  # others may be their foreground
    is_one = len(found) == len(preferred) == 1 and not of_objects
    return [*_by_folders(preferred[0]), *_with_numbered(preferred[0]), *found] if is_one else found


def _comes_late(reading: Reading) -> tuple[bool, ...]:
    """Sort key: predictions last, and old masks; folders of splits first among copies."""
    sides = _sides(reading)
    return bool(_PREDICTED.search(sides[1])), bool(_OLD.search(sides[1])), not all("{split}" in side for side in sides)


def _sides(reading: Reading) -> tuple[str, str]:
    return str(reading.options.get("images")), str(reading.options.get("masks"))


def _is_crossed(reading: Reading, ways: Collection[tuple[str, str]]) -> bool:
    """Whether images and masks lie in two copies of a data set, each of which has both: ``old/images``, ``masks``."""
    (images, _, image), (masks, _, mask) = (side.rpartition("/") for side in _sides(reading))
    own = [(f"{place}/{image}".lstrip("/"), f"{place}/{mask}".lstrip("/")) for place in (images, masks)]
    return images != masks and {*own} <= {*ways}


def _are_one_picture(masks: Sequence[Labels]) -> bool:
    """Whether all masks are nearly equal, such as the field of view of one camera."""
    first, *others = masks
    same = [each.shape == first.shape and bool((each == first).mean() > _SAME) for each in others]
    return len(same) >= 3 and all(same) and bool((first != first.flat[0]).mean() > 0.05)


def _preferred(kept: Sequence[Reading], asked: list[Question]) -> list[Reading]:
    """Return the readings of classes, without those of single objects, of one label, or derived from other masks."""
    masks, images = (_differing([str(each.options.get(side, "")) for each in kept]) for side in ("masks", "images"))
    of_classes = [each.looked for each, mask in zip(kept, masks, strict=True) if _OF_CLASSES.search(mask)]
    of_objects = {each.options.get("masks", each) for each in kept if each.stored.of_objects}  # whatever the lists
    faults: dict[Reading, tuple[int, str]] = {}
    for each, mask, image in zip(kept, masks, images, strict=True):
        is_named = are_objects(mask) and len(each.stored.pixels) > 2
        is_finer = any(_compared(classes, each.looked) == "coarser" for classes in of_classes)
        faults[each] = (0, "")
        if _DERIVED.search(mask) or _DERIVED_IMAGES.search(image) or len(each.stored.pixels) == 1:
            faults[each] = (2, "they are made from others, or hold one label")
        elif is_named or ((each.options.get("masks", each) in of_objects or is_finer) and not _OF_CLASSES.search(mask)):
            faults[each] = (1, "they number single objects")
    best = [each for each in kept if faults[each] == min(faults.values())]
    for each, other in permutations(best, 2):
        relation = _compared(each.looked, other.looked) if {*each.masks}.isdisjoint(other.masks) else ""
        # labels order the classes, colours do not; and small labels are not ids of objects
        last = max((each, other), key=lambda one: (max(one.stored.pixels), best.index(one)))
        if relation == "coarser":
            faults[each] = (3, "others distinguish more classes")
        elif relation == "same" and last is each:
            faults[each] = (3, "they divide images as others do")
    least = min(faults.values())
    for each, fault in faults.items():
        if fault > least:
            asked.append(Question(f"not read because {fault[1]}: {name_of(each, kept)}"))
    named = {each for each, mask in zip(kept, masks, strict=True) if _OF_CLASSES.search(mask)}  # these come first
    return sorted((each for each in kept if faults[each] == least), key=lambda each: each not in named)


def _compared(masks: Mapping[Path, Labels], others: Mapping[Path, Labels]) -> str:
    """Return "same" where masks divide their pictures as others do, "coarser" where they merge classes of others."""
    pairs = _pairs(masks, others)
    if not pairs or any(a.shape != b.shape for a, b in pairs):
        return ""
    regions = [(_regions(a), _regions(b), _regions(a, b)) for a, b in pairs]
    if any(fine != both for _, fine, both in regions):
        return ""
    if all(coarse == both for coarse, _, both in regions):
        return "same"
    count, most = (len({*chain.from_iterable(map(np.unique, those))}) for those in zip(*pairs, strict=True))
    return "coarser" if count < most <= _MOST_LABELS else ""


def _pairs(masks: Mapping[Path, Labels], others: Mapping[Path, Labels]) -> list[tuple[Labels, Labels]]:
    """Return the masks of the images that both have, or of all in order if both have copies of the same images."""
    pairs = [(mask, others[image]) for image, mask in masks.items() if image in others]
    return pairs or [*zip(masks.values(), others.values(), strict=False)] * (len(masks) == len(others))


def _regions(*labels: Labels) -> int:
    """Count the different combinations of labels that the pixels of a picture have in its one or two masks."""
    first, *second = (each.astype(np.int64) for each in labels)
    return len(np.unique(first << 32 | second[0] & 0xFFFFFFFF if second else first))


def are_objects(masks: str) -> bool:
    """Whether a name says that masks number single objects."""
    return bool(_OF_OBJECTS.search(masks)) and not _OF_CLASSES.search(masks)


def _by_folders(reading: Reading) -> Iterator[Reading]:
    """Yield a reading of one-label masks in folders whose names are words, where each folder may be a class.

    Yield nothing where the name of a folder says that it shows only background, or a folder has no labels.
    """
    own = {key: value for key, value in reading.options.items() if key != "masks"}
    sides = {"images": reading.options.get("images"), "annotations": reading.options.get("masks")}
    texts = [text for text in sides.values() if isinstance(text, str)]
    if not _are_plain(reading) or len(texts) < 2:
        return
    found = Pattern(Path(own["root"]).expanduser(), texts[0]).files()
    if any(BLANK.search(word) for each in found for word in each.values.values()):
        return
    split_of = {files[0]: split for split, those in reading.files.items() for files in those}
    empty = {image: not mask.any() for image, mask in reading.looked.items()}
    for word in [each for each in ("folder", "folder2") if all(text.count(f"{{{each}}}") == 1 for text in texts)]:
        folders = Counter(each.values[word] for each in found)
        start = len(shared_ends([*folders])[0])
        are_words = all(_WORDS.fullmatch(name) and len(name) > start + 2 for name in folders)
        are_words &= not any(map(is_side, folders))
        seen = [(each.values[word], empty[each.path]) for each in found if each.path in empty]
        blank = {name for name, _ in seen} - {name for name, is_empty in seen if not is_empty}
        in_splits = {(each.values[word], split_of[each.path]) for each in found if each.path in split_of}
        are_films = len(reading.files) > 1 and len(in_splits) == len(folders)  # each whole in one split
        if 2 <= len(folders) <= _MOST_CLASSES and min(folders.values()) > 1 and are_words and not (blank or are_films):
            classes = {side: str(text).replace(f"{{{word}}}", "{class}") for side, text in sides.items()}
            yield Reading("layers", {**own, **classes}, False)
            return


def _with_numbered(reading: Reading) -> Iterator[Reading]:
    """Yield a reading of all masks of each image, where a number tells them apart: 7_mask.png and 7_mask_1.png."""
    own = {key: value for key, value in reading.options.items() if key != "masks"}
    before, dot, suffix = str(reading.options.get("masks")).rpartition(".")
    start = re.sub(r"\d+$", "", before)
    if _are_plain(reading) and "{id}" in before.removesuffix("{id}") and "/" not in suffix:
        layers = Reading("layers", {**own, "annotations": f"{start}*{dot}{suffix}"}, False)
        others = {*_masks_of(layers)} - {*reading.masks}
        number = r"[^\W\d][_-]\d+$" if start == before else r"\d$"
        if others and all(re.search(number, each.stem) for each in others):
            yield layers


def _are_plain(reading: Reading) -> bool:
    """Whether each mask holds at most one label besides the background."""
    are_plain = all(len(np.unique(mask)) < 3 and mask.max() < COLOUR for mask in reading.looked.values())
    return are_plain and "threshold" not in reading.options


def is_side(name: str) -> bool:
    """Whether a folder is named like a picture format, of which there are copies, or like one of two sides."""
    return f".{name.lower()}" in SUFFIXES or bool(OF_A_SIDE.fullmatch(name))


def _by_images(kept: list[Reading], asked: list[Question]) -> list[Reading]:
    """Among readings that share their masks, drop images of another size than these, and combine grey ones as channels.

    Others are ordered: those of more bands than a photograph, or in colour, and with a word of the masks' names first.
    Pictures of two dates may also be channels of one.
    """
    shapes = {each: next((read_header(image).size, mask.shape) for image, mask in each.looked.items()) for each in kept}
    fitting = [each for each in kept if shapes[each][0] == shapes[each][1]]
    for reading in kept if fitting else ():
        if reading not in fitting:
            asked.append(Question(f"not read because images and masks differ in size: {name_of(reading, kept)}"))
    kept = fitting or kept
    by_images: dict[str, list[Reading]] = {}
    for each in kept:
        by_images.setdefault(str(each.options.get("images", "")), []).append(each)
    masks = {frozenset(frozenset(each.masks) for each in those) for those in by_images.values()}
    if len(by_images) == 1 or len(masks) > 1:
        return kept
    images = sorted(by_images, key=lambda text: [name not in text.casefold() for name in RGB])  # red, green, blue first
    first = next(iter(by_images.values()))
    together = [replace(each, options={**each.options, "images": images}) for each in first]
    headers = {text: read_header(those[0].images[0]) for text, those in by_images.items()}
    if not any(header.has_colours or header.palette for header in headers.values()):
        asked.append(Question("grey images of the same name are read as channels of one picture"))
        return together
    words = dict(zip(by_images, _differing([*by_images]), strict=True))
    called = {*re.split("[/#]", str(first[0].options.get("masks", "")))}

    def comes_late(text: str) -> tuple[bool, ...]:
        header = headers[text]
        is_deep = len(header.channels) > _MOST_COLOURS
        is_plain = not (header.has_colours or header.palette)
        return not is_deep, is_plain, not _RGB.search(text), words[text] not in called, "png" not in text.casefold()

    ordered = [each for text in sorted(by_images, key=comes_late) for each in by_images[text]]
    return [*together, *ordered] if all(map(OF_A_DATE.search, words.values())) else ordered


def _as_layers(kept: Sequence[Reading]) -> list[Reading]:
    """Combine readings of the same images whose masks, in similar folders, hold one class each, and put these first.

    Return nothing if there are none.
    """
    groups: dict[Any, list[Reading]] = {}
    for each in kept:
        depth = str(each.options.get("masks", "")).count("/")
        groups.setdefault((repr({**each.options, "masks": ""}), depth), []).append(each)
    ways = [(those, _combined(those)) for those in groups.values()]
    rest = [each for those, combined in ways if not combined for each in those]
    return [*layers, *rest] if (layers := [each for _, combined in ways for each in combined]) else []


def _combined(group: Sequence[Reading]) -> list[Reading]:
    """Combine readings whose masks hold one class each; return nothing if they do not.

    Where the masks have numbers for names they may be of single objects: that reading then comes first.
    """
    first, *others = group
    rows = [str(each.options.get("masks", "")).split("/") for each in group]
    if not others or not isinstance(first.options.get("images"), str):
        return []
    if any(len(np.unique(mask)) > 2 for each in group for mask in each.looked.values()):
        return []
    for one, other in combinations(group, 2):
        pairs = [(a != 0, b != 0) for a, b in _pairs(one.looked, other.looked) if a.shape == b.shape]
        if not pairs or sum((a & b).sum() for a, b in pairs) > _OVERLAP * sum((a | b).sum() for a, b in pairs):
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
    layers = [Reading("layers", {**options, "annotations": way}, False) for way in ways]
    own, read = {path for each in group for path in each.masks}, {*_masks_of(layers[0])}
    return [*layers, *(group if own < read else [])] if own <= read else []


def _masks_of(reading: Reading) -> Iterator[Path]:
    """Yield the masks of all images; none where the data set cannot read its files."""
    with suppress(SegkitError):
        every = [files for those in reading.files.values() for files in those]
        yield from [path for image, *masks in every for path in masks if path != image]


def _differing(texts: Sequence[str]) -> list[str]:
    """Return the words of each text that not all texts share."""
    parts = [{*re.split("[/#]", text)} for text in texts]
    return [" ".join(each - set.intersection(*parts)) for each in parts]
