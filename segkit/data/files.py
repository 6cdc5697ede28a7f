"""Images and masks that lie in files: pairing them by name, and a dataset made of the pairs."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkit.data.read import image_size, read_image, read_mask
from segkit.data.sample import Palette, Sample
from segkit.errors import ConfigError, DataError, LabelError, first_few

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp")
_NOT_A_LABEL = -1


class PairedFiles:
    """A dataset of image and mask files.

    Attributes:
        classes, palette, ignore_index: as every dataset's.
        pairs: (image, mask) paths in order.
        label_advice: what a person can do about a label that is not allowed; ends the message.
    """

    label_advice = "Correct the mask"

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        *,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
        values: Mapping[int, int] | None = None,
        colours: Mapping[tuple[int, int, int], int] | None = None,
        ignore_index: int = 255,
    ) -> None:
        """Prepare to read ``pairs``; no file is opened yet.

        Args:
            pairs: (image, mask) paths.
            classes: names, in the order of the class indices.
            palette: an RGB triple a class.
            values: stored label -> class index or ``ignore_index``; left out: every class index and ``ignore_index``
                stand for themselves.
            colours: RGB -> class index or ``ignore_index``, where the masks hold colours.
            ignore_index: the label of void pixels; 255 is what VOC, Cityscapes and most others store.

        Raises:
            ConfigError: the palette, ``values`` or ``colours`` do not fit the classes.
        """
        self.pairs = list(pairs)
        self.classes = tuple(classes)
        self.palette: Palette = tuple((red, green, blue) for red, green, blue in palette)
        self.ignore_index = ignore_index
        self._colours = None if colours is None else dict(colours)
        self._void_is_assumed = values is None and colours is None
        own = [*range(len(self.classes)), ignore_index]
        self._values = {label: label for label in own} if values is None else dict(values)
        self._check_classes(own)
        self._table = np.full(65536, _NOT_A_LABEL, dtype=np.int16)  # 65536: masks may have 16 bits
        for stored, label in self._values.items():
            self._table[stored] = label
        self._names = _short_names([image for image, _ in self.pairs])

    def _check_classes(self, own: Sequence[int]) -> None:
        if not 1 <= len(self.classes) <= 255 or len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"classes: {len(self.classes)} names; give 1 to 255 that all differ")
        if len(self.palette) != len(self.classes):
            raise ConfigError(f"palette: {len(self.palette)} colours for {len(self.classes)} classes; give one a class")
        if not all(0 <= part <= 255 for colour in self.palette for part in colour):
            raise ConfigError("palette: red, green and blue are 0 to 255")
        for label in [*self._values.values(), *(self._colours or {}).values()]:
            if label not in own:
                raise ConfigError(f"class index {label} in the map of labels: allowed are {self._indices()}")
        for stored in self._values:
            if not 0 <= stored <= 65535:
                raise ConfigError(f"stored label {stored} in the map of labels: masks hold 0 to 65535")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image = read_image(self.pairs[index][0])  # [H,W,3]
        mask = self._read_mask(index, image.shape[:2])
        return Sample(torch.from_numpy(image).permute(2, 0, 1).contiguous(), mask, self._names[index])

    def mask(self, index: int) -> Tensor:
        """Mask ``index``, uint8 ``[H,W]``, without decoding its image.

        Raises:
            LabelError: a label that is not allowed, or another size than the image's.
            DataError: a file that cannot be read.
        """
        return self._read_mask(index, image_size(self.pairs[index][0]))

    def _read_mask(self, index: int, size: tuple[int, ...]) -> Tensor:
        image_path, mask_path = self.pairs[index]
        stored = read_mask(mask_path, self._colours)
        if stored.shape != size:
            raise LabelError(_size_message(image_path, size, mask_path, stored.shape))
        labels = self._table[stored]  # [H,W]
        if labels.min() < 0 or (self._void_is_assumed and self._is_black_and_white(stored)):
            raise LabelError(self._label_message(mask_path, stored))
        return torch.from_numpy(labels.astype(np.uint8))

    def _is_black_and_white(self, stored: NDArray[Any]) -> bool:
        """Two classes and a mask of 0 and 255 alone: 255 is far likelier the foreground than void."""
        return len(self.classes) == 2 and stored.max() == 255 and bool(np.isin(stored, (0, 255)).all())

    def _label_message(self, path: Path, stored: NDArray[Any]) -> str:
        values, counts = (each.tolist() for each in np.unique(stored, return_counts=True))
        wrong = [(v, n) for v, n in zip(values, counts, strict=True) if self._table[v] == _NOT_A_LABEL]
        if wrong:
            listed = first_few([f"{value} ({count:,} pixels)" for value, count in wrong])
            message = (
                f"{path}: labels that are not allowed: {listed}. Allowed are {self._allowed()}. {self.label_advice}"
            )
        else:
            message = (
                f"{path}: the only labels are 0 and 255, and 255 would be void, so that the class "
                f"'{self.classes[1]}' never occurs"
            )
        if len(values) == len(self.classes) and self._void_is_assumed:
            pairs = ", ".join(f'"{value}" = {index}' for index, value in enumerate(values))
            message += f". If the values stand for the classes in this order: value_map = {{ {pairs} }}"
        if not wrong:
            message += f'. If 255 is void: value_map = {{ "0" = 0, "1" = 1, "255" = {self.ignore_index} }}'
        return message

    def _indices(self) -> str:
        return f"0 to {len(self.classes) - 1} ({len(self.classes)} classes) and {self.ignore_index} (void)"

    def _allowed(self) -> str:
        if self._void_is_assumed:
            return self._indices()
        mapped = [
            f"{stored} -> {'void' if label == self.ignore_index else label}" for stored, label in self._values.items()
        ]
        return first_few(mapped, most=40)


def pair_by_stem(images: Path, masks: Path, mask_suffix: str = "") -> list[tuple[Path, Path]]:
    """The files of two folders that share a name: ``images/cat.jpg`` with ``masks/cat<mask_suffix>.png``.

    In natural order (``2`` before ``10``). Hidden files and files that are no images are ignored. Both folders may be
    the same one where ``mask_suffix`` tells the masks apart.

    Raises:
        DataError: a folder is missing or empty, or not every file has exactly one partner.
    """
    if images == masks and not mask_suffix:
        raise DataError(f"{images} is the folder of the images and of the masks; a mask_suffix must tell them apart")
    by_stem: list[dict[str, Path]] = []
    for folder, of_masks in ((images, False), (masks, True)):
        files = _picture_files(folder)
        if images == masks:
            files = [path for path in files if path.stem.endswith(mask_suffix) is of_masks]
        _refuse_repeated(folder, files)
        by_stem.append({_stem(path): path for path in files})
    image_of, mask_of = by_stem
    without_mask = [path for stem, path in image_of.items() if stem + mask_suffix not in mask_of]
    expected = {stem + mask_suffix for stem in image_of}
    without_image = [path for stem, path in mask_of.items() if stem not in expected]
    if without_mask or without_image:
        raise DataError(_pairing_message(images, masks, without_mask, without_image, mask_suffix))
    return [(path, mask_of[stem + mask_suffix]) for stem, path in image_of.items()]


def _stem(path: Path) -> str:
    """The name without suffix, composed: an archive made on a Mac writes an umlaut as two characters."""
    return unicodedata.normalize("NFC", path.stem)


def _picture_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"folder {folder} {state}; {_nearest(folder)}. Set the dataset's root to where the data lies")
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    files = [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not files:
        folders = sum(path.is_dir() for path in entries)
        raise DataError(
            f"folder {folder} holds no images, but {len(entries) - folders} other files and {folders} folders; "
            f"read are {', '.join(SUFFIXES)}"
        )
    return sorted(files, key=_natural)


def _nearest(folder: Path) -> str:
    """What lies in the nearest parent that exists."""
    parent = next(path for path in folder.absolute().parents if path.is_dir())
    beside = sorted(path.name for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    return f"{parent} holds " + (f"the folders {first_few(beside)}" if beside else "no folders")


def _natural(path: Path) -> list[tuple[int, str]]:
    """Digits compare as numbers: ``[("image", 2)] < [("image", 10)]``."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"([0-9]+)", path.name)]


def _refuse_repeated(folder: Path, files: Sequence[Path]) -> None:
    counts = Counter(_stem(path) for path in files)
    repeated = [path.name for path in files if counts[_stem(path)] > 1]
    if repeated:
        raise DataError(
            f"folder {folder}: {len(repeated)} files share their names but for the suffix: {first_few(repeated)}"
        )


def _pairing_message(
    images: Path, masks: Path, without_mask: Sequence[Path], without_image: Sequence[Path], mask_suffix: str
) -> str:
    lines = []
    if without_mask:
        lines.append(f"{len(without_mask)} images in {images} without a mask in {masks}: {_names(without_mask)}")
    if without_image:
        lines.append(f"{len(without_image)} masks in {masks} without an image in {images}: {_names(without_image)}")
    lines.append(f"the mask of cat.jpg is cat{mask_suffix}.png; rename, add or remove files")
    lowered = {path.stem.lower(): path for path in without_image}
    for image in without_mask:
        other_case = lowered.get((image.stem + mask_suffix).lower())
        if other_case is not None:
            lines.append(f"{image.name} and {other_case.name} differ in upper and lower case")
            break
        longer = [path.stem for path in without_image if path.stem.startswith(image.stem)]
        if longer and not mask_suffix:
            lines.append(f'perhaps mask_suffix = "{longer[0].removeprefix(image.stem)}"')
            break
    return "; ".join(lines)


def _names(paths: Sequence[Path]) -> str:
    return first_few([path.name for path in paths])


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Stems where they are unique, else paths below the folder the files share, without suffix."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    shared = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(shared).with_suffix("").as_posix() for path in paths]


def _size_message(image: Path, image_shape: tuple[int, ...], mask: Path, mask_shape: tuple[int, ...]) -> str:
    message = (
        f"sizes differ: image {image} is {image_shape[1]} x {image_shape[0]}, "
        f"mask {mask} is {mask_shape[1]} x {mask_shape[0]} (width x height); export the mask at its image's size"
    )
    if mask_shape == image_shape[::-1]:
        message += ". One lies on its side: perhaps the mask was drawn without regard to the image's EXIF orientation"
    return message
