"""The animation of a run folder: its sheets of samples one after the other, small enough to be sent to somebody."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from segkit.data.visualize import GAP, caption
from segkit.engine.console import number
from segkit.engine.run_folder import write_atomically

MOST_FRAMES = 60
MOST_BYTES = 5_000_000  # what a mail or an issue takes
WIDTHS = (900, 720, 560, 400)  # pixels; the next one where a file is larger than that
SECONDS = 10.0  # of all frames; each takes from 0.1 to 0.7
PAUSE = 3.0  # seconds on the last frame
COLOURS = 255  # of 256: the last one says "as in the frame before", which is true of most of a sheet

Frame = tuple[Path, str]  # a sheet, and what stands above it


def write(folder: Path) -> None:
    """Write ``samples.gif`` into a run folder; nothing where no sheet was drawn.

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


def found(folder: Path) -> list[Frame]:
    """The sheet of each epoch that has one, with its score beside its floor."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    frames = [(folder / "samples" / f"epoch_{line['epoch']:04d}.png", _title(line, len(lines))) for line in lines]
    return [(path, title) for path, title in frames if path.is_file()]


def _title(line: dict[str, Any], epochs: int) -> str:
    score, floor = line["val"]["mean_iou"], line["val"]["floor"]["mean_iou"]
    return f"epoch {line['epoch']} of {epochs}: mean IoU on val {number(score)}, its floor {number(floor)}"


def chosen(frames: Sequence[Frame], most: int = MOST_FRAMES) -> list[Frame]:
    """At most so many, evenly, the first and the last among them."""
    count = min(len(frames), most)
    return [frames[place * (len(frames) - 1) // max(1, count - 1)] for place in range(count)]


def animated(frames: Sequence[Frame], width: int) -> bytes:
    """A GIF that repeats for ever, its last frame longest; all frames share one palette, so that only changes count."""
    bar = tqdm(frames, f"samples.gif, {width} pixels wide", unit=" frames", leave=False, disable=None)
    pictures = _of_one_size([_drawn(path, title, width) for path, title in bar])
    palette = _palette(pictures)
    indexed = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in pictures]
    step = min(0.7, max(0.1, SECONDS / len(indexed)))
    durations = [round(1000 * step)] * (len(indexed) - 1) + [round(1000 * PAUSE)]
    file = io.BytesIO()
    # optimize: only what changed is written, a sixth of the bytes
    indexed[0].save(file, "gif", save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=True)
    return file.getvalue()


def _drawn(path: Path, title: str, width: int) -> Image.Image:
    """A sheet under its title."""
    with Image.open(path) as opened:
        sheet = opened.convert("RGB")
    if sheet.width > width:
        sheet = sheet.resize((width, round(sheet.height * width / sheet.width)), Image.Resampling.BOX)
    head = caption(title, sheet.width - GAP)
    picture = Image.new("RGB", (sheet.width, GAP + head.height + sheet.height), "white")
    picture.paste(head, (GAP, GAP))
    picture.paste(sheet, (0, GAP + head.height))
    return picture


def _of_one_size(pictures: Sequence[Image.Image]) -> Sequence[Image.Image]:
    """Sheets of more or fewer images, as a run that goes on may draw: nothing of one shows below another."""
    size = max(each.width for each in pictures), max(each.height for each in pictures)
    if all(each.size == size for each in pictures):
        return pictures
    padded = [Image.new("RGB", size, "white") for _ in pictures]
    for page, picture in zip(padded, pictures, strict=True):
        page.paste(picture)
    return padded


def _palette(pictures: Sequence[Image.Image]) -> Image.Image:
    """The colours of the first, the middle and the last one."""
    three = [pictures[0], pictures[len(pictures) // 2], pictures[-1]]
    side = Image.new("RGB", (pictures[0].width, sum(each.height for each in three)))
    top = 0
    for picture in three:
        side.paste(picture, (0, top))
        top += picture.height
    return side.quantize(COLOURS, Image.Quantize.MEDIANCUT)
