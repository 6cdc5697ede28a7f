"""Apply a network to images of any size: whole or in sliding windows, with test-time augmentation.

Evaluation and prediction share :class:`Inferer`, so equal tiles, resize, precision and views give equal pixels.

Only a strip of probabilities as high as one window is in memory, so memory does not grow with the image's height: after
each row of windows, the rows above the next one are final and are yielded, and the rest of the strip moves up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from segkit.data.normalise import IMAGENET, Normalisation
from segkit.data.resize import Resize, Span, resized_part
from segkit.engine.precision import Precision, widest_float
from segkit.errors import ModelError
from segkit.inference.options import PredictOptions
from segkit.inference.window_grid import MAX_WHOLE_PIXELS, Window, WindowAxis, WindowGrid, window_grid

STRIP_BYTES = 1 << 30
"""Largest size of the strip: 512 rows of 20,000 pixels and 21 classes are 860 MB. Wider images are predicted in panels
side by side; windows that reach into two panels are computed for both."""

BAND_ROWS = {"cpu": 32, "cuda": 512}
"""Rows per softmax call; on a CPU so few that they fit into a core's cache."""

PATCH_ROWS = 256  # most rows per patch
TINY = torch.finfo(torch.float32).tiny  # lower limit of probabilities, so that their logarithm is finite

Size = tuple[int, int]
Crop = Callable[[Size, Span, Span], Tensor]
"""(height and width, rows, columns) -> these rows and columns of the image resized to that, ``[C,rows,columns]``."""

Patch = tuple[slice, slice, Tensor]
"""Rows and columns of a part of an image, and the values of each class there, ``[classes,rows,columns]``; the values
are overwritten when the next patch is computed."""

ViewLogits = tuple[Tensor, tuple[float, float], Size]
"""Logits ``[classes,h,w]``; their scale relative to the original image; their first row and column at that scale."""


@dataclass(eq=False)
class Inferer:
    """Applies a network to images of any size.

    Args:
        model: ``[B,C,H,W]`` -> logits ``[B,classes,H,W]``, in eval mode on the device.
        precision: precision and device of the forward pass.
        classes: the number of classes.
        resize: value of ``data.resize``.
        crop: value of ``augment.crop``, which determines the size of windows.
        normalisation: the run's normalisation.
        temperature: divisor of the logits that calibrates their probabilities.
    """

    model: nn.Module
    precision: Precision
    classes: int
    resize: Resize = None
    crop: int | Sequence[int] | None = None
    normalisation: Normalisation = IMAGENET
    temperature: float = 1.0

    def logits(self, images: Tensor, size: Sequence[int]) -> Tensor:
        """Run the network on stored pixels ``[B,C,h,w]``; return logits ``[B,classes,H,W]``, ``size = (H, W)``.

        Logits are float32 if they were resized, else in the network's dtype.

        Raises:
            ModelError: the model does not return logits of its classes.
        """
        images = self.normalisation.normalise(images.to(self.precision.device, non_blocking=True))
        with self.precision.autocast():
            logits = check_logits(self.model(images), images, self.classes)
        if tuple(logits.shape[2:]) == tuple(size):
            return logits
        return F.interpolate(logits.float(), tuple(size), mode="bilinear", align_corners=False)

    def evaluate(self, images: Tensor, size: Size) -> Tensor:
        """Return float32 logits ``[B,classes,H,W]``, divided by the temperature, whose argmax equals the prediction.

        For images that are predicted in windows, these are the logarithms of the averaged probabilities.

        Args:
            images: ``[B,C,h,w]`` after ``data.resize``.
            size: H and W before ``data.resize``.
        """
        if window_grid(size, options := PredictOptions(), self.resize, self.crop).is_whole:
            whole = self.logits(images, size).float()
            return whole if self.temperature == 1 else whole / self.temperature
        logits = torch.empty(len(images), self.classes, *size, device=self.precision.device)
        for image, values in zip(images, logits, strict=True):
            for rows, columns, found in self.predict(partial(resized_part, image), size, options):  # no resize
                values[:, rows, columns] = found
        return logits.clamp_(min=TINY).log_().div_(self.temperature)

    def predict(
        self, crop: Crop, size: Size, options: PredictOptions, *, softmax: bool = False, progress: str = ""
    ) -> Iterator[Patch]:
        """Yield the values of an image patch by patch; the class of a pixel is the argmax of its values.

        Args:
            crop: returns parts of the image at any size.
            size: height and width of the image.
            options: the prediction options.
            softmax: return float32 probabilities in any case; otherwise a single view of a whole image yields logits in
                the network's dtype.
            progress: label of the progress bar; without it no bar is shown.

        Raises:
            ConfigError: tile options are given, but no tiles are used.
            ModelError: the model does not return logits of its classes.
        """
        options.refuse_unused(self.resize)
        grid = window_grid(size, options, self.resize, self.crop)
        whole = grid.is_whole and len(options.views) == 1
        patches = self._whole(crop, grid, options) if whole else self._slide(crop, grid, options, progress)
        for rows, columns, values in patches:
            if softmax and whole:
                values = values.softmax(0, dtype=torch.float32)
            if softmax and self.temperature != 1:
                values = values.clamp_min(TINY).log().div(self.temperature).softmax(0)
            yield rows, columns, values

    def _whole(self, crop: Crop, grid: WindowGrid, options: PredictOptions) -> Iterator[Patch]:
        """Yield the logits of a single view of a whole image, resized to the original size in bands."""
        ((values, steps, starts),) = self._view(crop, grid, grid.rows.windows[0], grid.columns.windows, *options.views)
        height, width = grid.size
        for top in range(0, height, PATCH_ROWS):
            below = min(top + PATCH_ROWS, height)
            yield slice(top, below), slice(0, width), _resampled(values, steps, starts, ((top, below), (0, width)))

    def _slide(self, crop: Crop, grid: WindowGrid, options: PredictOptions, progress: str = "") -> Iterator[Patch]:
        """Yield the probabilities of an image: the weighted mean over the windows, and the mean over the views."""
        device, rows = self.precision.device, grid.rows.windows
        weights = {each: torch.from_numpy(each.weights).to(device) for axis in grid for each in axis.windows}
        height = max(window.last - window.first for window in rows)
        panels = _panels(grid.columns, 4 * self.classes * height)
        total = len(rows) * sum(len(windows) for *_, windows in panels)
        # the strip starts at the first row of the current windows; all panels share its memory
        whole = torch.zeros(self.classes, height, max(right - left for left, right, _ in panels), device=device)
        with tqdm(desc=progress, total=total, unit="tile", leave=False, disable=None if progress else True) as bar:
            for left, right, windows in panels:
                strip = whole[:, :, : right - left]
                for row, end in zip(rows, [*(each.first for each in rows[1:]), grid.rows.length], strict=True):
                    down = weights[row][:, None] / len(options.views)  # [h,1]
                    for column, logits in self._row(crop, grid, row, windows, options, bar):
                        begin, stop = max(column.first, left), min(column.last, right)
                        inside = slice(begin - column.first, stop - column.first)
                        part = strip[:, : row.last - row.first, begin - left : stop - left]
                        _add_softmax(part, logits[..., inside], down * weights[column][inside])
                    done = end - row.first
                    for top in range(0, done, PATCH_ROWS):
                        below = min(top + PATCH_ROWS, done)
                        yield slice(row.first + top, row.first + below), slice(left, right), strip[:, top:below]
                    for top in range(done, height, done):  # copy in parts that do not overlap, to need no buffer
                        below = min(top + done, height)
                        strip[:, top - done : below - done] = strip[:, top:below]
                    strip[:, height - done :] = 0

    def _row(
        self, crop: Crop, grid: WindowGrid, row: Window, columns: Sequence[Window], options: PredictOptions, bar: Any
    ) -> Iterator[tuple[Window, Tensor]]:
        """Yield each window of a row, once per view, with its logits ``[classes,h,w]`` at the original size."""
        batch_size = options.batch_size or (8 if self.precision.device.type == "cuda" else 1)
        for number in range(0, len(columns), batch_size):
            batch = columns[number : number + batch_size]
            for view in options.views:
                for column, view_logits in zip(batch, self._view(crop, grid, row, batch, view), strict=True):
                    yield column, _resampled(*view_logits, ((row.first, row.last), (column.first, column.last)))
            bar.update(len(batch))

    def _view(
        self,
        crop: Crop,
        grid: WindowGrid,
        row: Window,
        columns: Sequence[Window],
        view: tuple[float, tuple[int, ...]],
    ) -> Iterator[ViewLogits]:
        """Run the network on windows of a row for one view, which is a scale and the dimensions to flip.

        The logits of a small image predicted whole are resized to the original size, exactly as in evaluation.
        """
        scale, flip = view
        height, width = (max(1, round(scale * axis.resized)) for axis in grid)
        top, bottom = grid.rows.at_scale(row, height, -2 in flip)
        spans = [grid.columns.at_scale(column, width, -1 in flip) for column in columns]
        full_size = grid.is_whole and grid.size[0] * grid.size[1] <= MAX_WHOLE_PIXELS
        steps = (height / grid.size[0], width / grid.size[1])
        for _, group in groupby(spans, lambda span: span[1] - span[0]):
            alike = list(group)
            images = torch.stack([crop((height, width), (top, bottom), span) for span in alike])
            logits = self.logits(images.flip(flip) if flip else images, grid.size if full_size else images.shape[2:])
            for (left, _), values in zip(alike, logits.flip(flip) if flip else logits, strict=True):
                yield (values, (1, 1), (0, 0)) if full_size else (values, steps, (top, left))


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


def likeliest(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the argmax (uint8, the first of equal ones) and maximum over the classes, ``[rows,columns]`` each.

    Equals ``values.max(0)`` of ``[classes,rows,columns]``, which takes three times as long on a CPU.
    """
    values, last = values if values.stride(2) == 1 else values.contiguous(), len(values) - 1
    largest = values.amax(0)
    from_last = torch.arange(last, -1, -1, dtype=torch.uint8, device=values.device)[:, None, None]  # [classes,1,1]
    return last - ((values == largest) * from_last).amax(0), largest


def _resampled(values: Tensor, steps: Sequence[float], starts: Sequence[int], spans: Sequence[Span]) -> Tensor:
    """Resize logits, given as in :data:`ViewLogits`, to spans of rows and columns of the original image.

    Bilinear in float32, like ``F.interpolate``.
    """
    for dimension, (step, start, span) in enumerate(zip(steps, starts, spans, strict=True), 1):
        if step == 1:
            values = values.narrow(dimension, span[0] - start, span[1] - span[0])
            continue
        values = values.float()
        positions = torch.arange(*span, device=values.device, dtype=widest_float(values.device))
        positions = ((positions + 0.5) * step - 0.5 - start).clamp_(0, values.shape[dimension] - 1)
        before = positions.long()
        share = (positions - before).float().view(-1, *[1] * (2 - dimension))
        after = (before + 1).clamp_(max=values.shape[dimension] - 1)
        values = torch.lerp(values.index_select(dimension, before), values.index_select(dimension, after), share)
    return values


def _panels(columns: WindowAxis, bytes_per_column: int) -> list[tuple[int, int, list[Window]]]:
    """Return the first column, the last column + 1 and the windows of each panel."""
    widest = max(window.last - window.first for window in columns.windows)
    count = -(-columns.length // max(widest, STRIP_BYTES // bytes_per_column))
    edges = [number * columns.length // count for number in range(count + 1)]
    return [
        (left, right, [window for window in columns.windows if window.first < right and window.last > left])
        for left, right in pairwise(edges)
    ]
