"""Drawing an image's shapes into a mask of class indices, and finding whether their corners are pixels or shares."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segkit.data.read import read_header
from segkit.errors import DataError, DataWarning, Issue, LabelError
from segkit_annotations.draw import ShapeError, Size, bounds, draw, scaled
from segkit_annotations.records import Record
from segkit_folder.files import VOID

_SOME = 20  # how many images, and shapes per image, are used to guess the unit of corners
Rule = Literal["smallest", "last", "void", "error"]


@dataclass(frozen=True)
class Rasterizer:
    """Draws the shapes of an image into a mask of class indices.

    Attributes:
        labels: label of a shape -> class index or void.
        outside: the class index of pixels that no shape covers.
        rule: the class of a pixel that shapes of several classes cover, as the option ``overlap``.
        in_shares: whether corners are shares of the image's width and height, not pixels.
        cut: whether to cut off what extends beyond the image, instead of refusing it.
    """

    labels: Mapping[str, int]
    outside: int
    rule: Rule
    in_shares: bool
    cut: bool

    def draw(self, entry: Record, size: Size) -> NDArray[np.uint8]:
        """Draw the shapes into a mask of class indices ``[H,W]``."""
        mask, clash = np.full(size, self.outside, np.uint8), np.zeros(size, bool)
        none = size[0] * size[1] + 1
        area = np.full(size, none, np.int32)  # pixels of the shape that each pixel was last drawn from
        for number, shape in enumerate(entry.shapes, 1):
            try:
                if self.in_shares and isinstance(shape.data, list):
                    shape = shape._replace(data=scaled(shape.data, size[1], size[0]))
                box, slack = bounds(shape.data), 10 * max(size) if self.cut else 1
                if box and (min(box[:2]) < -slack or box[2] > size[1] + slack or box[3] > size[0] + slack):
                    where = f"x {box[0]:g} to {box[2]:g}, y {box[1]:g} to {box[3]:g}, it is {size[1]} x {size[0]}"
                    hint = 'set outside = "cut" to cut it off'
                    if max(map(abs, box)) > 10 * max(size):
                        hint = "by over ten times its size: corners are pixels, or in YOLO shares; rasterize shapes in "
                        hint += "geographic coordinates first"
                    raise ShapeError(f"a shape that goes beyond its image, {hint}", where)
                at, bits = draw(shape, size)
            except ShapeError as error:
                what, advice = error.args[0], "correct it with the tool that wrote it, or leave the image out"
                parts = [f"number {number} of {entry.image.name}", f"'{shape.label}'", *error.args[1:]]
                detail = ", ".join(filter(None, parts))
                raise LabelError(Issue("shape", str(entry.sources[0]), what, advice, detail)) from None
            label, pixels = self.labels[shape.label], int(np.count_nonzero(bits))
            clash[at] |= bits & (area[at] < none) & (mask[at] != label)
            wins = bits & (area[at] >= pixels) if self.rule == "smallest" else bits  # a later shape wins a tie
            np.copyto(mask[at], label, where=wins)
            np.copyto(area[at], pixels, where=wins)
        if self.rule == "error" and clash.any():
            what = "shapes of several classes cover the same pixels, and a pixel has one class"
            advice = 'choose which shape wins: overlap = "smallest", "last" or "void"'
            ways = {"a pixel belongs to the smallest object that covers it": {"overlap": "smallest"}}
            detail = f"{int(clash.sum()):,} pixels"
            raise LabelError(Issue("overlap", str(entry.image), what, advice, detail, ways=ways))
        return np.where(clash, np.uint8(VOID), mask) if self.rule == "void" else mask


def are_shares(entries: Sequence[Record]) -> bool:
    """Whether corners are shares of width and height, according to a few images; warn unless they are surely pixels."""
    some = [entry for entry in entries if entry.shapes][:_SOME]
    boxes = [box for entry in some for shape in entry.shapes[:_SOME] if (box := bounds(shape.data))]
    least, most = min((min(box) for box in boxes), default=0), max((max(box) for box in boxes), default=0)
    if least >= 0 and most <= 1 and any(0 < each < 1 for box in boxes for each in box):
        what = "corners are read as shares of width and height because all lie in 0 to 1"
        warnings.warn(what, stacklevel=3)
        return True
    if boxes and least >= 0 and most <= 100:
        with suppress(DataError):  # reported when the image is read
            if all(min(entry.size or read_header(entry.image).size) > max(200, 2 * most) for entry in some):
                what = "corners are read as pixels, but all lie in 0 to 100 and the images are far larger"
                advice = "if they are percent, export pixels"
                warnings.warn(DataWarning(f"{what}; {advice}", {"they are pixels": {}}), stacklevel=3)
    return False
