"""Run-length encodings in a table: a line an object, or a class, of an image."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from segkit.data.read import read_header
from segkit.errors import DataError, first_few, reason
from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages, Rule
from segkit_annotations.draw import Shape, ShapeError, draw
from segkit_annotations.files import Entry
from segkit_annotations.layers import LayersDataset
from segkit_folder.propose import propose_layout
from segkit_folder.splits import SUFFIXES

_RUNS = re.compile(r"encoded_?pixels|.*rle.*|segmentation", re.IGNORECASE)
_CLASS = re.compile(r".*(class|label|category).*", re.IGNORECASE)
_IMAGE = re.compile(r".*(image|img|file|name|id).*", re.IGNORECASE)
_EXAMPLE = re.compile(r"sample|submission|example|predict", re.IGNORECASE)  # of what others hand in
_LONGEST = (1 << 31) - 1  # characters of runs; the csv module takes 131,072 where nothing is said
_FEW = 20  # images that say in which order runs go


class RleDataset(AnnotatedImages):
    """Run-length encodings in a CSV, as Kaggle's competitions publish them: pairs of a start, from 1, and a length.

    kaggle.com/c/airbus-ship-detection/overview/evaluation. A column is called as EncodedPixels or rle, one as ImageId,
    and there may be one of classes; of Image_Label the class follows the last "_". An image without runs is all
    background, and so is one beside the others that no line names. Of images of one name in several folders a table
    called as a split means the one in the folder of that split. Runs go down the columns, or along the rows where
    that gives smoother objects in images that are not square.
    """

    rule: Rule = "error"
    expected = "a CSV with columns as ImageId and EncodedPixels, or rle_mask"

    def _read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Entry]]:
        pictures = [each for each in files.walk(root / images, "*") if each.suffix.lower() in SUFFIXES]
        by_name: dict[str, list[Path]] = {}
        for each in pictures:
            for name in {each.stem, each.name}:
                by_name.setdefault(name, []).append(each)
        labels: set[str] = set()
        entries: list[Entry] = []
        for split, path in files.places(root, annotations):
            found, absent = dict[Path, list[tuple[str, str]]](), set[str]()
            for image, label, runs in _lines(path):
                labels |= {label} if runs else set()
                if image in by_name:
                    picture = _meant(image, by_name[image], root, path, split)
                    found.setdefault(picture, []).extend([(label, runs)] * bool(runs))
                else:
                    absent.add(image)
            if absent:
                what = f"{path} names {len(absent)} images that are not there"
                warnings.warn(f"{what}: {first_few(sorted(absent))}", stacklevel=4)
            by_columns = _go_down(found)
            for picture, those in found.items():
                shapes = [Shape(label, "starts", (runs, by_columns)) for label, runs in those]
                entries.append(Entry(picture, (path,), shapes, None, split))
        return sorted(labels), entries + _blank(entries, pictures)

    @classmethod
    def _find(cls, root: Path) -> list[Path]:
        found = [path for path in files.walk(root, "*.csv") if not _EXAMPLE.search(path.name) and _columns(path)]
        names = {
            name for path in files.walk(root, "*") if path.suffix.lower() in SUFFIXES for name in (path.stem, path.name)
        }
        return [path for path in found if any(image in names for image, _, _ in _lines(path))]

    @classmethod
    def recognise(cls, root: Path) -> list[dict[str, str]]:
        """The tables, unless the masks lie there as pictures too."""
        found = super().recognise(root)
        return found if found and not propose_layout(root) and not LayersDataset.recognise(root) else []

    @classmethod
    def write_sample(cls, root: str | Path) -> None:
        """Write a miniature: images/<split>/*.png and <split>.csv."""
        for split, drawn in files.miniature(Path(root), "images/{split}"):
            rows = ["ImageId,ClassId,EncodedPixels"]
            for path, objects in drawn:
                for name, corners in objects:
                    (left, top), (right, bottom) = np.min(corners, 0), np.max(corners, 0)
                    runs = " ".join(f"{column * 30 + top + 1} {bottom - top}" for column in range(left, right))
                    rows.append(f"{path.name},{name},{runs}")
            (Path(root) / f"{split}.csv").write_text("\n".join(rows))


def _meant(name: str, called: Sequence[Path], root: Path, table: Path, split: str | None) -> Path:
    """Of the images that are called as a table says the one in the folder of its split, or in that of no split.

    Raises:
        DataError: there is more than one.
    """
    if len(called) > 1:
        folders = [files.split_in(each.parent.relative_to(root).as_posix()) for each in called]
        wanted = split or files.split_in(table.stem)
        wanted = wanted if wanted in folders else None
        own = [each for each, folder in zip(called, folders, strict=True) if folder == wanted]
        if len(own) == 1:
            return own[0]
        several = first_few([str(each) for each in called])
        advice = "say in `images` in which folder its images lie"
        raise DataError(f"{table} names {name}, and {len(called)} images are called so: {several}; {advice}")
    return called[0]


def _blank(entries: Sequence[Entry], pictures: Sequence[Path]) -> list[Entry]:
    """Images beside those of the lines, which have none: what is not there is not listed."""
    first = {entry.image.parent: entry for entry in reversed(entries)}
    named = {entry.image for entry in entries}
    blank = [each for each in pictures if each not in named and each.parent in first]
    if blank:
        names = first_few([each.name for each in blank])
        warnings.warn(f"{len(blank)} images that no line names are all background: {names}", stacklevel=5)
    return [first[each.parent]._replace(image=each, shapes=()) for each in blank]


def _columns(path: Path) -> tuple[int, int | None, int] | None:
    """Which columns hold the image, the class (None: it follows the image, or there is none) and the runs."""
    heading = _cells(next(csv.reader([files.head(path, 1 << 12).partition("\n")[0]], skipinitialspace=True), []))
    runs = next((at for at, name in enumerate(heading) if _RUNS.fullmatch(name)), None)
    others = [at for at in range(len(heading)) if at != runs]
    image = next((at for at in others if _IMAGE.fullmatch(heading[at])), None)
    if runs is None or image is None:
        return None
    return image, next((at for at in others if at != image and _CLASS.fullmatch(heading[at])), None), runs


def _cells(row: Sequence[str]) -> list[str]:
    return [cell.strip(' "\r\n\ufeff') for cell in row]


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """The image, the class and the runs of each line.

    Raises:
        DataError: the file cannot be read, or a line lacks an image, or a class of its runs.
    """
    columns = _columns(path)
    if columns is None:
        raise DataError(f"{path}: no columns of images and run-length encodings; expected is {RleDataset.expected}")
    image, label, runs = columns
    try:
        csv.field_size_limit(_LONGEST)
        needed = 1 + max(image, runs, label or 0)
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, skipinitialspace=True)
            heading = _cells(next(rows))[image]
            for cells in map(_cells, filter(None, rows)):
                place = f"{path}, line {rows.line_num}"
                if len(cells) < needed:
                    raise DataError(f"{place}: {len(cells)} cells; it needs {needed}")
                name, called = cells[image], "object" if label is None else cells[label]
                if label is None and "_" in heading and _CLASS.fullmatch(heading):
                    name, _, called = name.rpartition("_")
                encoded = cells[runs] if cells[runs] not in ("-1", "nan") else ""
                if not name or (encoded and not called):
                    raise DataError(f"{place}: {'no class' if name else 'no image'}; each line with runs has both")
                yield name, f"class_{called}" if called.isdecimal() else called, encoded
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as text: {reason(error) if isinstance(error, OSError) else error}"
        ) from None


def _go_down(found: Mapping[Path, Sequence[tuple[str, str]]]) -> bool:
    """Whether runs go down the columns: what lies on its side is frayed in images that are not square."""
    edges = np.zeros(2)
    for path, those in [each for each in found.items() if each[1]][:_FEW]:
        with suppress(DataError, ShapeError):  # told when it is read
            size = read_header(path).size
            for label, runs in those if size[0] != size[1] else ():
                for way in (0, 1):
                    _, bits = draw(Shape(label, "starts", (runs, not way)), size)
                    edges[way] += (bits[1:] != bits[:-1]).sum() + (bits[:, 1:] != bits[:, :-1]).sum()
    return bool(edges[0] <= edges[1])
