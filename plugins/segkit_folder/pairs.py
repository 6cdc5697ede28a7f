"""Find images and masks by patterns of paths such as ``{split}/{id}_image.png``, and pair them."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from segkit.data.read import file_of
from segkit.errors import ConfigError, DataError, Issue, did_you_mean, first_few, refuse
from segkit_folder.pictures import Listing, listing, parts_of, path_in
from segkit_folder.splits import (
    ANY_SPLIT,
    CONTAINERS,
    SECOND_NAME,
    SUFFIXES,
    TABLES,
    TRAIN_AND_VAL,
    by_suffix,
    composed,
    split_called,
)
from segkit_readers.joined import places_of

_TOKEN = re.compile(r"(\{[A-Za-z]\w*\}|\*+)")
_DIGITS = re.compile(r"([0-9]+)")
BLANK = re.compile(
    r"(?i)(?<![a-z])(good|normal|ok|negative|clean|healthy|empty|none|free|(no|without|non)[-_ ]?[a-z]+)(?![a-z])"
)
"""Words in the names of folders and files that show only background."""
LEFT_OUT: dict[str, dict[str, Any]] = {"leave them out": {"skip_unpaired": True}}
"""The ways of an :class:`Issue` about files without a partner."""


class NoFiles(DataError):
    """No file matches an option, or the options do not distinguish images from masks."""


class Found(NamedTuple):
    """A picture that matches a pattern.

    Attributes:
        path: path of the file.
        name: its path without suffix, below the fixed folders of the pattern and the folder of the split.
        values: placeholder -> value; "split" is train, val or test.
    """

    path: Path
    name: str
    values: Mapping[str, str]

    def in_split(self, split: str | None) -> Found:
        """Return a copy with another split; None keeps the split."""
        return self._replace(values={**self.values, "split": split}) if split else self


class Pattern:
    """A pattern of picture paths with placeholders.

    ``{id}`` and any other word in braces match text without "/"; ``{split}`` matches the usual names of splits; ``*``
    matches anything within a name. Without a picture suffix, any picture suffix matches. A text without ``{id}`` is a
    folder. The text after # selects a picture in a file that holds several: "stack.tif#{id}", "{id}.npz#image".

    Args:
        root: the folder that the text is relative to.
        text: the pattern.
        option: the name of the option that holds the text, for messages.
        suffix: the text after ``{id}`` in the names of files, if the pattern is a folder.

    Raises:
        ConfigError: there are braces that are no placeholder, or the name of a file has no ``{id}``.
    """

    def __init__(self, root: Path, text: str, option: str = "images", suffix: str = "") -> None:
        self.root, self.text, self.option = root, text, option
        where = f'{option} = "{text}"'
        if {*"{}"} & {*_TOKEN.sub("", text)}:
            raise ConfigError(f"{where}: a placeholder is a word in braces, as {{id}}, {{split}} or {{group}}")
        self.is_folder = "{id}" not in text
        if self.is_folder and text.lower().endswith((*SUFFIXES, *CONTAINERS)):
            what = "no {id} in it, which stands for what an image and its mask have in common"
            raise ConfigError(f'{where}: {what}; of a file of several pictures, {option} = "{text}#{{id}}"')
        if suffix and not self.is_folder:
            raise ConfigError(f'mask_suffix = "{suffix}": write it into the pattern, {where}')
        files, inside = _file_and_part(root, text)
        parts = [*files.strip("/").split("/"), "{id}" + suffix] if self.is_folder else files.strip("/").split("/")
        last = len(parts) - 1
        fixed = next((number for number, part in enumerate(parts) if _TOKEN.search(part)), last)
        while fixed and not (text.isascii() or root.joinpath(*parts[:fixed]).exists()):
            fixed -= 1  # macOS stores such names in another Unicode form
        base = root.joinpath("/" if text.startswith("/") else "", *parts[:fixed])
        self.base = Path(os.path.normpath(base))  # resolves "..", because it is compared with folders
        self.parts, self.inside = [composed(part) for part in parts[fixed:]], inside and f"#{composed(inside)}"
        self._text = "/".join(self.parts) + self.inside
        self.words = {*re.findall(r"\{(\w+)\}", self._text)}
        self.letters = len(_TOKEN.sub("", self._text).replace("/", ""))
        self.known_suffix = bool(inside) or self.parts[-1].lower().endswith((*SUFFIXES, *TABLES))
        named = [number for number, part in enumerate(self.parts) if _TOKEN.search(part.replace("{split}", ""))]
        self._named = named[0] if named else last - fixed

    def __str__(self) -> str:
        return str(self.base) if self._text == "{id}" else str(self.base / self._text)

    def files(self, ignore_case: bool = False) -> list[Found]:
        """Return the pictures that match, in natural order (``2`` before ``10``), without hidden files.

        Raises:
            DataError: two folders stand for the same split.
        """
        *folders, last = [part if part.isascii() and not _TOKEN.search(part) else "" for part in self.parts]
        places = [""]  # paths below the base
        for name in folders:
            places = [f"{at}{each}/" for at in places for each in ((name,) if name else listing(self.base / at)[0])]
        is_there = [last and (self.base / at / last).exists() for at in places]  # else its suffix may be in capitals
        held = [((), (last,)) if there else listing(self.base / at) for at, there in zip(places, is_there, strict=True)]
        find = _found.__wrapped__ if self.inside else _found  # no cache: the folder does not show a file's content
        return [*find(self, tuple(zip(places, held, strict=True)), ignore_case)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and (self.base, self._text) == (other.base, other._text)

    def __hash__(self) -> int:
        return hash((self.base, self._text))

    def matches(self, places: Iterable[tuple[str, Listing]], ignore_case: bool) -> Iterator[tuple[str, re.Match[str]]]:
        """Yield each path below the base that matches, as it is stored, with the match of its composed form.

        Args:
            places: paths of folders below the base, with their contents.
            ignore_case: whether upper and lower case match each other.
        """
        known = (*SUFFIXES, *(CONTAINERS if self.inside else TABLES if self.known_suffix else ()))
        expression = self._expression(ignore_case)
        for stored in [at + name for at, names in places for each in names for name in each]:
            relative = composed(stored)
            if relative.lower().endswith(known):
                for part in [f"#{each}" for each in parts_of(self.base / stored)] if self.inside else [""]:
                    if match := expression.fullmatch(relative + part):
                        yield stored + part, match

    def name_of(self, relative: str) -> str:
        """Return the sample's name, from its path below the base."""
        file, _, part = relative.rpartition("#") if self.inside else (relative, "", "")
        name = "/".join(file.split("/")[self._named :])
        pairs = zip(part.split("/"), self.inside[1:].split("/"), strict=False)
        return "_".join([name[: name.rindex(".")], *(word for word, text in pairs if "{" in text)])

    def _expression(self, ignore_case: bool) -> re.Pattern[str]:
        text, seen = "", Counter[str]()
        for token in _TOKEN.split(self._text):
            word = token.strip("{}")
            if token == "{split}":
                text += f"(?P<split_{seen[word]}>(?i:{ANY_SPLIT}|{TRAIN_AND_VAL}))"
            elif token.startswith("{"):
                text += f"(?P={word})" if seen[word] else f"(?P<{word}>[^/]+)"
            else:
                text += "[^/]*" if token.startswith("*") else re.escape(token)
            seen[word] += 1
        if self.known_suffix and not self.inside:
            stem, _, ending = text.rpartition(r"\.")
            text = rf"{stem}\.(?i:{ending})"
        return re.compile(text if self.known_suffix else text + r"\.[^./]+", re.IGNORECASE if ignore_case else 0)

    def example(self, values: Mapping[str, str]) -> str:
        """Return the path with the placeholders replaced by these values."""
        text = re.sub(r"\{(\w+)\}", lambda word: values.get(word[1], word[0]), self._text)
        return str(self.base / (text if self.known_suffix else f"{text}.png"))

    def nothing(self) -> str:
        """Return the message that nothing matches, with the contents of the innermost folder that exists."""
        there = next(path for path in (self.base.absolute(), *self.base.absolute().parents) if path.is_dir())
        folders = sorted(each.name for each in there.iterdir() if each.is_dir() and not each.name.startswith("."))
        files = Counter(each.suffix.lower() for each in there.iterdir() if each.is_file() and each.name[0] != ".")
        held = f"the folders {first_few(folders)}" if folders else "no folders"
        held += f" and {by_suffix(files)}" if files else ""
        if not self.base.is_dir():
            state = f"{'is a file' if self.base.exists() else 'does not exist'}; {there} holds {held}"
            return f"folder {self.base} {state}. Name the folder that is meant, or give dataset.root=... of the data"
        what = f"folder {self} holds no images" if self._text == "{id}" else f"no file is called {self}"
        return f"{what}; {there} holds {held}; read are {', '.join(SUFFIXES)}"

    def warn_unread(self, read: Collection[Path]) -> None:
        """Warn about files beside those in ``read`` and, if the pattern is a whole folder, subfolders with images."""
        whole = self.is_folder and "{" not in self.text.removesuffix("/{split}")
        files: dict[str, set[str]] = {}  # folder -> names of files that are read
        for path in read:
            for place in places_of(path):
                folder, name = os.path.split(file_of(place)[0])
                files.setdefault(folder, set()).add(name)
        direct = {Path(each) for each in files if Path(each).is_relative_to(self.base) and listing(each) != ((), ())}
        folders = {each for folder in direct for each in (folder, *folder.parents) if each.is_relative_to(self.base)}
        others: Counter[str] = Counter()
        pictures = []
        for place in folders:
            inside, beside = listing(place)
            pictures += [str(place / name) for name in inside if whole and _holds_pictures(place / name, folders)]
            for name in beside:
                suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
                if name in files.get(str(place), ()):
                    continue
                if suffix in SUFFIXES:
                    pictures.append(str(place / name))
                elif place in direct:
                    others[suffix] += 1
        if pictures:
            warnings.warn(f"not read: {first_few(sorted(pictures))}; read are the images of {self}", stacklevel=3)
        if others:
            of = others.total() + sum(len(files[str(folder)]) for folder in direct)
            what = (
                f"{others.total()} of {of} files in {self.base}, which are no images that are read: {by_suffix(others)}"
            )
            warnings.warn(f"not read: {what}; read are {', '.join(SUFFIXES)}", stacklevel=3)


@lru_cache(6)
def _found(pattern: Pattern, places: Sequence[tuple[str, Listing]], ignore_case: bool) -> list[Found]:
    """Return the pictures that match in some folders, in natural order."""
    found: list[tuple[Any, Found]] = []
    called: dict[tuple[str, str | None], dict[str, str]] = {}  # (place, split) -> word in the path -> path
    for stored, match in pattern.matches(places, ignore_case):
        words, relative = match.groupdict(), match[0]
        splits = {name: split_called(word) for name, word in words.items() if name.startswith("split_")}
        if len({*splits.values()}) > 1:
            continue
        for place, split in splits.items():
            called.setdefault((place, split), {}).setdefault(match[place], relative[: match.end(place)])
        values = {name: word for name, word in words.items() if name not in splits}
        values |= {"split": split for split in splits.values() if split}  # noqa: B035  (all are the same)
        picture = Found(path_in(pattern.base, stored), pattern.name_of(relative), values)
        found.append((natural(relative), picture))
    for (_, split), names in called.items():
        if both := [names.pop(word) for word in [*names] if SECOND_NAME.fullmatch(word) and len(names) > 1]:
            start = str(pattern.base / both[0])
            found = [each for each in found if not str(each[1].path).startswith(start)]
        if len(names) > 1:
            several = " and ".join(sorted(str(pattern.base / name) for name in names.values()))
            raise DataError(f"{several} are both the {split} split; put their files into one folder, or rename one")
    return [each for _, each in sorted(found, key=lambda each: each[0])]


def _file_and_part(root: Path, text: str) -> tuple[str, str]:
    """Split a pattern at # into file and picture inside; the latter is "" if # is in the name of a file or folder."""
    for mark in re.finditer(r"\.\w+(?=#)", text):
        whole = text[: text.find("/", mark.end())] if "/" in text[mark.end() :] else text
        if mark[0].lower() in (*SUFFIXES, *CONTAINERS) and not (root / whole).exists():
            return text[: mark.end()], text[mark.end() + 1 :]
    return text, ""


def _holds_pictures(folder: Path, others: Collection[Path]) -> bool:
    return folder not in others and any(name.lower().endswith(SUFFIXES) for names in listing(folder) for name in names)


def numbered(text: str) -> str:
    """Remove leading zeros if a text is a number."""
    return text.lstrip("0") or "0" if text.isdecimal() else text


def natural(path: str) -> list[Any]:
    """Return a sort key that compares digits as numbers (``2 < 10``), and as text where these are equal (1 and 01)."""
    found: list[Any] = []
    for part in path.split("/"):
        words: list[Any] = _DIGITS.split(part)  # alternates between text and digits
        words[1::2] = map(int, words[1::2])
        found += words, part
    return found


def both_sides(images: Pattern, masks: Pattern) -> tuple[list[Found], list[Found]]:
    """Return the images and the masks; a file that matches both patterns belongs to the one with more fixed letters.

    Raises:
        ConfigError: only one of the patterns has a placeholder.
        NoFiles: there is no image or no mask, or the patterns match the same files.
    """
    for one, other in ((images, masks), (masks, images)):
        if alone := sorted(one.words - other.words - {"split"} - ({"group"} if one is images else set())):
            raise ConfigError(
                f'{one.option} = "{one.text}": {{{alone[0]}}} is only in this option; add it to {other.option} too, or '
                f"use * for text that may differ{did_you_mean(alone[0], ('split', 'group', 'id'))}"
            )
    found = [images.files(), masks.files()]
    both = {each.path for each in found[0]} & {each.path for each in found[1]}
    if both and images.letters == masks.letters:
        raise NoFiles(
            f"{images} is the folder of both images and masks; set mask_suffix, or patterns, to tell them apart"
        )
    number = int(images.letters > masks.letters)
    found[number] = [each for each in found[number] if each.path not in both]
    for pattern, matched in zip((images, masks), found, strict=True):
        if not matched and (pattern is images or not pattern.files(ignore_case=True)):
            raise NoFiles(pattern.nothing())
    return found[0], found[1]


def joined(images: Sequence[Found], of: Pattern, others: Sequence[Pattern]) -> list[Found]:
    """Combine images with their files from other patterns, one path for all channels: ``red/1.tif | nir/1.tif``.

    A missing file is included by its expected name, so that reading it reports the error.

    Raises:
        ConfigError: a pattern lacks a placeholder of the first.
    """
    found: dict[tuple[str | None, ...], list[list[Found]]] = {}
    if not others:
        return [*images]
    for number, pattern in enumerate((of, *others)):
        if lacking := sorted(of.words - pattern.words):
            raise ConfigError(f'images: "{pattern.text}" has no {{{lacking[0]}}}, as the other patterns of images have')
        for each in pattern.files() if number else images:
            key = tuple(each.values.get(word) for word in sorted(of.words))
            found.setdefault(key, [[] for _ in (of, *others)])[number].append(each)
    pictures = []
    for sides in found.values():
        first = next(each for side in sides for each in side)
        expected = [first._replace(path=Path(pattern.example(first.values))) for pattern in (of, *others)]
        for files in product(*(side or [one] for side, one in zip(sides, expected, strict=True))):
            pictures.append(files[0]._replace(path=Path(" | ".join(str(each.path) for each in files))))
    return pictures


def pair(
    images: Sequence[Found], masks: Sequence[Found], of: Pattern, shared: Collection[str]
) -> tuple[list[tuple[Found, Path]], list[tuple[Found, Issue]]]:
    """Return the images with their masks, in the order of the images, and the issues of all other files.

    Args:
        images: the images that match their pattern.
        masks: the masks that match their pattern.
        of: the pattern of the masks.
        shared: the placeholders whose values must be the same for an image and its mask.
    """
    key_of = _key_of(of, shared)

    def by_key(files: Sequence[Found]) -> dict[tuple[str, ...], list[Found]]:
        found: dict[tuple[str, ...], list[Found]] = {}
        for each in files:
            found.setdefault(key_of(each), []).append(each)
        return found

    images_of, masks_of = by_key(images), by_key(masks)
    if images_of.keys() != masks_of.keys():  # numbers may be written as 1 and 0001
        both = [{tuple(map(numbered, key)): those for key, those in each.items()} for each in (images_of, masks_of)]
        are_unlike = [len(each) for each in both] == [len(images_of), len(masks_of)]
        images_of, masks_of = both if are_unlike else (images_of, masks_of)
    issues = [issue for those in (*images_of.values(), *masks_of.values()) for issue in _ambiguous(those)]
    pairs, without_mask = [], []
    for key, those in images_of.items():
        partners = masks_of.pop(key, [])
        if len(those) == len(partners) == 1:
            pairs.append((those[0], partners[0].path))
        elif len(those) == 1 and not partners:
            without_mask.append((key, those[0]))
    known = {mask.path for mask in masks}
    others = [mask for mask in (of.files(ignore_case=True) if without_mask else ()) if mask.path not in known]
    lonely = [*(those[0] for those in masks_of.values() if len(those) == 1), *others]
    lowered = {"/".join(key_of(each)).casefold(): each.path for each in lonely}
    explained, are_blank = set(), all(BLANK.search(str(image.path)) for _, image in without_mask)
    blank: dict[str, dict[str, Any]] = {"they show only the first class": {"blank_unpaired": True}}
    ways = blank | LEFT_OUT if are_blank else LEFT_OUT | blank
    for key, image in without_mask:
        path, split = str(image.path), image.values.get("split", "")
        called = next((part for part in image.path.parts[::-1] if split_called(part) == split), split)
        expected = of.example({**image.values, "split": called})
        if partner := lowered.get("/".join(key).casefold()):
            what, advice = "the name of the mask differs in upper and lower case", "rename the image or the mask"
            issue = Issue("different_case", path, what, advice, partner.name)
            explained.add(partner)
        else:
            what, advice = "image without a mask", f"the mask would be {expected}"
            issue = Issue("image_without_mask", path, what, advice, ways=ways)
        issues.append((image, issue))
    for those in masks_of.values():
        if len(those) == 1 and those[0].path not in explained:
            path, what, advice = str(those[0].path), "mask without an image", "add the image or remove it"
            issues.append((those[0], Issue("mask_without_image", path, what, advice, ways=LEFT_OUT)))
    return pairs, issues


def _key_of(of: Pattern, shared: Collection[str]) -> Callable[[Found], tuple[str, ...]]:
    """Return a function that gives the values which an image and its mask have in common."""
    beside = re.search(r"\{(\w+)\}([^{}/*]+)\{(?!\1\})(\w+)\}", of.text)  # a_b_7 may be a and b_7, or a_b and 7

    def key_of(file: Found) -> tuple[str, ...]:
        key = {word: file.values[word] for word in shared}
        if beside and beside[1] in key and beside[3] in key:
            key[beside[3]] = key.pop(beside[1]) + beside[2] + key[beside[3]]
        return tuple(key.values())

    return key_of


def _ambiguous(files: Sequence[Found]) -> Iterator[tuple[Found, Issue]]:
    """Yield an issue for each of several files with the same key."""
    for each in files if len(files) > 1 else ():
        twins = [other.path.name for other in files if other.path != each.path]
        same = composed(each.path.name)  # other Unicode forms look alike unless escaped
        detail = ", ".join(ascii(name)[1:-1] if composed(name) == same else name for name in twins)
        what = "another file has the same name, so the pair is ambiguous"
        yield each, Issue("duplicate_stem", str(each.path), what, "keep one of them", detail)


def pair_by_stem(images: Path, masks: Path, mask_suffix: str = "") -> list[tuple[Path, Path]]:
    """Pair the files of two folders by name: ``images/cat.jpg`` with ``masks/cat<mask_suffix>.png``.

    The pairs are in natural order (``2`` before ``10``). Hidden files and files that are not images are ignored. Both
    folders may be the same if ``mask_suffix`` distinguishes the masks.

    Raises:
        DataError: a folder is missing or empty, or not every file has exactly one partner.
    """
    sides = (Pattern(images, "."), Pattern(masks, ".", "masks", composed(mask_suffix)))
    found = both_sides(*sides)
    read = {each.path for those in found for each in those}
    for side in sides:
        side.warn_unread(read)
    pairs, issues = pair(*found, sides[1], ["id"])
    refuse([issue for _, issue in issues])
    return [(image.path, mask) for image, mask in pairs]
