"""Prediction options, shared by :meth:`Predictor.predict` and the command line; imported without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from segkit.errors import ConfigError
from segkit.settings import Settings

FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {  # name -> for each view the dimensions of [B,C,H,W] to flip
    "none": ((),),
    "horizontal": ((), (-1,)),
    "vertical": ((), (-2,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}


class View(NamedTuple):
    """A view of the images that test-time augmentation averages: resized by ``scale``, then flipped."""

    scale: float = 1.0
    flip: tuple[int, ...] = ()


class PredictOptions(Settings):
    """How to predict an image: whole or in overlapping tiles, once or with test-time augmentation.

    Args:
        tile: side of a tile in pixels of the image; 0: no tiles; auto: tiles if the network would otherwise see more
            than 2048 x 2048 pixels at once. They are then 512 x 512, or as large as the training crops (up to 1024),
            and less high where the probabilities of a row of tiles would take more than 1 GiB.
        overlap: overlap of neighbouring tiles, as a share of their side. With 0.5, as in nnU-Net, no pixel depends only
            on the outer quarter of a tile, where the network sees only half of the surroundings.
        batch_size: tiles per forward pass; 0: 8 on a GPU, and 1 on a CPU, where more are no faster.
        flips: average mirrored views: none, horizontal, vertical or both.
        scales: average the probabilities of the image, or of each tile, at these scales, such as 0.75,1,1.25.

    Raises:
        ConfigError: a value is not allowed.
    """

    tile: Annotated[int, Field(ge=16)] | Literal["auto", 0] = "auto"
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.5
    batch_size: Annotated[int, Field(ge=0)] = 0
    flips: Literal["none", "horizontal", "vertical", "both"] = "none"
    scales: Annotated[Sequence[Annotated[float, Field(ge=0.1, le=8)]], Field(min_length=1)] = (1.0,)

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            name = error.errors()[0]["loc"][0]
            found = dict.fromkeys(each["msg"].removeprefix("Input ") for each in error.errors() if name in each["loc"])
            raise ConfigError(f"{name} = {given[str(name)]!r}: {', or '.join(found)}") from error

    @property
    def views(self) -> list[View]:
        """The views that test-time augmentation averages."""
        return [View(scale, flip) for scale in self.scales for flip in FLIPS[self.flips]]

    def refuse_tiles(self, resize: float | Sequence[int] | None) -> None:
        """Raise ConfigError if a size of tiles is given, but ``data.resize`` is [height, width], so there are none."""
        if self.tile not in ("auto", 0) and isinstance(resize, Sequence):
            why = f"the network was trained on whole images resized to {list(resize)} (data.resize)"
            raise ConfigError(f"tile = {self.tile}: no tiles are used, because {why}; leave it out")
