"""One or several views of an image, mirrored or at other scales, and what a network says of them on average."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from segkit.data.normalise import Normalisation
from segkit.data.resize import Span
from segkit.data.sample import Batch
from segkit.engine.evaluate import logits_at
from segkit.engine.precision import Precision
from segkit.errors import ModelError
from segkit.inference.options import FLIPS, Options
from segkit.inference.tiles import Axis, Tile

Size = tuple[int, int]
Source = Callable[[Size, Span, Span], Tensor]
"""(height and width of the whole, rows, columns) -> these of the image at that size, uint8 ``[3,rows,columns]``."""


class Views:
    """Shows an image, whole or in tiles, to a network.

    Args:
        model: ``[B,3,H,W]`` -> logits ``[B,C,H,W]``, in eval mode.
        precision: of the forward pass.
        classes: C.
        source: of the image.
        size: height and width that values are brought to.
        seen: height and width of the image as the network sees it, at scale 1.
        options: which views.
        normalisation: the run's.
    """

    def __init__(
        self,
        model: nn.Module,
        precision: Precision,
        classes: int,
        source: Source,
        size: Size,
        seen: Size,
        options: Options,
        normalisation: Normalisation,
    ) -> None:
        self.model, self.precision, self.classes, self.normalisation = model, precision, classes, normalisation
        self.source, self.size, self.seen = source, size, seen
        self.views = [(scale, flip) for scale in options.scales for flip in FLIPS[options.flips]]

    def whole(self) -> Tensor:
        """float32 ``[C,H,W]``: the logits of the image seen whole where there is one view, else probabilities.

        Raises:
            ModelError: the model does not return a channel a class.
        """
        if len(self.views) == 1:
            return self._whole(*self.views[0])
        mean = self._whole(*self.views[0]).contiguous().softmax(0)  # classes last: twice as slow
        for view in self.views[1:]:
            mean.add_(self._whole(*view).contiguous().softmax(0))
        return mean.div_(len(self.views))

    def tiles(self, rows: Axis, columns: Axis, pairs: Sequence[tuple[Tile, Tile]]) -> list[Tensor]:
        """float32 ``[C,h,w]`` of each pair of a row's and a column's tile: the probabilities, the mean over all views.

        Raises:
            ModelError: the model does not return a channel a class.
        """
        first, *others = (
            [each.contiguous().softmax(0) for each in self._tiles(rows, columns, pairs, *view)] for view in self.views
        )
        return [torch.stack(those).mean(0) for those in zip(first, *others, strict=True)] if others else first

    def _whole(self, scale: float, flip: tuple[int, ...]) -> Tensor:
        seen = self._seen(scale)
        return self._logits([self.source(seen, (0, seen[0]), (0, seen[1]))], flip, self.size)[0]

    def _tiles(
        self, rows: Axis, columns: Axis, pairs: Sequence[tuple[Tile, Tile]], scale: float, flip: tuple[int, ...]
    ) -> list[Tensor]:
        seen = self._seen(scale)
        windows = [
            (_window(row, rows, seen[0], -2 in flip), _window(column, columns, seen[1], -1 in flip))
            for row, column in pairs
        ]
        alike: dict[Size, list[int]] = defaultdict(list)  # windows of one size are predicted together
        for number, ((top, bottom), (left, right)) in enumerate(windows):
            alike[bottom - top, right - left].append(number)
        found: dict[int, Tensor] = {}
        for size, numbers in alike.items():
            logits = self._logits([self.source(seen, *windows[number]) for number in numbers], flip, size)
            for number, values in zip(numbers, logits, strict=True):
                (row, column), ((top, _), (left, _)) = pairs[number], windows[number]
                values = _brought(values, 1, row, top, seen[0] / self.size[0])
                found[number] = _brought(values, 2, column, left, seen[1] / self.size[1])
        return [found[number] for number in range(len(pairs))]

    def _seen(self, scale: float) -> Size:
        height, width = (max(1, round(scale * side)) for side in self.seen)
        return height, width

    def _logits(self, images: Sequence[Tensor], flip: tuple[int, ...], size: Size) -> Tensor:
        batch = Batch(torch.stack(list(images)), torch.empty(0, 0), None, []).to(self.precision.device)
        batch = batch._replace(image=batch.image.flip(flip)) if flip else batch
        logits = logits_at(self.model, batch, self.precision, size, self.normalisation)  # [B,C,h,w]
        if logits.shape[1] != self.classes:
            raise ModelError(f"the model returns {logits.shape[1]} channels for {self.classes} classes")
        return logits.flip(flip) if flip else logits


def _window(tile: Tile, axis: Axis, seen: int, mirrored: bool) -> Span:
    """Where a tile lies at another scale; as it itself does, it begins on the grid or the image, and ends with that."""
    start, end = (axis.seen - tile.end, axis.seen - tile.start) if mirrored else (tile.start, tile.end)
    start = start * seen // axis.seen // axis.grid * axis.grid
    end = -(-end * seen // axis.seen)
    return (seen - end, seen - start) if mirrored else (start, end)


def _brought(values: Tensor, axis: int, tile: Tile, start: int, step: float) -> Tensor:
    """The values of a window at the pixels of a tile, along an axis of ``[C,h,w]``; bilinear as ``F.interpolate``."""
    if step == 1:
        return values.narrow(axis, tile.first - start, tile.last - tile.first)
    places = (torch.arange(tile.first, tile.last, device=values.device, dtype=torch.float64) + 0.5) * step - 0.5 - start
    places = places.clamp_(0, values.shape[axis] - 1)
    before = places.long()
    share = (places - before).float().view(-1, *[1] * (2 - axis))
    behind = (before + 1).clamp_(max=values.shape[axis] - 1)
    return torch.lerp(values.index_select(axis, before), values.index_select(axis, behind), share)
