"""The options of a prediction, shared by :meth:`Predictor.predict` and the command line; imported without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segkit.errors import ConfigError

FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {  # name -> the dimensions of [B,C,H,W] that each view mirrors
    "none": ((),),
    "horizontal": ((), (-1,)),
    "vertical": ((), (-2,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}


@dataclass(frozen=True)
class PredictOptions:
    """How an image is predicted: whole or in overlapping tiles, once or with test-time augmentation.

    Args:
        tile: side of a tile in pixels of the image; 0: never in tiles; auto: in tiles where the network would see more
            than 2048 x 2048 pixels at once. They are then 512 x 512, or as large as the training crops (to 1024).
        overlap: of neighbouring tiles, a share of their side. 0.5 is nnU-Net's: no pixel depends on the outer
            quarter of a tile alone, where the network sees only half of the surroundings.
        batch_size: tiles that are computed together; 0: 8 on a GPU, and 1 on a CPU, where more are no faster.
        flips: average mirrored views: none, horizontal, vertical or both.
        scales: average the probabilities of the image at these scales, such as 0.75,1,1.25.

    Raises:
        ConfigError: a value that is not allowed.
    """

    tile: int | str = "auto"
    overlap: float = 0.5
    batch_size: int = 0
    flips: str = "none"
    scales: Sequence[float] = (1.0,)

    def __post_init__(self) -> None:
        is_integer = isinstance(self.tile, int) and not isinstance(self.tile, bool)
        if self.tile != "auto" and not (is_integer and (self.tile == 0 or int(self.tile) >= 16)):
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
    def views(self) -> list[tuple[float, tuple[int, ...]]]:
        """The views that test-time augmentation averages: a scale, and the dimensions that are mirrored."""
        return [(scale, flip) for scale in self.scales for flip in FLIPS[self.flips]]

    def refuse_unused(self, resize: float | Sequence[int] | None) -> None:
        """Refuse options of tiles where there are none.

        Args:
            resize: as ``data.resize``.

        Raises:
            ConfigError: which option, and why.
        """
        why = "with tile = 0 an image is predicted whole" if self.tile == 0 else ""
        if isinstance(resize, Sequence):
            why = f"the network was trained on whole images of {list(resize)} (data.resize), and no part of one"
        given = {"tile": self.tile or "auto", "overlap": self.overlap, "batch_size": self.batch_size}
        unused = [f"{name} = {value}" for name, value in given.items() if value != getattr(PredictOptions, name)]
        if why and unused:
            raise ConfigError(f"{', '.join(unused)}: there are no tiles, as {why}; leave it out")
