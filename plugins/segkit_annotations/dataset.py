"""What the datasets of annotations share: classes, splits, and the map of classes drawn from the shapes of an image."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import segkit
from segkit.data.issues import refuse
from segkit.data.read import check_place, file_of, read_header, version_of
from segkit.data.sample import Colour, voc_palette
from segkit.errors import ConfigError, DataError, Issue, LabelError, first_few
from segkit_annotations.draw import ShapeError, Size, bounds, draw, scaled
from segkit_annotations.files import Drawn, Record, holding, image_finder, malformed, miniature, patterns, places
from segkit_folder.files import PairedFiles, stem_of
from segkit_folder.layout import Layout, Shares, divided
from segkit_folder.masks import check_checksums
from segkit_folder.pairs import Found
from segkit_folder.splits import SUFFIXES, composed

VOID, VOID_NAME = 255, "void"
_SOME = 20  # images, and shapes of each, that say whether corners are pixels
CROWD = " (crowd)"
"""Ends the name of a group of objects that was drawn as one; it is of their class, unless class_map says otherwise."""
Rule = Literal["smallest", "last", "void", "error"]
Unit = Literal["pixel", "share", "percent"]
_contents: dict[Any, tuple[object, dict[str, None], list[Any]]] = {}


class AnnotatedImages(PairedFiles):
    """Images whose labels are drawn from annotations; a subclass finds and reads one format.

    That of files which say what their images are called has ``_find``, ``_files`` and ``_records``; others have
    ``_read`` in place of the last two.

    Args:
        root: the folder that everything below is relative to.
        split: train, val or test.
        annotations: the file or folder of the annotations; ``{split}`` stands for what the files call a split, as
            train, valid or testing. Left out: looked for.
        images: the folder of the images, likewise; left out: looked for beside the annotations.
        classes: the names that count, in the order of their labels; left out: all that the annotations have.
        class_map: name in the annotations -> class, the background's name, or "void". A name may hold ``*``, as in
            {"*" = "background"} for all others; the first that fits counts.
        attribute: what names the class of a shape, where the format has several such; left out: its name or label.
        background: the class of all pixels that no shape covers, before the others where it is none of them;
            "void": they are void.
        overlap: the class of a pixel that shapes of several classes cover: of the "smallest" shape by its pixels, of
            the "last" one in the annotations, "void", or "error": such images are refused. Left out: what the format
            means.
        first_pixel: of ``rle``, the number of an image's first pixel; left out: 0 where a run starts there, else 1.
        unit: of the corners of shapes: a "pixel", a "share" of the image's width and height, or "percent" of these.
            Left out: what the format means, but shares where all lie in 0 to 1.
        outside: what to do with shapes that go beyond the image by more than a pixel: "error", or "cut" them off.
        enlarge: whether masks and shapes of a smaller size are enlarged by a whole number to their image's.
        skip_unpaired: whether annotations without their image, and masks without one, are left out.
        blank_unpaired: of ``layers``, ``rle`` and ``coco``, whether an image without a mask or object, or without that
            of a class, surely shows nothing of it; left out: such images are told.
        lists: which images are which split: files with a name a line, "{split}.txt".
        group: what must stay in one split, a part of the images' paths: "patient{group}_".
        fractions: shares of train, val and test, where nothing else says which is which.
        val: a share of train that becomes val, where there is none.
        folds: in place of ``val`` so many parts of train, one of which is val, for cross-validation.
        fold: the number of that part, from 0.
        split_seed: another seed, another split by ``fractions``, ``val`` or ``folds``.
    """

    _every: dict[tuple[str | None, Path], Record]  # of all splits, and those that any split may have
    _entries: Mapping[tuple[Path, Path], Record]
    only_chooses = True
    unit: Unit | None = None  # of all corners in the format, if it has one
    may_be_undrawn = False  # whether an image without a shape may be one that nobody has looked at
    rule: Rule = "last"  # what the format means by the order of overlapping shapes
    usual: Mapping[str, str] = {}  # class_map of the format itself
    expected = "annotations"  # what a message says that is looked for
    miniature = "{split}"  # where the pictures of a miniature lie
    tool = ""  # whose format a malformed file should have
    signs: ClassVar[Mapping[str, Sequence[str]]] = {}  # name of a file, with * -> what stands in its first bytes

    def __init__(
        self,
        root: str | Path,
        split: str,
        annotations: str = "",
        images: str = "",
        classes: list[str] | None = None,
        class_map: Mapping[str, str] | None = None,
        attribute: str = "",
        background: str = "background",
        overlap: Literal["smallest", "last", "void", "error"] | None = None,
        first_pixel: Literal[0, 1] | None = None,
        unit: Literal["pixel", "share", "percent"] | None = None,
        outside: Literal["error", "cut"] = "error",
        enlarge: bool = False,
        skip_unpaired: bool = False,
        blank_unpaired: bool = False,
        lists: str | Mapping[str, str] | None = None,
        group: str | None = None,
        fractions: Sequence[float] = (0.7, 0.15, 0.15),
        val: float | None = None,
        folds: int | None = None,
        fold: int = 0,
        split_seed: int = 0,
    ) -> None:
        self.root = base = Path(root).expanduser()
        if not base.is_dir():
            raise DataError(f"{base}: no such folder")
        self.rule, self.attribute, self._cut = overlap or self.rule, attribute, outside == "cut"
        self._enlarge = enlarge
        self._first: int | None = first_pixel
        self.skip_unpaired, self.blank_unpaired = skip_unpaired, blank_unpaired
        where = {"annotations": annotations} if annotations else self._only(base)
        names, entries = self._read(base, where["annotations"], images or where.get("images", ""))
        absent = [str(each.image) for each in entries if not is_there(each.image)] if skip_unpaired else []
        if absent:
            entries = [each for each in entries if is_there(each.image)]
            what = "annotated images that are not there"
            warnings.warn(f"left out, as skip_unpaired says: {len(absent)} {what}: {first_few(absent)}", stacklevel=2)
        if not entries:
            told = f"; annotated, but not there are {first_few(absent)}" if absent else ""
            raise DataError(f"{base}: no image with annotations; expected is {self.expected}{told}")
        _tell_unread(entries)
        blank = [entry.image.name for entry in entries if not entry.shapes]
        if blank and self.may_be_undrawn and not blank_unpaired:
            # COCO's own have 1 %; of more than a quarter one asks whether somebody has still to draw
            end = "; blank_unpaired = true says that it is so" * (4 * len(blank) > len(entries))
            what = "images have no object and are all background"
            warnings.warn(f"{len(blank)} of {len(entries)} {what}: {first_few(blank)}{end}", stacklevel=2)
        self.unit = unit or self.unit or _unit_of(entries)
        self._labels, classes = self._meanings(names, entries, classes, class_map or {}, background)
        layout = self._divided(entries, lists, group, Shares(fractions, split_seed, val, folds, fold))
        super().__init__(
            [],
            classes=classes,
            palette=voc_palette(len(classes)),
            values={index: index for index in (*range(len(classes)), VOID)},
        )
        self._outside = classes.index(background) if background in classes else VOID
        options = (self._outside, self.rule, self._cut, enlarge, attribute, self._first, self.unit)
        self.reading = repr((self.reading, sorted(self._labels.items()), *options))
        layout.refuse(split)
        self.choose(layout, split)

    def _read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Record]]:
        """The names of the classes that the annotations declare, and what they say of each image of all splits."""
        names: dict[str, None] = {}
        entries: list[Record] = []
        issues: list[Issue] = []
        blank: list[str] = []
        finder = cache(partial(image_finder, root, images))
        for split, place in places(root, annotations):
            for path in self._files(place):
                with malformed(path, self.tool, issues):
                    own, records = self._content(path)
                    names |= own
                    for each in records:
                        if isinstance(each, str):
                            blank.append(each)
                            continue
                        of, image = each.split or split, each.image
                        image = image if isinstance(image, Path) else finder(path.parent, of, each.folder)(image)
                        height, width = (int(float(side or 0)) for side in each.size or (0, 0))
                        size = (height, width) if height and width else None
                        entries.append(Record(image, each.shapes, size, of, sources=each.sources or (path,)))
        refuse(issues)
        if blank:
            what = "images that are not annotated, or whose annotation was cancelled"
            warnings.warn(f"not read: {len(blank)} {what}: {first_few(blank)}", stacklevel=4)
        return [*names] or sorted({shape.label for entry in entries for shape in entry.shapes}), entries

    def _content(self, path: Path) -> tuple[dict[str, None], list[Record | str]]:
        """The names that a file declares, and what it says of its images; it is read once, until it changes."""
        key, version = (type(self), path, self.attribute), version_of(path)
        version = object() if path.suffix == ".txt" else version  # CVAT's labelmap.txt says nothing of the masks there
        if key not in _contents or _contents[key][0] != version:
            names: dict[str, None] = {}
            _contents[key] = version, names, [*self._records(path, names)]
        return _contents[key][1:]

    def _files(self, place: Path) -> Sequence[Path]:
        """The files of annotations at a place of ``annotations``."""
        return [place]

    def _records(self, path: Path, names: dict[str, None]) -> Iterable[Record | str]:
        """What a file says of its images, of one that nobody has annotated the name; it adds its classes to ``names``.

        It depends on nothing but the file and ``self.attribute``.

        Raises:
            DataError: it cannot be read; any error of Python's says that it is not of this format.
        """
        raise NotImplementedError

    @classmethod
    def _find(cls, root: Path) -> list[Path]:
        """What ``annotations`` could be: files of the first name in ``signs`` that hold one of its texts."""
        return next(filter(None, (holding(root, name, texts) for name, texts in cls.signs.items())), [])

    @classmethod
    def recognise(cls, root: Path) -> list[dict[str, str]]:
        """See :func:`segkit.hookspecs.segkit_datasets`."""
        found = patterns(path.relative_to(root).as_posix() for path in cls._find(root))
        return [{"annotations": each} for each in found]

    @classmethod
    def write_sample(cls, root: str | Path) -> Any:
        """Write a miniature of the format, for tests and users: eight pictures of a square and a triangle."""
        for split, drawn in miniature(Path(root), cls.miniature):
            for name, content in cls._sample(split, drawn):
                path = Path(root) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, Image.Image):
                    content.save(path)
                else:
                    path.write_text(content if isinstance(content, str) else json.dumps(content))

    @classmethod
    def _sample(cls, split: str, drawn: Sequence[Drawn]) -> Iterator[tuple[str, Any]]:
        """The files of a miniature's split by their paths: a text, what JSON holds, or a picture."""
        raise NotImplementedError

    def _only(self, root: Path) -> Mapping[str, str]:
        found = self.recognise(root)
        if len(found) != 1:
            several = first_few([each["annotations"] for each in found])
            there = f"there are several: {several}; name one" if found else f"expected is {self.expected}"
            raise DataError(f"{root}: which annotations are meant is not plain to see: {there} in `annotations`")
        return found[0]

    def _divided(
        self, entries: Sequence[Record], lists: str | Mapping[str, str] | None, group: str | None, shares: Shares
    ) -> Layout:
        """The images of all splits."""
        self._every = {}
        for entry in entries:
            if (other := self._every.setdefault((entry.split, entry.image), entry)) is not entry:
                raise DataError(f"{entry.image}: annotated twice, in {other.sources[0]} and {entry.sources[0]}")
        self._every |= {(None, entry.image): entry for entry in entries}
        stems = {entry.image: stem_of(entry.image) for entry in entries}
        are_unique = len({composed(stem.name) for stem in stems.values()}) == len(stems)
        found = []
        for entry in entries:
            stem = stems[entry.image]
            name = composed(stem.name if are_unique else Path(os.path.relpath(stem, self.root)).as_posix())
            found.append(Found(entry.image, name, {"id": name}).in_split(entry.split))
        masks = {entry.image: entry.sources[0] for entry in entries}
        layout = divided(self.root, Layout(found, masks), lists, group, shares)
        if layout.splits and (left := [str(each.path) for each in layout.images if "split" not in each.values]):
            warnings.warn(f"not read: {len(left)} annotated images are in no split: {first_few(left)}", stacklevel=4)
        absent = {image: mask for image, mask in masks.items() if not is_there(image)}
        what = "named by the annotations but not there"
        advice = "fetch it, say where it lies, images = FOLDER, or leave such images out, skip_unpaired = true"
        issues = [
            (each.values.get("split"), Issue("mask_without_image", str(each.path), what, advice, f"in {mask}"))
            for each in layout.images
            if (mask := absent.get(each.path))
        ]
        there = {image: mask for image, mask in masks.items() if image not in absent}
        return replace(layout, masks=there, issues=[*layout.issues, *issues])

    def choose(self, layout: Layout, split: str) -> None:
        """See :meth:`PairedFiles.choose`."""
        super().choose(layout, split)
        chosen = [self._every.get((split, image)) or self._every[None, image] for image, _ in self.pairs]
        self._entries = {(each.image, each.sources[0]): each for each in chosen}
        self.pairs = [*self._entries]
        del self.names  # of this split alone they may be shorter

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_every": {}}

    def _meanings(
        self,
        names: Sequence[str],
        entries: Sequence[Record],
        classes: Sequence[str] | None,
        class_map: Mapping[str, str],
        background: str,
    ) -> tuple[dict[str, int], list[str]]:
        """Name in the annotations -> class index or void; and the classes."""
        if VOID_NAME in (classes or ()):
            raise ConfigError('classes: "void" is no class; say in class_map which names are void')
        used = {shape.label: entry.sources[0] for entry in reversed(entries) for shape in entry.shapes}
        usual = {name: background if meant == "background" else meant for name, meant in self.usual.items()}

        def meaning(name: str) -> str:
            known = [meant for maps in (class_map, usual) for key, meant in maps.items() if fnmatchcase(name, key)]
            return known[0] if known else meaning(name.removesuffix(CROWD)) if name.endswith(CROWD) else name

        meant = {name: meaning(name) for name in dict.fromkeys([*names, *used])}
        known = [*dict.fromkeys(meant[name] for name in names)] if classes is None else [*classes]
        known = [name for name in known if name != VOID_NAME]
        classes = known if background in (*known, VOID_NAME) else [background, *known]
        what, advice = "a name that is no class", f"the classes are {first_few(classes, 20)}; add it to `classes`, or "
        advice += f'say in class_map what it is: a class, "{VOID_NAME}" or "{background}"'
        odd = [name for name in used if meant[name] not in (*classes, VOID_NAME)]
        refuse([Issue("unknown_class", str(used[name]), what, advice, f"'{name}'") for name in odd])
        return {name: classes.index(each) if each in classes else VOID for name, each in meant.items()}, classes

    def files(self, index: int) -> tuple[Path, ...]:
        """The image and the files that its labels are read from."""
        entry = self._entries.get(self.pairs[index])
        return (entry.image, *entry.sources) if entry else super().files(index)

    def check_mask_file(self, index: int) -> Mapping[int, Colour]:
        """Check the checksums of those labels that are stored as pictures."""
        if self.pairs[index] not in self._entries:
            return super().check_mask_file(index)
        for path in self.files(index)[1:]:
            if path.suffix.lower() in SUFFIXES:
                check_checksums(path)
                check_place(self.pairs[index][0], path)
        return {}

    def inspect(self, index: int) -> tuple[segkit.Sample, dict[str, Any]]:
        """See :meth:`segkit.data.sample.Dataset.inspect`; shapes fit whichever way a turned image is shown."""
        sample, found = super().inspect(index)
        if entry := self._entries.get(self.pairs[index]):
            image = read_header(entry.image)
            fits_raw = image.orientation < 5 or image.size[0] == image.size[1]
            if image.orientation != 1 and (fits_raw or not (entry.size or self._size(entry))):
                found["turned_image"] = ""
        return sample, found

    def _read_mask(self, index: int, size: tuple[int, ...]) -> Tensor:
        entry, own = self._entries.get(self.pairs[index]), (size[0], size[1])
        if entry is None:  # a mask of class indices that predictions are compared with
            return super()._read_mask(index, size)
        theirs = entry.size or self._size(entry) or own
        factor = own[0] // theirs[0]
        if factor < 2 or not self._enlarge or own != (factor * theirs[0], factor * theirs[1]):
            self._check_size(entry, theirs, own)
        return torch.from_numpy(self._draw(entry, theirs).repeat(factor, 0).repeat(factor, 1))

    def _size(self, entry: Record) -> Size | None:
        """The size of the masks, where these are files of their own."""

    def _check_size(self, entry: Record, theirs: tuple[int, ...], own: Size) -> None:
        if theirs != own:
            what, advice = "the annotations have another size than the image", "export them for this very image"
            kind = "size"
            if own[0] % theirs[0] == own[1] % theirs[1] == 0 and own[0] // theirs[0] == own[1] // theirs[1]:
                kind, advice = "smaller", f"{advice}; enlarge = true makes each of their pixels a block of the image's"
            if theirs == own[::-1]:
                advice = "one of the two lies on its side: an image that EXIF turns is read upright"
            detail = f"{theirs[1]} x {theirs[0]}, {entry.image} is {own[1]} x {own[0]}, width x height"
            raise LabelError(Issue(kind, str(entry.sources[0]), what, advice, detail))

    def _draw(self, entry: Record, size: Size) -> NDArray[np.uint8]:
        """The map of classes ``[H,W]``."""
        mask, clash = np.full(size, self._outside, np.uint8), np.zeros(size, bool)
        none = size[0] * size[1] + 1
        area = np.full(size, none, np.int32)  # of the shape that a pixel is of
        for number, shape in enumerate(entry.shapes, 1):
            try:
                if self.unit != "pixel":
                    whole = 1 if self.unit == "share" else 100
                    shape = shape._replace(data=scaled(shape.data, size[1] / whole, size[0] / whole))
                box, slack = bounds(shape.data), 10 * max(size) if self._cut else 1
                if box and (min(box[:2]) < -slack or box[2] > size[1] + slack or box[3] > size[0] + slack):
                    where = f"x {box[0]:g} to {box[2]:g}, y {box[1]:g} to {box[3]:g}, it is {size[1]} x {size[0]}"
                    hint = 'where outside = "cut" would cut it off'
                    if max(map(abs, box)) > 10 * max(size):
                        hint = "ten times its size: corners are shares, percent or pixels, as `unit` says; draw what "
                        hint += "is in coordinates on Earth into masks of pixels"
                    raise ShapeError(f"a shape that goes beyond its image, {hint}", where)
                at, bits = draw(shape, size)
            except ShapeError as error:
                what, advice = error.args[0], "correct it with the tool that wrote it, or leave the image out"
                parts = [f"number {number} of {entry.image.name}", f"'{shape.label}'", error.args[1]]
                detail = ", ".join(filter(None, parts))
                raise LabelError(Issue("shape", str(entry.sources[0]), what, advice, detail)) from None
            label, pixels = self._labels[shape.label], int(np.count_nonzero(bits))
            clash[at] |= bits & (area[at] < none) & (mask[at] != label)
            wins = bits & (area[at] >= pixels) if self.rule == "smallest" else bits  # of two equal ones the later
            np.copyto(mask[at], label, where=wins)
            np.copyto(area[at], pixels, where=wins)
        if self.rule == "error" and clash.any():
            what = "shapes of several classes cover the same pixels, and a pixel has one class"
            advice = 'say which one counts: overlap = "smallest", "last" or "void"'
            raise LabelError(Issue("overlap", str(entry.image), what, advice, f"{int(clash.sum()):,} pixels"))
        return np.where(clash, np.uint8(VOID), mask) if self.rule == "void" else mask


def is_there(image: Path) -> bool:
    """Whether the image's file is."""
    return file_of(image)[0].is_file()


def _unit_of(entries: Sequence[Record]) -> Unit:
    """What corners are counted in where nobody says it; what is odd is told, from a few images."""
    some = [entry for entry in entries if entry.shapes][:_SOME]
    boxes = [box for entry in some for shape in entry.shapes[:_SOME] if (box := bounds(shape.data))]
    least, most = min((min(box) for box in boxes), default=0), max((max(box) for box in boxes), default=0)
    if least >= 0 and most <= 1 and any(0 < each < 1 for box in boxes for each in box):
        what = 'corners are shares of width and height, as all lie in 0 to 1; unit = "pixel" takes them for pixels'
        warnings.warn(what, stacklevel=3)
        return "share"
    if boxes and least >= 0 and most <= 100:
        with suppress(DataError):  # told when it is read
            if all(min(entry.size or read_header(entry.image).size) > max(200, 2 * most) for entry in some):
                what = "all corners lie in 0 to 100 and the images are far larger, as of percent"
                hint = 'unit = "percent" takes them for these, unit = "pixel" for pixels, as is done now'
                warnings.warn(f"{what}; {hint}", stacklevel=3)
    return "pixel"


def _tell_unread(entries: Sequence[Record]) -> None:
    """Warn of pictures beside the annotated ones that no annotation names."""
    named = {file_of(path)[0] for entry in entries for path in (entry.image, *entry.sources)}
    folders = [folder for folder in {entry.image.parent for entry in entries} if folder.is_dir()]
    beside = [each for folder in folders for each in folder.iterdir() if each not in named]
    if unread := sorted(str(each) for each in beside if each.suffix.lower() in SUFFIXES):
        warnings.warn(f"not read: {len(unread)} pictures without annotations: {first_few(unread)}", stacklevel=3)
