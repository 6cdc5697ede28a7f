"""How an image is predicted: whole or in tiles, once or in several views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segkit.errors import ConfigError

OVERLAP = (
    0.5  # as nnU-Net: no pixel is left to the outer quarter of a tile, where a network sees half of what is around
)

FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {  # name -> the axes of [B,C,H,W] that each view mirrors
    "none": ((),),
    "horizontal": ((), (-1,)),
    "vertical": ((), (-2,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}


@dataclass(frozen=True)
class Options:
    """How an image is predicted.

    Attributes:
        tile: the side of a tile in pixels of the image; 0: never in tiles; ``auto``: in tiles from 2048 x 2048 pixels
            on, which see 512 x 512, or as much as the crops of the training where those were larger.
        overlap: of neighbouring tiles, a share of their side.
        batch_size: tiles at a time; 0: 8 on a GPU, and 1 on a CPU, where more take memory and no less time.
        flips: ``none``, ``horizontal``, ``vertical`` or ``both``: mirrored views, besides the image as it is.
        scales: of the image, 1.0 is as it is; a view a scale and flip, whose probabilities are averaged.

    Raises:
        ConfigError: a value that is not allowed.
    """

    tile: int | str = "auto"
    overlap: float = OVERLAP
    batch_size: int = 0
    flips: str = "none"
    scales: Sequence[float] = (1.0,)

    def __post_init__(self) -> None:
        whole = isinstance(self.tile, int) and not isinstance(self.tile, bool)
        if self.tile != "auto" and not (whole and (self.tile == 0 or int(self.tile) >= 16)):
            raise ConfigError(f"tile = {self.tile!r}; allowed are auto, 0 (never in tiles), and 16 pixels or more")
        if not 0 <= self.overlap <= 0.9:
            raise ConfigError(f"overlap = {self.overlap}; a share of the tile's side from 0 to 0.9")
        if self.batch_size < 0:
            raise ConfigError(f"batch_size = {self.batch_size}; tiles at a time, or 0 for what suits the device")
        if self.flips not in FLIPS:
            raise ConfigError(f"flips = {self.flips!r}; allowed are {', '.join(FLIPS)}")
        if not self.scales or not all(0.1 <= scale <= 8 for scale in self.scales):
            raise ConfigError(f"scales = {list(self.scales)}; one or more factors from 0.1 to 8")

    @property
    def views(self) -> int:
        """How often each pixel is predicted, tiles aside."""
        return len(FLIPS[self.flips]) * len(self.scales)
