"""Draws what a run predicts after each epoch and with its best weights, in samples/, and samples.gif of all epochs.

``output.samples`` says how many images of val are drawn; 0 draws none. At the end of a run the images of its last split
with the lowest and the highest scores are drawn too, and the GIF shows the pictures of all epochs one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import segkit

if TYPE_CHECKING:
    from segkit.engine.trainer import Result, Run

# tryfirst: reports and TensorBoard show these pictures


@segkit.hookimpl(tryfirst=True)
def segkit_run_started(run: Run) -> None:
    """Remove the pictures of an earlier end, and all of a run that this one replaces."""
    from segkit_samples import pictures

    pictures.clear(run)


@segkit.hookimpl(tryfirst=True)
def segkit_epoch_ended(run: Run, epoch: int) -> None:
    """Draw some images of val."""
    from segkit_samples import pictures

    pictures.draw(run, f"epoch_{epoch:04d}")


@segkit.hookimpl(tryfirst=True)
def segkit_run_ended(run: Run, result: Result) -> None:
    """Draw what the best weights predict, and the GIF of all epochs, of those before a resumption too."""
    from segkit_samples import animation, pictures

    pictures.draw(run, "best", animation.titles(run.folder).get(result.best_epoch, ""))
    pictures.draw_extremes(run, list(result.splits)[-1])
    animation.write(run.folder)
