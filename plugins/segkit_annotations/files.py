"""Finding annotation files and their images: splits, path patterns, image folders; and writing miniature data sets."""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from segkit.data.sample import SPLITS
from segkit.errors import DataError, Issue, first_few, reason
from segkit_folder.pictures import folders_in, listing, path_in
from segkit_folder.propose import propose_layout
from segkit_folder.splits import SPLIT_NAMES, SPLIT_WORDS, SUFFIXES, composed, split_in

DEPTH = 5  # levels of folders below the root that are searched
_OF_MASKS = re.compile(r"(?i)mask|label|annot|seg|(?<![a-z])gt")  # words in names of mask folders
_UPLOAD = re.compile(r"^(?=\d*[a-f])[0-9a-f]{8}-")  # Label Studio's prefix of uploads; eight digits would be a date
_NAMED = r"(?<![^\W\d_])({})(?=set|(?![^\W\d_]))"  # no part of a longer word
_WORD = re.compile(_NAMED.format(SPLIT_WORDS), re.IGNORECASE)


def places(root: Path, pattern: str) -> list[tuple[str | None, Path]]:
    """Return (split, path) for each split whose path exists, or (None, path) for a pattern without ``{split}``.

    Raises:
        DataError: no such path exists.
    """
    found: list[tuple[str | None, Path]] = [(None, root / pattern)]
    if "{split}" in pattern:
        written = [
            (split, f(name)) for split in SPLITS for name in SPLIT_NAMES[split] for f in (str, str.title, str.upper)
        ]
        there = [(split, root / pattern.replace("{split}", name)) for split, name in written]
        found = [*{path.stat().st_ino: (split, path) for split, path in there if path.exists()}.values()]
    if not found or not found[0][1].exists():
        raise DataError(f"{root / pattern} does not exist")
    return found


def patterns(paths: Iterable[str]) -> list[str]:
    """Merge paths that differ only in the name of a split into one pattern with ``{split}``."""
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        word = (_WORD.findall(path) or [""])[-1]
        pattern = re.sub(_NAMED.format(word), "{split}", path, flags=re.IGNORECASE) if word else path
        found.setdefault(pattern, []).append(path)
    return [pattern if len(those) > 1 else those[0] for pattern, those in found.items()]


def walk(root: Path, name: str) -> list[Path]:
    """Return files that match ``name`` (may hold ``*``) in the root and :data:`DEPTH` levels below; no hidden files."""
    return [folder / each for folder, names in folders_in(root, DEPTH) for each in fnmatch.filter(names, name)]


def pictures(root: Path) -> list[Path]:
    """Return the pictures in a folder and below it, as found by :func:`walk`."""
    return [path for path in walk(root, "*") if path.suffix.lower() in SUFFIXES]


def are_masked(root: Path, images: Collection[Path]) -> bool:
    """Whether the folder holds masks as picture files that are not among the annotated ``images``."""
    masks = [{*each.layout.masks.values()} for each in propose_layout(root)]
    return any(not each or not each <= {*images} for each in masks)


# ---- files ----


def load(path: Path, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Return the content of a JSON file, or the root element of an XML file; ``hook`` replaces each JSON object.

    Raises:
        DataError: the file cannot be read or parsed.
    """
    is_xml = path.suffix.lower() == ".xml"
    try:
        content = path.read_bytes()
        return ElementTree.fromstring(content) if is_xml else json.loads(content, object_hook=hook)
    except OSError as error:
        raise DataError(Issue("unreadable", str(path), "cannot be read", detail=reason(error))) from None
    except (ValueError, RecursionError, ElementTree.ParseError) as error:
        what = f"no valid {'XML' if is_xml else 'JSON'}, or cut short"
        raise DataError(Issue("broken", str(path), what, "fetch or export it again", str(error))) from None


def text(value: Any) -> str:
    """Return the name of a class as text.

    Raises:
        ValueError: it is missing or empty.
    """
    if value is None or not (name := str(value).strip()):
        raise ValueError("an object or class without a name")
    return name


def head(path: Path, size: int = 1 << 16) -> str:
    """Return the first ``size`` bytes of a file as text, or "" if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size).decode("utf-8-sig", errors="replace")
    except OSError:
        return ""


def holding(root: Path, name: str, texts: Sequence[str]) -> list[Path]:
    """Return the files found by :func:`walk` whose first bytes contain one of the texts."""
    return [path for path in walk(root, name) if any(text in start for start in [head(path)] for text in texts)]


@contextmanager
def malformed(path: Path, what: str) -> Iterator[None]:
    """Convert built-in exceptions raised inside to a DataError: the file has not the format ``what``."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise DataError(Issue("malformed", str(path), f"not as {what} has it", "export it again", detail)) from error


def is_inside(path: Path, *folders: Path) -> bool:
    """Whether a path given by annotations lies inside one of the folders."""
    if ".." not in path.parts and any(path.is_relative_to(folder) for folder in folders):
        return True
    whole = Path(os.path.abspath(path))  # noqa: PTH100  (keeps links, which a data set may contain)
    return any(whole.is_relative_to(folder.absolute()) for folder in folders)


def image_finder(root: Path, images: str, beside: Path, split: str | None, word: str = "") -> Callable[[str], Path]:
    """Return a function from an image's name in the annotations, with or without suffix, to its path.

    It searches the usual folders, then all of ``images`` or the root; of several matches it takes the :func:`nearest`.
    Without a match it returns the path where the image is expected.

    Args:
        root: the data set's folder.
        images: the image folder that the user gave; "": search the usual folders.
        beside: the folder of the annotations.
        split: the split of the annotations.
        word: one more possible name of an image folder.
    """
    folders = _image_folders(root, images, beside, split, word)

    @cache
    def elsewhere() -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        given = [path_in(folder, name) for folder in folders for name in listing(folder)[1]]
        for path in given if images else walk(root, "*"):
            found.setdefault(_alike(path.name), []).append(path)
        return found

    def find(name: str) -> Path:
        own = name.replace("\\", "/")
        names = _names_of(own.removeprefix("../") if images else own)  # names may be relative to the annotations
        for each, folder in ((each, folder) for each in names for folder in folders):
            if os.path.isfile(os.path.join(folder, each)):  # noqa: PTH113, PTH118  (of 100,000 images)
                path = path_in(folder, each)
                if "/" not in each or is_inside(path, root, *(folders if images else ())):
                    if folder is not folders[0]:  # the next images mostly lie in the same folder
                        folders.remove(folder)
                        folders.insert(0, folder)
                    return path
        there = [*dict.fromkeys(path for each in names for path in elsewhere().get(_alike(each), ()))]
        there = [path for path in there if path.name in names] or there
        last = own.rpartition("/")[2]
        return nearest(root, beside / last, there, split) if there else folders[0] / last

    return find


def _image_folders(root: Path, images: str, beside: Path, split: str | None, word: str) -> list[Path]:
    """Return the folders to search first, which may not exist."""
    if images:
        return [path for each, path in places(root, images) if each in (None, split)]
    bases = [each for each in (beside, beside.parent, root) if each.is_relative_to(root)]
    below = ["", "images", word, f"images/{word}", *(f"images/{name}" for name in SPLIT_NAMES.get(split or "", ()))]
    return [*dict.fromkeys(base / part for base in bases for part in below)]


def nearest(root: Path, own: Path, there: Sequence[Path], split: str | None) -> Path:
    """Return the image that annotations mean, among images of the same name.

    Prefers, in turn, those below the annotations, in a folder of their split, not in one named like masks, nearest,
    and in a folder of the same name.

    Args:
        root: the data set's folder.
        own: the annotation file, or a path beside it.
        there: the images to choose from.
        split: the split of the annotations.

    Raises:
        DataError: several images remain.
    """
    splits = {each: split_in(os.path.relpath(each.parent, root)) for each in there}
    split = split if split in splits.values() else None
    depth = {each: len(Path(os.path.commonpath([own, each])).parts) for each in there}
    for nearer in (
        [each for each in there if each.is_relative_to(own.parent)],
        [each for each in there if splits[each] == split],
        [each for each in there if not _OF_MASKS.search(each.parent.name)],
        [each for each in there if depth[each] == max(depth.values())],
        [each for each in there if each.parent.name == own.parent.name],
    ):
        there = [each for each in there if each in nearer] or there
    if len(there) > 1:
        several = first_few([*map(str, there)])
        raise DataError(f"{own}: several images have this name: {several}; set `images` to the folder to use")
    return there[0]


def _names_of(text: str) -> list[str]:
    """Return possible file names, with any image suffix, for a path or URL in the annotations."""
    parts = [
        text,
        *(unquote(part) for part in re.split(r"\?(?:d=)?", text)),
    ]  # Label Studio puts the path of local files after ?d=
    last = [part.rpartition("/")[2] for part in parts]
    called = dict.fromkeys(filter(None, [*parts, *last, *(_UPLOAD.sub("", each) for each in last)]))
    return [f"{x}{y}" for x in called for y in (("",) if x.lower().endswith(SUFFIXES) else ("", *SUFFIXES))]


def _alike(name: str) -> str:
    """Normalise a name as Windows and macOS do when they compare file names."""
    return composed(name).casefold()


# ---- miniatures ----

Drawn = tuple[Path, list[tuple[str, list[tuple[int, int]]]]]
"""A picture of 40 x 30 pixels, and (class name, corners) of each object in it."""


def miniature(root: Path, images: str) -> Iterator[tuple[str, list[Drawn]]]:
    """Write pictures of a square and a triangle for ``write_sample``; yield each split with its pictures and objects.

    Args:
        root: the folder to write to.
        images: the picture folder below ``root``, with ``{split}``.
    """
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        folder, drawn = root / images.replace("{split}", split), []
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = random.integers(60, 120, (30, 40, 3), np.uint8)  # [H,W,3]
            x, y = (int(each) for each in random.integers(1, 9, 2))
            square = [(x, y), (x + 12, y), (x + 12, y + 12), (x, y + 12)]
            triangle = [(x + 14, y + 18), (x + 30, y + 18), (x + 22, y + 2)]
            pixels[y : y + 12, x : x + 12, 0] += 120
            pixels[y + 10 : y + 18, x + 18 : x + 26, 2] += 120
            path = folder / f"{split}_{number}.png"
            Image.fromarray(pixels).save(path)
            drawn.append((path, [("square", square), ("triangle", triangle)]))
        yield split, drawn
