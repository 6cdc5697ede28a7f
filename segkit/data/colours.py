"""Masks that hold colours: the labels they stand for, or which colours are not known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.errors import Issue, LabelError, first_few

MOST_COUNTED = 64
"""Colours, or labels that are not allowed, of one mask: more of them are a photograph or edges that were blended."""


def rgb_numbers(path: Path, image: Image.Image) -> NDArray[np.int32]:
    """Each pixel's colour as one number, ``[H,W]``.

    Raises:
        LabelError: the mask has 16 or 32 bits a pixel, which are no colours.
    """
    if image.mode.startswith(("I", "F")):
        what, advice = "a colour map was given, but the mask holds no colours", "leave the map out"
        raise LabelError(Issue("no_colours", str(path), what, advice, f"{image.mode} values"))
    rgb = np.asarray(image.convert("RGBA").convert("RGB"), dtype=np.int32)  # [H,W,3]
    return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]


def labels_of_colours(
    path: Path, pixels: NDArray[np.int32], colours: Mapping[tuple[int, int, int], int]
) -> NDArray[np.uint8]:
    """The label of each colour, ``[H,W]``; ``pixels`` holds the colours as numbers.

    Raises:
        LabelError: a colour that ``colours`` lacks.
    """
    packed = {red << 16 | green << 8 | blue: label for (red, green, blue), label in colours.items()}
    keys = np.array(sorted(packed), dtype=np.int32)
    labels: NDArray[np.uint8] = np.array([packed[key] for key in sorted(packed)], dtype=np.uint8)
    position = np.searchsorted(keys, pixels).clip(max=len(keys) - 1)
    unknown = keys[position] != pixels
    if unknown.any():
        raise LabelError(_unknown_colours_fault(path, _counted(pixels[unknown]), _counted(pixels), colours))
    return np.take(labels, position)


def _counted(pixels: NDArray[np.int32]) -> dict[tuple[int, int, int], int]:
    """Colour -> number of pixels, the most frequent first."""
    colours, counts = np.unique(pixels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {
        (colour >> 16, colour >> 8 & 255, colour & 255): count
        for colour, count in zip(colours[order].tolist(), counts[order].tolist(), strict=True)
    }


def _unknown_colours_fault(
    path: Path,
    wrong: Mapping[tuple[int, int, int], int],
    stored: Mapping[tuple[int, int, int], int],
    known: Mapping[tuple[int, int, int], int],
) -> Issue:
    if len(wrong) > MOST_COUNTED:
        return _blended_fault(path, f"{len(wrong):,} that the colour map lacks")
    detail = first_few([f"{list(colour)}: {count:,} pixels" for colour, count in wrong.items()])
    advice = f"it has {first_few([str(list(colour)) for colour in known])}; add them, or correct the mask"
    return Issue("unknown_colours", str(path), "colours that the colour map lacks", advice, detail, wrong, stored)


def labels_of_greys(path: Path, pixels: NDArray[np.int32], mode: str) -> NDArray[np.uint8]:
    """The labels of a mask that stores grey values as colours (as numbers, ``[H,W]``): (k, k, k) is label k.

    Pillow's ``mode`` must be one of RGB: what other colours are turned into is stored nowhere.

    Raises:
        LabelError: a pixel is not grey.
    """
    greys = pixels & 255
    if mode.startswith("RGB") and (greys * 0x010101 == pixels).all():
        return greys.astype(np.uint8)
    stored = _counted(pixels)
    if len(stored) > MOST_COUNTED:
        raise LabelError(_blended_fault(path, f"{len(stored):,}"))
    advice = "export it again as a PNG of grey values or with a palette, a label for each class"
    what, detail = "the mask holds colours, not labels", f"{len(stored)} colours"
    raise LabelError(Issue("colours", str(path), what, advice, detail, stored=stored))


def refuse_alpha(path: Path, image: Image.Image) -> None:
    """Refuse a mask whose alpha channel differs where its colour is the same: the colours alone are not the labels.

    Raises:
        LabelError: it does.
    """
    if image.mode not in ("RGBA", "RGBa", "LA", "La", "PA"):
        return
    alpha = np.asarray(image.getchannel(len(image.getbands()) - 1), dtype=np.int64)
    if alpha.min() == alpha.max():
        return
    pixels = rgb_numbers(path, image)
    colours, pairs = np.unique(pixels), np.unique(pixels.astype(np.int64) << 8 | alpha)
    if len(pairs) == len(colours):
        return
    alphas = [str(pair & 255) for pair in pairs.tolist()]
    if len(colours) == 1:
        what = "the labels are in the alpha channel: the colour is the same everywhere"
        advice = "save that channel as the mask, in Pillow Image.open(mask).getchannel('A').save(mask)"
        raise LabelError(Issue("alpha", str(path), what, advice, f"alpha {first_few(alphas)}"))
    what = "the alpha channel differs where the colour is the same, so the colours alone are not the labels"
    advice = "export the mask without transparency, one colour or grey value a class"
    detail = f"{len(colours)} colours, {len(pairs)} with alpha"
    raise LabelError(Issue("alpha", str(path), what, advice, detail))


def _blended_fault(path: Path, colours: str) -> Issue:
    what = f"more than {MOST_COUNTED} colours, so the mask is a photograph or its edges were blended"
    advice = "labels need one colour a class: export it again without anti-aliasing, as PNG"
    return Issue("blended", str(path), what, advice, colours)
