"""Where annotations and images lie: splits, patterns of files, folders of images; and the miniature of all formats."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from segkit.data.issues import refuse
from segkit.data.sample import SPLITS
from segkit.errors import DataError, Issue, first_few, reason
from segkit_annotations.draw import Shape, Size
from segkit_folder.splits import ANY_SPLIT, SPLIT_NAMES, composed, read_text, split_by_fraction, split_called

DEPTH = 3  # folders below the root that are looked into
_WORD = re.compile(rf"(?<![a-z])({ANY_SPLIT})(?![a-z])", re.IGNORECASE)


class Entry(NamedTuple):
    """What the annotations say of one image.

    Attributes:
        image: the file.
        sources: the files that its shapes are read from.
        shapes: in the order of the annotations.
        size: height and width of the image as the annotations have it; None where they do not say.
        split: that it belongs to, where the annotations or their place say so.
    """

    image: Path
    sources: tuple[Path, ...]
    shapes: Sequence[Shape]
    size: Size | None = None
    split: str = ""


# ---- splits ----


def divided(
    root: Path, entries: Sequence[Entry], lists: str, fractions: Sequence[float], seed: int
) -> dict[str, list[Entry]]:
    """The entries of each split: by lists, by what the annotations say, or by fractions."""
    seen: dict[tuple[str, Path], Entry] = {}
    for entry in entries:
        if other := seen.get((entry.split, entry.image)):
            raise DataError(f"{entry.image}: annotated twice, in {other.sources[0]} and {entry.sources[0]}")
        seen[entry.split, entry.image] = entry
    if lists:
        return {
            split: _listed(path, entries)
            for split, path in places(root, lists if "{split}" in lists else f"{lists}/{{split}}.txt")
        }
    if any(entry.split for entry in entries):
        if left := [str(entry.image) for entry in entries if not entry.split]:
            warnings.warn(f"not read: {len(left)} annotated images are in no split: {first_few(left)}", stacklevel=4)
        return {split: [entry for entry in entries if entry.split == split] for split in SPLITS}
    named = {composed(entry.image.stem): entry for entry in entries}
    if len(named) < len(entries):
        named = {composed(os.path.relpath(entry.image, root)): entry for entry in entries}
    dealt = split_by_fraction([*named], fractions, seed)
    return {split: [named[name] for name in names] for split, names in dealt.items()}


def _listed(path: Path, entries: Sequence[Entry]) -> list[Entry]:
    """The entries that a list names, each line a name with or without folders and suffix."""
    lines = [composed(line.strip()) for line in read_text(path).splitlines() if line.strip()]
    known: dict[str, Entry] = {}
    for entry in entries:
        parts = composed(entry.image.as_posix()).split("/")
        for start in range(len(parts)):
            name = "/".join(parts[start:])
            known |= {name: entry, name.rpartition(".")[0]: entry}
    what, advice = "listed, but no annotated image of that name is there", "correct the list"
    refuse([Issue("missing", line, what, advice, str(path)) for line in lines if line not in known])
    return [known[line] for line in lines if line in known]


def split_named(word: str) -> str:
    """The split that people call by a word, such as val for Validation; "" where it is none."""
    return split_called(word) or ""


def places(root: Path, pattern: str) -> list[tuple[str, Path]]:
    """(split, path) of a pattern: of each split that is there, or ("", path) of one without ``{split}``.

    Raises:
        DataError: nothing is there.
    """
    if "{split}" not in pattern:
        found = [("", root / pattern)]
    else:
        written = {
            each: [f(name) for name in SPLIT_NAMES[each] for f in (str, str.capitalize, str.upper)] for each in SPLITS
        }
        paths = {s: [root / pattern.replace("{split}", name) for name in names] for s, names in written.items()}
        found = [(split, path) for split, those in paths.items() for path in those if path.exists()]
        found = [*{(split, path.stat().st_ino): (split, path) for split, path in found}.values()]
    if not found or not found[0][1].exists():
        raise DataError(f"{root / pattern} is not there")
    return found


def patterns(root: Path, paths: Iterable[Path]) -> list[str]:
    """The paths relative to the root with ``{split}`` in place of the name of a split, each one once."""
    return [*dict.fromkeys(_WORD.sub("{split}", path.relative_to(root).as_posix(), count=1) for path in sorted(paths))]


def walk(root: Path, name: str) -> list[Path]:
    """The files of that name, which may hold ``*``, in the root and :data:`DEPTH` folders below it; no hidden ones."""
    found = [path for depth in range(DEPTH + 1) for path in root.glob("*/" * depth + name) if path.is_file()]
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]


# ---- files ----


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(Issue("unreadable", str(path), "cannot be read", detail=reason(error))) from None
    except (ValueError, RecursionError) as error:
        what, advice = "no JSON, or cut short", "fetch or export it again"
        raise DataError(Issue("broken", str(path), what, advice, str(error))) from None


def head(path: Path, size: int = 1 << 16) -> str:
    """The first characters of a file, "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size).decode("utf-8", errors="replace")
    except OSError:
        return ""


@contextmanager
def malformed(path: Path, what: str) -> Iterator[None]:
    """Inside, what Python raises where a file is not made as expected becomes a DataError that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise DataError(Issue("malformed", str(path), f"not as {what} has it", "export it again", detail)) from error


class ImageFinder:
    """Finds the images that annotations name, in a folder that was given or in those where they usually lie.

    Args:
        root: of the data set.
        beside: the file of the annotations.
        images: the option; "" where it was left out.
        split: of the annotations.
        word: what a folder of the images may be called besides.
    """

    def __init__(self, root: Path, beside: Path, images: str, split: str, word: str = "") -> None:
        self.given = bool(images)
        if images:
            self.folders = [path for each, path in places(root, images) if each in ("", split)]
        else:
            bases = dict.fromkeys([beside.parent, beside.parent.parent, root])
            below = ["", "images", word, f"images/{word}", *(f"images/{name}" for name in SPLIT_NAMES.get(split, ()))]
            inside = [base for base in bases if base.is_relative_to(root)]
            self.folders = [base / part for base in inside for part in below]

    def find(self, name: str) -> Path:
        """The file of that name; where there is none, where it would lie first."""
        own = str(name).replace("\\", "/")
        own = own.removeprefix("../") if self.given else own  # what is relative to the annotations
        tried = [folder / part for part in dict.fromkeys([own, own.rpartition("/")[2]]) for folder in self.folders]
        return next((path for path in tried if path.is_file()), tried[0])


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
