"""Pictures of a run: images of a split, each with its ground truth, prediction and errors side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import segkit
from segkit.data.normalise import displayable
from segkit.files import write_atomically
from segkit_samples.sheets import panel, sheet

if TYPE_CHECKING:
    from PIL.Image import Image

    from segkit.engine.trainer import Run


def clear(run: Run) -> None:
    """Remove the pictures of an earlier end of the run; where it begins, all that an earlier one has drawn."""
    begins = ("samples.gif", "samples/epoch_*.png") if run.first_epoch == 1 else ()
    for pattern in ("samples/best.png", "samples/hardest_*.png", "samples/easiest_*.png", *begins):
        for path in run.folder.glob(pattern):
            path.unlink()


def draw(run: Run, name: str, title: str = "") -> None:
    """Draw ``output.samples`` images of val under a title, evenly over the split: neighbours are often of one film.

    Raises:
        WriteError: ``samples/<name>.png`` cannot be written.
    """
    length = len(run.splits["val"])
    count = min(_count(run), length)
    if count:
        rows = [_row(run, "val", number * length // count) for number in range(count)]
        _write(run.folder / "samples" / f"{name}.png", sheet(rows, run.classes, run.palette, title))


def draw_extremes(run: Run, split: str) -> None:
    """Draw the images with the lowest and the highest mean IoU: ``hardest_1.png``, ``easiest_1.png`` and so on.

    Raises:
        WriteError: one cannot be written.
    """
    images = segkit.read_run(run.folder).details[split]["images"][: len(run.splits[split])]
    known = [(each["mean_iou"], index) for index, each in enumerate(images) if each["mean_iou"] is not None]
    ranked = [index for _, index in sorted(known)]
    count = min(_count(run), len(ranked) // 2)
    for name, chosen in (("hardest", ranked[:count]), ("easiest", ranked[::-1][:count])):
        for number, index in enumerate(chosen, 1):
            picture = sheet([_row(run, split, index)], run.classes, run.palette)
            _write(run.folder / "samples" / f"{name}_{number}.png", picture)


def _count(run: Run) -> int:
    return int(run.config.get("output", {}).get("samples", 0))


def _row(run: Run, split: str, index: int) -> Image:
    dataset = run.splits[split]
    sample = dataset[index]
    rgb = run.config.get("data", {}).get("rgb")
    image = displayable(sample.image.permute(1, 2, 0).numpy(), rgb)  # [H,W,3]
    labels = run.predict(split, index)
    return panel(image, sample.mask.numpy(), labels, run.palette, dataset.ignore_index, sample.name)


def _write(path: Path, picture: Image) -> None:
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda file: picture.save(file, "png"), durable=False)
