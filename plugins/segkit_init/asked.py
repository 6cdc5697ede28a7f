"""Questions about the splits of a data set and about what its scan has found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segkit.data.scan import Scan
from segkit.errors import Issue, first_few
from segkit_folder.pictures import folders_in
from segkit_folder.splits import SUFFIXES, split_in
from segkit_init.compared import hold_the_same
from segkit_init.findings import Answer, Question
from segkit_init.reading import Reading
from segkit_init.readings import pictures_in
from segkit_init.text import options_text

_TOO_FEW = 10  # pictures: a score on one or two of them means little
_FEW = 12  # files that are compared with files of the same name and another suffix
_UNREAD = re.compile(  # suffixes of photographs, slides, microscopes, volumes, films and drawings
    r"(?i)\.(heic|heif|avif|jxl|exr|dng|cr[23w]|nef|arw|rw2|orf|raf|raw|psd|xcf|tga|dds|svg|eps|pdf|pbm|pnm|sgi|pcx|"
    r"svs|ndpi|mrxs|scn|vms|bif|vsi|czi|lif|lsm|nd2|oi[bf]|img|bil|bsq|bip|ecw|sid|vrt|hdr|nc|grib2?|zarr|fits?|mha|"
    r"mhd|nrrd|mgz|mp4|avi|mov|mkv|webm)$"
)
_MAYBE_LOSSY = (".jp2", ".j2k", ".jpx", ".jpf", ".j2c")
_OF_ALL = ("scaled", "fourth_channel")  # what these mean is true of all files; a few such files are rather damaged


def division_asked(options: Mapping[str, Any], known: Collection[str]) -> Iterator[Question]:
    """Note that images are split at random."""
    if "val" in options:
        yield Question("no list or folder defines val: it is taken from train at random", (), "val", must=False)
    elif "fractions" in known:
        text = "no list or folder assigns images to splits: they are split at random, the same way every time"
        yield Question(text, [Answer("", {"fractions": [0.7, 0.15, 0.15]})], "fractions", must=False)


def folders_asked(images: Sequence[Path], options: Mapping[str, Any]) -> Iterator[Question]:
    """Ask whether to split at random, where folders of images have names of splits that do not divide them."""
    root = Path(options["root"]).expanduser()
    paths = [path.relative_to(root) for path in images if path.is_relative_to(root)]
    beside: dict[Path, set[str]] = {}
    for folder in {folder for path in paths for folder in path.parents[:-1]}:
        beside.setdefault(folder.parent, set()).add(folder.name)
    for names in beside.values():
        called = sorted(name for name in names if split_in(name))
        others = sorted(names.difference(called))
        splits = {*map(split_in, called)}
        if called and (others or ("val" not in options and "train" in splits and len(splits) > 1)):
            text = f"some folders have names of splits ({first_few(called)})"
            text += f", others beside them do not ({first_few(others)})" if others else ""
            mend = Answer("yes: name the folders train, val and test, and run init again")
            yield Question(f"{text}: are these splits?", [Answer("no: split all images at random"), mend], "fractions")
            return


def twins_asked(reading: Reading) -> Iterator[Question]:
    """Ask which files are meant where a folder also holds files of the same names with another suffix."""
    read = {*reading.images, *reading.masks}
    for side, files in (("images", reading.images), ("masks", reading.masks)):
        pattern = str(reading.options.get(side, ""))
        some = [path for path in files[:: -(-len(files) // _FEW)] if pattern.endswith(path.suffix) and path.is_file()]
        for suffix in SUFFIXES:
            pairs = [(path, twin) for path in some if (twin := path.with_suffix(suffix)) not in read and twin.is_file()]
            if not pairs:
                continue
            odd = [(path, twin) for path, twin in pairs if not hold_the_same(path, twin)]
            for path, twin in odd[:1]:
                kept = Answer(f"the files that end in {path.suffix}", {side: pattern})
                other = {side: pattern.removesuffix(path.suffix) + suffix}
                answers = (kept, Answer(f"the files that end in {suffix}", other))
                yield Question(
                    f"{path} and {twin.name} differ, and other pairs may too: which {side} are meant?", answers, side
                )
            if not odd:
                text = f"{side}: {pairs[0][0]} and others are read; the files of the same names that end in {suffix}"
                yield Question(f"{text} show the same", (), side, must=False)


def issues_asked(scan: Scan, known: Collection[str]) -> Iterator[Question]:
    """Ask which way of an issue is right, or whether to leave out a few files; ``known``: options of the data set."""
    total = sum(map(len, scan.splits.values()))
    found: dict[str, list[Issue]] = {}
    for issue in (*scan.errors, *scan.warnings):
        number = len(issue.files)
        ways = {
            text: options
            for text, options in issue.ways.items()
            if all(key.startswith("data.") or key in known for key in options)
        }
        are_few = issue.skippable and (2 if ways else 5) * number < total
        if are_few and (issue.kind in _OF_ALL or not ways):
            ways = {"leave these files out": {"data.on_bad": "skip"}, **ways}
        if ways:
            found.setdefault(repr(ways), []).append(replace(issue, ways=ways))
    for issues in found.values():
        text, ways = "; ".join(map(str, issues)), issues[0].ways
        if [*ways] == [""]:
            (options,) = ways.values()
            text += f"; taken: {options_text(options)}"
            yield Question(text, [Answer("", options)], next(iter(options)), must=False)
        else:
            answers = [*starmap(Answer, ways.items()), Answer("correct that first, and run init again")]
            yield Question(text, answers, next(iter(answers[0].options), "root"))


def inverted_asked(scan: Scan) -> Iterator[Question]:
    """Ask whether a few two-class masks are inverted: their second class has the share of the others' first class."""
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
    """Propose the bands that pictures show as red, green and blue."""
    if len(channels) <= 3:
        return
    lower = [name.casefold() for name in channels]
    named = [lower.index(each) + 1 for each in ("red", "green", "blue") if each in lower]
    guess = [4, 3, 2] if len(channels) >= 12 else [3, 2, 1]  # Sentinel-2: coast, blue, green, red; others: blue first
    text = f"which of the {len(channels)} channels are red, green and blue in pictures? (the network sees all of them)"
    yield Question(text, [Answer("", {"data.rgb": named if len(named) == 3 else guess})], "data.rgb", must=False)


def few_asked(total: int, options: Mapping[str, Any]) -> Iterator[Question]:
    """Ask whether to continue with very few pictures."""
    if total < _TOO_FEW:
        text = f"only {total} pictures: there is little to learn from, and scores on so few mean little"
        fractions = {"fractions": [0.7, 0.3]} if "fractions" in options else {}  # two splits instead of three
        answers = [Answer("continue, to see that training works", fractions), Answer("label about 20 more first")]
        yield Question(text, answers, next(iter(fractions), "root"))


def others_asked(root: Path, scan: Scan) -> Iterator[Question]:
    """Ask whether unreadable files belong to the data set, where they are at least half as many as its samples.

    Also ask whether masks were compressed without losses, where their format does not show it.
    """
    every = [(data, index) for data in scan.splits.values() for index in range(len(data))]
    if any(path.suffix.lower() in _MAYBE_LOSSY for data, index in every for path in data.files(index)[1:]):
        text = "the masks are JPEG 2000, and the files do not show whether their compression is lossless"
        mend = Answer("no: export them again from their source as PNG")
        yield Question(f"{text}: were they saved without losses?", [Answer("yes"), mend], "root")
    names = [name for _, names in folders_in(root) for name in names]
    held = Counter(match[0].lower() for name in names if (match := _UNREAD.search(name)))
    for ending, number in held.items():
        is_open = 2 * number >= len(every)
        text = f"{number} files {ending} are not read because no reader is installed for them"
        mend = Answer("yes: save them as PNG, TIFF or .npy, and run init again")
        answers = [Answer("no: they are not needed"), mend] if is_open else ()
        yield Question(f"{text}: are they images or labels of this set?" if is_open else text, answers, "root", is_open)


def unread_noted(root: Path, scan: Scan) -> Iterator[str]:
    """Name the folders of pictures from which nothing is read."""
    files = [path for data in scan.splits.values() for index in range(len(data)) for path in data.files(index)]
    used = {folder.resolve() for folder in {path.parent for path in files}}  # for a link, the folder that holds it
    held = {name: number for name, number in pictures_in(root).items() if (root / name).resolve() not in used}
    if held:
        yield f"pictures that are not read: {first_few([f'{number} in {name}' for name, number in held.items()])}"
