"""Run-length encodings in a CSV table: one line per object, or per class, of an image."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

from segkit.data.read import read_header, read_picture
from segkit.errors import DataError, DataWarning, first_few, reason
from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages
from segkit_annotations.draw import Shape, ShapeError, Size, draw
from segkit_annotations.files import Drawn
from segkit_annotations.layers import LayersDataset
from segkit_annotations.named import finder
from segkit_annotations.records import Record
from segkit_folder.splits import split_in

_RUNS = re.compile(r"encod.*|.*rle.*|segmentation|annotation|runs|pixels", re.IGNORECASE)  # headings of columns
_CLASS = re.compile(r".*(class|label|category).*", re.IGNORECASE)
_IMAGE = re.compile(r".*(image|img|file|name|id).*", re.IGNORECASE)
_EXAMPLE = re.compile(r"sample|submission|example|predict", re.IGNORECASE)  # names of submission files
_NONE = ("", "-1", "nan", "none", "null", "[]")  # cells that mean "no object"
_LONGEST = (1 << 31) - 1  # characters per cell; the csv module's default is 131,072
_FEW = 20  # images used to find the order of runs
_SOME = 200  # lines used to find the column of the images
_SURELY = 4  # times as many runs
_Found = Sequence[tuple[Path, Sequence[tuple[str, str]]]]  # images, and (class, runs) of each object


class RleDataset(AnnotatedImages):
    """Run-length encodings in a CSV, as Kaggle's competitions publish them: pairs of a start, from 1, and a length.

    kaggle.com/c/airbus-ship-detection/overview/evaluation. One column holds the runs (EncodedPixels or similar), one
    the image, and one may hold the class; in a column Image_Label the class follows the last "_". An image is given by
    its file name, or by words of its path in order: case1_day2_slice_7 for case1/day2/slice_7_266.png. Images without
    runs are all background, and so are images in the same folders without a line. If several folders hold images of
    the same name, a table named like a split uses that split's folder. Runs go by columns, or by rows if that gives
    smoother objects or, in square images, objects that follow the image's edges better.
    """

    rule = "error"
    expected = "a CSV with columns such as ImageId and EncodedPixels, or rle_mask"
    miniature = "images/{split}"

    def _read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Record]]:
        pictures = files.pictures(root / images)
        named = finder(root, pictures)
        labels: set[str] = set()
        found: dict[tuple[str | None, Path, Path], list[tuple[str, str]]] = {}  # split, table, image -> class, runs
        sizes: dict[Path, Size | None] = {}
        for split, path in files.places(root, annotations):
            lines, absent = [*_lines(path, named)], set[str]()
            names = {image for image, *_ in lines}
            for image, label, runs, size in lines:
                labels |= {label} if runs else set()
                called = [each for each in named(image) if image in (own := {each.stem, each.name}) or not own & names]
                if called:  # pictures that another line names exactly are excluded
                    picture = files.nearest(root, path, called, split or split_in(path.stem))
                    found.setdefault((split, path, picture), []).extend([(label, runs)] * bool(runs))
                    sizes[picture] = size
                else:
                    absent.add(image)
            if absent:
                what = f"{path} names {len(absent)} images that do not exist"
                warnings.warn(f"{what}: {first_few(sorted(absent))}", stacklevel=4)
        every = [(picture, those) for (*_, picture), those in found.items()]
        starts_at_0 = any("0" in runs.split()[::2] for _, those in every for _, runs in those)
        by_columns = _go_down(every, sizes, int(not starts_at_0) if self._first is None else self._first)
        if self._first is None:  # one answer for all splits
            self._first = _first_pixel(every, sizes, by_columns, starts_at_0)
        entries = []
        for (split, path, picture), those in found.items():
            shapes = [Shape(label, "starts", (runs, by_columns, self._first)) for label, runs in those]
            entries.append(Record(picture, shapes, sizes[picture], split, sources=(path,)))
        return sorted(labels), entries + _blank(entries, pictures, self.blank_unpaired)

    @classmethod
    def _find(cls, root: Path) -> list[Path]:
        """Return the tables, unless the folder also holds the masks as picture files."""
        tables = [path for path in files.walk(root, "*.csv") if not _EXAMPLE.search(path.name)]
        named = finder(root, files.pictures(root) if tables else [])
        lines = {path: {image for image, *_ in _lines(path, named)} for path in tables if _columns(path, named)}
        found = [path for path, names in lines.items() if any(map(named, names))]
        called = [named(name) for path in found for name in lines[path]]
        images = {those[0] for those in called if len(those) == 1}
        return [] if not found or files.are_masked(root, images) or LayersDataset.recognise(root) else found

    @classmethod
    def _sample(cls, split: str, drawn: Sequence[Drawn]) -> Iterator[tuple[str, Any]]:
        rows = ["ImageId,ClassId,EncodedPixels"]
        for path, objects in drawn:
            for name, corners in objects:
                (left, top), (right, bottom) = np.min(corners, 0), np.max(corners, 0)
                bottom = 30 if name == "triangle" else bottom  # objects at the border show that pixels count from 1
                runs = " ".join(f"{column * 30 + top + 1} {bottom - top}" for column in range(left, right))
                rows.append(f"{path.name},{name},{runs}")
        yield f"{split}.csv", "\n".join(rows)


def _blank(entries: Sequence[Record], pictures: Sequence[Path], is_sure: bool) -> list[Record]:
    """Return records without shapes for images that no line names, in the folders of the named ones."""
    first = {entry.image.parent: entry for entry in reversed(entries)}
    named = {entry.image for entry in entries}
    blank = [each for each in pictures if each not in named and each.parent in first]
    if blank and not is_sure:
        names = first_few([each.name for each in blank])
        warnings.warn(f"{len(blank)} images without a line in the table are all background: {names}", stacklevel=5)
    return [first[each.parent]._replace(image=each, shapes=(), size=None) for each in blank]


def _columns(path: Path, named: Callable[[str], Sequence[Path]]) -> tuple[int, int | None, int] | None:
    """Return the columns of the image, the class and the runs; the class is None if it has no column of its own.

    They are recognised by their headings, that of the image by its cells. Return None without image or runs.
    """
    try:
        heading, *rows = (cells for _, cells in islice(_rows(path), _SOME))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError):  # ValueError: the file has no line
        return None
    columns = [[row[at] for row in rows if at < len(row)] for at in range(len(heading))]
    runs = next((at for at, name in enumerate(heading) if _RUNS.fullmatch(name)), None)

    others = [at for at in range(len(heading)) if at != runs]
    held = {at: sum(bool(named(cell)) for cell in columns[at]) for at in others}
    image = max(others, key=lambda at: held[at], default=None)
    if image is None or not held[image]:
        image = next((at for at in others if _IMAGE.fullmatch(heading[at])), None)
    if runs is None or image is None:
        return None
    return image, next((at for at in others if at != image and _CLASS.fullmatch(heading[at])), None), runs


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each line that is not empty; the separator is a comma, or a semicolon as in Excel."""
    csv.field_size_limit(_LONGEST)
    with path.open(encoding="utf-8-sig", newline="") as file:
        heading = file.readline()
        file.seek(0)
        rows = csv.reader(file, skipinitialspace=True, delimiter=",;"[heading.count(";") > heading.count(",")])
        for row in filter(None, rows):
            yield rows.line_num, [cell.strip(' "\r\n\ufeff') for cell in row]


def _lines(path: Path, named: Callable[[str], Sequence[Path]]) -> Iterator[tuple[str, str, str, Size | None]]:
    """Yield image, class and runs of each line, and the image's (height, width) if the table has such columns.

    Raises:
        DataError: the file cannot be read, or a line lacks the image, or the class of its runs.
    """
    columns = _columns(path, named)
    if columns is None:
        raise DataError(f"{path}: no columns of images and run-length encodings; expected {RleDataset.expected}")
    image, label, runs = columns
    try:
        needed = 1 + max(image, runs, label or 0)
        rows = _rows(path)
        _, headings = next(rows)
        heading = headings[image]
        sides = [re.sub(r"(?i)^(image|img|mask)_?", "", each).lower() for each in headings]
        sized = [sides.index(side) for side in ("height", "width") if sides.count(side) == 1]
        for number, cells in rows:
            place = f"{path}, line {number}"
            if len(cells) < needed:
                raise DataError(f"{place}: {len(cells)} cells; a line needs {needed}")
            name, called = cells[image], "object" if label is None else cells[label]
            if label is None and "_" in heading and _CLASS.fullmatch(heading):
                name, _, called = name.rpartition("_")
            encoded = cells[runs] if cells[runs].casefold() not in _NONE else ""
            if not name or (encoded and not called):
                raise DataError(f"{place}: {'no class' if name else 'no image'}; each line with runs needs both")
            encoded = encoded.strip("[]").replace(",", " ")
            size = [int(cells[at]) for at in sized if at < len(cells) and cells[at].isdecimal() and int(cells[at])]
            of = f"class_{called}" if called.isdecimal() else called
            yield name, of, encoded, (size[0], size[1]) if len(size) == 2 else None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = reason(error) if isinstance(error, OSError) else error
        raise DataError(f"{path} cannot be read as text: {why}") from None


def _first_pixel(found: _Found, sizes: Mapping[Path, Size | None], by_columns: bool, starts_at_0: bool) -> int:
    """Return the number of the first pixel, 0 or 1, from a run that starts at 0 or from objects cut by image borders.

    With the wrong number, runs of such objects end or begin one pixel beyond the border.
    """
    why = "runs start at 0" * starts_at_0
    beyond = np.zeros(2)  # runs that cross a border if pixels are counted from 0, and from 1
    for path, those in found[:: -(-len(found) // _SOME) or 1] if not why else ():
        with suppress(DataError, ValueError):  # reported when the image is read
            side = (sizes[path] or read_header(path).size)[not by_columns]
            starts, lengths = np.array(" ".join(runs for _, runs in those).split(), np.int64).reshape(-1, 2).T
            # from 0 a run's last pixel may begin a line, from 1 its first one may end a line
            beyond += [(line % side == 0)[lengths > 1].sum() for line in (starts + lengths - 1, starts)]
    if not why and beyond[1] > _SURELY * beyond[0]:
        why = "objects at the borders of the images show it"
    if why:
        warnings.warn(f"pixels are counted from 0 because {why}; first_pixel = 1 counts from 1", stacklevel=5)
    elif beyond[0] <= _SURELY * beyond[1]:
        what = "pixels are counted from 1, as is usual, but the runs do not show whether that is right"
        ways = {"the first pixel is 1, as in most such tables": {"first_pixel": 1}, "it is 0": {"first_pixel": 0}}
        warnings.warn(DataWarning(f"{what}; first_pixel = 0 counts from 0", ways), stacklevel=5)
    return int(not why)


def _go_down(found: _Found, sizes: Mapping[Path, Size | None], first: int) -> bool:
    """Whether runs go by columns, in all splits. In images that are not square, the wrong order gives frayed objects.

    In square images both orders give equally smooth objects, but only the right one puts their edges on image edges.
    """
    edges, contrast = np.zeros(2), np.zeros(2)
    found = [each for each in found if each[1]]
    for path, those in found[:: -(-len(found) // _FEW) or 1]:
        with suppress(DataError, ShapeError):  # reported when the image is read
            size = sizes[path] or read_header(path).size
            step = max(1, read_header(path).size[0] // size[0])  # above 1 if the masks are smaller than the image
            grey = read_picture(path).pixels[::step, ::step].mean(2) if size[0] == size[1] else np.zeros(size)
            if grey.shape != size:
                continue
            for (label, runs), way in product(those, (0, 1)):
                _, bits = draw(Shape(label, "starts", (runs, not way, first)), size)
                apart = [bits[1:] != bits[:-1], bits[:, 1:] != bits[:, :-1]]
                steps = [np.abs(np.diff(grey, axis=axis))[apart[axis]] for axis in (0, 1)]
                edges[way] += sum(each.sum() for each in apart) if size[0] != size[1] else 0
                contrast[way] += np.concatenate(steps).mean() if any(map(len, steps)) else 0
    if not edges.any() and contrast[1] > contrast[0]:
        warnings.warn("runs are read along the rows because they then follow the edges of the images", stacklevel=5)
        return False
    return bool(edges[0] <= edges[1])
