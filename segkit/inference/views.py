"""One or several views of the same pixels, mirrored or at other scales, and what a network says of them on average."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segkit.data.batch import Batch
from segkit.data.resize import Resize, resized, resized_size
from segkit.data.sample import Sample
from segkit.engine.evaluate import logits_at
from segkit.engine.precision import Precision
from segkit.errors import ModelError
from segkit.inference.options import FLIPS, Options


class Views:
    """Shows images, or tiles of one size, to a network.

    Args:
        model: ``[B,3,H,W]`` -> logits ``[B,C,H,W]``, in eval mode.
        precision: of the forward pass.
        classes: C.
        resize: as ``data.resize``, of images and tiles alike.
        options: which views.
    """

    def __init__(self, model: nn.Module, precision: Precision, classes: int, resize: Resize, options: Options) -> None:
        self.model, self.precision, self.classes, self.resize = model, precision, classes, resize
        self.flips, self.scales = FLIPS[options.flips], options.scales

    def logits(self, images: Tensor, size: Sequence[int], scale: float = 1.0, flip: tuple[int, ...] = ()) -> Tensor:
        """uint8 ``[B,3,h,w]`` on the CPU -> float32 logits ``[B,C,H,W]`` of one view, at ``size = (H, W)``.

        Raises:
            ModelError: the model does not return a channel a class.
        """
        seen = [max(1, round(scale * side)) for side in resized_size(images.shape[2], images.shape[3], self.resize)]
        nothing = torch.empty(0, 0)
        images = torch.stack([resized(Sample(image, nothing, ""), seen).image for image in images])  # [B,3,h',w']
        batch = Batch(images, nothing, None, []).to(self.precision.device)
        batch = batch._replace(image=batch.image.flip(flip)) if flip else batch
        logits = logits_at(self.model, batch, self.precision, size)  # [B,C,H,W]
        if logits.shape[1] != self.classes:
            raise ModelError(f"the model returns {logits.shape[1]} channels for {self.classes} classes")
        return logits.flip(flip) if flip else logits

    def probabilities(self, images: Tensor, size: Sequence[int]) -> Tensor:
        """uint8 ``[B,3,h,w]`` on the CPU -> float32 ``[B,C,H,W]``, the mean over all views.

        Raises:
            ModelError: the model does not return a channel a class.
        """
        first, *others = [(scale, flip) for scale in self.scales for flip in self.flips]
        mean = self._view(images, size, *first)
        for view in others:
            mean.add_(self._view(images, size, *view))
        return mean.div_(len(others) + 1)

    def _view(self, images: Tensor, size: Sequence[int], scale: float, flip: tuple[int, ...]) -> Tensor:
        return torch.softmax(self.logits(images, size, scale, flip).contiguous(), 1)  # classes last: twice as slow
