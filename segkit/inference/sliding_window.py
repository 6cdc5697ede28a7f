"""Apply networks to images of any size: whole or in sliding windows, with test-time augmentation.

Evaluation and prediction share :class:`Inferer`, so equal tiles, resize, precision and views give equal pixels.

Only a strip of probabilities as high as one window is in memory, so memory does not grow with the image's height: after
each row of windows, the rows above the next one are final and are yielded, and the rest of the strip moves up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from segkit.data.normalise import IMAGENET, Normalisation
from segkit.data.resize import Resize, Span, resized_part
from segkit.engine.precision import Precision, widest_float
from segkit.errors import ModelError
from segkit.inference.options import PredictOptions, View
from segkit.inference.window_grid import MAX_WHOLE_PIXELS, Window, WindowGrid, window_grid

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
        if window_grid(size, options, self.classes, self.resize, self.crop).is_whole:
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
            softmax: return float32 probabilities in any case; otherwise an image predicted whole yields logits.
            progress: label of the progress bar; without it no bar is shown.

        Raises:
            ConfigError: a size of tiles is given, but no tiles are used.
            ModelError: a model does not return logits of its classes.
        """
        grid = window_grid(size, options, self.classes, self.resize, self.crop)
        patches = self._whole(crop, grid, options) if grid.is_whole else self._slide(crop, grid, options, progress)
        for rows, columns, values in patches:
            if softmax and grid.is_whole:
                values = values.softmax(0, dtype=torch.float32)
            if softmax and self.temperature != 1:
                values = values.clamp_min(TINY).log().div(self.temperature).softmax(0)
            yield rows, columns, values

    def _whole(self, crop: Crop, grid: WindowGrid, options: PredictOptions) -> Iterator[Patch]:
        """Yield the logits of a whole image, resized to the original size: if it is small at once, else in bands."""
        (height, width), seen = grid.size, grid.resized
        at_once = height * width <= MAX_WHOLE_PIXELS  # exactly as in evaluation
        images = crop(seen, (0, seen[0]), (0, seen[1]))[None]
        (values,) = self.logits(images, grid.size if at_once else seen, options.views)
        for top in range(0, height, PATCH_ROWS):
            below = min(top + PATCH_ROWS, height)
            rows, columns = slice(top, below), (0, width)
            part = values[:, rows] if at_once else _resampled(values, grid, (0, 0), ((top, below), columns))
            yield rows, slice(*columns), part

    def _slide(self, crop: Crop, grid: WindowGrid, options: PredictOptions, progress: str) -> Iterator[Patch]:
        """Yield the probabilities of an image: the weighted mean over the windows."""
        device, rows, columns = self.precision.device, grid.rows.windows, grid.columns.windows
        weights = {each: torch.from_numpy(each.weights).to(device) for each in (*rows, *columns)}
        height = max(window.last - window.first for window in rows)
        # the strip starts at the first row of the current windows
        strip = torch.zeros(self.classes, height, grid.columns.length, device=device)
        total, hidden = len(rows) * len(columns), None if progress else True
        with tqdm(desc=progress, total=total, unit="tile", leave=False, disable=hidden) as bar:
            for row, end in zip(rows, [*(each.first for each in rows[1:]), grid.rows.length], strict=True):
                for column, logits in self._row(crop, grid, row, options):
                    part = strip[:, : row.last - row.first, column.first : column.last]
                    _add_softmax(part, logits, weights[row][:, None] * weights[column])
                    bar.update()
                done = end - row.first
                for top in range(0, done, PATCH_ROWS):
                    below = min(top + PATCH_ROWS, done)
                    yield slice(row.first + top, row.first + below), slice(0, strip.shape[2]), strip[:, top:below]
                for values in strip:  # one class at a time, to need only a small buffer
                    values[: height - done] = values[done:].clone()
                strip[:, height - done :] = 0

    def _row(
        self, crop: Crop, grid: WindowGrid, row: Window, options: PredictOptions
    ) -> Iterator[tuple[Window, Tensor]]:
        """Yield each window of a row with its logits ``[classes,h,w]`` at the original size."""
        batch_size = options.batch_size or (8 if self.precision.device.type == "cuda" else 1)
        columns = grid.columns.windows
        for number in range(0, len(columns), batch_size):
            for _, group in groupby(columns[number : number + batch_size], lambda window: window.end - window.start):
                alike = list(group)
                images = [crop(grid.resized, (row.start, row.end), (column.start, column.end)) for column in alike]
                logits = self.logits(torch.stack(images), images[0].shape[1:], options.views)
                for column, values in zip(alike, logits, strict=True):
                    starts, spans = (row.start, column.start), ((row.first, row.last), (column.first, column.last))
                    yield column, _resampled(values, grid, starts, spans)


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


def _resampled(values: Tensor, grid: WindowGrid, starts: Size, spans: tuple[Span, Span]) -> Tensor:
    """Resize logits ``[classes,h,w]`` to spans of rows and columns of the original image.

    Bilinear in float32, like ``F.interpolate``.

    Args:
        values: the logits of a part of the image after ``data.resize``.
        grid: the windows of the image.
        starts: first row and column of the part.
        spans: first row and last row + 1, first column and last column + 1, of the original image.
    """
    for dimension, (axis, start, span) in enumerate(zip(grid, starts, spans, strict=True), 1):
        step = axis.resized / axis.length
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
