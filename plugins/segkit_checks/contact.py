"""A contact sheet of a split: a few images of each class, the rarest class first, where wrong labels show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.normalise import displayable
from segkit.data.visualize import overlay
from segkit_samples.sheets import GAP, caption, sheet, side_by_side

if TYPE_CHECKING:  # torch is not needed to draw
    from segkit.data.sample import Dataset

Bytes = NDArray[np.uint8]
_TILE = 176  # pixels at most, wide and high: a page of 255 classes is still one that viewers open
_SEAM = 2  # pixels between an image and its labels
_DIMMED = 0.5  # the other classes can still be told, and the class itself stands out
_OUTLINE = (255, 255, 255)
_HEADING = (225, 225, 225)  # a band: which row a class's name belongs to is seen at once


def contact_sheet(
    dataset: Dataset, pixels: NDArray[np.int64], per_class: int = 4, rgb: Sequence[int] | None = None
) -> Image.Image:
    """One row a class, the rarest of the pixels first: images that contain it, each beside its labels.

    The images of a class are evenly spaced from the one with most of its pixels down. Among the labels the class is
    outlined in white, down to a single pixel, and all else is dark. Only what is shown is read.

    Args:
        dataset: one split.
        pixels: of each image and class, int64 ``[N,C]``.
        per_class: how many images a class, at most.
        rgb: as ``data.rgb``.

    Raises:
        DataError: an image to be shown cannot be read.
    """
    totals, images = pixels.sum(axis=0).tolist(), np.count_nonzero(pixels, axis=0).tolist()  # [C]
    width = per_class * (2 * _TILE + _SEAM + GAP) - GAP
    rows = []
    for label in sorted(range(len(totals)), key=lambda each: (totals[each] == 0, totals[each])):
        percent = 100 * totals[label] / max(1, sum(totals))
        share = f"{percent:.2f}" if percent >= 0.01 else "under 0.01"
        text = f"{share} % of the pixels, in {images[label]} of {len(pixels)} images"
        text = text if images[label] else f"absent from all {len(pixels)} images"
        rows.append(caption(f"{dataset.classes[label]}: {text}", width, dataset.palette[label], _HEADING))
        order = np.argsort(-pixels[:, label], kind="stable")[: images[label]].tolist()
        shown = min(per_class, len(order))
        examples = [_example(dataset, order[place * len(order) // shown], label, rgb) for place in range(shown)]
        rows += [side_by_side(examples)] if examples else []
    return sheet(rows, dataset.classes, dataset.palette)


def _example(dataset: Dataset, index: int, label: int, rgb: Sequence[int] | None) -> tuple[str, Image.Image]:
    """The name of an image, and the image beside its labels, fitted into tiles."""
    sample = dataset[index]
    image, mask = displayable(sample.image.permute(1, 2, 0).numpy(), rgb), sample.mask.numpy()  # [H,W,3], [H,W]
    scale = _TILE / max(mask.shape)
    height, width = (max(1, round(side * scale)) for side in mask.shape)
    picture = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    pair = Image.new("RGB", (2 * _TILE + _SEAM, height), "white")
    pair.paste(Image.fromarray(picture), (0, 0))
    pair.paste(Image.fromarray(_marked(picture, mask, label, dataset)), (width + _SEAM, 0))
    return sample.name, pair


def _marked(picture: Bytes, mask: Bytes, label: int, dataset: Dataset) -> Bytes:
    """The labels ``[H,W]`` over the smaller or larger ``picture`` ``[h,w,3]``: one class outlined, all else dark."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(picture.shape[:2], mask.shape, strict=True))
    own = np.logical_or.reduceat(np.logical_or.reduceat(mask == label, rows, axis=0), columns, axis=1)  # [h,w]
    shown = np.where(own, label, mask[np.ix_(rows, columns)]).astype(np.uint8)
    drawn = overlay(picture, shown, dataset.palette, dataset.ignore_index)
    drawn = np.where(own[..., None], drawn, drawn * _DIMMED).astype(np.uint8)
    padded = np.pad(own, 1)
    around = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    drawn[around & ~own] = _OUTLINE
    return drawn
