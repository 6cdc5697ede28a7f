"""The pictures of a run for its report: compressed and embedded in the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from segkit_report.story import Story

_MOST = 2000  # pixels, maximum width of a sheet


def extremes(story: Story, kind: str) -> list[dict[str, Any]]:
    """Return the ``"hardest"`` or ``"easiest"`` images of the last split.

    Each has a name, mean IoU, share of wrong labelled pixels, and a picture of image, truth, prediction and errors.
    """
    scored = [each for each in story.details["images"] if each["mean_iou"] is not None]
    found = []
    for number, score in enumerate(sorted(scored, key=lambda each: each["mean_iou"], reverse=kind == "easiest"), 1):
        path = story.folder / "samples" / f"{kind}_{number}.png"
        if not path.is_file():
            break
        facts = {"name": str(score["name"]), "mean_iou": score["mean_iou"], "wrong": 1 - score["pixel_accuracy"]}
        found.append({**facts, "picture": _embedded(path)})
    return found


def sheet(story: Story) -> tuple[str, int, int] | None:
    """Return the sheet of val images drawn with the best weights: data URL, width and height; or None."""
    folder = story.folder / "samples"
    for path in (folder / "best.png", folder / f"epoch_{story.costs['best_epoch']:04d}.png"):
        if path.is_file() and (story.finished or path.name != "best.png"):
            return _embedded(path)
    return None


def _embedded(path: Path) -> tuple[str, int, int]:
    """Return a picture as data URL, its width and its height."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((_MOST, _MOST * 4))
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}", *picture.size
