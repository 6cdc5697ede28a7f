"""How a folder may be read: patterns that pair its files, found from what differs in the paths of two of them."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import combinations, islice, product, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segkit.data.issues import gathered
from segkit.data.read import file_of, opened
from segkit.errors import DataError, SegkitError
from segkit_folder.layout import Layout, read_layout
from segkit_folder.lists import candidates
from segkit_folder.pairs import certain_parts, parts_of
from segkit_folder.splits import (
    ANY_SPLIT,
    CONTAINERS,
    SEVERAL,
    SPLIT_IN_A_NAME,
    SPLIT_NAMES,
    SUFFIXES,
    TABLES,
    composed,
    folders_in,
    split_called,
    split_in,
)

MOST_FILES = 50_000  # that are looked at
MOST_ASKED = 200  # files whose partners are looked for
MOST_SHARED = 2000  # files a word or number is in that may tell partners
MOST_PARTNERS = 12  # of each, those that have most in common with it
MOST_COLOURS = 4096  # that are counted in a picture
MOST_OF_A_MASK = 256  # colours
SIDE_LOOKED_AT = 512  # pixels in a row or column
MOST_TRIED = 60  # patterns whose pairs are counted
LEAST_SIDE = 8  # pixels: a shorter axis counts channels
MOST_SEEN = 5  # of these pairs, that are looked at
_PART = re.compile(r"(\.\w+#)")  # what is before it names a file, and what follows a picture in it
_OF_IMAGES = re.compile(r"(?i)image|img|photo|picture|rgb|raw|scan|input")
_OF_MASKS = re.compile(r"(?i)mask|label|annot|truth|segm|(?<![a-z])(gt|seg|target)")
_NUMBER = re.compile(r"[^\W_]*(?:\d[^\W\d_]+\d|[^\W\d_]\d+[^\W\d_])[^\W_]*|\d+")  # also of a hash or a time, as 0ade7
_IN_A_FILE = re.compile(rf"(?i)(?<![a-z0-9])(?:{ANY_SPLIT})(?![a-z])")  # labelTrainIds is of no split
_SAME = "\0"  # the last word that two paths share, where it stands in a part that only one of them has


class Proposal(NamedTuple):
    """A way to read a folder.

    Attributes:
        options: of the dataset ``folder``: images, masks and, where there are such files, lists.
        layout: what they read.
    """

    options: dict[str, Any]
    layout: Layout

    @property
    def pairs(self) -> int:
        """How many images have a mask."""
        return len(self.layout.masks)

    @property
    def splits(self) -> dict[str, int]:
        """Images with a mask by split; empty where the splits are to be dealt."""
        return {split: len(those) for split in self.layout.splits if (those := self.layout.of(split))}


def propose_layout(root: Path, images: Sequence[Path] = ()) -> list[Proposal]:
    """The ways to read a folder, the likeliest first: those with the most pairs.

    Args:
        root: the folder.
        images: the images, where they are known; left out: of two files the one with more colours is the image.
    """
    every = [*islice(_pictures(root), MOST_FILES)]
    ways = (_likely(root, _counted(root, _patterns(root, images or every, every, loose))) for loose in (False, True))
    found = next(filter(None, ways), [])
    return [*_with_lists(root, found), *found]


def without_splits(root: Path) -> list[Proposal]:
    """The ways to read a folder that has masks, but none of train: all of them are to be dealt."""
    found = []
    for way in propose_layout(root):
        for word in [word for split in way.splits for word in SPLIT_NAMES[split]]:
            sides = {side: way.options.get(side, "").replace("{split}", word) for side in ("images", "masks")}
            read = _read(root, sides)
            found += [read] if read and not read.layout.splits and read.pairs == way.pairs else []
    return sorted(found, key=_rank)


def _pictures(root: Path) -> Iterator[Path]:
    """The pictures below a folder, those in files of several too."""
    for folder, names in folders_in(root):
        own: dict[str, list[Path]] = {}
        for path in (folder / name for name in names):
            odd = re.search("[{}*]", path.relative_to(root).as_posix())
            suffix = path.suffix.lower()
            if suffix in (*SUFFIXES, *CONTAINERS, *TABLES) and not odd and path.is_file():
                kind = path.name[path.name.index(".") :].lower() if suffix in TABLES else suffix
                own.setdefault(kind, []).append(path)
        for suffix, paths in own.items():
            if suffix.endswith(TABLES):
                yield from paths if all(map(_is_matrix, paths[:MOST_SEEN])) else ()
                continue
            may_be_several = suffix in SEVERAL and (any(map(certain_parts, paths[:MOST_SEEN])) or _stacks(paths))
            yield from _parts_in(paths, suffix) if may_be_several else paths if suffix in SUFFIXES else ()


def _stacks(paths: Sequence[Path]) -> set[int]:
    """How many pictures arrays ``[N,H,W]`` hold, as grey pictures and their masks do, where a few files agree."""
    held = []
    for path in paths if len(paths) <= MOST_SEEN else ():
        with suppress(DataError), opened(path, whole=True) as raster:
            if len(shape := getattr(raster, "shape", ())) == 3 and min(shape) >= LEAST_SIDE:
                held.append(len(getattr(raster, "parts", ())))
    return {number for number in held if held.count(number) > 1}


def _is_matrix(path: Path) -> bool:
    """Whether a text file begins with rows of whole numbers, of one length."""
    with suppress(OSError, ValueError), path.open(encoding="utf-8-sig") as file:
        rows = [[float(cell) for cell in re.split(r"[,\s]+", line.strip())[1:]] for line in islice(file, 8)]
        return (
            len(rows) > 7 and {*map(len, rows)} == {len(rows[0])} and len(rows[0]) > 6 and not np.any(np.mod(rows, 1))
        )
    return False


def _parts_in(paths: Sequence[Path], suffix: str) -> Iterator[Path]:
    """The pictures in files, some of which hold several; an array of three axes does so beside those that surely do."""
    parts = {path: certain_parts(path) for path in paths}
    counts = ({*map(len, parts.values())} | _stacks(paths)) - {0}
    for path, names in parts.items():
        if not names and suffix == ".npy":
            with suppress(DataError):
                names = parts_of(path)
            names = names if len(names) in counts else []
        yield from (Path(f"{path}#{name}") for name in names)
        if not names and suffix in SUFFIXES:
            yield path


@lru_cache(1 << 16)
def _runs(text: str) -> tuple[str, ...]:
    """All runs of words and numbers in a text, the longest first, without signs at their ends."""
    words = re.findall(r"(?s)\d+|[^\W\d_]+|.", text)
    ends = [number for number, word in enumerate(words) if word.isalnum()]
    runs = {"".join(words[i : j + 1]) for i in ends for j in ends if i <= j}
    return tuple(sorted(runs, key=lambda run: (-len(run), run)))


def _common(one: str, other: str) -> list[str]:
    """The runs that two texts share, but for those within longer ones; the whole where they are equal."""
    if one == other:
        return [one]
    theirs, found = set(_runs(other)), list[str]()
    for run in _runs(one):
        if run in theirs and not any(run in longer for longer in found):
            found.append(run)
    return found or [""]


class _Place(NamedTuple):
    """A path below the root: its parts, the name without suffix; those that are a split's stand apart."""

    path: Path
    parts: tuple[str, ...]
    splits: tuple[int, ...]
    split: str | None


def _place(root: Path, path: Path) -> _Place:
    text = composed(str(path)[len(str(root)) :].replace(os.sep, "/").lstrip("/"))  # 5 times as fast as relative_to
    text = _PART.sub(r"/\1/", text) if "#" in text and file_of(path)[1] else text[: text.rindex(".")]
    parts = text.split("/")
    called = [number for number, part in enumerate(parts[:-1]) if split_called(part)]
    split = next(filter(None, map(split_in, parts[:-1])), None)
    return _Place(path, tuple(parts), tuple(called), split)


def _patterns(
    root: Path, images: Sequence[Path], masks: Sequence[Path], is_loose: bool = False
) -> list[tuple[str, str]]:
    """Patterns of images and masks, those first that pair the most of some of the images.

    Loose ones have a ``*`` for each number that an image and its mask do not share, as where a folder alone pairs them.
    """
    places = [_place(root, path) for path in images]
    others = places if images is masks else [_place(root, path) for path in masks]
    several = len({place.split for place in (*places, *others) if place.split}) > 1
    asked = places[:: max(1, len(places) // MOST_ASKED)]
    wanted = {run for place in asked for part in place.parts for run in _runs(part)}
    index: dict[str, list[int]] = defaultdict(list)  # numbers: to hash a place takes long
    for number, place in enumerate(others):
        for run in {run for part in place.parts for run in _runs(part)} & wanted:
            index[run].append(number)
    most = min(MOST_SHARED, max(MOST_ASKED // 4, len(others) // 2))  # what more files share tells no partners
    votes: dict[Any, list[tuple[_Place, _Place, tuple[str, ...]]]] = defaultdict(list)
    for place in asked:
        near: dict[int, float] = defaultdict(float)  # the rarer what two paths share, the more it says
        for run in {run for part in place.parts for run in _runs(part)}:
            for number in index[run] if len(index[run]) <= most else ():
                near[number] += 1 / len(index[run])
        nearest: dict[Any, _Place] = {}  # the first of a series is its best: others share its folder, not its number
        for other in (others[number] for number in sorted(near, key=lambda each: -near[each])):
            if other.path != place.path and (
                not several or None in (place.split, other.split) or place.split == other.split
            ):
                nearest.setdefault(_NUMBER.sub("0", "/".join(other.parts)), other)
        for other in islice(nearest.values(), MOST_PARTNERS):
            for key, cores in _differences(place, other, several, is_loose):
                votes[key].append((place, other, cores))
    voters = {key: len({place.path for place, _, _ in those}) for key, those in votes.items()}
    least = max(max(voters.values(), default=0) / 5, 1 if len(places) <= 2 else 2)
    ranked = sorted((key for key in votes if voters[key] >= least), key=lambda key: -voters[key])
    ways = [each for key in ranked for each in _written(key, votes[key])]
    return [*dict.fromkeys(way for images, masks in ways for way in ((images, masks), (masks, images)))]


def _differences(one: _Place, other: _Place, several: bool, is_loose: bool) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """What differs in two paths, as a key that is the same for all such pairs; and what does not differ."""
    apart = [place.splits if several else () for place in (one, other)]
    rows = [
        [
            SPLIT_IN_A_NAME.sub("{split}", part) if several and number < len(place.parts) - 1 else part
            for number, part in enumerate(place.parts)
            if number not in own
        ]
        for place, own in zip((one, other), apart, strict=True)
    ]
    in_one_folder, names = rows[0][:-1] == rows[1][:-1], (rows[0][-1], rows[1][-1])
    if in_one_folder and names[0] != names[1] and len({re.sub(r"\d+", "0", name) for name in names}) == 1:
        return  # two pictures of one series
    length = max(map(len, rows))
    short = min(map(len, rows))
    places = {0} if len(rows[0]) == len(rows[1]) else {0, short - 1}
    if [bool(file_of(place.path)[1]) for place in (one, other)] in ([True, False], [False, True]):
        places = {short}
    elif length == short + 1:  # one picture's files in a folder that is called as the other file
        deep, flat = sorted(rows, key=len, reverse=True)
        places |= {short} if _common(deep[short - 1], flat[-1]) != [""] else set()
    for place in places:  # of the folders that one path has fewer: above its own, or below them; or no part of a file
        a, b = ([*row[:place], *[""] * (length - len(row)), *row[place:]] for row in rows)
        for cores in product(*(_common(*parts)[:3] for parts in zip(a, b, strict=True))):
            shared = next((core for core in cores[::-1] if len(core) > 2), _SAME)
            key = [
                tuple(
                    re.sub(r"\d+", "*", text) if is_loose else _IN_A_FILE.sub("{split}", text) if several else text
                    for part in parts
                    for text in (part.split(core, 1) if core else (part.replace(shared, _SAME), ""))
                )
                for *parts, core in zip(a, b, cores, strict=True)
            ]
            suffixes = (one.path.suffix, other.path.suffix) if a == b else ()
            before_a, after_a, before_b, after_b = key[-1]
            before, after = _loose(before_a, before_b, "{part2}"), _loose(after_a, after_b, "{part}")
            for name in dict.fromkeys((key[-1], (before[0], after[0], before[1], after[1]))):
                yield ((*key[:-1], name), *apart, suffixes), cores


def _loose(one: str, other: str, word: str) -> tuple[str, str]:
    """Texts before, or after, what two names share: a number of both as a word in braces, those of one alone as *."""
    shared = _common(one, other)[0]
    if re.search(r"\d", shared):
        return one.replace(shared, word, 1), other.replace(shared, word, 1)
    own = [re.sub(r"\d+", "*", text) for text in (one, other)]
    return (own[0], own[1]) if (own[0] == one) != (own[1] == other) else (one, other)


def _written(key: Any, votes: Sequence[tuple[_Place, _Place, tuple[str, ...]]]) -> Iterator[tuple[str, str]]:
    """The patterns of a kind of difference; with the folders alone where these say it all."""
    parts, *apart, _ = key
    values = [{cores[number] for _, _, cores in votes} for number in range(len(parts))]
    varying = [number for number, those in enumerate(values) if len(those) > 1]
    if len(votes) == 1 and parts[-1] and votes[0][2][-1]:
        varying = [len(parts) - 1]
    if not varying:
        return
    words = {number: f"{{folder{'' if count == 0 else count + 1}}}" for count, number in enumerate(varying)}
    starts = {re.sub(r"\d.*", "", core) for core in values[varying[-1]]}  # which * may not take
    start = starts.pop() if "*" in "".join(parts[varying[-1]]) and len(starts) == 1 else ""
    words[varying[-1]] = f"{start}{{id}}"
    cores = votes[0][2]
    same = next((words.get(at, cores[at]) for at in reversed(range(len(cores))) if len(cores[at]) > 2), "")
    written = []
    for side in (0, 1):
        texts = [
            (part[2 * side] + words.get(number, cores[number]) + part[2 * side + 1]).replace(_SAME, same)
            for number, part in enumerate(parts)
        ]
        texts = [text for text in texts if text]
        for number in apart[side]:
            texts.insert(number, "{split}")
        paths = [(one, other)[side].path for one, other, _ in votes]
        suffixes = {"" if file_of(path)[1] else path.suffix for path in paths}
        text = re.sub(rf"/{_PART.pattern}/", r"\1", "/".join(texts))
        written.append(text + (suffixes.pop() if len({each.lower() for each in suffixes}) == 1 else ""))
    folders = [re.sub(r"(/\{split\})?/\{id\}(\.\w+)?$", "", text) for text in written]
    ways = []
    for text, folder, other in zip(written, folders, reversed(written), strict=True):
        is_told = "{" not in folder.replace("{split}", "") and folder != other.rpartition("/")[0]
        ways.append((text, folder) if is_told else (text,))
    yield from dict.fromkeys(((ways[0][0], ways[1][0]), (ways[0][-1], ways[1][-1])))


def _counted(root: Path, patterns: Sequence[tuple[str, str]]) -> list[Proposal]:
    """What patterns pair, the most pairs first; of patterns with the same pairs the simplest."""
    found: dict[frozenset[tuple[Path, Path]], Proposal] = {}
    ways = [{"images": images, "masks": masks} for images, masks in patterns]
    for options in sorted(ways, key=lambda each: -_told(each)):
        if _told(options) < 0:  # the reverse is tried too
            break
        read = _read(root, options)
        if read and (own := _of_one_format(options, read.layout)) != options:
            read = _read(root, own)
        if read and read.pairs:
            pairs = frozenset(read.layout.masks.items())
            found[pairs] = min(found.get(pairs, read), read, key=_rank)
        if len(found) >= MOST_TRIED:
            break
    return sorted(found.values(), key=_rank)


def _rank(way: Proposal) -> tuple[int, ...]:
    """The most pairs first, of these the fewest files without a partner, and the simplest patterns."""
    text = "".join(way.options.values())
    return -way.pairs, len(way.layout.issues), way.options["images"].count("{folder"), len(text)


def _of_one_format(options: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """The options for one folder alone, where others hold the same pictures in other formats: PNG, or the first."""
    held: dict[str, set[tuple[str, str | None]]] = defaultdict(set)
    formats: dict[str, set[str]] = defaultdict(set)
    for each in layout.images if "{folder}" in options["images"] else ():
        held[each.values["folder"]].add((each.values["id"], each.values.get("split")))
        formats[each.values["folder"]].add(each.path.suffix.lower())
    if len(held) < 2 or len(set(map(frozenset, held.values()))) > 1 or len(set(map(frozenset, formats.values()))) == 1:
        return options
    chosen = min(formats, key=lambda folder: ".png" not in formats[folder])
    return {side: text.replace("{folder}", chosen) for side, text in options.items()}


def _read(root: Path, options: dict[str, Any]) -> Proposal | None:
    with warnings.catch_warnings(), gathered():
        warnings.simplefilter("ignore")
        try:
            return Proposal(options, read_layout(root, **options))
        except SegkitError:
            return None


def _likely(root: Path, found: Sequence[Proposal]) -> list[Proposal]:
    """Those with a mask that may be one and half the pairs of the best of these, each way once.

    Words such as "images" and "masks" tell the two apart; without them, of two pictures the one with fewer colours is
    the mask, and what has as few as a mask is an image only where there is nothing better. Where no mask has the
    colours of one, the words alone tell. No two ways pair the same files.
    """
    colours = lru_cache(None)(colours_in)
    kept: list[tuple[int, Proposal]] = []  # the likelihood first
    for proposal in found:
        if 5 * proposal.pairs < found[0].pairs or (told := _told(proposal.options)) == -2:
            continue
        pairs = [*proposal.layout.masks.items()]
        seen = [[*map(colours, pair)] for pair in pairs[:: -(-len(pairs) // MOST_SEEN)]]
        likely = [
            (told > 0 or (image or MOST_COLOURS) >= (mask or 0)) and (mask or 0) <= MOST_OF_A_MASK
            for image, mask in seen
        ]
        rich = [told == 2 or (image or MOST_COLOURS) > MOST_OF_A_MASK // 4 for image, _ in seen]
        rank = 2 + (2 * sum(rich) > len(seen)) if 4 * sum(likely) >= 3 * len(seen) else told > 0
        if rank:
            kept.append((rank, proposal))
    ways = _joined(root, [proposal for rank, proposal in kept if rank == max(each for each, _ in kept)])
    ways = [each for each in ways if 2 * each.pairs >= ways[0].pairs]
    files = [{*each.layout.masks, *each.layout.masks.values()} for each in ways]
    once = [each for place, each in enumerate(ways) if not any(files[place] <= those for those in files[:place])]
    return sorted(once, key=lambda each: (-each.pairs, -_told(each.options)))


def _joined(root: Path, ways: list[Proposal]) -> list[Proposal]:
    """Ways that read parts of one set, as of folders called part_1 and part_2, as one, with * for what differs."""
    for one, other in combinations(ways[:MOST_SEEN], 2):
        pairs = {**one.layout.masks, **other.layout.masks}
        is_apart = len({*pairs, *pairs.values()}) == 2 * (one.pairs + other.pairs)
        if not is_apart or one.options["images"] == other.options["images"]:
            continue
        options = {side: _starred(one.options[side], other.options[side]) for side in ("images", "masks")}
        read = _read(root, options) if all(options.values()) else None
        least = min(len(each.layout.issues) for each in (one, other))
        if read and read.layout.masks == pairs and len(read.layout.issues) <= least:
            return _joined(root, [read, *(each for each in ways if each not in (one, other))])
    return ways


def _starred(one: str, other: str) -> str:
    """A pattern with * for what differs in the parts of two; "" where they have not as many parts."""
    pairs = [*zip_longest(one.split("/"), other.split("/"), fillvalue="")]
    starred = []
    for pair in pairs:
        start = shared_start(pair)
        end = shared_start([part[len(start) :][::-1] for part in pair])[::-1]
        starred.append(start if len({*pair}) == 1 else f"{start}*{end}")
    return "/".join(starred) if all(map(all, pairs)) else ""


def shared_start(words: Sequence[str]) -> str:
    """The letters that all words begin with."""
    same = [len({*letters}) == 1 for letters in zip(*words, strict=False)]
    return words[0][: (*same, False).index(False)]


def _told(options: Mapping[str, Any]) -> int:
    """What words say: 2 that these are images and masks, 1 that either are, less than 0 that it is the reverse."""
    images, masks = (re.split(r"[^\w{}]|_", options[side]) for side in ("images", "masks"))
    own = [" ".join(word for word in one if word not in other) for one, other in ((images, masks), (masks, images))]
    of_masks = [bool(_OF_MASKS.search(words)) for words in own]
    of_images = [bool(_OF_IMAGES.search(words)) and not is_mask for words, is_mask in zip(own, of_masks, strict=True)]
    return of_masks[1] - of_masks[0] + of_images[0] - of_images[1]


def colours_in(path: Path) -> int | None:
    """How many colours a picture stores, at most :data:`MOST_COLOURS`; None where it cannot be read.

    With values that are no whole numbers it has as many as a picture can have: labels are whole.
    """
    try:
        with opened(path) as raster:
            stored = np.asarray(raster[...])
    except DataError:
        return None
    step = -(-max(stored.shape[:2]) // SIDE_LOOKED_AT)
    bands = np.atleast_3d(stored)[::step, ::step, :3]  # [h,w,at most 3]
    if bands.dtype == np.uint8:  # each colour as one number: much faster
        bands = (bands.astype(np.int32) << 8 * np.arange(bands.shape[2])).sum(2, keepdims=True)
    values = np.unique(bands.reshape(-1, bands.shape[2]), axis=0)
    return MOST_COLOURS if (values != np.rint(values)).any() else min(len(values), MOST_COLOURS)


def _with_lists(root: Path, found: Sequence[Proposal]) -> list[Proposal]:
    """The ways to read a folder by the lists of names, or of pairs, that lie there.

    Those that are wrong, as of other files, pair nothing: whoever reads the folder by them says what is wrong.
    """
    right, wrong = list[Proposal](), list[Proposal]()
    for each in candidates(root):
        ways = [{"pairs": each.lists}] * each.may_be_pairs + [{**x.options, "lists": each.lists} for x in found]
        read = [one for options in ways if (one := _read(root, options)) and one.pairs]
        usable = [one for one in read if "train" in one.layout.splits]
        right += usable[:1] if usable and "pairs" in usable[0].options else usable  # pairs name the images too
        wrong += [Proposal(ways[0], Layout([], {}))] if each.is_likely and ways and not usable else []
    return right or wrong
