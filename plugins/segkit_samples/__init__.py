"""Draws predictions after each epoch and with the best weights into samples/, and all epochs into samples.gif.

``output.samples`` is the number of val images to draw; 0 draws none. At the end of a run, the images of its last split
with the lowest and the highest scores are drawn too.
"""

from __future__ import annotations

from collections.abc import Sequence

import segkit

# tryfirst: reports and TensorBoard read these pictures


@segkit.hookimpl(tryfirst=True)
def segkit_run_started(run: segkit.Run) -> None:
    """Remove the final pictures of an earlier start; if the run starts from scratch, remove all pictures."""
    begins = ("samples.gif", "samples/epoch_*.png") if run.first_epoch == 1 else ()
    for pattern in ("samples/best.png", "samples/hardest_*.png", "samples/easiest_*.png", *begins):
        for path in run.folder.glob(pattern):
            path.unlink()


@segkit.hookimpl(tryfirst=True)
def segkit_epoch_ended(run: segkit.Run, epoch: int) -> None:
    """Draw ``output.samples`` images of val."""
    _draw_val(run, f"epoch_{epoch:04d}")


@segkit.hookimpl(tryfirst=True)
def segkit_run_ended(run: segkit.Run, result: segkit.Result) -> None:
    """Draw predictions of the best weights, and the GIF of all epochs, including those before a resume."""
    from segkit_samples import animation

    _draw_val(run, "best", animation.titles(run.folder).get(result.best_epoch, ""))
    split = list(result.splits)[-1]
    images = segkit.read_run(run.folder).details[split]["images"][: len(run.splits[split])]
    known = [(each["mean_iou"], index) for index, each in enumerate(images) if each["mean_iou"] is not None]
    ranked = [index for _, index in sorted(known)]
    for name, order in (("hardest", ranked), ("easiest", ranked[::-1])):
        for number, index in enumerate(order[: min(_count(run), len(ranked) // 2)], 1):
            _draw(run, f"{name}_{number}", split, [index])
    animation.write(run.folder)


def _count(run: segkit.Run) -> int:
    return int(run.config.get("output", {}).get("samples", 0))


def _draw_val(run: segkit.Run, name: str, title: str = "") -> None:
    """Draw ``output.samples`` images of val, evenly spaced: neighbours are often frames of one video."""
    length = len(run.splits["val"])
    count = min(_count(run), length)
    if count:
        _draw(run, name, "val", [number * length // count for number in range(count)], title)


def _draw(run: segkit.Run, name: str, split: str, indices: Sequence[int], title: str = "") -> None:
    """Draw images of a split into ``samples/<name>.png``: image, truth, prediction and errors, under a title.

    Raises:
        WriteError: the picture cannot be written.
    """
    from segkit.data.normalise import displayable  # imported here because every command imports this module
    from segkit.files import write_atomically
    from segkit_samples.sheets import panel, sheet

    rows, dataset, rgb = [], run.splits[split], run.config.get("data", {}).get("rgb")
    for index in indices:
        sample = dataset[index]
        image = displayable(sample.image.permute(1, 2, 0).numpy(), rgb)  # [H,W,3]
        shown = image, sample.mask.numpy(), run.predict(split, index)
        rows.append(panel(*shown, run.palette, dataset.ignore_index, sample.name))
    path, picture = run.folder / "samples" / f"{name}.png", sheet(rows, run.classes, run.palette, title)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda file: picture.save(file, "png"), durable=False)
