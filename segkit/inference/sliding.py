"""An image of any size, tile by tile, in memory that does not grow with its height.

Only a strip as high as one tile is held as probabilities. When a row of tiles is done, the rows above the next one are
final: they are handed out, and the strip moves on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from segkit.inference.tiles import Axis
from segkit.model.padding import mirror_pad

STRIP_BYTES = 1 << 30
"""Of the strip: 512 rows of 20,000 pixels and 21 classes are 860 MB. What is wider or has more classes is predicted in
panels side by side, whose seams lie in tiles that are computed for both."""


class Block(NamedTuple):
    """A part of an image, with a value of each class for each of its pixels.

    Attributes:
        top: its first row in the image.
        left: its first column.
        values: float32 ``[rows,C,columns]``; overwritten when the next block is asked for.
    """

    top: int
    left: int
    values: Tensor

    @property
    def place(self) -> tuple[slice, slice]:
        """Its rows and columns in the image."""
        rows, _, columns = self.values.shape
        return slice(self.top, self.top + rows), slice(self.left, self.left + columns)


def slide(
    image: Tensor,
    rows: Axis,
    columns: Axis,
    predict: Callable[[Tensor], Tensor],
    *,
    classes: int,
    device: torch.device,
    batch_size: int,
    description: str = "",
) -> Iterator[Block]:
    """The probabilities of an image, part by part: the mean over the tiles at a pixel by their weights.

    Args:
        image: uint8 ``[H,W,3]``.
        rows: the tiles along its height.
        columns: likewise.
        predict: uint8 ``[B,3,h,w]`` -> probabilities ``[B,C,h,w]`` on the device.
        classes: C.
        device: where the strip lies.
        batch_size: tiles that are predicted together.
        description: of the progress bar; none is shown without it.
    """
    panels = list(_panels(columns, 4 * classes * rows.tile))
    total = len(rows.starts) * sum(len(starts) for *_, starts in panels)
    with tqdm(desc=description, total=total, unit="tile", leave=False, disable=None if description else True) as shown:
        for left, right, starts in panels:
            strip = torch.zeros(rows.tile, classes, right - left, device=device)  # [T,C,W]: a row lies in one piece
            for top, below in zip(rows.starts, [*rows.starts[1:], rows.length], strict=True):
                for first in range(0, len(starts), batch_size):
                    batch = starts[first : first + batch_size]
                    tiles = torch.stack([_cut(image, top, rows.tile, start, columns.tile) for start in batch])
                    values = predict(tiles) * torch.from_numpy(rows.weights(top)).to(device)[:, None]  # [B,C,T,T]
                    for each, start in zip(values, batch, strict=True):
                        each *= torch.from_numpy(columns.weights(start)).to(device)
                        begin, end = max(start, left), min(start + columns.tile, right)
                        inside = each[:, :, begin - start : end - start].transpose(0, 1)  # [T,C,w]
                        strip[:, :, begin - left : end - left] += inside
                    shown.update(len(batch))
                yield Block(top, left, strip[: below - top])
                _move_up(strip, below - top)


def _panels(columns: Axis, bytes_a_column: int) -> Iterator[tuple[int, int, list[int]]]:
    """The first and the last column but one of each panel, with the starts of the tiles that reach into it."""
    count = -(-columns.length // max(columns.tile, STRIP_BYTES // bytes_a_column))
    edges = [number * columns.length // count for number in range(count + 1)]
    for left, right in pairwise(edges):
        yield left, right, [start for start in columns.starts if left - columns.tile < start < right]


def _cut(image: Tensor, top: int, height: int, left: int, width: int) -> Tensor:
    """A tile ``[3,height,width]`` of an image ``[H,W,3]``; mirrored where it reaches beyond."""
    tile = image[top : top + height, left : left + width].permute(2, 0, 1)
    below, beside = height - tile.shape[1], width - tile.shape[2]
    return mirror_pad(tile, 0, below, 0, beside) if below or beside else tile


def _move_up(strip: Tensor, done: int) -> None:
    """Drop the first rows and go on with empty ones below; in parts that do not overlap with where they came from."""
    kept = len(strip) - done
    for row in range(0, kept, done):
        part = min(done, kept - row)
        strip[row : row + part] = strip[row + done : row + done + part]
    strip[kept:] = 0
