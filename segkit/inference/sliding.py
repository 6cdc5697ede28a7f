"""An image of any size, tile by tile, in memory that does not grow with its height.

Only a strip as high as one tile is held as probabilities. When a row of tiles is done, the rows above the next one are
final: they are handed out, and the strip moves on.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from segkit.inference.tiles import Axis, Tile
from segkit.inference.views import Views

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


def slide(views: Views, rows: Axis, columns: Axis, *, batch_size: int = 0, description: str = "") -> Iterator[Block]:
    """The probabilities of an image, part by part: the mean over the tiles at a pixel by their weights.

    Args:
        views: of the image.
        rows: the tiles along its height.
        columns: likewise.
        batch_size: tiles that are predicted together; 0: 8 on a GPU, 1 on a CPU.
        description: of the progress bar; none is shown without it.
    """
    classes, device = views.classes, views.precision.device
    batch_size = batch_size or (8 if device.type == "cuda" else 1)
    height = max(tile.last - tile.first for tile in rows.tiles)
    panels = list(_panels(columns, 4 * classes * height))
    total = len(rows.tiles) * sum(len(tiles) for *_, tiles in panels)
    with tqdm(desc=description, total=total, unit="tile", leave=False, disable=None if description else True) as shown:
        for left, right, tiles in panels:
            strip = torch.zeros(height, classes, right - left, device=device)  # [T,C,W]: a row lies in one piece
            for row, below in zip(rows.tiles, [*(tile.first for tile in rows.tiles[1:]), rows.length], strict=True):
                down = torch.from_numpy(row.weights).to(device)[:, None]  # [h,1]
                for number in range(0, len(tiles), batch_size):
                    batch = tiles[number : number + batch_size]
                    found = views.tiles(rows, columns, [(row, each) for each in batch])
                    for column, values in zip(batch, found, strict=True):
                        values = values * down * torch.from_numpy(column.weights).to(device)  # [C,h,w]
                        begin, end = max(column.first, left), min(column.last, right)
                        inside = values[:, :, begin - column.first : end - column.first].transpose(0, 1)
                        strip[: row.last - row.first, :, begin - left : end - left] += inside
                    shown.update(len(batch))
                yield Block(row.first, left, strip[: below - row.first])
                _move_up(strip, below - row.first)


def _panels(columns: Axis, bytes_a_column: int) -> Iterator[tuple[int, int, list[Tile]]]:
    """The first and the last column but one of each panel, with the tiles that reach into it."""
    widest = max(tile.last - tile.first for tile in columns.tiles)
    count = -(-columns.length // max(widest, STRIP_BYTES // bytes_a_column))
    edges = [number * columns.length // count for number in range(count + 1)]
    for left, right in pairwise(edges):
        yield left, right, [tile for tile in columns.tiles if tile.first < right and tile.last > left]


def _move_up(strip: Tensor, done: int) -> None:
    """Drop the first rows and go on with empty ones below; in parts that do not overlap with where they came from."""
    kept = len(strip) - done
    for row in range(0, kept, done):
        part = min(done, kept - row)
        strip[row : row + part] = strip[row + done : row + done + part]
    strip[kept:] = 0
