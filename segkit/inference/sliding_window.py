"""Apply networks to images of any size: whole or in sliding windows, with test-time augmentation.

Evaluation and prediction share :class:`Inferer`, so equal tiles, resize, precision and views give equal pixels.

Only a strip of probabilities as high as one window is in memory, so memory does not grow with the image's height: after
each row of windows, the rows above the next one are final and are yielded, and the rest of the strip moves up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from segkit.data.normalise import IMAGENET, Normalisation
from segkit.data.read import MAX_PIXELS
from segkit.data.resize import Resize, resized_part
from segkit.engine.precision import Precision, widest_float
from segkit.errors import ModelError
from segkit.inference.options import PredictOptions, View
from segkit.inference.window_grid import MAX_WHOLE_PIXELS, Window, window_grid

BAND_ROWS = {"cpu": 32, "cuda": 512}
"""Rows per softmax call; on a CPU so few that they fit into a core's cache."""

PATCH_ROWS = 256  # most rows per patch
TINY = torch.finfo(torch.float32).tiny  # lower limit of probabilities, so that their logarithm is finite

Size = tuple[int, int]
Grid = tuple[list[Window], list[Window]]  # rows and columns
Patch = tuple[slice, Tensor]
"""Rows of an image, and the values of each class there, ``[classes,rows,W]``, overwritten by the next patch."""


@dataclass(eq=False)
class Inferer:
    """Applies a network, or an ensemble of several, to images of any size.

    Args:
        model: ``[B,C,H,W]`` -> logits ``[B,classes,H,W]``, in eval mode on the device.
        precision: precision and device of the forward pass.
        classes: the number of classes.
        resize: value of ``data.resize``.
        crop: value of ``augment.crop``, which determines the size of windows.
        normalisation: the run's normalisation.
        temperature: divisor of the logits that calibrates their probabilities.
        networks: of an ensemble, each with its own model, normalisation, precision and temperature; default: this one.
    """

    model: nn.Module
    precision: Precision
    classes: int
    resize: Resize = None
    crop: int | Sequence[int] | None = None
    normalisation: Normalisation = IMAGENET
    temperature: float = 1.0
    networks: Sequence[Inferer] = ()

    def logits(self, images: Tensor, size: Sequence[int], views: Sequence[View] = (View(),)) -> Tensor:
        """Run the network on stored pixels ``[B,C,h,w]``; return logits ``[B,classes,H,W]``, ``size = (H, W)``.

        Of several networks or views, these are the logarithms of the mean probabilities (B. Lakshminarayanan et al.,
        "Deep Ensembles", arXiv 1612.01474). Logits that are neither averaged nor resized are in the network's dtype,
        others float32.

        Raises:
            ModelError: a model does not return logits of its classes.
        """
        every = [(network, view) for network in self.networks or [self] for view in views]
        if len(every) == 1:
            return self._view(images, size, *views)
        mean = torch.zeros((), device=self.precision.device)
        for network, view in every:
            logits = network._view(images, size, view).float()
            mean = mean + (logits / network.temperature if self.networks else logits).softmax(1) / len(every)
        return mean.clamp_min(TINY).log()

    def _view(self, images: Tensor, size: Sequence[int], view: View) -> Tensor:
        """Run this network alone on one view of the images; return logits of the images, not of the view."""
        if view.scale != 1:
            scaled = [max(1, round(view.scale * side)) for side in images.shape[2:]]
            images = torch.stack([resized_part(each, (scaled[0], scaled[1])) for each in images])
        images = (images.flip(view.flip) if view.flip else images).to(self.precision.device, non_blocking=True)
        images = self.normalisation.normalise(images)
        with self.precision.autocast():
            logits = check_logits(self.model(images), images, self.classes)
        logits = logits.flip(view.flip) if view.flip else logits
        if tuple(logits.shape[2:]) != tuple(size):
            logits = F.interpolate(logits.float(), tuple(size), mode="bilinear", align_corners=False)
        return logits

    def evaluate(self, images: Tensor, size: Size) -> Tensor:
        """Return float32 logits ``[B,classes,H,W]``, divided by the temperature, whose argmax equals the prediction.

        For images that are predicted in windows, these are the logarithms of the averaged probabilities.

        Args:
            images: ``[B,C,h,w]`` after ``data.resize``.
            size: H and W before ``data.resize``.
        """
        options = PredictOptions()
        rows, columns = window_grid(size, options, self.classes, self.resize, self.crop)
        if len(rows) == len(columns) == 1:
            whole = self.logits(images, size).float()
            return whole if self.temperature == 1 else whole / self.temperature
        logits = torch.empty(len(images), self.classes, *size, device=self.precision.device)
        for image, values in zip(images, logits, strict=True):
            for patch, found in self.predict(image, size, options):
                values[:, patch] = found
        return logits.clamp_(min=TINY).log_().div_(self.temperature)

    def predict(
        self, image: Any, size: Size, options: PredictOptions, *, softmax: bool = False, progress: str = ""
    ) -> Iterator[Patch]:
        """Yield the values of an image patch by patch; the class of a pixel is the argmax of its values.

        Args:
            image: ``[C,h,w]``, stored pixels or these after ``data.resize``: a tensor, or an object with ``shape`` and
                ``device`` that returns tensors on the CPU when it is sliced.
            size: height and width of the stored image.
            options: the prediction options.
            softmax: return float32 probabilities in any case; otherwise an image predicted whole yields logits.
            progress: label of the progress bar; without it no bar is shown.

        Raises:
            ConfigError: a size of tiles is given, but no tiles are used.
            ModelError: a model does not return logits of its classes.
        """
        rows, columns = grid = window_grid(size, options, self.classes, self.resize, self.crop)
        is_whole = len(rows) == len(columns) == 1
        if isinstance(image, Tensor) and image[0].numel() <= MAX_PIXELS:
            # resized once, with the pixels of evaluation; of larger images, each window by itself
            image = resized_part(image, (rows[-1].end, columns[-1].end))
        patches = self._whole(image, grid, options) if is_whole else self._slide(image, grid, options, progress)
        for patch, values in patches:
            if softmax and is_whole:
                values = values.softmax(0, dtype=torch.float32)
            if softmax and self.temperature != 1:
                values = values.clamp_min(TINY).log().div(self.temperature).softmax(0)
            yield patch, values

    def _whole(self, image: Any, grid: Grid, options: PredictOptions) -> Iterator[Patch]:
        """Yield the logits of a whole image, resized to the original size: if it is small at once, else in bands."""
        (row,), (column,) = grid
        size, seen = (row.last, column.last), (row.end, column.end)
        at_once = row.last * column.last <= MAX_WHOLE_PIXELS  # exactly as in evaluation
        (values,) = self.logits(resized_part(image, seen)[None], size if at_once else seen, options.views)
        for top in range(0, row.last, PATCH_ROWS):
            rows = slice(top, min(top + PATCH_ROWS, row.last))
            part = values[:, rows] if at_once else _resampled(values, row.centres[rows], column.centres)
            yield rows, part

    def _slide(self, image: Any, grid: Grid, options: PredictOptions, progress: str) -> Iterator[Patch]:
        """Yield the probabilities of an image: the weighted mean over the windows."""
        (rows, columns), device = grid, self.precision.device
        weights = {each: torch.from_numpy(each.weights).to(device) for each in (*rows, *columns)}
        height = max(window.last - window.first for window in rows)
        # the strip starts at the first row of the current windows
        strip = torch.zeros(self.classes, height, columns[-1].last, device=device)
        total, hidden = len(rows) * len(columns), None if progress else True
        with tqdm(desc=progress, total=total, unit="tile", leave=False, disable=hidden) as bar:
            for row, end in zip(rows, [*(each.first for each in rows[1:]), rows[-1].last], strict=True):
                for column, logits in self._row(image, grid, row, options):
                    part = strip[:, : row.last - row.first, column.first : column.last]
                    _add_softmax(part, logits, weights[row][:, None] * weights[column])
                    bar.update()
                done = end - row.first
                for top in range(0, done, PATCH_ROWS):
                    below = min(top + PATCH_ROWS, done)
                    yield slice(row.first + top, row.first + below), strip[:, top:below]
                for values in strip:  # one class at a time, to need only a small buffer
                    values[: height - done] = values[done:].clone()
                strip[:, height - done :] = 0

    def _row(self, image: Any, grid: Grid, row: Window, options: PredictOptions) -> Iterator[tuple[Window, Tensor]]:
        """Yield each window of a row with its logits ``[classes,h,w]`` at the original size."""
        (rows, columns), batch_size = grid, options.batch_size or (8 if self.precision.device.type == "cuda" else 1)
        seen = rows[-1].end, columns[-1].end
        for number in range(0, len(columns), batch_size):
            for _, group in groupby(columns[number : number + batch_size], lambda window: window.end - window.start):
                alike = list(group)
                parts = [resized_part(image, seen, (row.start, row.end), (each.start, each.end)) for each in alike]
                logits = self.logits(torch.stack(parts), parts[0].shape[1:], options.views)
                for column, values in zip(alike, logits, strict=True):
                    yield column, _resampled(values, row.centres, column.centres)


def check_logits(output: object, images: Tensor, classes: int | None = None) -> Tensor:
    """Return a model's output for images ``[B,C,H,W]`` if it is logits ``[B,classes,H,W]``; None: any ``classes``.

    Raises:
        ModelError: the output is not a floating-point tensor, or has another shape.
    """
    output = output["out"] if isinstance(output, Mapping) and "out" in output else output  # torchvision's models
    if not isinstance(output, Tensor):
        raise ModelError(f"the model returned {type(output).__name__}; it must return logits, a tensor [B,C,H,W]")
    batch, _, height, width = images.shape
    wanted = [batch, output.shape[1] if classes is None and output.ndim == 4 else classes or "C", height, width]
    if list(output.shape) != wanted or not output.is_floating_point():
        dtype = str(output.dtype).removeprefix("torch.")
        shown = f"{batch} images of {height} x {width}" + (f" and {classes} classes" if classes else "")
        raise ModelError(
            f"the model returned {dtype} {list(output.shape)} for {shown}; it must return logits, floats "
            f"[{', '.join(map(str, wanted))}], at the size of its images"
        )
    return output


def _add_softmax(strip: Tensor, logits: Tensor, weights: Tensor) -> None:
    """Add the softmax of logits ``[classes,h,w]``, times ``weights`` ``[h,w]``, to a strip of the same shape."""
    step = BAND_ROWS.get(strip.device.type, 512)
    for top in range(0, strip.shape[1], step):
        rows = slice(top, top + step)
        band = logits[:, rows].contiguous()  # without it the softmax takes twice as long
        strip[:, rows].addcmul_(band.softmax(0, dtype=torch.float32), weights[rows])


def _resampled(values: Tensor, *centres: NDArray[np.float64]) -> Tensor:
    """Sample logits ``[classes,h,w]`` at the centres of rows and columns; bilinear in float32, like ``F.interpolate``.

    Args:
        values: the logits of a window.
        centres: for rows and for columns, positions in the window as in :class:`Window`.
    """
    for dimension, each in enumerate(centres, 1):
        length = values.shape[dimension]
        if each[0] % 1 == 0.5 and each[-1] - each[0] == len(each) - 1:  # they are pixels of the window
            values = values.narrow(dimension, int(each[0]), len(each))
            continue
        positions = torch.from_numpy(each - 0.5).to(values.device, widest_float(values.device)).clamp_(0, length - 1)
        before = positions.long()
        share = (positions - before).float().view(-1, *[1] * (2 - dimension))
        after, values = (before + 1).clamp_(max=length - 1), values.float()
        values = torch.lerp(values.index_select(dimension, before), values.index_select(dimension, after), share)
    return values
