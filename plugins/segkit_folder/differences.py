"""Derive patterns of images and masks from the differences between the paths of two files."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import islice, product
from operator import eq
from pathlib import Path
from typing import Any, NamedTuple

from segkit.data.read import file_of
from segkit_folder.splits import (
    SPLIT_IN_A_NAME,
    SPLIT_WORD,
    composed,
    is_train_and_val,
    split_called,
    split_in,
)

MOST_SAMPLED = 200  # images whose partners are searched
MOST_SHARED = 2000  # the most files that may share a word or number which identifies partners
MOST_WORDS = 24  # the most words in a name for which all runs are compared
MOST_PARTNERS = 12  # candidates per image, those with the most in common
_PART = re.compile(r"(\.\w+#)")  # separates the name of a file from the name of a picture in it
_NUMBER = re.compile(r"[^\W_]*(?:\d[^\W\d_]+\d|[^\W\d_]\d+[^\W\d_])[^\W_]*|\d+")  # also in hashes and times: 0ade7

_BESIDE = "\2"  # begins what follows a folder's name within the name of a file
_SAME = "\0"  # stands for the last word that two paths share, in a folder that only one of them has


@lru_cache(1 << 12)
def _runs(text: str) -> tuple[str, ...]:
    """Return all runs of words and numbers in a text, longest first, without punctuation at their ends.

    If there are many words, such as in a hash, only runs at the beginning or the end of the text are returned.
    """
    words = re.findall(r"(?s)\d+|[^\W\d_]+|.", text)
    ends = [number for number, word in enumerate(words) if word.isalnum()]
    pairs = [
        (i, j) for i in ends for j in ends if i <= j and (len(ends) <= MOST_WORDS or ends[0] == i or ends[-1] == j)
    ]
    runs = {"".join(words[i : j + 1]) for i, j in pairs}
    return tuple(sorted(runs, key=lambda run: (-len(run), run)))


def _common(one: str, other: str) -> list[str]:
    """Return the runs that two texts share, except those within longer ones; the whole text if they are equal."""
    if one == other:
        return [one]
    theirs, found = set(_runs(other)), list[str]()
    for run in _runs(one):
        if run in theirs and not any(run in longer for longer in found):
            found.append(run)
    return found or [""]


class _Place(NamedTuple):
    """A path below the root: its parts without suffix, and which of them (``splits``) are folders named like a split.

    The names of other folders (``named``) mention one; ``series`` is the same for paths that differ only in numbers.
    """

    path: Path
    parts: tuple[str, ...]
    splits: tuple[int, ...]
    named: tuple[int, ...]
    split: str | None
    series: str


def _place(root: Path, path: Path) -> _Place:
    text = composed(str(path)[len(str(root)) :].replace(os.sep, "/").lstrip("/"))  # 5 times as fast as relative_to
    text = _PART.sub(r"/\1/", text) if "#" in text and file_of(path)[1] else text[: text.rindex(".")]
    parts = text.translate(dict.fromkeys(map(ord, "{}"), "*")).split("/")  # in a pattern braces are placeholders
    called = [number for number, part in enumerate(parts[:-1]) if split_called(part)]
    plain = [number for number in called if not is_train_and_val(parts[number])]  # trainval may hold split folders
    named = [number for number, part in enumerate(parts[:-1]) if split_in(part)]
    named = [number for number in named if not _is_of_both(parts[number])] or named
    split = next((split_in(parts[number]) for number in plain or named), None)
    return _Place(path, tuple(parts), tuple(plain or called), tuple(named), split, _NUMBER.sub("0", "/".join(parts)))


def _is_of_both(part: str) -> bool:
    """Whether the name of a folder mentions train and val together: ``TrainVal_images`` may hold split folders."""
    return any(map(is_train_and_val, SPLIT_IN_A_NAME.findall(part)))


def patterns_of(root: Path, images: Sequence[Path], masks: Sequence[Path]) -> Iterator[list[tuple[str, str]]]:
    """Yield lists of (image pattern, mask pattern), most pairs in a sample of the images first: strict, then loose.

    Loose patterns have ``*`` for each number that an image and its mask do not share, if only a folder pairs them, and
    for a folder of one of the two whose name the names of its files repeat. The last lists are of names whose numbers
    have no leading zeros, if any has: img_0001 and mask_1.
    """
    places = [_place(root, path) for path in images]
    others = places if images is masks else [_place(root, path) for path in masks]
    yield from _patterns(places, others)
    plain = [*map(_without_zeros, places)], [*map(_without_zeros, others)]
    if plain != (places, others):
        yield from _patterns(*plain)


def _without_zeros(place: _Place) -> _Place:
    *folders, name = place.parts
    return place._replace(parts=(*folders, re.sub(r"(?<!\d)0+(?=\d)", "", name)))


def _patterns(places: Sequence[_Place], others: Sequence[_Place]) -> Iterator[list[tuple[str, str]]]:
    """Yield the strict and the loose patterns of images and masks."""
    several = len({place.split for place in (*places, *others) if place.split}) > 1
    odd = {  # in val/7_train_id.png, train is part of the name that all masks have
        word
        for place in (*places, *others)
        for word in SPLIT_WORD.findall(place.parts[-1])
        if place.splits and split_called(word) != place.split
    }
    sampled = places[:: max(1, len(places) // MOST_SAMPLED)]
    wanted = {run for place in sampled for part in place.parts for run in _runs(part)}
    index: dict[str, list[int]] = defaultdict(list)  # run -> positions in ``others``: hashing a _Place is slow
    for number, place in enumerate(others):
        for run in {run for part in place.parts for run in _runs(part)} & wanted:
            index[run].append(number)
    most = min(MOST_SHARED, max(MOST_SAMPLED // 4, len(others) // 2))  # a run in more files does not identify partners
    pairs = []
    for place in sampled:
        near: dict[int, float] = defaultdict(float)  # rare runs that two paths share weigh more
        for run in {run for part in place.parts for run in _runs(part)}:
            for number in index[run] if len(index[run]) <= most else ():
                near[number] += 1 / len(index[run])
        nearest: dict[Any, _Place] = {}  # the first of a series is the best match: the rest share only its folder
        for other in (others[number] for number in sorted(near, key=lambda each: -near[each])):
            if str(other.path) != str(place.path) and (
                not several or None in (place.split, other.split) or place.split == other.split
            ):
                nearest.setdefault(other.series, other)
        pairs += [(place, other) for other in islice(nearest.values(), MOST_PARTNERS)]
    for is_loose in (False, True):
        votes: dict[Any, list[tuple[_Place, _Place, tuple[str, ...]]]] = defaultdict(list)
        for place, other in pairs:
            for key, cores in _differences(place, other, several, odd, is_loose):
                votes[key].append((place, other, cores))
        voters = {key: len({place.path for place, _, _ in those}) for key, those in votes.items()}
        least = max(max(voters.values(), default=0) / 6, 1 if len(places) <= 2 else 2)
        ranked = sorted((key for key in votes if voters[key] >= least), key=lambda key: -voters[key])
        ways = [each for key in ranked for way in (True, False) for each in _written(key, votes[key], way)]
        yield [*dict.fromkeys(way for images, masks in ways for way in ((images, masks), (masks, images)))]


def _differences(
    one: _Place, other: _Place, several: bool, odd: Collection[str], is_loose: bool
) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yield how two paths differ, as a key that is the same for all such pairs, with the texts that they share.

    ``odd`` are names of splits that mean no split in the names of files.
    """
    apart = [place.splits if several else () for place in (one, other)]
    rows = [
        [
            SPLIT_IN_A_NAME.sub("{split}", part) if several and number in place.named else part
            for number, part in enumerate(place.parts)
            if number not in split_parts
        ]
        for place, split_parts in zip((one, other), apart, strict=True)
    ]
    for flat, deep in (rows, rows[::-1]):  # a_1.png and a/1.jpg
        folder = deep[-2] if len(deep) > 1 and deep[-2] not in flat else _SAME
        if re.match(rf"{re.escape(folder)}[_\-. ]", flat[-1]) and not deep[-1].startswith(folder):
            flat[-1:] = [folder, _BESIDE + flat[-1][len(folder) :]]
    in_one_folder, names = rows[0][:-1] == rows[1][:-1], (rows[0][-1], rows[1][-1])
    if in_one_folder and names[0] != names[1] and len({re.sub(r"\d+", "0", name) for name in names}) == 1:
        return  # two pictures of the same series
    inside = [_inside(place) for place in (one, other)]  # the file of one may hold pictures, that of the other be one
    inner = max(inside) if 0 in inside else 0
    rows = [row if own else row + [""] * inner for row, own in zip(rows, inside, strict=True)]
    length = max(map(len, rows))
    short = min(map(len, rows))
    deep, flat = sorted(rows, key=len, reverse=True)
    most = max(range(short), key=lambda place: sum(map(eq, deep, _spread(flat, place, length))))  # the most equal parts
    places = {0, short - 1 - inner, most} if length > short else {0}
    if length == short + 1 and not inner:  # the files of a picture are in a folder with the name of the other file
        places |= {short} if _common(deep[short - 1], flat[-1]) != [""] else set()

    def named(word: re.Match[str]) -> str:
        return word[0] if word[0] in odd else "{split}"

    for place in places:  # where the shorter path lacks folders: above its own, or below them
        a, b = (_spread(row, place, length) for row in rows)
        for cores in product(*(_common(*parts)[:3] for parts in zip(a, b, strict=True))):
            shared = next((core for core in cores[::-1] if len(core) > 2), _SAME)
            key = [
                tuple(
                    re.sub(r"\d+", "*", text) if is_loose else SPLIT_WORD.sub(named, text) if several else text
                    for part in parts
                    for text in (part.split(core, 1) if core else (_alone(part, shared, is_loose), ""))
                )
                for *parts, core in zip(a, b, cores, strict=True)
            ]
            suffixes = (one.path.suffix, other.path.suffix) if a == b else ()
            before_a, after_a, before_b, after_b = key[-1]
            before, after = _loose(before_a, before_b, "{part2}"), _loose(after_a, after_b, "{part}")
            for name in dict.fromkeys((key[-1], (before[0], after[0], before[1], after[1]))):
                yield ((*key[:-1], name), *apart, suffixes), cores


def _alone(part: str, shared: str, is_loose: bool) -> str:
    """Return the pattern of a folder that one path lacks; loosely, its name may begin that of its files: a/a_1.jpg."""
    return "*" if is_loose and part and shared.startswith(part) else part.replace(shared, _SAME)


def _inside(place: _Place) -> int:
    """Return how many parts of a path name a picture in a file, the mark between them included."""
    return sum(any(map(_PART.fullmatch, place.parts[: number + 1])) for number in range(len(place.parts)))


def _spread(parts: Sequence[str], place: int, length: int) -> list[str]:
    return [*parts[:place], *[""] * (length - len(parts)), *parts[place:]]


def _loose(one: str, other: str, word: str) -> tuple[str, str]:
    """Loosen the texts beside the shared part of two names: a common number becomes ``word``, numbers of one only *."""
    shared, number = _common(one, other)[0], r"\d+"
    if re.search(r"\d", shared):
        one, other = (text.replace(shared, "\1", 1) for text in (one, other))
        number = r"(?<![^\W_])\d+"  # a date, but not the 2 of S2
    starred = [re.sub(number, "*", text) for text in (one, other)]
    one, other = starred if (starred[0] == one) != (starred[1] == other) else (one, other)
    return one.replace("\1", word), other.replace("\1", word)


def shared_ends(words: Sequence[str]) -> tuple[str, str]:
    """Return the longest common prefix of the words, and the longest common suffix of what follows it."""

    def start_of(texts: Sequence[str]) -> str:
        same = [len({*letters}) == 1 for letters in zip(*texts, strict=False)]
        return texts[0][: [*same, False].index(False)]

    start = start_of(words)
    return start, start_of([word[len(start) :][::-1] for word in words])[::-1]


def starred(words: Collection[str]) -> str:
    """Return one word with * where several differ."""
    return "*".join(shared_ends([*words])) if len({*words}) > 1 else next(iter(words))


def _written(
    key: Any, votes: Sequence[tuple[_Place, _Place, tuple[str, ...]]], is_split: bool
) -> Iterator[tuple[str, str]]:
    """Yield the patterns for a kind of difference, and the two folders alone if they are enough.

    ``is_split``: whether folders whose names differ beside those of splits, Train_4K and Test, are the splits.
    """
    parts, *apart, _ = key
    values = [{cores[number] for _, _, cores in votes} for number in range(len(parts))]
    varying = [number for number, those in enumerate(values) if len(those) > 1]
    if len(votes) == 1 and parts[-1] and votes[0][2][-1]:
        varying = [len(parts) - 1]
    if not varying:
        return
    words = {number: f"{{folder{'' if count == 0 else count + 1}}}" for count, number in enumerate(varying)}
    for number in [each for each in varying[:-1] if all("{split}" in core for core in values[each])]:
        sides = [{*side} for side in zip(*(core.split("{split}", 1) for core in values[number]), strict=True)]
        if min(map(len, sides)) == 1:
            words[number] = "{split}".join(side.pop() if len(side) == 1 else words[number] for side in sides)
        elif is_split:
            words[number] = "{split}".join(map(starred, sides))
    starts = {re.sub(r"\d.*", "", core) for core in values[varying[-1]]}  # a fixed start that * must not match
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
        text = re.sub(rf"/{_PART.pattern}/", r"\1", "/".join(texts)).replace(f"/{_BESIDE}", "")
        written.append(text + (suffixes.pop() if len({each.lower() for each in suffixes}) == 1 else ""))
    folders = [re.sub(r"(/\{split\})?/\{id\}(\.\w+)?$", "", text) for text in written]
    ways = []
    for text, folder, other in zip(written, folders, reversed(written), strict=True):
        folder_is_enough = "{" not in folder.replace("{split}", "") and folder != other.rpartition("/")[0]
        ways.append((text, folder) if folder_is_enough else (text,))
    yield from dict.fromkeys(((ways[0][0], ways[1][0]), (ways[0][-1], ways[1][-1])))
