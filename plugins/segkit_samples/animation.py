"""The GIF of a run: its pictures of all epochs one after the other, in a file small enough to be sent to somebody."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

import segkit
from segkit.files import write_atomically
from segkit_samples.sheets import GAP, caption

MOST_FRAMES = 60
MOST_BYTES = 5_000_000  # what a mail or an issue takes
WIDTHS = (900, 720, 560, 400)  # pixels; the next one where a file is larger than that
SECONDS = 10.0  # of all frames; each takes from 0.1 to 0.7
PAUSE = 3.0  # seconds on the last frame
COLOURS = 255  # of 256: the last one says "as in the frame before", which is true of most of a picture

Frame = tuple[Path, str]  # a picture, and what stands above it


def write(folder: Path) -> None:
    """Write ``samples.gif`` into a run folder; nothing where no picture was drawn.

    Raises:
        WriteError: it cannot be written; an older one is intact.
    """
    frames = chosen(found(folder))
    if not frames:
        return
    for width in WIDTHS:
        content = animated(frames, width)
        if len(content) <= MOST_BYTES:
            break
    write_atomically(folder / "samples.gif", lambda file: file.write(content), durable=False)


def titles(folder: Path) -> dict[int, str]:
    """By epoch: its score beside its floor."""
    lines, found = segkit.read_run(folder).epochs, {}
    for line in lines:
        score, floor = line["val"]["mean_iou"], line["val"]["floor"]["mean_iou"]
        shown = "-" if score is None else f"{score:.3f}"
        found[line["epoch"]] = f"epoch {line['epoch']} of {len(lines)}: mean IoU on val {shown}, its floor {floor:.3f}"
    return found


def found(folder: Path) -> list[Frame]:
    """The picture of each epoch that has one, and its title."""
    frames = [(folder / "samples" / f"epoch_{epoch:04d}.png", title) for epoch, title in titles(folder).items()]
    return [(path, title) for path, title in frames if path.is_file()]


def chosen(frames: Sequence[Frame], most: int = MOST_FRAMES) -> list[Frame]:
    """At most so many, evenly, the first and the last among them."""
    count = min(len(frames), most)
    return [frames[place * (len(frames) - 1) // max(1, count - 1)] for place in range(count)]


def animated(frames: Sequence[Frame], width: int) -> bytes:
    """A GIF that repeats for ever, its last frame longest; all frames share one palette, so that only changes count."""
    bar = tqdm(frames, f"samples.gif, {width} pixels wide", unit=" frames", leave=False, disable=None)
    drawn = [_drawn(path, title, width) for path, title in bar]
    # a run that goes on may draw more images or fewer: nothing of one frame shows below another
    width, height = max(each.width for each in drawn), max(each.height for each in drawn)
    pages = [ImageOps.expand(each, (0, 0, width - each.width, height - each.height), "white") for each in drawn]
    three = Image.fromarray(np.concatenate([np.asarray(pages[at]) for at in (0, len(pages) // 2, -1)]))
    palette = three.quantize(COLOURS, Image.Quantize.MEDIANCUT)
    indexed = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    step = min(0.7, max(0.1, SECONDS / len(indexed)))
    durations = [round(1000 * step)] * (len(indexed) - 1) + [round(1000 * PAUSE)]
    file = io.BytesIO()
    # optimize: only what changed is written, a sixth of the bytes
    indexed[0].save(file, "gif", save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=True)
    return file.getvalue()


def _drawn(path: Path, title: str, width: int) -> Image.Image:
    """A picture under its title."""
    with Image.open(path) as opened:
        sheet = opened.convert("RGB")
    if sheet.width > width:
        sheet = sheet.resize((width, round(sheet.height * width / sheet.width)), Image.Resampling.BOX)
    head = caption(title, sheet.width - GAP)
    page = Image.new("RGB", (sheet.width, GAP + head.height + sheet.height), "white")
    page.paste(head, (GAP, GAP))
    page.paste(sheet, (0, GAP + head.height))
    return page
