"""A trained model with all it takes to use it: image in, labels out, at the image's own size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segkit.data.batch import Batch
from segkit.data.read import read_image
from segkit.data.resize import Resize, resized
from segkit.data.sample import Palette, Sample
from segkit.engine.device import pick_device
from segkit.engine.evaluate import logits_at
from segkit.engine.precision import resolve
from segkit.errors import DataError, ModelError


class Predictor:
    """Runs a model on single images, in the way that evaluation does.

    Args:
        model: ``[B,3,H,W]`` -> logits ``[B,C,H,W]``; it is moved to the device and put into eval mode.
        classes: names, one a channel of the logits.
        palette: an RGB triple a class, for pictures.
        ignore_index: the label of void in masks; never predicted.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        on_cpu: what ``auto`` is on a CPU: that of the run.
        resize: what the network sees: a factor or [height, width], as in training.

    Raises:
        ConfigError: no such device, or it lacks the precision.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: Sequence[str],
        palette: Palette,
        ignore_index: int = 255,
        device: str = "auto",
        precision: str = "auto",
        on_cpu: str = "fp32",
        resize: Resize = None,
    ) -> None:
        self.precision = resolve(precision, pick_device(device), on_cpu)
        self.model = model.to(self.precision.device).to(memory_format=torch.channels_last).eval()
        self.classes, self.palette = tuple(classes), palette
        self.ignore_index, self.resize = ignore_index, resize

    @torch.inference_mode()
    def logits(self, image: NDArray[np.uint8]) -> Tensor:
        """RGB, uint8 ``[H,W,3]`` -> float32 ``[C,H,W]`` on the device.

        Raises:
            DataError: the image has another shape or type.
            ModelError: the model does not return a channel a class.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise DataError(f"an image is RGB, uint8 [H,W,3]; this one is {image.dtype} {list(image.shape)}")
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)  # [3,H,W]
        sample = resized(Sample(pixels, torch.empty(0, 0), ""), self.resize)
        batch = Batch(sample.image[None], sample.mask[None], None, [""]).to(self.precision.device)
        logits = logits_at(self.model, batch, self.precision, image.shape[:2])  # [1,C,H,W]
        if logits.shape[1] != len(self.classes):
            raise ModelError(f"the model returns {logits.shape[1]} channels for {len(self.classes)} classes")
        return logits[0]

    def predict(self, image: NDArray[np.uint8] | str | Path) -> NDArray[np.uint8]:
        """An image, or the path of one -> the likeliest class of each pixel, uint8 ``[H,W]``.

        Raises:
            DataError: the file cannot be read, or the array is no image.
        """
        pixels = read_image(image) if isinstance(image, (str, Path)) else image
        labels: NDArray[np.uint8] = self.logits(pixels).argmax(0).to("cpu", torch.uint8).numpy()
        return labels
