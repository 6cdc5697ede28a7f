"""Draws sheets of captioned pictures: panels of image, truth, prediction and errors, a legend; and saves masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segkit.data.visualize import VOID_COLOUR, colour_mask
from segkit.errors import one_line
from segkit_samples.marked import signature

if TYPE_CHECKING:  # torch is not needed to draw
    from segkit.data.sample import Colour

_WRONG = (230, 25, 25)
_INK, _PAPER = (20, 20, 20), (255, 255, 255)
_TEXT = 14  # pixels
GAP = 6  # pixels between neighbouring pictures

Pixels = NDArray[np.uint8]


def panel(
    image: Pixels,
    truth: Pixels,
    prediction: Pixels,
    palette: Sequence[Colour],
    ignore_index: int = 255,
    name: str = "",
    width: int = 320,
) -> Image.Image:
    """Draw image, truth, prediction and errors side by side, each ``width`` pixels wide under a caption.

    Errors are red on the darkened image; void is cream and not counted.
    """
    labelled = truth != ignore_index
    share = int(((prediction != truth) & labelled).sum()) / max(int(labelled.sum()), 1)
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    photograph = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    rows = ((np.arange(height) + 0.5) * (image.shape[0] / height)).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * (image.shape[1] / width)).astype(np.int64)
    image, truth, prediction = (pixels[np.ix_(rows, columns)] for pixels in (image, truth, prediction))
    errors = (image.mean(axis=2, keepdims=True) * 0.5).repeat(3, axis=2)  # [H,W,3]
    errors[truth == ignore_index] = VOID_COLOUR
    errors[(prediction != truth) & (truth != ignore_index)] = _WRONG
    return side_by_side(
        [
            (name or "image", photograph),
            ("truth", Image.fromarray(colour_mask(truth, palette, ignore_index))),
            ("prediction", Image.fromarray(colour_mask(prediction, palette, ignore_index))),
            (f"errors: {share:.1%} of the labelled pixels", Image.fromarray(errors.astype(np.uint8))),
        ]
    )


def side_by_side(pictures: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Draw pictures side by side, each under its caption."""
    strips = [(caption(text, picture.width), picture) for text, picture in pictures]
    width = sum(picture.width + GAP for _, picture in strips) - GAP
    row = Image.new("RGB", (width, max(text.height + picture.height for text, picture in strips)), _PAPER)
    left = 0
    for text, picture in strips:
        row.paste(text, (left, 0))
        row.paste(picture, (left, text.height))
        left += picture.width + GAP
    return row


def caption(
    text: str, width: int, colour: tuple[int, int, int] | None = None, paper: tuple[int, int, int] = _PAPER
) -> Image.Image:
    """Draw a line of text, ``width`` pixels wide, on ``paper``; with ``colour``, a coloured square comes first."""
    line = Image.new("RGB", (width, _TEXT + GAP), paper)
    draw = ImageDraw.Draw(line)
    left = 0
    if colour is not None:
        draw.rectangle((0, 0, _TEXT, _TEXT), fill=tuple(colour), outline=_INK)
        left = _TEXT + GAP
    draw.text((left, 0), _fitting(one_line(text), width - left), fill=_INK, font=_font())
    return line


def sheet(
    panels: Sequence[Image.Image], classes: Sequence[str], palette: Sequence[Colour], title: str = ""
) -> Image.Image:
    """Stack panels under a title and above a legend, which includes void if a panel shows the void colour."""
    width = max(each.width for each in panels)
    has_void = any((np.asarray(each) == VOID_COLOUR).all(2).any() for each in panels)
    parts = [*([caption(title, width)] if title else []), *panels, legend(classes, palette, width, has_void)]
    page = Image.new("RGB", (width + 2 * GAP, sum(each.height + GAP for each in parts) + GAP), _PAPER)
    top = GAP
    for part in parts:
        page.paste(part, (GAP, top))
        top += part.height + GAP
    return page


def legend(classes: Sequence[str], palette: Sequence[Colour], width: int, has_void: bool = True) -> Image.Image:
    """Draw the colour and name of each class, and of void, in rows of at most ``width`` pixels."""
    entries = [*zip(classes, palette, strict=True), *([("void", VOID_COLOUR)] if has_void else [])]
    longest = max(_font().getlength(one_line(name[:width])) for name, _ in entries)
    cell = min(width, round(longest) + _TEXT + 4 * GAP)
    columns, line = max(1, width // cell), _TEXT + GAP
    picture = Image.new("RGB", (width, line * -(-len(entries) // columns)), _PAPER)
    for number, (name, colour) in enumerate(entries):
        picture.paste(caption(name, cell, colour), (number % columns * cell, number // columns * line))
    return picture


def save_palette_png(
    mask: Pixels, palette: Sequence[Colour], path: str | Path | IO[bytes], ignore_index: int = 255
) -> None:
    """Write labels ``[H,W]`` as a palette PNG like VOC's masks: indices are the labels, the palette is for display."""
    picture = Image.fromarray(mask)
    picture.putpalette(colour_mask(np.arange(256, dtype=np.uint8), palette, ignore_index).tobytes())
    picture.save(path, format="PNG", pnginfo=signature())


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT)  # bundled with Pillow


def _fitting(text: str, width: int) -> str:
    """Return the text, its end replaced by "…" if it is wider than ``width`` pixels."""
    whole = text = text[: max(width, 1)]  # a letter is at least one pixel wide
    while len(text) > 1 and _font().getlength(text + "…" * (text != whole)) > width:
        text = text[:-1]
    return text + "…" * (text != whole)
