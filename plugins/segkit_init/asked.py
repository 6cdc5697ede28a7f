"""What is asked of the splits of a data set, and of what a scan has found in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segkit.data.scan import Scan
from segkit.errors import first_few
from segkit_folder.lists import partial_lists
from segkit_folder.pictures import folders_in
from segkit_folder.splits import SUFFIXES
from segkit_init.compared import say_the_same
from segkit_init.findings import Answer, Question
from segkit_init.judged import BLANK, lists_question
from segkit_init.reading import Reading
from segkit_init.readings import pictures_in

_TOO_FEW = 10  # pictures: a score of one or two says next to nothing
_FEW = 12  # files that are compared with others of their names
_UNREAD = re.compile(  # photographs, slides, microscopes, volumes, films, drawings
    r"(?i)\.(heic|heif|avif|jxl|exr|dng|cr[23w]|nef|arw|rw2|orf|raf|raw|psd|xcf|tga|dds|svg|eps|pdf|pbm|pnm|sgi|pcx|"
    r"svs|ndpi|mrxs|scn|vms|bif|vsi|czi|lif|lsm|nd2|oi[bf]|img|bil|bsq|bip|ecw|sid|vrt|hdr|nc|grib2?|zarr|fits?|mha|"
    r"mhd|nrrd|mgz|mp4|avi|mov|mkv|webm)$"
)
_WORD = re.compile(r"[-_ ][^\W\d_]+(?![^\W\d_])|^[^\W\d_]+[-_ ]")  # in a name, with what divides it from the others
_MAYBE_LOSSY = (".jp2", ".j2k", ".jpx", ".jpf", ".j2c")
_OPEN: Mapping[str, Any] = {  # an option that a warning of a data set names -> the question, and its answers
    "blank_unpaired = true": (
        "is anything to be seen there",
        Answer("it is not to be seen in these images", {"blank_unpaired": True}),
        Answer("it is not annotated there: add these masks, or take the images away, and start again"),
    ),
    "images = FOLDER": (
        "were the polygons drawn on those that are read",
        Answer("yes"),
        Answer("no: take these away, and start again"),
    ),
    'unit = "percent"': (
        "in which unit are they",
        Answer("percent of the image's width and height", {"unit": "percent"}),
        Answer("pixels", {"unit": "pixel"}),
    ),
    "first_pixel = 0": (
        "which number has the first one",
        Answer("1, as in most such tables", {"first_pixel": 1}),
        Answer("0", {"first_pixel": 0}),
    ),
}


def division_asked(options: Mapping[str, Any], known: Collection[str]) -> Iterator[Question]:
    """What is said of splits that chance deals."""
    if "val" in options:
        yield Question("nothing says which images are val: chance takes them from train", (), "val", must=False)
    elif "fractions" in known:
        text = "nothing says which images are which split: chance deals them, every time alike"
        yield Question(text, [Answer("", {"fractions": [0.7, 0.15, 0.15]})], "fractions", must=False)


def lists_asked(images: Sequence[Path], options: Mapping[str, Any]) -> Iterator[Question]:
    """Whether to deal pictures at random beside files that seem to say how, and that cannot be used."""
    if {"lists", "pairs"} & {*options}:
        return
    root, named = Path(options["root"]).expanduser(), {str(value) for value in options.values()}
    files = [path for path in partial_lists(root, {path.stem for path in images}) if path.name not in named]
    if files:
        text = f"{first_few([str(path) for path in files])} may say which images are which split, and cannot be used"
        yield lists_question(text, {})


def twins_asked(reading: Reading) -> Iterator[Question]:
    """Which files are meant, where a folder holds others of the same names beside those that are read."""
    read = {*reading.images, *reading.masks}
    for side, files in (("images", reading.images), ("masks", reading.masks)):
        pattern = str(reading.options.get(side, ""))
        some = [path for path in files[:: -(-len(files) // _FEW)] if pattern.endswith(path.suffix) and path.is_file()]
        for suffix in SUFFIXES:
            pairs = [(path, twin) for path in some if (twin := path.with_suffix(suffix)) not in read and twin.is_file()]
            if not pairs:
                continue
            odd = [(path, twin) for path, twin in pairs if not say_the_same(path, twin)]
            for path, twin in odd[:1]:
                kept = Answer(f"those that end in {path.suffix}", {side: pattern})
                other = {side: pattern.removesuffix(path.suffix) + suffix}
                answers = (kept, Answer(f"those that end in {suffix}", other))
                yield Question(
                    f"{path} and {twin.name} differ, and so may others: which {side} are meant?", answers, side
                )
            if not odd:
                text = f"{side}: {pairs[0][0]} and others are read, not those of the same names that end in {suffix}"
                yield Question(f"{text}, which show the same", (), side, must=False)


def issues_asked(scan: Scan, known: Collection[str]) -> Iterator[Question]:
    """How to go on in spite of errors, where there is a way; and of masks that look interpolated."""
    leave = Answer("leave them out", {"skip_unpaired": True})
    bands = [*range(1, len(scan.splits["train"].channels) + 2)]
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
        "fourth_channel": Answer("it is a channel, as infrared, heat or depth", {"data.bands": bands}),
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
    alone = [issue for issue in scan.errors if issue.kind in ("image_without_mask", "mask_without_image")]
    others = _of_another_kind(scan, [file for issue in alone for file in issue.files])
    if others and leave.options.keys() <= {*known}:
        text = (
            f"{sum(len(issue.files) for issue in alone)} files are of another kind than those beside them, and left out"
        )
        yield Question(f"{text}: {first_few(others)}", [Answer("", leave.options)], "skip_unpaired", must=False)
    for issue in (*(each for each in scan.errors if not others or each not in alone), *interpolated[:1]):
        answer = ways.get(issue.kind)
        if issue.kind == "fourth_channel" and len(issue.files) < total:  # the others have none
            continue
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


def _of_another_kind(scan: Scan, files: Sequence[str]) -> list[str]:
    """Words that these files have more in their names than one beside them that is read; none if one file has none."""
    every = [data.files(index) for data in scan.splits.values() for index in range(len(data))]
    read = {(path.parent, path.name.partition(".")[0]) for those in every for path in (*those[:1], *those[-1:])}
    found: Counter[str] = Counter()
    for path in map(Path, files):
        name = path.name.partition(".")[0]
        words = [match for match in _WORD.finditer(name) if (path.parent, name.replace(match[0], "", 1)) in read]
        if not words:
            return []
        found[words[0][0]] += 1
    return [*found]


def inverted_asked(scan: Scan) -> Iterator[Question]:
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


def bands_asked(channels: Sequence[str]) -> Iterator[Question]:
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


def few_asked(total: int, options: Mapping[str, Any]) -> Iterator[Question]:
    """Whether to go on with hardly any pictures."""
    if total < _TOO_FEW:
        text = f"{total} pictures in all: there is little to learn from, and scores of so few say next to nothing"
        fractions = {"fractions": [0.7, 0.3]} if "fractions" in options else {}  # of so few two splits, not three
        answers = [Answer("go on, to see that training works", fractions), Answer("label some 20 more first")]
        yield Question(text, answers, next(iter(fractions), "root"))


def others_asked(root: Path, scan: Scan) -> Iterator[Question]:
    """Whether pictures belong to the set whose format is not read: half as many as are read may be of it.

    And whether masks have losses, where their format cannot tell.
    """
    every = [(data, index) for data in scan.splits.values() for index in range(len(data))]
    if any(path.suffix.lower() in _MAYBE_LOSSY for data, index in every for path in data.files(index)[1:]):
        text = "the masks are JPEG 2000, and the files do not say whether bits were left out to make them smaller"
        mend = Answer("no: export them again from their source as PNG")
        yield Question(f"{text}: were they saved without losses?", [Answer("yes"), mend], "root")
    names = [name for _, names in folders_in(root) for name in names]
    held = Counter(match[0].lower() for name in names if (match := _UNREAD.search(name)))
    for ending, number in held.items():
        is_open = 2 * number >= len(every)
        text = f"{number} files {ending} are not read, as no reader is installed for them"
        mend = Answer("yes: save them as PNG, TIFF or .npy, and start again")
        answers = [Answer("no: they are not needed"), mend] if is_open else ()
        yield Question(f"{text}: are they images or labels of this set?" if is_open else text, answers, "root", is_open)


def unread_noted(root: Path, scan: Scan) -> Iterator[str]:
    """What is said of folders of pictures from which nothing is read."""
    files = [path for data in scan.splits.values() for index in range(len(data)) for path in data.files(index)]
    used = {folder.resolve() for folder in {path.parent for path in files}}  # of a link the folder that it lies in
    held = {name: number for name, number in pictures_in(root).items() if (root / name).resolve() not in used}
    if held:
        yield f"pictures that are not read: {first_few([f'{number} in {name}' for name, number in held.items()])}"
