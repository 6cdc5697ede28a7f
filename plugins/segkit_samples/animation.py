"""Animates the pictures of all epochs of a run as a GIF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

import segkit
from segkit.files import write_atomically
from segkit_samples.sheets import GAP, caption

MOST_FRAMES = 60
WIDTH = 720  # pixels
SECONDS = 10.0  # duration of all frames; a frame takes 0.1 to 0.7
PAUSE = 3.0  # seconds on the last frame
COLOURS = 255  # of 256: the last one marks pixels that did not change since the previous frame

Frame = tuple[Path, str]  # a picture and its title


def write(folder: Path) -> None:
    """Write ``samples.gif`` into a run folder, unless no picture was drawn: endless, with a pause on the last frame.

    Raises:
        WriteError: the file cannot be written; an existing one is left intact.
    """
    frames = chosen(found(folder))
    if not frames:
        return
    drawn = [_drawn(*frame) for frame in tqdm(frames, "samples.gif", unit=" frames", leave=False, disable=None)]
    # a resumed run may draw more or fewer images: pad all frames to the same size
    size = max(each.width for each in drawn), max(each.height for each in drawn)
    pages = [ImageOps.expand(each, (0, 0, size[0] - each.width, size[1] - each.height), "white") for each in drawn]
    # frames share a palette, so only changes are stored
    three = Image.fromarray(np.concatenate([np.asarray(pages[at]) for at in (0, len(pages) // 2, -1)]))
    palette = three.quantize(COLOURS, Image.Quantize.MEDIANCUT)
    first, *others = (page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages)
    step = min(0.7, max(0.1, SECONDS / len(pages)))
    durations = [round(1000 * step)] * len(others) + [round(1000 * PAUSE)]
    how = {"save_all": True, "append_images": others, "duration": durations, "loop": 0}
    # optimize: store only what changed, a sixth of the bytes
    write_atomically(folder / "samples.gif", lambda file: first.save(file, "gif", optimize=True, **how), durable=False)


def titles(folder: Path) -> dict[int, str]:
    """Return a title for each epoch, with its score and its floor."""
    lines, found = segkit.read_run(folder).epochs, {}
    for line in lines:
        score, floor = line["val"]["mean_iou"], line["val"]["floor"]["mean_iou"]
        shown = "-" if score is None else f"{score:.3f}"
        found[line["epoch"]] = f"epoch {line['epoch']} of {len(lines)}: mean IoU on val {shown}, its floor {floor:.3f}"
    return found


def found(folder: Path) -> list[Frame]:
    """Return the picture and title of each epoch that has a picture."""
    frames = [(folder / "samples" / f"epoch_{epoch:04d}.png", title) for epoch, title in titles(folder).items()]
    return [(path, title) for path, title in frames if path.is_file()]


def chosen(frames: Sequence[Frame], most: int = MOST_FRAMES) -> list[Frame]:
    """Return at most ``most`` evenly spaced frames, including the first and the last."""
    count = min(len(frames), most)
    return [frames[place * (len(frames) - 1) // max(1, count - 1)] for place in range(count)]


def _drawn(path: Path, title: str) -> Image.Image:
    """Draw a picture under its title, at most :data:`WIDTH` pixels wide."""
    with Image.open(path) as opened:
        sheet = opened.convert("RGB")
    if sheet.width > WIDTH:
        sheet = sheet.resize((WIDTH, round(sheet.height * WIDTH / sheet.width)), Image.Resampling.BOX)
    head = caption(title, sheet.width - GAP)
    page = Image.new("RGB", (sheet.width, GAP + head.height + sheet.height), "white")
    page.paste(head, (GAP, GAP))
    page.paste(sheet, (0, GAP + head.height))
    return page
