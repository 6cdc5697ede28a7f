"""The pictures of a run for its report, cut up, made small and written into the page itself."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from segkit_report.story import Story
from segkit_samples.sheets import GAP, caption

TITLES = ("image", "truth", "prediction", "errors")
_PHOTOGRAPH: dict[str, Any] = {"quality": 80, "method": 4}
_LABELS: dict[str, Any] = {"lossless": True, "method": 4}  # a mask is not made lossy, not even to be looked at
_MOST = 2000  # pixels a side of a sheet


def extremes(story: Story, kind: str) -> list[dict[str, Any]]:
    """The ``"hardest"`` or the ``"easiest"`` images of the last split.

    Of each its name, mean IoU, the share of its labelled pixels that is wrong, width and height of a tile in pixels,
    and its tiles: title and address of image, truth, prediction and errors.
    """
    scored = [each for each in story.details["images"] if each["mean_iou"] is not None]
    found = []
    for number, score in enumerate(sorted(scored, key=lambda each: each["mean_iou"], reverse=kind == "easiest"), 1):
        path = story.folder / "samples" / f"{kind}_{number}.png"
        if not path.is_file():
            break
        tiles = _tiles(path)
        addresses = [(title, _address(tile, _LABELS if title in TITLES[1:3] else _PHOTOGRAPH)) for title, tile in tiles]
        width, height = tiles[0][1].size
        facts = {"name": str(score["name"]), "mean_iou": score["mean_iou"], "wrong": 1 - score["pixel_accuracy"]}
        found.append({**facts, "tiles": addresses, "width": width, "height": height})
    return found


def sheet(story: Story) -> tuple[str, int, int] | None:
    """What the best weights predict for the images that are drawn each epoch: address, width and height."""
    folder = story.folder / "samples"
    for path in (folder / "best.png", folder / f"epoch_{story.costs['best_epoch']:04d}.png"):
        if path.is_file() and (story.finished or path.name != "best.png"):
            with Image.open(path) as picture:
                page = picture.convert("RGB")
            page.thumbnail((_MOST, _MOST * 4))
            return _address(page, _PHOTOGRAPH), *page.size
    return None


def _tiles(path: Path) -> list[tuple[str, Image.Image]]:
    """The four pictures of a row, without their captions."""
    with Image.open(path) as picture:
        row = picture.convert("RGB")
    top, width = caption("", 1).height, (row.width - 3 * GAP) // 4
    lefts = [number * (width + GAP) for number in range(4)]
    return [(title, row.crop((left, top, left + width, row.height))) for title, left in zip(TITLES, lefts, strict=True)]


def _address(picture: Image.Image, options: dict[str, Any]) -> str:
    stream = io.BytesIO()
    picture.save(stream, "WEBP", **options)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
