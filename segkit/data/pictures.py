"""Pictures of masks: palette PNGs, overlays, and strips of image, truth, prediction and errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:  # torch is not needed to draw
    from segkit.data.sample import Palette

VOID_COLOUR = (224, 224, 192)  # the cream of Pascal VOC's borders, which no class of its palette has
WRITER = "segkit"
_WRONG = (230, 25, 25)
_INK, _PAPER = (20, 20, 20), (255, 255, 255)
_TEXT = 14  # pixels
_GAP = 6  # pixels between what is side by side

Pixels = NDArray[np.uint8]


def colour_mask(mask: Pixels, palette: Palette, ignore_index: int = 255) -> Pixels:
    """Labels ``[H,W]`` in their colours, ``[H,W,3]``."""
    return np.take(_table(palette, ignore_index), mask, axis=0)


def overlay(image: Pixels, mask: Pixels, palette: Palette, ignore_index: int = 255, opacity: float = 0.5) -> Pixels:
    """The image ``[H,W,3]`` under its labels' colours; void is left as it is.

    At an ``opacity`` of a half both can be told: what the picture shows and what was predicted there.
    """
    blended = image * (1 - opacity) + colour_mask(mask, palette, ignore_index) * opacity
    return np.where((mask == ignore_index)[..., None], image, blended.round()).astype(np.uint8)


def save_palette_png(mask: Pixels, palette: Palette, path: str | Path, ignore_index: int = 255) -> None:
    """Write labels ``[H,W]`` as a palette PNG, as VOC's masks: the indices are the labels, the colours for the eye."""
    picture = Image.fromarray(mask)
    picture.putpalette(_table(palette, ignore_index).tobytes())
    text = PngInfo()
    text.add_text("Software", WRITER)
    picture.save(path, format="PNG", pnginfo=text)


def is_prediction(path: Path) -> bool:
    """Whether a file is a mask that :func:`save_palette_png` wrote."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return picture.info.get("Software") == WRITER
    except OSError:
        return False


def panel(
    image: Pixels,
    truth: Pixels,
    prediction: Pixels,
    palette: Palette,
    ignore_index: int = 255,
    name: str = "",
    width: int = 320,
) -> Image.Image:
    """Image, truth, prediction and errors side by side, each ``width`` pixels wide under its caption.

    The errors are red on the darkened image; void is cream, and counts for nothing.
    """
    void = truth == ignore_index
    wrong = (prediction != truth) & ~void
    grey = (image.mean(axis=2, keepdims=True) * 0.5).repeat(3, axis=2)  # [H,W,3]
    errors = np.where(wrong[..., None], _WRONG, np.where(void[..., None], VOID_COLOUR, grey)).astype(np.uint8)
    share = wrong.sum() / max((~void).sum(), 1)
    tiles = [
        (name or "image", image),
        ("truth", colour_mask(truth, palette, ignore_index)),
        ("prediction", colour_mask(prediction, palette, ignore_index)),
        (f"errors: {share:.1%} of the labelled pixels", errors),
    ]
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    line = _TEXT + _GAP
    strip = Image.new("RGB", (len(tiles) * (width + _GAP) - _GAP, line + height), _PAPER)
    draw = ImageDraw.Draw(strip)
    for position, (caption, pixels) in enumerate(tiles):
        left = position * (width + _GAP)
        photograph = Image.Resampling.BILINEAR if pixels is image else Image.Resampling.NEAREST
        strip.paste(Image.fromarray(pixels).resize((width, height), photograph), (left, line))
        draw.text((left, 0), _fitting(caption, width), fill=_INK, font=_font())
    return strip


def sheet(panels: Sequence[Image.Image], classes: Sequence[str], palette: Palette) -> Image.Image:
    """Panels one below the other, over one legend."""
    width = max(each.width for each in panels)
    parts = [*panels, legend(classes, palette, width)]
    page = Image.new("RGB", (width + 2 * _GAP, sum(each.height + _GAP for each in parts) + _GAP), _PAPER)
    top = _GAP
    for part in parts:
        page.paste(part, (_GAP, top))
        top += part.height + _GAP
    return page


def legend(classes: Sequence[str], palette: Palette, width: int) -> Image.Image:
    """Each class and void by colour and name, in rows of at most ``width`` pixels."""
    entries = [*zip(classes, palette, strict=True), ("void", VOID_COLOUR)]
    cell = max(_length(name) for name, _ in entries) + _TEXT + 4 * _GAP
    columns = max(1, width // cell)
    line = _TEXT + _GAP
    picture = Image.new("RGB", (width, line * -(-len(entries) // columns)), _PAPER)
    draw = ImageDraw.Draw(picture)
    for position, (name, colour) in enumerate(entries):
        left, top = position % columns * cell, position // columns * line
        draw.rectangle((left, top, left + _TEXT, top + _TEXT), fill=tuple(colour), outline=_INK)
        draw.text((left + _TEXT + _GAP, top), name, fill=_INK, font=_font())
    return picture


def _table(palette: Palette, ignore_index: int) -> Pixels:
    """A colour for each of the 256 values: black where there is no class."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[ignore_index] = VOID_COLOUR
    return table


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT)  # Pillow brings it along


def _length(text: str) -> int:
    return round(_font().getlength(text))


def _fitting(text: str, width: int) -> str:
    """The text, its end replaced by dots where it is longer than ``width`` pixels."""
    while _length(text) > width and len(text) > 2:
        text = text[:-2] + "…"
    return text
