"""The pictures of a run for its report: cropped, compressed and embedded in the page."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from segkit_report.story import Story
from segkit_samples.sheets import GAP, caption

TITLES = ("image", "truth", "prediction", "errors")
_PHOTOGRAPH: dict[str, Any] = {"quality": 80, "method": 4}
_LABELS: dict[str, Any] = {"lossless": True, "method": 4}  # masks are never compressed lossily
_MOST = 2000  # pixels, maximum width of a sheet


def extremes(story: Story, kind: str) -> list[dict[str, Any]]:
    """Return the ``"hardest"`` or ``"easiest"`` images of the last split.

    Each has a name, mean IoU, share of wrong labelled pixels, width and height of a tile in pixels, and tiles: title
    and data URL of image, truth, prediction and errors.
    """
    scored = [each for each in story.details["images"] if each["mean_iou"] is not None]
    found = []
    for number, score in enumerate(sorted(scored, key=lambda each: each["mean_iou"], reverse=kind == "easiest"), 1):
        path = story.folder / "samples" / f"{kind}_{number}.png"
        if not path.is_file():
            break
        with Image.open(path) as picture:
            row = picture.convert("RGB")
        top, width = caption("", 1).height, (row.width - 3 * GAP) // 4
        lefts = [place * (width + GAP) for place in range(4)]
        tiles = [row.crop((left, top, left + width, row.height)) for left in lefts]
        how = (_PHOTOGRAPH, _LABELS, _LABELS, _PHOTOGRAPH)
        addresses = [(title, _address(tile, kind)) for title, tile, kind in zip(TITLES, tiles, how, strict=True)]
        facts = {"name": str(score["name"]), "mean_iou": score["mean_iou"], "wrong": 1 - score["pixel_accuracy"]}
        found.append({**facts, "tiles": addresses, "width": width, "height": row.height - top})
    return found


def sheet(story: Story) -> tuple[str, int, int] | None:
    """Return the sheet of val images drawn with the best weights: data URL, width and height; or None."""
    folder = story.folder / "samples"
    for path in (folder / "best.png", folder / f"epoch_{story.costs['best_epoch']:04d}.png"):
        if path.is_file() and (story.finished or path.name != "best.png"):
            with Image.open(path) as picture:
                page = picture.convert("RGB")
            page.thumbnail((_MOST, _MOST * 4))
            return _address(page, _PHOTOGRAPH), *page.size
    return None


def _address(picture: Image.Image, options: dict[str, Any]) -> str:
    stream = io.BytesIO()
    picture.save(stream, "WEBP", **options)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
