"""The pictures of a run for its report: cut up, made small, and written into the page itself."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from segkit.data.visualize import GAP, caption
from segkit_report.story import Story

TITLES = ("image", "truth", "prediction", "errors")
_PHOTOGRAPH: dict[str, Any] = {"quality": 80, "method": 4}
_LABELS: dict[str, Any] = {"lossless": True, "method": 4}  # a mask is not made lossy, not even to be looked at
_MOST = 2000  # pixels a side of a sheet


@dataclass(frozen=True)
class Shown:
    """An image of the last split with what was predicted.

    Attributes:
        name: of the image.
        mean_iou: of it.
        wrong: share of its labelled pixels.
        tiles: a title and an address each: image, truth, prediction, errors.
        width: of a tile, pixels; and ``height``.
    """

    name: str
    mean_iou: float
    wrong: float
    tiles: list[tuple[str, str]]
    width: int
    height: int


def extremes(story: Story, kind: str) -> list[Shown]:
    """The ``"hardest"`` or the ``"easiest"`` images of the last split."""
    scored = story.details.get(story.last_split, {}).get("images", [])
    ranked = sorted((each for each in scored if each["mean_iou"] is not None), key=lambda each: each["mean_iou"])
    if kind == "easiest":
        ranked.reverse()
    found = []
    for number, score in enumerate(ranked, 1):
        path = story.folder / "samples" / f"{kind}_{number}.png"
        if not path.is_file():
            break
        tiles = _tiles(path)
        addresses = [(title, _address(tile, _LABELS if title in TITLES[1:3] else _PHOTOGRAPH)) for title, tile in tiles]
        wrong = 1 - score["pixel_accuracy"]
        found.append(Shown(str(score["name"]), score["mean_iou"], wrong, addresses, *tiles[0][1].size))
    return found


def sheet(story: Story) -> tuple[str, int, int] | None:
    """What the best weights predict for the images that are drawn each epoch: address, width and height."""
    folder = story.folder / "samples"
    for path in (folder / "best.png", folder / f"epoch_{story.best_epoch:04d}.png"):
        if path.is_file() and (story.result or path.name != "best.png"):
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
