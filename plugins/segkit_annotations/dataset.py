"""The base class of all annotation datasets: classes, splits, and masks drawn from the shapes of an image."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segkit.data.read import Header, file_of
from segkit.data.sample import Colour, voc_palette
from segkit.errors import ConfigError, DataError, DataWarning, Issue, first_few, refuse
from segkit_annotations.draw import Size
from segkit_annotations.files import Drawn, Record, holding, image_finder, malformed, miniature, patterns, places
from segkit_annotations.rasterizer import VOID, Rasterizer, Rule, are_shares
from segkit_folder.files import PairedFiles, resized, stem_of
from segkit_folder.layout import Layout, Shares, divided, without_unpaired
from segkit_folder.masks import check_checksums
from segkit_folder.pairs import LEFT_OUT, Found
from segkit_folder.pictures import version_of
from segkit_folder.splits import SUFFIXES, composed
from segkit_readers.place import aligned_headers

VOID_NAME = "void"
CROWD = " (crowd)"
"""Suffix of the label of a group of objects drawn as one; it has the objects' class unless class_map maps it."""
_contents: dict[Any, tuple[object, dict[str, None], list[Any]]] = {}


NOT_SHOWN: Mapping[str, Mapping[str, Any]] = {"these images show no such object": {"blank_unpaired": True}}
"""The ways of a warning about images without a mask or shape."""


class AnnotatedImages(PairedFiles):
    """Images whose masks are drawn from annotations; each subclass finds and reads one format.

    A subclass whose files name their images defines ``_find``, ``_files`` and ``_records``; other subclasses define
    ``_find`` and ``_read``.

    Args:
        root: the folder that all other paths are relative to.
        split: train, val or test.
        annotations: the file or folder of the annotations; ``{split}`` stands for the name of a split in the paths,
            such as train, valid or testing. Default: search below ``root``.
        images: the folder of the images; may contain ``{split}``. Default: search beside the annotations.
        classes: class names, in the order of their indices. Default: all names in the annotations.
        class_map: name in the annotations -> class, the background's name, or "void". ``*`` in a name matches any
            text, so {"*" = "background"} maps all other names; the first match is used.
        attribute: the attribute that holds a shape's class, where the format has several. Default: its name or label.
        background: the class of all pixels that no shape covers; it becomes class 0 if it is not one of ``classes``.
            "void": these pixels are void.
        overlap: the class of a pixel that shapes of several classes cover: that of the "smallest" shape in pixels, of
            the "last" shape in the annotations, or "void"; "error" refuses such images. Default: the format's own
            rule.
        first_pixel: for ``rle``: the number of an image's first pixel. Default: 0 if a run starts at 0, else 1.

        outside: what to do with a shape that extends over a pixel beyond the image: "error", or "cut" it off.
        resize_masks: whether masks and shapes of another size than their image, but the same aspect ratio, are resized
            to the image, by the nearest label.
        skip_unpaired: whether to leave out annotations or masks without an image.
        blank_unpaired: for ``layers``, ``rle`` and ``coco``: accept images without any mask or object, or without a
            mask of some class, as showing none. Default: warn about such images.
        lists: files that assign images to splits, one name per line: "{split}.txt".
        group: pattern for the part of an image's path whose images must stay in one split: "patient{group}_".
        fractions: shares of train, val and test, used when nothing else assigns images to splits.
        val: the share of train that becomes val, if there is no val.
        folds: for cross-validation, instead of ``val``: the number of parts of train, one of which becomes val.
        fold: the number of that part, from 0.
        split_seed: the seed of the random split by ``fractions``, ``val`` or ``folds``.
    """

    _entries: Mapping[tuple[Path, Path], Record]

    in_shares: bool | None = None  # whether corners are shares of width and height; None: if all lie in 0 to 1
    may_be_undrawn = False  # whether an image without shapes may be one that nobody has annotated yet
    rule: Rule = "last"  # the format's rule for overlapping shapes
    default_class_map: Mapping[str, str] = {}  # the format's own class_map
    expected = "annotations"  # the files that messages say are expected
    miniature = "{split}"  # the image folder of a generated miniature
    tool = ""  # the format's name in messages about malformed files
    signs: ClassVar[Mapping[str, Sequence[str]]] = {}  # file name pattern -> texts of which its first bytes hold one

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
        outside: Literal["error", "cut"] = "error",
        resize_masks: bool = False,
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
        self.attribute = attribute
        self.resize_masks = resize_masks
        self._first: int | None = first_pixel
        self.skip_unpaired, self.blank_unpaired = skip_unpaired, blank_unpaired
        where = {"annotations": annotations} if annotations else self._only_candidate(base)
        names, entries = self._read(base, where["annotations"], images or where.get("images", ""))
        if not entries:
            raise DataError(f"{base}: no image with annotations; expected {self.expected}")
        _warn_unread(entries)
        if self.may_be_undrawn and not blank_unpaired:
            _warn_blank(entries)
        in_shares = are_shares(entries) if self.in_shares is None else self.in_shares
        labels, classes = self._class_indices(names, entries, classes, class_map or {}, background)
        layout = self._layout_of(entries, lists, group, Shares(fractions, split_seed, val, folds, fold))
        layout = without_unpaired(layout) if skip_unpaired else layout
        super().__init__(
            [],
            classes=classes,
            palette=voc_palette(len(classes)),
            values={index: index for index in (*range(len(classes)), VOID)},
        )
        rest = classes.index(background) if background in classes else VOID
        self._rasterizer = Rasterizer(labels, rest, overlap or self.rule, in_shares, outside == "cut")
        self.reading = repr((self.reading, self._rasterizer, resize_masks, attribute, self._first))
        layout.refuse(split)
        self.choose(layout, split)
        records = {(each.image, each.split): each for each in entries} | {(each.image, None): each for each in entries}
        chosen = [records.get((image, split)) or records[image, None] for image, _ in self.pairs]
        self._entries = {(each.image, each.sources[0]): each for each in chosen}
        self.pairs = [*self._entries]
        del self.names  # recomputed: names that are unique within this split may be shorter

    def _read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Record]]:
        """Return the declared class names, and a record per image of all splits."""
        names: dict[str, None] = {}
        entries: list[Record] = []
        issues: list[Issue] = []

        finder = cache(partial(image_finder, root, images))
        for split, place in places(root, annotations):
            for path in self._files(place):
                with malformed(path, self.tool, issues):
                    own, records = self._content(path)
                    names |= own
                    for each in records:
                        of, image = each.split or split, each.image
                        image = image if isinstance(image, Path) else finder(path.parent, of, each.folder)(image)
                        height, width = (int(float(side or 0)) for side in each.size or (0, 0))
                        size = (height, width) if height and width else None
                        entries.append(Record(image, each.shapes, size, of, sources=each.sources or (path,)))
        refuse(issues)

        return [*names] or sorted({shape.label for entry in entries for shape in entry.shapes}), entries

    def _content(self, path: Path) -> tuple[dict[str, None], list[Record]]:
        """Return the class names and records of a file; a file is read again only after it has changed."""
        key, version = (type(self), path, self.attribute), version_of(path)
        if key not in _contents or _contents[key][0] != version:
            names: dict[str, None] = {}
            _contents[key] = version, names, [*self._records(path, names)]
        return _contents[key][1:]

    def _files(self, place: Path) -> Sequence[Path]:
        """Return the annotation files that a path of ``annotations`` stands for."""
        return [place]

    def _records(self, path: Path, names: dict[str, None]) -> Iterable[Record]:
        """Yield a record per annotated image of a file.

        Adds the file's classes to ``names``. The result is cached by file and ``self.attribute``.

        Raises:
            DataError: the file cannot be read. Built-in exceptions mean that it does not have this format.
        """
        raise NotImplementedError

    @classmethod
    def _find(cls, root: Path) -> list[Path]:
        """Return candidates for ``annotations``: files that match the first pattern of ``signs`` with any match."""
        return next(filter(None, (holding(root, name, texts) for name, texts in cls.signs.items())), [])

    @classmethod
    def recognise(cls, root: Path) -> list[dict[str, str]]:
        """See :func:`segkit.hookspecs.segkit_datasets`."""
        found = patterns(path.relative_to(root).as_posix() for path in cls._find(root))
        return [{"annotations": each} for each in found]

    @classmethod
    def write_sample(cls, root: str | Path) -> Any:
        """Write a miniature data set in this format, for tests and users: eight pictures of a square and a triangle."""
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
        """Yield (path, content) of each file of a miniature's split; content: text, a JSON value or a picture."""
        raise NotImplementedError

    def _only_candidate(self, root: Path) -> Mapping[str, str]:
        found = self.recognise(root)
        if len(found) != 1:
            several = first_few([each["annotations"] for each in found])
            there = f"there are several: {several}" if found else f"none found; expected {self.expected}"
            raise DataError(f"{root}: cannot tell which annotations to read: {there}. Set `annotations` to one path")
        return found[0]

    def _layout_of(
        self, entries: Sequence[Record], lists: str | Mapping[str, str] | None, group: str | None, shares: Shares
    ) -> Layout:
        """Return the layout of the images of all splits."""
        first: dict[tuple[Path, str | None], Record] = {}
        for entry in entries:
            if (other := first.setdefault((entry.image, entry.split), entry)) is not entry:
                raise DataError(f"{entry.image}: annotated twice, in {other.sources[0]} and {entry.sources[0]}")
        stems = {entry.image: stem_of(entry.image) for entry in entries}
        are_unique = len({composed(stem.name) for stem in stems.values()}) == len(stems)
        found = []
        for entry in entries:
            stem = stems[entry.image]
            name = composed(stem.name if are_unique else Path(os.path.relpath(stem, self.root)).as_posix())
            found.append(Found(entry.image, name, {"id": name}).in_split(entry.split))
        masks = {entry.image: entry.sources[0] for entry in entries if is_there(entry.image)}
        what = "named by the annotations but does not exist"
        advice = "fetch it, set images = FOLDER to where it lies, or leave such images out with skip_unpaired = true"
        issues = [
            (
                each.split,
                Issue("mask_without_image", str(each.image), what, advice, f"in {each.sources[0]}", ways=LEFT_OUT),
            )
            for each in entries
            if each.image not in masks
        ]
        if not masks:
            refuse([issue for _, issue in issues])
        found = [each for each in found if each.path in masks]
        layout = divided(self.root, Layout(found, masks, issues), lists, group, shares)
        if layout.splits and (left := [str(each.path) for each in layout.images if "split" not in each.values]):
            warnings.warn(f"not read: {len(left)} annotated images are in no split: {first_few(left)}", stacklevel=4)
        return layout

    def _class_indices(
        self,
        names: Sequence[str],
        entries: Sequence[Record],
        classes: Sequence[str] | None,
        class_map: Mapping[str, str],
        background: str,
    ) -> tuple[dict[str, int], list[str]]:
        """Return the map from names in the annotations to class indices or void, and the classes."""
        if VOID_NAME in (classes or ()):
            raise ConfigError('classes: "void" is no class; map names to "void" in class_map')
        used = {shape.label: entry.sources[0] for entry in reversed(entries) for shape in entry.shapes}
        defaults = {key: background if name == "background" else name for key, name in self.default_class_map.items()}

        def meaning(name: str) -> str:
            known = [meant for maps in (class_map, defaults) for key, meant in maps.items() if fnmatchcase(name, key)]
            return known[0] if known else meaning(name.removesuffix(CROWD)) if name.endswith(CROWD) else name

        meant = {name: meaning(name) for name in dict.fromkeys([*names, *used])}
        known = [*dict.fromkeys(meant[name] for name in names)] if classes is None else [*classes]
        known = [name for name in known if name != VOID_NAME]
        classes = known if background in (*known, VOID_NAME) else [background, *known]
        what, advice = "a name that is no class", f"the classes are {first_few(classes, 20)}; add it to `classes`, or "
        advice += f'map it in class_map to a class, "{VOID_NAME}" or "{background}"'
        odd = [name for name in used if meant[name] not in (*classes, VOID_NAME)]
        refuse([Issue("unknown_class", str(used[name]), what, advice, f"'{name}'") for name in odd])
        return {name: classes.index(each) if each in classes else VOID for name, each in meant.items()}, classes

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the image and the files that its mask is drawn from."""
        entry = self._entries.get(self.pairs[index])
        return (entry.image, *entry.sources) if entry else super().files(index)

    def _pictures(self, index: int) -> Sequence[Path]:
        """Return the pictures that the mask of a sample is read from."""
        masks = self.files(index)[1:]
        is_drawn = self.pairs[index] in self._entries
        return [path for path in masks if path.suffix.lower() in SUFFIXES] if is_drawn else masks

    def verify(self, index: int) -> None:
        """Check the checksums of masks that are stored as pictures."""
        for path in self._pictures(index):
            check_checksums(path, self.most_pixels)

    def headers(self, index: int) -> list[Header]:
        """See :meth:`PairedFiles.headers`."""
        return aligned_headers([self.pairs[index][0], *self._pictures(index)], self.most_pixels)

    def drawn(self, index: int, masks: Sequence[Header]) -> Mapping[int, Colour]:
        """See :meth:`PairedFiles.drawn`; the colours of annotated masks do not identify their labels."""
        return {} if self.pairs[index] in self._entries else super().drawn(index, masks)

    def is_turned(self, index: int, image: Header, masks: Sequence[Header]) -> bool:
        """See :meth:`PairedFiles.is_turned`; also for EXIF-turned images whose shapes may be unturned."""
        entry = self._entries.get(self.pairs[index])
        if entry is None or image.orientation == 1:
            return super().is_turned(index, image, masks)
        return image.orientation < 5 or image.size[0] == image.size[1] or not (entry.size or self._size(entry))

    def _read_mask(self, index: int, size: tuple[int, ...]) -> Tensor:
        entry, own = self._entries.get(self.pairs[index]), (size[0], size[1])
        if entry is None:  # a predicted mask of class indices
            return super()._read_mask(index, size)
        theirs = entry.size or self._size(entry) or own
        self._check_size(entry.image, own, entry.sources[0], theirs)
        drawn = self._draw(entry, theirs)
        return torch.from_numpy(drawn if drawn.shape == own else resized(drawn, own))

    def _draw(self, entry: Record, size: Size) -> NDArray[np.uint8]:
        """Return the mask ``[H,W]`` of class indices."""
        return self._rasterizer.draw(entry, size)

    def _size(self, entry: Record) -> Size | None:
        """Return the size of the masks if they are separate files, else None."""


def is_there(image: Path) -> bool:
    """Whether the image's file exists."""
    return file_of(image)[0].is_file()


def _warn_blank(entries: Sequence[Record]) -> None:
    """Warn of images without a shape; COCO itself has 1 %, more than a quarter may not be annotated yet."""
    if blank := [entry.image.name for entry in entries if not entry.shapes]:
        are_many = 4 * len(blank) > len(entries)
        what = "images have no object and are all background"
        text = f"{len(blank)} of {len(entries)} {what}: {first_few(blank)}"
        text += "; if that is right, set blank_unpaired = true" * are_many
        warnings.warn(DataWarning(text, NOT_SHOWN if are_many else {}), stacklevel=3)


def _warn_unread(entries: Sequence[Record]) -> None:
    """Warn of pictures beside the annotated ones that no annotation names."""
    named = {file_of(path)[0] for entry in entries for path in (entry.image, *entry.sources)}
    folders = [folder for folder in {entry.image.parent for entry in entries} if folder.is_dir()]
    beside = [each for folder in folders for each in folder.iterdir() if each not in named]
    if unread := sorted(str(each) for each in beside if each.suffix.lower() in SUFFIXES):
        warnings.warn(f"not read: {len(unread)} pictures without annotations: {first_few(unread)}", stacklevel=3)
