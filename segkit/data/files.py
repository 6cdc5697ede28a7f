"""A dataset made of pairs of image and mask files: what their labels mean, and which are refused."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segkit.data.issues import messages
from segkit.data.read import (
    HIGHEST_LABEL,
    LOWEST_LABEL,
    MAX_PIXELS,
    MOST_COUNTED,
    image_size,
    mask_palette,
    read_image,
    read_mask,
)
from segkit.data.sample import Palette, Sample
from segkit.data.splits import composed
from segkit.data.visualize import VOID_COLOUR
from segkit.errors import ConfigError, Issue, LabelError, first_few

LONGEST_NAME = 100
"""Characters of a class's name: it heads columns and captions, and a table is as wide as the longest."""

VOID = 255
_NOT_A_LABEL = -1


class PairedFiles:
    """A dataset of image and mask files.

    Attributes:
        classes, palette, ignore_index: as every dataset's.
        pairs: (image, mask) paths in order.
        names: what the samples are called: stems, or paths where these are not unique.
        label_advice: what a person can do about a label that is not allowed.
        void_is_assumed: whether 255 is void only because nothing else was said.
        palette_is_assumed: whether the colours are nobody's statement about the masks, but a default.
        labels_are_stated: whether a person has said which stored label is which class.
        most_pixels: of an image or a mask that is read.
    """

    most_pixels = MAX_PIXELS
    label_advice = "correct the mask"
    palette_is_assumed = False
    labels_are_stated = False

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        *,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
        values: Mapping[int, int] | None = None,
        colours: Mapping[tuple[int, int, int], int] | None = None,
        ignore_index: int | None = None,
    ) -> None:
        """Prepare to read ``pairs``; no file is opened yet.

        Args:
            pairs: (image, mask) paths.
            classes: names, in the order of the class indices.
            palette: an RGB triple a class.
            values: stored label -> class index or ``ignore_index``; left out: every class index and ``ignore_index``
                stand for themselves.
            colours: RGB -> class index or ``ignore_index``, where the masks hold colours.
            ignore_index: the label of void pixels; left out: 255, which is what VOC, Cityscapes and most others store.

        Raises:
            ConfigError: the palette, ``values`` or ``colours`` do not fit the classes.
        """
        self.pairs = list(pairs)
        self.classes = tuple(classes)
        self.palette: Palette = tuple((red, green, blue) for red, green, blue in palette)
        self.void_is_assumed = values is None and colours is None and ignore_index is None
        self.ignore_index = VOID if ignore_index is None else ignore_index
        self._colours = None if colours is None else dict(colours)
        own = [*range(len(self.classes)), self.ignore_index]
        self._values = {label: label for label in own} if values is None else dict(values)
        self._check_classes(own)
        self._table = np.full(HIGHEST_LABEL + 1 - LOWEST_LABEL, _NOT_A_LABEL, dtype=np.int16)  # -1 is its last entry
        for stored, label in self._values.items():
            self._table[stored] = label
        self._stored_bytes = bytes(label for label in range(256) if self._table[label] != _NOT_A_LABEL)
        self._byte_table = self._table[:256].astype(np.uint8).tobytes()
        self.names = _short_names([image for image, _ in self.pairs])

    def _check_classes(self, own: Sequence[int]) -> None:
        for name in self.classes:
            if not isinstance(name, str):
                raise ConfigError(f"classes: {name!r:.40} is no text; names of classes are texts")
            if len(name) > LONGEST_NAME or any(unicodedata.category(letter) == "Cc" for letter in name):
                raise ConfigError(
                    f"classes: {name[:40]!r} of {len(name)} characters; a name has at most {LONGEST_NAME}, and no line "
                    "breaks or other control characters"
                )
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
            if not LOWEST_LABEL <= stored <= HIGHEST_LABEL:
                raise ConfigError(
                    f"stored label {stored} in the map of labels: masks hold {LOWEST_LABEL} to {HIGHEST_LABEL}"
                )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image = read_image(self.pairs[index][0], self.most_pixels)  # [H,W,3]
        mask = self._read_mask(index, image.shape[:2])
        return Sample(torch.from_numpy(image).permute(2, 0, 1).contiguous(), mask, self.names[index])

    def mask(self, index: int) -> Tensor:
        """Mask ``index``, uint8 ``[H,W]``, without decoding its image.

        Raises:
            LabelError: a label that is not allowed, or another size than the image's.
            DataError: a file that cannot be read.
        """
        return self._read_mask(index, image_size(self.pairs[index][0], self.most_pixels))

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of sample ``index``: image and mask."""
        return self.pairs[index]

    @property
    def stored(self) -> list[list[Any]]:
        """Of each class the labels, or the RGB triples, that masks store for it."""
        pairs = [*(self._values if self._colours is None else self._colours).items()]
        return [[stored for stored, label in pairs if label == index] for index in range(len(self.classes))]

    @property
    def stores_indices(self) -> bool:
        """Whether the masks' own labels are the class indices."""
        own = {stored: label for stored, label in self._values.items() if label != self.ignore_index}
        return self._colours is None and own == {index: index for index in range(len(self.classes))}

    @property
    def reading(self) -> str:
        """All besides the files that decides the labels: what was noted of them holds as long as both are the same."""
        return repr((len(self.classes), self.ignore_index, self._values, self._colours))

    def advice(self, kind: str, wrong: Mapping[Any, int], stored: Mapping[Any, int]) -> str:
        """What to do about a kind of fault of one or many masks; ``""`` where the fault's own advice is all there is.

        Args:
            kind: the kind of the fault.
            wrong: stored labels or colours that are not allowed -> pixels.
            stored: all the stored labels or colours -> pixels.
        """
        if kind in ("values", "palette_values", "black_and_white"):
            return f"allowed are {self._allowed()}; {self.label_advice}"
        if kind in ("palette", "palettes", "label_colours"):
            return (
                f"save the masks again from their source, all with one palette or as grey values; {self.label_advice}"
            )
        return self.label_advice if kind == "colours" else ""

    def palette_faults(self, masks: Mapping[str, Drawn]) -> list[Issue]:
        """What is wrong where the palettes of masks contradict each other, or the palette of the classes.

        Args:
            masks: file -> what :func:`segkit.data.files.palettes_noted` noted of it.
        """
        # a map of the labels says more than colours that nobody chose
        own = () if self.palette_is_assumed and not self.stores_indices else self.palette
        common = ((0, 0, 0),) if self.palette_is_assumed else ()
        return palette_faults(masks, self._values, self.classes, own, self.ignore_index, common)

    def _read_mask(self, index: int, size: tuple[int, ...]) -> Tensor:
        image_path, mask_path = self.pairs[index]
        try:
            stored = read_mask(mask_path, self._colours, self.most_pixels)
            if stored.shape != size:
                raise LabelError(_size_fault(image_path, size, mask_path, stored.shape))
            labels = self._labels_of(stored)
            if labels is None:
                raise LabelError(self._label_fault(mask_path, stored))
        except LabelError as error:
            if error.issue is None:
                raise
            raise LabelError("\n".join(messages([error.issue], self.advice)), error.issue) from None
        if self._colours is None:
            note_palette(lambda: mask_palette(mask_path, self.most_pixels), list(self._values), stored)
        return torch.from_numpy(labels)

    def _labels_of(self, stored: NDArray[Any]) -> NDArray[np.uint8] | None:
        """The labels of a mask ``[H,W]``; None where one is not allowed."""
        if stored.dtype != np.uint8:
            labels = self._table[stored]
            return None if labels.min() < 0 else labels.astype(np.uint8)
        found = bytearray(np.ascontiguousarray(stored).data.cast("B"))  # four times as fast as to index the table
        if found.translate(None, self._stored_bytes):
            return None
        return np.frombuffer(found.translate(self._byte_table), np.uint8).reshape(stored.shape)

    def _label_fault(self, path: Path, stored: NDArray[Any]) -> Issue:
        values, counts = (each.tolist() for each in np.unique(stored, return_counts=True))
        pixels = dict(zip(values, counts, strict=True))
        wrong = {value: count for value, count in pixels.items() if self._table[value] == _NOT_A_LABEL}
        if len(wrong) > MOST_COUNTED:
            what = f"more than {MOST_COUNTED} labels that are not allowed, as of a photograph or of blended edges"
            advice = f"allowed are {self._allowed()}; export the mask again without anti-aliasing, as PNG"
            return Issue("blended", str(path), what, advice, f"{len(wrong):,}, from {min(wrong)} to {max(wrong)}")
        detail = first_few([f"{value}: {count:,} pixels" for value, count in wrong.items()])
        with palettes_noted() as drawn:
            note_palette(lambda: mask_palette(path, self.most_pixels), values, stored)
        kind = "palette_values" if drawn else "values"  # the order of a palette's indices need not be that of classes
        return Issue(kind, str(path), "labels that are not allowed", self.advice(kind, {}, {}), detail, wrong, pixels)

    def _indices(self) -> str:
        return f"0 to {len(self.classes) - 1} ({len(self.classes)} classes) and {self.ignore_index} (void)"

    def _allowed(self) -> str:
        if self.stores_indices and len(self._values) == len(self.classes) + 1:
            return self._indices()
        mapped = [
            f"{stored} -> {'void' if label == self.ignore_index else label}" for stored, label in self._values.items()
        ]
        return first_few(mapped, most=40)


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Stems where they are unique, else paths below the folder the files share, without suffix; composed."""
    stems = [composed(path.stem) for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    shared = os.path.commonpath([path.parent for path in paths])
    return [composed(path.relative_to(shared).with_suffix("").as_posix()) for path in paths]


def _size_fault(image: Path, image_shape: tuple[int, ...], mask: Path, mask_shape: tuple[int, ...]) -> Issue:
    what, advice = "image and mask differ in size", "export the mask at its image's size"
    if mask_shape == image_shape[::-1]:
        what += ", one lies on its side"
        advice = "turn the mask as its image lies; an image that EXIF turns is read upright"
    sizes = f"{mask_shape[1]} x {mask_shape[0]}, image {image} is {image_shape[1]} x {image_shape[0]}, width x height"
    return Issue("size", str(mask), what, advice, sizes)


Colour = tuple[int, int, int]
Drawn = Mapping[int, Colour]
"""Stored label -> the colour that a mask's palette gives it."""

_noted: ContextVar[dict[int, Colour] | None] = ContextVar("noted", default=None)


@contextmanager
def palettes_noted() -> Iterator[dict[int, Colour]]:
    """Inside, what is read of a mask is noted here: its stored labels, and the colours in which its palette draws them.

    Noted is what tells labels apart. A colour of two labels says nothing, as that of entries nobody set; nor does a
    palette that shows label k as grey k, or as the k-th step of a ramp from black to white.
    """
    drawn: dict[int, Colour] = {}
    token = _noted.set(drawn)
    try:
        yield drawn
    finally:
        _noted.reset(token)


def note_palette(
    palette: Callable[[], Sequence[Colour] | None], labels: Sequence[int], stored: NDArray[np.integer[Any]]
) -> None:
    """Note the palette of a mask that was read, where somebody wants to know (see :func:`palettes_noted`).

    Args:
        palette: gives the colours by index, None where the mask has none.
        labels: that masks may store.
        stored: those of the mask, ``[H,W]``.
    """
    noted = _noted.get()
    colours = None if noted is None else palette()
    if noted is None or not colours:
        return
    last = max((index for index, colour in enumerate(colours) if any(colour)), default=0)  # the rest is padding
    greys = [colour[0] for colour in colours[: last + 1] if len({*colour}) == 1]
    for step in (1, 255 / max(last, 1)):
        if last > 1 and len(greys) > last and all(abs(grey - index * step) <= 1 for index, grey in enumerate(greys)):
            return
    if stored.dtype == np.uint8:  # many times as fast as to sort them
        used = [label for label, count in enumerate(Image.fromarray(stored).histogram()) if count]
    else:
        bands = np.array_split(stored, max(1, stored.size >> 22))  # so that a large mask takes no memory
        used = sorted({label for band in bands for label in np.unique(band).tolist()})
    known = [
        colours[label] for label in labels if 0 <= label <= last or (label in used and last < label < len(colours))
    ]
    noted.update({label: colours[label] for label in used if label < len(colours) and known.count(colours[label]) == 1})


def palette_faults(
    masks: Mapping[str, Drawn],
    values: Mapping[int, int],
    classes: Sequence[str],
    palette: Palette,
    void: int,
    common: Sequence[Colour] = (),
) -> list[Issue]:
    """What is wrong where the palettes of masks contradict each other, or that of the classes.

    Args:
        masks: file -> what :func:`palettes_noted` noted of it.
        values: stored label -> class index or ``void``.
        classes: names.
        palette: the colours of the classes; empty where these say nothing about the masks.
        void: the index of void.
        common: colours that prove nothing alone, of a palette that nobody chose.
    """
    own = {colour: index for index, colour in enumerate(palette) if palette.count(colour) == 1}
    greys = {(label,) * 3: index for label, index in values.items() if 0 <= label <= 255}
    name = {**dict(enumerate(classes)), void: "void"}
    black_and_white = {(0, 0, 0), (255, 255, 255)}  # of any palette of two colours
    readings = [({VOID_COLOUR: void, **own}, {*common})] * bool(own) + [(greys, black_and_white)]

    def misdrawn(drawn: Drawn) -> dict[int, str]:
        """What is wrong with labels, where the colours of all classes in it are those of classes."""
        for meant, proves_nothing in readings:
            wrong = {
                label: colour
                for label, colour in drawn.items()
                if meant.get(colour, void) != values[label] and (colour in meant or values[label] != void)
            }
            if meant.keys() >= {*wrong.values()} and not {*wrong.values()} <= proves_nothing:
                return {
                    label: f"label {label} ('{name[values[label]]}') in {list(colour)}, "
                    f"which is '{name[meant[colour]]}'"
                    for label, colour in wrong.items()
                }
        return {}

    stored = Counter(pair for drawn in masks.values() for pair in drawn.items())
    apart = {file: {} if common else misdrawn(drawn) for file, drawn in masks.items()}
    if not any(apart.values()):
        if fault := _clash(masks, [label for label, index in values.items() if index == void]):
            return [replace(fault, stored=stored)]
        together = misdrawn(dict([*stored]))
        apart = {
            file: {label: together[label] for label in drawn if label in together} for file, drawn in masks.items()
        }
    return [_fault(file, masks[file], texts) for file, texts in apart.items() if texts]


def _fault(file: str, drawn: Drawn, texts: Mapping[int, str]) -> Issue:
    what = (
        "the palette draws labels in the colours of others, as after a mask was saved again and its colours renumbered"
    )
    return Issue("palette", file, what, "", first_few([*texts.values()]), stored=dict.fromkeys(drawn.items(), 1))


def _clash(masks: Mapping[str, Drawn], void: Collection[int]) -> Issue | None:
    """The first two masks in which one colour is two labels (``palettes``), or else one label has two colours."""
    what = "the palettes of these two masks differ, so that their labels mean different classes"
    labels: dict[Colour, tuple[int, str]] = {}
    colours: dict[int, tuple[Colour, str]] = {}
    found = None
    for file, drawn in masks.items():
        for label, colour in drawn.items():
            other, first = labels.setdefault(colour, (label, file))
            if other != label:
                detail = f"{list(colour)} is label {other} in the first and {label} in the second"
                return Issue("palettes", f"{first} and {file}", what, "", detail)
            own, first = colours.setdefault(label, (colour, file))
            if own != colour and label not in void and not found:
                detail = f"label {label} is {list(own)} in the first and {list(colour)} in the second"
                found = Issue("label_colours", f"{first} and {file}", what, "", detail)
    return found
