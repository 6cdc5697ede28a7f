"""A dataset of image and mask files: maps stored labels to class indices and refuses invalid masks."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import segkit
from segkit.data.read import ALPHA, LABELS, MAX_PIXELS, Header, file_of, read_header, read_picture
from segkit.data.sample import RGB, Colour, Dataset
from segkit.errors import ConfigError, DataError, Issue, LabelError, first_few
from segkit_folder import misread, palettes
from segkit_folder.masks import MOST_COUNTED, check_checksums, read_mask
from segkit_folder.misread import MISREAD as MISREAD
from segkit_folder.misread import about as about
from segkit_folder.palettes import telling_colours as telling_colours
from segkit_folder.splits import composed, require_split
from segkit_readers.joined import aligned_headers, places_of

if TYPE_CHECKING:
    from segkit_folder.layout import Layout

LONGEST_NAME = 100
"""The most characters in a class name: names head table columns and captions."""

VOID = 255
_NOT_A_LABEL = -1


class PairedFiles(Dataset):
    """A dataset of image and mask files.

    Attributes:
        pairs: (image, mask) paths in order.
        names: names of the samples: stems, or paths where stems are not unique.
        values: stored label -> class index or ``ignore_index``.
        colours: RGB -> class index or ``ignore_index``; None where the masks hold labels.
        label_advice: what the user can do about a label that is not allowed.
        palette_is_assumed: whether the palette is a default rather than given by the user or the data set.
        labels_are_stated: whether the user has specified which stored label is which class.
        void_is_assumed: whether 255 is void by default only.
        stores_indices: whether masks store the class indices themselves.
        most_pixels: the largest image or mask that is read.
        bands: the value of ``data.bands``.
        root: the folder that messages name.

        threshold: the threshold for masks, see :func:`read_mask`.
        blank: images without a mask, all of whose pixels are of the first class.
        resize_masks: whether a mask with the aspect ratio of its image is resized to it, by the nearest label.
    """

    most_pixels = MAX_PIXELS
    bands: Sequence[int] | None = None
    threshold: float | None = None
    blank: Collection[Path] = ()
    resize_masks = False
    label_advice = "correct the mask"
    root = Path()

    palette_is_assumed = labels_are_stated = False

    reading: str

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        *,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
        values: Mapping[int, int] | None = None,
        colours: Mapping[Colour, int] | None = None,
        ignore_index: int | None = None,
    ) -> None:
        """Prepare to read ``pairs``; no file is opened yet.

        Args:
            pairs: (image, mask) paths.
            classes: names of the classes, in the order of the class indices.
            palette: one RGB triple per class.
            values: stored label -> class index or ``ignore_index``; default: masks store the class indices and
                ``ignore_index`` themselves.
            colours: RGB -> class index or ``ignore_index``, if the masks hold colours.
            ignore_index: the label of void pixels; default: 255, as in VOC, Cityscapes and most other data sets.

        Raises:
            ConfigError: the palette, ``values`` or ``colours`` do not match the classes.
        """
        self.pairs = list(pairs)
        self.classes = tuple(classes)
        self.palette = tuple((red, green, blue) for red, green, blue in palette)
        self.void_is_assumed = values is None and colours is None and ignore_index is None
        self.ignore_index = VOID if ignore_index is None else ignore_index
        indices = [*range(len(self.classes)), self.ignore_index]
        self.values = {label: label for label in indices} if values is None else dict(values)
        self.colours = None if colours is None else dict(colours)
        self._check_classes(indices)
        self.reading = repr((len(self.classes), self.ignore_index, self.values, self.colours, "place"))
        meaning: Mapping[Any, int] = self.values if self.colours is None else self.colours
        self.stored = [[key for key, label in meaning.items() if label == index] for index in indices[:-1]]
        self.stores_indices = self.colours is None and self.stored == [[index] for index in indices[:-1]]
        self._table = np.full(len(LABELS), _NOT_A_LABEL, dtype=np.int16)  # label -1 is the last entry
        for stored, label in self.values.items():
            self._table[stored] = label

    def _check_classes(self, indices: Sequence[int]) -> None:
        for name in self.classes:
            if not isinstance(name, str):
                raise ConfigError(f"classes: {name!r:.40} is not text; class names are strings")
            if not is_name(name):
                raise ConfigError(
                    f"classes: {name[:40]!r} has {len(name)} characters; it may have at most {LONGEST_NAME}, and no "
                    "line breaks or other control characters"
                )
        if not 1 <= len(self.classes) <= 255 or len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"classes: {len(self.classes)} names; give 1 to 255 that all differ")
        if len(self.palette) != len(self.classes):
            raise ConfigError(f"palette: {len(self.palette)} colours for {len(self.classes)} classes; give each one")
        if not all(0 <= part <= 255 for colour in self.palette for part in colour):
            raise ConfigError("palette: red, green and blue must be 0 to 255")
        for label in [*self.values.values(), *(self.colours or {}).values()]:
            if label not in indices:
                raise ConfigError(f"class index {label} in the map of labels: allowed are {self._indices()}")
        for stored in self.values:
            if stored not in LABELS:
                held = f"{LABELS[0]} to {LABELS[-1]}"
                raise ConfigError(f"stored label {stored} in the map of labels: masks hold {held}")

    @cached_property
    def names(self) -> Sequence[str]:  # type: ignore[override]
        """Stems if they are unique, else paths without suffix below the common folder; in Unicode form NFC."""
        places = [stem_of(image) for image, _ in self.pairs]
        if len({place.name for place in places}) == len(places):
            return [composed(place.name) for place in places]
        shared = os.path.commonpath([image.parent for image, _ in self.pairs])
        return [composed(place.relative_to(shared).as_posix()) for place in places]

    def choose(self, layout: Layout, split: str) -> None:
        """Take the pairs of a split from the layout.

        Raises:
            DataError: there is no such split.
        """
        self.splits = layout.splits
        require_split(split, self.splits, self.root, "; val = 0.15 takes a share of train" if split == "val" else "")
        samples = layout.of(split)
        self.pairs, self.names = [(image, mask) for image, mask, _ in samples], [name for _, _, name in samples]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int, /) -> segkit.Sample:
        path = self.pairs[index][0]
        image, holes = read_picture(path, self.most_pixels, self.bands, self.no_data)  # [H,W,C], [H,W]
        if image.shape[2] == 1 and self.channels == RGB:  # a grey image in a data set of RGB
            image = image.repeat(3, axis=2)
        mask = self._read_mask(index, image.shape[:2])
        if holes is not None:
            mask[torch.from_numpy(holes)] = self.ignore_index
        return segkit.Sample(torch.from_numpy(image).permute(2, 0, 1).contiguous(), mask, self.names[index])

    @cached_property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        """The channels of the first image that can be read, restricted to the selected bands."""
        for image, _ in self.pairs:
            with suppress(DataError):
                names = read_header(image, self.most_pixels).channels
                every = [*names, ALPHA]
                return (
                    names if self.bands is None else tuple(every[band - 1] for band in self.bands if band <= len(every))
                )
        return RGB

    def set_bands(self, bands: Sequence[int] | None, no_data: float | str) -> bool:
        """See :meth:`segkit.data.sample.Dataset.set_bands`."""
        self.bands, self.no_data = bands, no_data
        self.reading = f"{vars(self).setdefault('_reading_whole', self.reading)} {bands} {no_data}"
        vars(self).pop("channels", None)
        return True

    def mask(self, index: int) -> Tensor:
        """Return mask ``index``, uint8 ``[H,W]``; the image is decoded only if ``data.no_data`` needs it.

        Raises:
            LabelError: a label is not allowed, or the size differs from the image's.
            DataError: a file cannot be read.
        """
        if self.no_data != "stop":
            return self[index].mask
        return self._read_mask(index, read_header(self.pairs[index][0], self.most_pixels).size)

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files of sample ``index``: one or more of the image, then the mask."""
        return tuple(file for place in self.pairs[index] for file in places_of(place))

    def verify(self, index: int) -> None:
        """See :meth:`segkit.data.sample.Dataset.verify`: check the mask's checksums."""
        check_checksums(self.pairs[index][1], self.most_pixels)

    def headers(self, index: int) -> list[Header]:
        """Return the headers of the image and of the pictures that its mask is read from.

        Raises:
            DataError: a file cannot be read, or a mask has another georeference than its image.
        """
        image, mask = self.pairs[index]
        return aligned_headers([image] if image in self.blank else [image, mask], self.most_pixels)

    def drawn(self, index: int, masks: Sequence[Header]) -> Mapping[int, Colour]:
        """Return the colours of the mask's labels if it has a palette, else {}; ``masks``: headers of its pictures."""
        palette = masks[0].palette if masks and self.colours is None and self.threshold is None else None
        if palette is None:
            return {}
        mask = read_mask(self.pairs[index][1], most_pixels=self.most_pixels)
        return telling_colours(palette, [*self.values], mask)

    def is_turned(self, index: int, image: Header, masks: Sequence[Header]) -> bool:
        """Whether image and mask differ in their EXIF orientation, and one of the two may lack it.

        Their shapes match whether the mask was drawn on the upright image or on the pixels as they are stored.
        """
        square = image.size[0] == image.size[1]
        return any(
            image.orientation != mask.orientation and (square or (image.orientation > 4) == (mask.orientation > 4))
            for mask in masks
        )

    def advice(self, kind: str) -> str:
        """Return what the user can do about masks that are refused, by the kind of the issue."""
        return f"allowed are {self._allowed()}; {self.label_advice}"

    palette_issues, facts, judge = palettes.palette_issues, misread.facts, misread.judged

    def _read_mask(self, index: int, size: tuple[int, ...]) -> Tensor:
        image_path, mask_path = self.pairs[index]
        if image_path in self.blank:
            return torch.zeros(size[:2], dtype=torch.uint8)
        try:
            stored = read_mask(mask_path, self.colours, self.most_pixels, self.threshold)
            self._check_size(image_path, size, mask_path, stored.shape)
            stored = stored if stored.shape == size else resized(stored, size)
            if self.colours is not None:
                return torch.from_numpy(stored)
            labels = np.take(self._table, stored)
            if labels.min() == _NOT_A_LABEL:
                raise LabelError(self._label_issue(mask_path, stored))
        except LabelError as error:
            if error.issue is None or error.issue.kind != "colours":
                raise
            raise LabelError(replace(error.issue, advice=self.advice("colours"))) from None
        return torch.from_numpy(labels.astype(np.uint8))

    def _check_size(self, image: Path, size: tuple[int, ...], mask: Path, shape: tuple[int, ...]) -> None:
        """Check that a mask has the size of its image, or one from which it may be resized."""
        if shape != size and not (self.resize_masks and _is_scaled(shape, size)):
            raise LabelError(_size_issue(image, size, mask, shape))

    def _label_issue(self, path: Path, stored: NDArray[Any]) -> Issue:
        values, counts = (each.tolist() for each in np.unique(stored, return_counts=True))
        pixels = dict(zip(values, counts, strict=True))
        wrong = {value: count for value, count in pixels.items() if self._table[value] == _NOT_A_LABEL}
        if len(wrong) > MOST_COUNTED:
            what = f"more than {MOST_COUNTED} labels that are not allowed, typical of a photograph or of blended edges"
            advice = f"allowed are {self._allowed()}; export the mask again without anti-aliasing, as PNG"
            return Issue("blended", str(path), what, advice, f"{len(wrong):,}, from {min(wrong)} to {max(wrong)}")
        detail = first_few([f"{value}: {count:,} pixels" for value, count in wrong.items()])
        return Issue("values", str(path), "labels that are not allowed", self.advice("values"), detail, wrong, pixels)

    def _indices(self) -> str:
        return f"0 to {len(self.classes) - 1} ({len(self.classes)} classes) and {self.ignore_index} (void)"

    def _allowed(self) -> str:
        if self.stores_indices and len(self.values) == len(self.classes) + 1:
            return self._indices()
        mapped = [
            f"{stored} -> {'void' if label == self.ignore_index else label}" for stored, label in self.values.items()
        ]
        return first_few(mapped, most=40)


def is_name(text: str) -> bool:
    """Whether a text can name a class: not too long, and without control characters such as line breaks."""
    return len(text) <= LONGEST_NAME and not any(unicodedata.category(letter) == "Cc" for letter in text)


def stem_of(path: Path) -> Path:
    """Return the path of a picture without its suffix; ``stack_3`` for ``stack.tif#3``."""
    file, part = file_of(path)
    return file.with_name(f"{file.stem}_{part.replace('/', '_')}") if part else path.with_suffix("")


def resized(labels: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Return a mask ``[H,W]`` at another size: each pixel has the label at its centre."""
    rows, columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip(size, labels.shape, strict=True))
    found: NDArray[Any] = labels[rows[:, None], columns]
    return found


def _is_scaled(shape: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether two sizes (height, width) differ but have the same aspect ratio, up to rounding by one pixel."""
    is_near = 2 * abs(shape[0] * size[1] - shape[1] * size[0]) <= sum(max(shape, size))
    return is_near and all(one != other for one, other in zip(shape, size, strict=True))


def _size_issue(image: Path, image_shape: tuple[int, ...], mask: Path, mask_shape: tuple[int, ...]) -> Issue:
    what, advice = "image and mask differ in size", "export the mask at its image's size"
    if mask_shape == image_shape[::-1]:
        what += ", one lies on its side"
        advice = "turn the mask as its image lies; an image that EXIF turns is read upright"
    kind, ways = "size", dict[str, Any]()
    if _is_scaled(mask_shape, image_shape):
        small, large = sorted((mask_shape[0], image_shape[0]))
        factor = round(large / small)
        kind = "scaled" if factor > 1 and abs(large - factor * small) < factor else "scaled_or_cut"
        advice += ", or set resize_masks = true where it shows the whole image"
        text = "" if kind == "scaled" else "masks show whole images: resize by nearest neighbour"
        ways = {text: {"resize_masks": True}}
    sizes = f"{mask_shape[1]} x {mask_shape[0]}, image {image} is {image_shape[1]} x {image_shape[0]}, width x height"
    return Issue(kind, str(mask), what, advice, sizes, ways=ways)
