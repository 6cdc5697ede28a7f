"""What the datasets of annotations share: classes, splits, and the map of classes drawn from the shapes of an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkit.data.issues import refuse
from segkit.data.read import check_checksums
from segkit.data.sample import SPLITS, voc_palette
from segkit.errors import ConfigError, DataError, Issue, LabelError, first_few
from segkit_annotations.draw import Region, Shape, ShapeError, Size, bounds
from segkit_annotations.places import Entry, divided
from segkit_folder.files import PairedFiles
from segkit_folder.splits import SUFFIXES, require_split

VOID, VOID_NAME = 255, "void"
Rule = Literal["smallest", "last", "void", "error"]
_OUTSIDE = "a shape that goes beyond its image"


class AnnotatedImages(PairedFiles):
    """Images whose labels are drawn from annotations; a subclass reads one format in :meth:`read`.

    Args:
        root: the folder that everything below is relative to.
        split: train, val or test.
        annotations: the file or folder of the annotations; ``{split}`` stands for what the files call a split, as
            train, valid or testing. Left out: looked for.
        images: the folder of the images, likewise; left out: looked for beside the annotations.
        classes: the names that count, in the order of their labels; left out: all that the annotations have.
        class_map: name in the annotations -> class, the background's name, or "void". A name may hold ``*``, as in
            {"*" = "background"} for all others.
        background: the class of all pixels that no shape covers, first of the classes where it is none of them;
            "void": they are void.
        overlap: the class of a pixel that shapes of several classes cover: of the "smallest" shape by its pixels, of
            the "last" one in the annotations, "void", or "error": such images are refused. Left out: what the format
            means.
        outside: what to do with shapes that go beyond the image by more than a pixel: "error", or "cut" them off.
        lists: a text file a split with names of images, such as "{split}.txt".
        fractions: shares of train, val and test, where nothing else divides the images.
        split_seed: another seed, another split by fractions.
    """

    rule: Rule = "last"  # what the format means by the order of overlapping shapes
    usual: Mapping[str, str] = {}  # class_map of the format itself
    expected = "annotations"  # what a message says that is looked for

    def __init__(
        self,
        root: str | Path,
        split: str,
        annotations: str = "",
        images: str = "",
        classes: list[str] | None = None,
        class_map: Mapping[str, str] | None = None,
        background: str = "background",
        overlap: Rule | None = None,
        outside: Literal["error", "cut"] = "error",
        lists: str = "",
        fractions: Sequence[float] = (0.7, 0.15, 0.15),
        split_seed: int = 0,
    ) -> None:
        base = Path(root).expanduser()
        if not base.is_dir():
            raise DataError(f"{base}: no such folder")
        names, entries = self.read(base, annotations or self._only(base), images)
        if not entries:
            raise DataError(f"{base}: no image with annotations; expected is {self.expected}")
        self.rule, self._cut = overlap or self.rule, outside == "cut"
        self._labels, classes = self._meanings(names, entries, classes, class_map or {}, background)
        parts = divided(base, entries, lists, fractions, split_seed)
        self.splits = tuple(each for each in SPLITS if parts.get(each))
        require_split(split, self.splits, base)
        self.entries = parts[split]
        absent = [entry for entry in self.entries if not entry.image.is_file()]
        what, advice = "named by the annotations but not there", "fetch it, or say where it lies: images = FOLDER"
        refuse([Issue("missing", str(each.image), what, advice, f"in {each.sources[0]}") for each in absent])
        self.entries = [entry for entry in self.entries if entry.image.is_file()] if absent else self.entries
        super().__init__(
            [(entry.image, entry.sources[0]) for entry in self.entries],
            classes=classes,
            palette=voc_palette(len(classes)),
            values={index: index for index in (*range(len(classes)), VOID)},
        )
        self._outside = self.classes.index(background) if background in self.classes else VOID
        self.reading = repr((self.reading, sorted(self._labels.items()), self._outside, self.rule, self._cut))

    def read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Entry]]:
        """The names of the classes that the annotations declare, and what they say of each image of all splits.

        Raises:
            DataError: they cannot be read.
        """
        raise NotImplementedError

    @classmethod
    def find(cls, root: Path) -> list[str]:
        """What ``annotations`` could be, from names of files and a look at their first bytes."""
        return []

    @classmethod
    def recognise(cls, root: Path) -> list[dict[str, Any]]:
        """See :meth:`segkit.data.sample.Dataset.recognise`."""
        return [{"annotations": each} for each in cls.find(root)]

    def _only(self, root: Path) -> str:
        found = self.find(root)
        if len(found) != 1:
            there = f"there are several: {first_few(found)}; name one" if found else f"expected is {self.expected}"
            raise DataError(f"{root}: which annotations are meant is not plain to see: {there} in `annotations`")
        return found[0]

    def _meanings(
        self,
        names: Sequence[str],
        entries: Sequence[Entry],
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
            return next(
                (meant for maps in (class_map, usual) for key, meant in maps.items() if fnmatchcase(name, key)), name
            )

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
        return (self.entries[index].image, *self.entries[index].sources)

    def check_mask_file(self, index: int) -> Mapping[int, tuple[int, int, int]]:
        """Check the checksums of those labels that are stored as pictures."""
        for path in self.entries[index].sources:
            if path.suffix.lower() in SUFFIXES:
                check_checksums(path)
        return {}

    def _read_mask(self, index: int, size: tuple[int, ...]) -> Tensor:
        entry, own = self.entries[index], (size[0], size[1])
        if entry.size:
            self._check_size(entry, entry.size, own)
        return torch.from_numpy(self._draw(entry, own))

    def _check_size(self, entry: Entry, theirs: tuple[int, ...], own: Size) -> None:
        if theirs != own:
            what, advice = "the annotations have another size than the image", "export them for this very image"
            if theirs == own[::-1]:
                advice = "one of the two lies on its side: an image that EXIF turns is read upright"
            detail = f"{theirs[1]} x {theirs[0]}, {entry.image} is {own[1]} x {own[0]}, width x height"
            raise LabelError(Issue("size", str(entry.sources[0]), what, advice, detail))

    def _draw(self, entry: Entry, size: Size) -> NDArray[np.uint8]:
        """The map of classes ``[H,W]``."""
        mask = np.full(size, self._outside, np.uint8)
        regions: Iterable[tuple[int, Region]] = self._regions(entry, size)
        if self.rule == "smallest":  # of two equal ones the later counts
            regions = sorted(regions, key=lambda each: -int(each[1].bits.sum()))
        covered = np.zeros(size if self.rule in ("void", "error") else 0, bool)
        clash = np.zeros_like(covered)
        for label, region in regions:
            part, bits = region.of(mask), region.bits
            if covered.size:
                own = region.of(covered)
                region.of(clash)[...] |= own & bits & (part != label)
                own |= bits
            part[bits] = label
        if clash.any() and self.rule == "error":
            what = "shapes of several classes cover the same pixels, and a pixel has one class"
            advice = 'say which one counts: overlap = "smallest", "last" or "void"'
            raise LabelError(Issue("overlap", str(entry.image), what, advice, f"{int(clash.sum()):,} pixels"))
        if covered.size:
            mask[clash] = VOID
        return mask

    def _regions(self, entry: Entry, size: Size) -> Iterator[tuple[int, Region]]:
        for number, shape in enumerate(entry.shapes, 1):
            try:
                region = _cropped(shape.draw(shape.data, size))
                self._check_inside(shape, size)
                yield self._labels[shape.label], region
            except ShapeError as error:
                source, advice = entry.sources[0], "correct it with the tool that wrote it, or leave the image out"
                if error.what == _OUTSIDE:
                    advice = 'are they of this image? outside = "cut" cuts them off at its border'
                detail = f"number {number} of {entry.image.name}, '{shape.label}'" + f": {error.detail}" * bool(
                    error.detail
                )
                raise LabelError(Issue("shape", str(source), error.what, advice, detail)) from None

    def _check_inside(self, shape: Shape, size: Size) -> None:
        box = None if self._cut else bounds(shape.data)
        if box and (min(box[:2]) < -1 or box[2] > size[1] + 1 or box[3] > size[0] + 1):
            raise ShapeError(
                _OUTSIDE,
                f"x {box[0]:g} to {box[2]:g}, y {box[1]:g} to {box[3]:g}, the image is {size[1]} x {size[0]}",
            )


def _cropped(region: Region) -> Region:
    """The same without empty rows and columns: several are held at a time."""
    rows, columns = np.flatnonzero(region.bits.any(1)), np.flatnonzero(region.bits.any(0))
    if not len(rows):
        return Region(0, 0, np.zeros((0, 0), bool))
    top, left = int(rows[0]), int(columns[0])
    bits = region.bits[top : rows[-1] + 1, left : columns[-1] + 1].copy()
    return Region(region.top + top, region.left + left, bits)
