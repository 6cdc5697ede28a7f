"""Where annotations and images lie: splits, patterns of files, folders of images; and the miniature of all formats."""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from segkit.data.sample import SPLITS
from segkit.errors import DataError, Issue, first_few, reason
from segkit_annotations.draw import Shape
from segkit_folder.pictures import folders_in, listing, path_in
from segkit_folder.propose import propose_layout
from segkit_folder.splits import SPLIT_NAMES, SPLIT_WORDS, SUFFIXES, composed, split_called

DEPTH = 5  # folders below the root that are looked into
_OF_MASKS = re.compile(r"(?i)mask|label|annot|seg|(?<![a-z])gt")  # words of folders
_UPLOAD = re.compile(r"^(?=\d*[a-f])[0-9a-f]{8}-")  # before a name, of Label Studio; eight digits are a date
_WORD = re.compile(rf"(?<![a-z])({SPLIT_WORDS})(?=set|(?![a-z]))", re.IGNORECASE)


class Record(NamedTuple):
    """What the annotations say of one image.

    Attributes:
        image: its file, or what the annotations call it.
        shapes: in the order of the annotations.
        size: height and width of the image as the annotations have it; None, or without one, where they do not say.
        split: that it belongs to, if the annotations or their place say so.
        folder: a word by which the folder of the image may be called.
        sources: the files that its shapes are read from; left out: the one that says this.
    """

    image: Any
    shapes: Sequence[Shape]
    size: tuple[Any, Any] | None = None
    split: str | None = None
    folder: str = ""
    sources: tuple[Path, ...] = ()


def places(root: Path, pattern: str) -> list[tuple[str | None, Path]]:
    """(split, path) of a pattern: of each split that is there, or (None, path) of one without ``{split}``.

    Raises:
        DataError: nothing is there.
    """
    found: list[tuple[str | None, Path]] = [(None, root / pattern)]
    if "{split}" in pattern:
        written = [
            (split, f(name)) for split in SPLITS for name in SPLIT_NAMES[split] for f in (str, str.title, str.upper)
        ]
        there = [(split, root / pattern.replace("{split}", name)) for split, name in written]
        found = [*{path.stat().st_ino: (split, path) for split, path in there if path.exists()}.values()]
    if not found or not found[0][1].exists():
        raise DataError(f"{root / pattern} is not there")
    return found


def split_in(text: str) -> str | None:
    """The split of which a path or a name has the word, the last one; None where it has none."""
    return split_called((_WORD.findall(text) or [""])[-1])


def patterns(paths: Iterable[str]) -> list[str]:
    """The paths, those that differ in the name of a split as one with ``{split}`` in its place."""
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        word = (_WORD.findall(path) or [""])[-1]
        pattern = re.sub(rf"(?<![a-z]){word}(?=set|(?![a-z]))", "{split}", path, flags=re.IGNORECASE) if word else path
        found.setdefault(pattern, []).append(path)
    return [pattern if len(those) > 1 else those[0] for pattern, those in found.items()]


def walk(root: Path, name: str) -> list[Path]:
    """The files of that name, which may hold ``*``, in the root and :data:`DEPTH` folders below it; no hidden ones."""
    return [folder / each for folder, names in folders_in(root, DEPTH) for each in fnmatch.filter(names, name)]


def pictures(root: Path) -> list[Path]:
    """The pictures in a folder and those below it, as :func:`walk` finds them."""
    return [path for path in walk(root, "*") if path.suffix.lower() in SUFFIXES]


def are_masked(root: Path, images: Collection[Path]) -> bool:
    """Whether masks lie there as pictures, which are none of the images that annotations name."""
    masks = [{*each.layout.masks.values()} for each in propose_layout(root)]
    return any(not each or not each <= {*images} for each in masks)


def natural(text: str) -> list[tuple[int, str]]:
    """What texts are sorted by where 2 comes before 10."""
    return [(int(each or -1), "") if each.isdecimal() else (-1, each) for each in re.split(r"(\d+)", text)]


# ---- files ----


def load(path: Path, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """The content of a JSON file, or the outermost element of an XML file.

    Args:
        path: of the file.
        hook: is called with each object of JSON, and may give another in its place.

    Raises:
        DataError: it cannot be read, or is neither.
    """
    is_xml = path.suffix.lower() == ".xml"
    try:
        content = path.read_bytes()
        return ElementTree.fromstring(content) if is_xml else json.loads(content, object_hook=hook)
    except OSError as error:
        raise DataError(Issue("unreadable", str(path), "cannot be read", detail=reason(error))) from None
    except (ValueError, RecursionError, ElementTree.ParseError) as error:
        what = f"no {'XML' if is_xml else 'JSON'}, or cut short"
        raise DataError(Issue("broken", str(path), what, "fetch or export it again", str(error))) from None


def text(value: Any) -> str:
    """The name of a class.

    Raises:
        ValueError: there is none.
    """
    if value is None or not (name := str(value).strip()):
        raise ValueError("an object or class without a name")
    return name


def head(path: Path, size: int = 1 << 16) -> str:
    """The first characters of a file, "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size).decode("utf-8-sig", errors="replace")
    except OSError:
        return ""


def holding(root: Path, name: str, texts: Sequence[str]) -> list[Path]:
    """The files of that name, as :func:`walk` finds them, whose first bytes hold one of the texts."""
    return [path for path in walk(root, name) if any(text in start for start in [head(path)] for text in texts)]


@contextmanager
def malformed(path: Path, what: str, issues: list[Issue] | None = None) -> Iterator[None]:
    """Inside, what Python raises where a file is not made as expected becomes a DataError that names it.

    Args:
        path: of the file.
        what: whose format it should have.
        issues: where an error is kept in place of being raised.
    """
    try:
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            detail = f"{type(error).__name__}: {error}"
            raise DataError(
                Issue("malformed", str(path), f"not as {what} has it", "export it again", detail)
            ) from error
    except DataError as error:
        if issues is None or error.issue is None:
            raise
        issues.append(error.issue)


def is_inside(path: Path, *folders: Path) -> bool:
    """Whether a path that annotations name stays in one of the folders."""
    if ".." not in path.parts and any(path.is_relative_to(folder) for folder in folders):
        return True
    whole = Path(os.path.abspath(path))  # noqa: PTH100  (it resolves no links, which a data set may hold)
    return any(whole.is_relative_to(folder.absolute()) for folder in folders)


def image_finder(root: Path, images: str, beside: Path, split: str | None, word: str = "") -> Callable[[str], Path]:
    """Finds the image that annotations name, with or without its suffix; where there is none, where it would lie.

    Of no ``images`` it is the only one of that name, where none lies beside the annotations; or of several the one
    below these, in a folder of the split, or in one that is called as no masks are.

    Args:
        root: of the data set.
        images: the folder that was given; "": those where images usually lie.
        beside: the folder of the annotations.
        split: of the annotations.
        word: what a folder of the images may be called besides.
    """
    if images:
        folders = [path for each, path in places(root, images) if each in (None, split)]
    else:
        bases = [each for each in (beside, beside.parent, root) if each.is_relative_to(root)]
        below = ["", "images", word, f"images/{word}", *(f"images/{name}" for name in SPLIT_NAMES.get(split or "", ()))]
        folders = [*dict.fromkeys(base / part for base in bases for part in below)]
    allowed = (root, *(folders if images else ()))

    @cache
    def elsewhere() -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        given = [path_in(folder, name) for folder in folders for name in listing(folder)[1]]
        for path in given if images else walk(root, "*"):
            found.setdefault(_alike(path.name), []).append(path)
        return found

    def find(name: str) -> Path:
        own = name.replace("\\", "/")
        names = _names_of(own.removeprefix("../") if images else own)  # what is relative to the annotations
        for each, folder in ((each, folder) for each in names for folder in folders):
            if os.path.isfile(os.path.join(folder, each)):  # noqa: PTH113, PTH118  (of 100,000 images)
                path = path_in(folder, each)
                if "/" not in each or is_inside(path, *allowed):
                    if folder is not folders[0]:  # where one lies, the next ones mostly lie too
                        folders.remove(folder)
                        folders.insert(0, folder)
                    return path
        there = [*dict.fromkeys(path for each in names for path in elsewhere().get(_alike(each), ()))]
        there = [path for path in there if path.name in names] or there
        last = own.rpartition("/")[2]
        return nearest(root, beside / last, there, split) if there else folders[0] / last

    return find


def nearest(root: Path, own: Path, there: Sequence[Path], split: str | None) -> Path:
    """Of images that are called alike the one that annotations mean.

    It lies below them, in a folder of their split or of none, in one that is not called as masks are, or nearest.

    Args:
        root: of the data set.
        own: the file of the annotations, or what lies beside it.
        there: the images.
        split: of the annotations.

    Raises:
        DataError: it is not plain which one that is.
    """
    splits = {each: split_in(os.path.relpath(each.parent, root)) for each in there}
    split = split if split in splits.values() else None
    depth = {each: len(Path(os.path.commonpath([own, each])).parts) for each in there}
    for nearer in (
        [each for each in there if each.is_relative_to(own.parent)],
        [each for each in there if splits[each] == split],
        [each for each in there if not _OF_MASKS.search(each.parent.name)],
        [each for each in there if depth[each] == max(depth.values())],
    ):
        there = [each for each in there if each in nearer] or there
    if len(there) > 1:
        several = first_few([*map(str, there)])
        raise DataError(f"{own}: several images are called so: {several}; say in `images` in which folder they lie")
    return there[0]


def _names_of(text: str) -> list[str]:
    """What the file may be called that annotations name, by a path or an address, and with any suffix."""
    parts = [
        text,
        *(unquote(part) for part in re.split(r"\?(?:d=)?", text)),
    ]  # of Label Studio's local files follows ?d=
    last = [part.rpartition("/")[2] for part in parts]
    called = dict.fromkeys(filter(None, [*parts, *last, *(_UPLOAD.sub("", each) for each in last)]))
    return [f"{x}{y}" for x in called for y in (("",) if x.lower().endswith(SUFFIXES) else ("", *SUFFIXES))]


def _alike(name: str) -> str:
    """A name as Windows and macOS compare it, which may have written it."""
    return composed(name).casefold()


# ---- miniatures ----

Drawn = tuple[Path, list[tuple[str, list[tuple[int, int]]]]]
"""A picture of 40 x 30 pixels, and the corners of each object in it by the name of its class."""


def miniature(root: Path, images: str) -> Iterator[tuple[str, list[Drawn]]]:
    """Write pictures with a square and a triangle for ``write_sample``; each split and what it shows.

    Args:
        root: the folder of the miniature.
        images: the folder of the pictures below it, with ``{split}``.
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
