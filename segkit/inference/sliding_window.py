"""A network applied to images of any size: whole or in sliding windows, with test-time augmentation.

Evaluation and prediction share :class:`Inferer`, so the same tiles, resize, precision and views give the same pixels.

Only a strip as high as one window is held as probabilities, so memory does not grow with the image's height: when a row
of windows is done, the rows above the next one are final; they are handed out, and the strip moves on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from segkit.data.normalise import IMAGENET, Normalisation, normalise
from segkit.data.resize import Resize, Span
from segkit.engine.precision import Precision
from segkit.errors import ModelError
from segkit.inference.options import PredictOptions
from segkit.inference.window_grid import MAX_WHOLE_PIXELS, Window, WindowAxis, WindowGrid, window_grid

STRIP_BYTES = 1 << 30
"""Of the strip: 512 rows of 20,000 pixels and 21 classes are 860 MB. What is wider or has more classes is predicted in
panels side by side, whose seams lie in windows that are computed for both."""

BAND_BYTES = 1 << 28  # of logits that are upsampled together

Size = tuple[int, int]
Crop = Callable[[Size, Span, Span], Tensor]
"""(height and width of the whole, rows, columns) -> these of the image at that size, ``[C,rows,columns]``."""


class Patch(NamedTuple):
    """A part of an image with a value of each class for each of its pixels.

    Attributes:
        rows, columns: where it lies in the image.
        values: float32 ``[rows,classes,columns]``; overwritten when the next patch is asked for.
    """

    rows: slice
    columns: slice
    values: Tensor


class Inferer:
    """Applies a network to images of any size.

    Args:
        model: ``[B,C,H,W]`` -> logits ``[B,classes,H,W]``, in eval mode on the device.
        precision: of the forward pass, and the device.
        classes: the number of classes.
        resize: as ``data.resize``.
        crop: as ``augment.crop``, for the size of windows.
        normalisation: the run's.
        temperature: what logits are divided by, so that their probabilities are as often right as they say.
    """

    def __init__(
        self,
        model: nn.Module,
        precision: Precision,
        classes: int,
        resize: Resize = None,
        crop: int | Sequence[int] | None = None,
        normalisation: Normalisation = IMAGENET,
        temperature: float = 1.0,
    ) -> None:
        self.model, self.precision, self.classes = model, precision, classes
        self.resize, self.crop, self.normalisation, self.temperature = resize, crop, normalisation, temperature

    def logits(self, images: Tensor, size: Sequence[int]) -> Tensor:
        """Stored pixels ``[B,C,h,w]``, seen whole -> float32 logits ``[B,classes,H,W]`` at ``size = (H, W)``.

        Raises:
            ModelError: the model returns something else than logits of its classes.
        """
        images = normalise(images.to(self.precision.device, non_blocking=True), how=self.normalisation)
        with self.precision.autocast():
            logits = check_logits(self.model(images), images, self.classes)
        logits = logits.float()
        if tuple(logits.shape[2:]) == tuple(size):
            return logits
        return F.interpolate(logits, tuple(size), mode="bilinear", align_corners=False)

    def evaluate(self, images: Tensor, size: Size) -> Tensor:
        """float32 logits ``[B,classes,H,W]`` of images that are at the network's size, as a prediction compares them.

        Of images that a prediction sees in windows they are the logarithms of the probabilities. They are divided by
        the temperature.

        Args:
            images: ``[B,C,h,w]`` after ``data.resize``.
            size: H and W, before it.
        """
        options = PredictOptions()
        grid = window_grid(size, options, self.resize, self.crop)
        if grid.is_whole:
            logits = self.logits(images, size)
            return logits if self.temperature == 1 else logits / self.temperature
        found = torch.empty(len(images), self.classes, *size, device=self.precision.device)
        for image, values in zip(images, found, strict=True):
            for patch in self._slide(lambda _, rows, columns: image[:, slice(*rows), slice(*columns)], grid, options):  # noqa: B023
                values[:, patch.rows, patch.columns] = patch.values.transpose(0, 1)
        return found.clamp_(min=torch.finfo(torch.float32).tiny).log_().div_(self.temperature)

    def predict(
        self, crop: Crop, size: Size, options: PredictOptions, *, softmax: bool = False, progress: str = ""
    ) -> Iterator[Patch]:
        """The values of an image, patch by patch; the largest of a pixel's is its class.

        Args:
            crop: cuts from the image at any size.
            size: height and width of the image.
            options: of the prediction.
            softmax: whether the values have to be probabilities; one view of a whole image gives logits otherwise.
            progress: what the progress bar of the windows is called; none is shown without it.

        Raises:
            ConfigError: the options are of tiles, and there are none.
            ModelError: the model returns something else than logits of its classes.
        """
        options.refuse_unused(self.resize)
        grid = window_grid(size, options, self.resize, self.crop)
        if not grid.is_whole:
            yield from self._slide(crop, grid, options, progress)
            return
        softmax = softmax and len(options.views) == 1
        height, width = size
        fits = height * width <= MAX_WHOLE_PIXELS  # beyond, logits are not held at the image's size
        seen = (grid.rows.seen, grid.columns.seen)
        (values,) = self._average(
            crop, grid, grid.rows.windows[0], grid.columns.windows, options, size if fits else seen
        )
        step = height if fits else max(1, BAND_BYTES // (4 * self.classes * width))
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            band = values
            if not fits:
                band = _resample(values, 1, (rows.start, rows.stop), seen[0] / height)
                band = _resample(band, 2, (0, width), seen[1] / width)
            band = band.transpose(0, 1)  # [rows,classes,columns]
            yield Patch(rows, slice(0, width), band.softmax(1) if softmax else band)

    def _slide(self, crop: Crop, grid: WindowGrid, options: PredictOptions, progress: str = "") -> Iterator[Patch]:
        """The probabilities of an image: at each pixel the mean over the windows by their weights."""
        device, rows = self.precision.device, grid.rows.windows
        batch_size = options.batch_size or (8 if device.type == "cuda" else 1)
        height = max(window.last - window.first for window in rows)
        panels = list(_panels(grid.columns, 4 * self.classes * height))
        total = len(rows) * sum(len(windows) for *_, windows in panels)
        with tqdm(desc=progress, total=total, unit="tile", leave=False, disable=None if progress else True) as bar:
            widest = max(right - left for left, right, _ in panels)
            whole = torch.empty(height, self.classes, widest, device=device)  # all panels use the same memory
            for left, right, windows in panels:
                strip = whole[:, :, : right - left].zero_()
                for row, end in zip(rows, [*(each.first for each in rows[1:]), grid.rows.length], strict=True):
                    down = torch.from_numpy(row.weights).to(device)[:, None]  # [h,1]
                    for number in range(0, len(windows), batch_size):
                        batch = windows[number : number + batch_size]
                        for column, values in zip(batch, self._average(crop, grid, row, batch, options), strict=True):
                            values = values * down * torch.from_numpy(column.weights).to(device)  # [classes,h,w]
                            begin, stop = max(column.first, left), min(column.last, right)
                            inside = values[:, :, begin - column.first : stop - column.first].transpose(0, 1)
                            strip[: row.last - row.first, :, begin - left : stop - left] += inside
                        bar.update(len(batch))
                    yield Patch(slice(row.first, end), slice(left, right), strip[: end - row.first])
                    _move_up(strip, end - row.first)

    def _average(
        self,
        crop: Crop,
        grid: WindowGrid,
        row: Window,
        columns: Sequence[Window],
        options: PredictOptions,
        size: Size | None = None,
    ) -> list[Tensor]:
        """Test-time augmentation: float32 ``[classes,h,w]`` of windows of a row, the mean probabilities of all views.

        With a ``size`` the only window is the whole image, at that size; of one view these are logits.
        """
        means: list[Tensor] = []
        for scale, flip in options.views:
            found = self._view(crop, grid, row, columns, scale, flip, size)
            if size and len(options.views) == 1:
                return found
            found = [each.contiguous().softmax(0) for each in found]  # with the classes last: twice as slow
            means = [mean.add_(each) for mean, each in zip(means, found, strict=True)] if means else found
        return [mean.div_(len(options.views)) for mean in means]

    def _view(
        self,
        crop: Crop,
        grid: WindowGrid,
        row: Window,
        columns: Sequence[Window],
        scale: float,
        flip: tuple[int, ...],
        size: Size | None,
    ) -> list[Tensor]:
        """float32 logits ``[classes,h,w]`` of windows of a row at a scale, mirrored, at the image's own pixels."""
        height, width = (max(1, round(scale * axis.seen)) for axis in grid)
        top, bottom = grid.rows.at_scale(row, height, -2 in flip)
        spans = [grid.columns.at_scale(column, width, -1 in flip) for column in columns]
        logits: list[Tensor] = []
        for side, alike in groupby(spans, lambda span: span[1] - span[0]):
            images = torch.stack([crop((height, width), (top, bottom), span) for span in alike])
            if flip:
                images = images.flip(flip)
            found = self.logits(images, size or (bottom - top, side))
            logits.extend(found.flip(flip) if flip else found)
        if size:
            return logits
        for number, (column, (left, _)) in enumerate(zip(columns, spans, strict=True)):
            values = _resample(logits[number], 1, (row.first, row.last), height / grid.rows.length, top)
            logits[number] = _resample(values, 2, (column.first, column.last), width / grid.columns.length, left)
        return logits


def check_logits(output: object, images: Tensor, classes: int | None = None) -> Tensor:
    """What a model returned for images ``[B,C,H,W]``, if it is logits ``[B,classes,H,W]``.

    Raises:
        ModelError: it is no tensor of floats, or has another shape. The number of classes may be left open.
    """
    output = output["out"] if isinstance(output, Mapping) and "out" in output else output  # torchvision's models
    if not isinstance(output, Tensor):
        raise ModelError(f"the model returned {type(output).__name__}; a model returns logits, a tensor [B,C,H,W]")
    batch, _, height, width = images.shape
    wanted = [batch, output.shape[1] if classes is None and output.ndim == 4 else classes or "C", height, width]
    if list(output.shape) != wanted or not output.is_floating_point():
        dtype = str(output.dtype).removeprefix("torch.")
        shown = f"{batch} images of {height} x {width}" + (f" and {classes} classes" if classes else "")
        raise ModelError(
            f"the model returned {dtype} {list(output.shape)} for {shown}; a model returns logits, floats "
            f"[{', '.join(map(str, wanted))}], at the size of its images"
        )
    return output


def _resample(values: Tensor, dimension: int, span: Span, step: float, start: int = 0) -> Tensor:
    """Some pixels along a dimension of ``[classes,h,w]``, bilinear as ``F.interpolate`` has it.

    Args:
        values: of a part of the image as the network sees it.
        dimension: 1 or 2.
        span: the image's own pixels, the last one excluded.
        step: pixels of ``values`` for one of the image's own.
        start: where ``values`` begin in the image as the network sees it.
    """
    if step == 1:
        return values.narrow(dimension, span[0] - start, span[1] - span[0])
    positions = (torch.arange(*span, device=values.device, dtype=torch.float64) + 0.5) * step - 0.5 - start
    positions = positions.clamp_(0, values.shape[dimension] - 1)
    before = positions.long()
    share = (positions - before).float().view(-1, *[1] * (2 - dimension))
    after = (before + 1).clamp_(max=values.shape[dimension] - 1)
    return torch.lerp(values.index_select(dimension, before), values.index_select(dimension, after), share)


def _panels(columns: WindowAxis, bytes_per_column: int) -> Iterator[tuple[int, int, list[Window]]]:
    """The first and the last column but one of each panel, with the windows that reach into it."""
    widest = max(window.last - window.first for window in columns.windows)
    count = -(-columns.length // max(widest, STRIP_BYTES // bytes_per_column))
    edges = [number * columns.length // count for number in range(count + 1)]
    for left, right in pairwise(edges):
        yield left, right, [window for window in columns.windows if window.first < right and window.last > left]


def _move_up(strip: Tensor, done: int) -> None:
    """Drop the first rows and go on with empty ones below; in parts that do not overlap with where they came from."""
    kept = len(strip) - done
    for row in range(0, kept, done):
        part = min(done, kept - row)
        strip[row : row + part] = strip[row + done : row + done + part]
    strip[kept:] = 0
