"""Predictions beside true masks: which mask is whose, and the scores beside their floor."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.data.files import VOID, PairedFiles
from segkit.data.issues import messages
from segkit.data.sample import Colour
from segkit.data.splits import SUFFIXES, composed
from segkit.engine.console import final_table
from segkit.engine.evaluate import beside, read_off
from segkit.errors import DataError, LabelError, first_few
from segkit.inference.counting import compare, pixels_by_class
from segkit.metric.confusion import ConfusionMatrix
from segkit.metric.scores import floor


class Truth:
    """The true masks of images, and how the predictions compare with them.

    Args:
        dataset: that knows the classes and reads masks; its pairs are replaced.
        images: that are predicted.
        folder: of the masks, each called as its image but for the ending.
        suffix: what a mask's name has more than its image's.

    Raises:
        DataError: an image has no mask, or more than one.
    """

    def __init__(self, dataset: PairedFiles, images: Sequence[Path], folder: Path, suffix: str = "") -> None:
        self._dataset = dataset
        dataset.pairs = pair(images, folder, suffix)
        dataset.names = [composed(image.stem) for image in images]
        self._place = {image: place for place, image in enumerate(images)}
        self._drawn: dict[str, Mapping[int, Colour]] = {}  # file -> what its palette says, once each
        self._one = threading.Lock()
        self._present: set[int] = set()  # class indices in the masks
        self.confusion = ConfusionMatrix(len(dataset.classes), dataset.ignore_index)

    def allow(self, most_pixels: int) -> None:
        """Read masks of so many pixels, as the images they belong to."""
        self._dataset.most_pixels = most_pixels

    def of(self, image: Path) -> NDArray[np.uint8]:
        """The mask of an image, uint8 ``[H,W]``.

        Raises:
            LabelError: a label that is not allowed, another size than the image's, or a palette that contradicts those
                of the masks before or that of the classes.
            DataError: a file that cannot be read.
        """
        place = self._place[image]
        drawn = self._dataset.check_mask_file(place)
        mask: NDArray[np.uint8] = self._dataset.mask(place).numpy()
        file = str(self._dataset.pairs[place][1])
        with self._one:  # of two masks that contradict each other one is later, though they are read at a time
            for fault in self._dataset.palette_issues({**self._drawn, file: drawn}) if drawn else []:
                if fault.kind != "label_colours" or not self._dataset.labels_are_stated:
                    raise LabelError("\n".join(messages([fault], self._dataset.advice)), fault)
            if drawn not in self._drawn.values():
                self._drawn[file] = drawn
        self._present.update(np.flatnonzero(pixels_by_class(mask, 256)).tolist())
        return mask

    def count(self, truth: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Take in the mask of an image and what was predicted, ``[H,W]`` both."""
        compare(self.confusion, truth, labels)

    def scores(self) -> dict[str, Any]:
        """As those of a split in ``result.json``, without a loss; the floor is that of these masks.

        Raises:
            DataError: no pixel is labelled, or 255 may be the foreground.
        """
        if self._dataset.void_is_assumed and len(self._dataset.classes) == 2 and self._present == {0, VOID}:
            advice = self._dataset.advice("black_and_white", {}, {})
            raise DataError(f"the masks hold 0 and 255 alone, and 255 is void where nothing else is said; {advice}")
        lowest: dict[str, Any] = dict(floor(self.confusion.compute().sum(1).tolist()))
        lowest["class"] = self._dataset.classes[int(lowest["class"])]
        return beside(read_off(self.confusion, {}, self._dataset.classes), lowest)

    def table(self, scores: Mapping[str, Any]) -> str:
        """The scores as text: each class with its IoU and its share of the labelled pixels; the means and floors."""
        true = self.confusion.compute().sum(1)
        return final_table({"masks": scores}, self._dataset.classes, {"masks": (true / true.sum()).numpy()})


def pair(images: Sequence[Path], folder: Path, suffix: str = "") -> list[tuple[Path, Path]]:
    """Each image with the one mask of its stem; masks of other images may be there.

    Raises:
        DataError: the folder is none, or an image has no mask or several.
    """
    if not folder.is_dir():
        raise DataError(f"--compare-with {folder} is no folder; give that of the true masks")
    masks: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            masks.setdefault(composed(file.stem), []).append(file)
    found = [masks.get(composed(image.stem + suffix), []) for image in images]
    missing = [str(image) for image, those in zip(images, found, strict=True) if not those]
    if missing:
        hint = f"that of {Path(missing[0]).name} would be {Path(missing[0]).stem}{suffix}.png"
        raise DataError(f"--compare-with {folder} has no mask for {first_few(missing)}; {hint} (see --mask-suffix)")
    several = [str(file) for those in found if len(those) > 1 for file in those]
    if several:
        raise DataError(f"--compare-with {folder} has several masks of one name: {first_few(several)}; keep one each")
    return [(image, those[0]) for image, those in zip(images, found, strict=True)]
