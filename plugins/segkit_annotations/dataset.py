"""The base class of all annotation datasets: reads the annotations and draws the masks of a split."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segkit.data.read import Header
from segkit.data.sample import Colour, voc_palette
from segkit.errors import DataError, Issue, first_few, refuse
from segkit_annotations.draw import Size
from segkit_annotations.files import Drawn, holding, image_finder, malformed, miniature, patterns, places
from segkit_annotations.rasterizer import Rasterizer, Rule, are_shares
from segkit_annotations.records import Record, class_indices, layout_of, warn_blank, warn_unread
from segkit_folder.files import VOID, PairedFiles, resized
from segkit_folder.layout import Shares, without_unpaired
from segkit_folder.masks import check_checksums
from segkit_folder.pictures import version_of
from segkit_folder.splits import SUFFIXES
from segkit_readers.joined import aligned_headers

_contents: dict[Any, tuple[object, dict[str, None], list[Any]]] = {}


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
        warn_unread(entries)
        if self.may_be_undrawn and not blank_unpaired:
            warn_blank(entries)
        in_shares = are_shares(entries) if self.in_shares is None else self.in_shares
        own = {key: background if name == "background" else name for key, name in self.default_class_map.items()}
        labels, classes = class_indices(entries, names, classes, (class_map or {}, own), background)
        layout = layout_of(base, entries, lists, group, Shares(fractions, split_seed, val, folds, fold))
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
                try:
                    with malformed(path, self.tool):
                        own, records = self._content(path)
                        names |= own
                        for each in records:
                            of, image = each.split or split, each.image
                            image = image if isinstance(image, Path) else finder(path.parent, of, each.folder)(image)
                            height, width = (int(float(side or 0)) for side in each.size or (0, 0))
                            size = (height, width) if height and width else None
                            entries.append(Record(image, each.shapes, size, of, sources=each.sources or (path,)))
                except DataError as error:
                    if error.issue is None:
                        raise
                    issues.append(error.issue)
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
