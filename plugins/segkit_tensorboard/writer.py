"""The TensorBoard writer of a run, in its own module because importing TensorBoard is slow."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

import segkit


class RunWriter(SummaryWriter):
    """Writes into tensorboard/ of a run's folder, and hides the events of epochs that a resumed run repeats."""

    def __init__(self, run: segkit.Run) -> None:
        resumed_at = run.first_epoch if run.first_epoch > 1 else None
        super().__init__(str(run.folder / "tensorboard"), purge_step=resumed_at)
        self.samples = run.folder / "samples"

    def add_picture(self, name: str, tag: str, epoch: int) -> None:
        """Add a picture of samples/ if it was drawn (``output.samples`` may be 0)."""
        if (path := self.samples / f"{name}.png").exists():
            with Image.open(path) as picture:
                self.add_image(tag, np.asarray(picture.convert("RGB")), epoch, dataformats="HWC")  # [H,W,3]
