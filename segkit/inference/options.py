"""Prediction options, shared by :meth:`Predictor.predict` and the command line; imported without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from segkit.errors import ConfigError
from segkit.settings import Settings

FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {  # name -> for each view the dimensions of [B,C,H,W] to flip
    "none": ((),),
    "horizontal": ((), (-1,)),
    "vertical": ((), (-2,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}


class PredictOptions(Settings):
    """How to predict an image: whole or in overlapping tiles, once or with test-time augmentation.

    Args:
        tile: side of a tile in pixels of the image; 0: no tiles; auto: tiles if the network would otherwise see more
            than 2048 x 2048 pixels at once. They are then 512 x 512, or as large as the training crops (up to 1024).
        overlap: overlap of neighbouring tiles, as a share of their side. With 0.5, as in nnU-Net, no pixel depends only
            on the outer quarter of a tile, where the network sees only half of the surroundings.
        batch_size: tiles per forward pass; 0: 8 on a GPU, and 1 on a CPU, where more are no faster.
        flips: average mirrored views: none, horizontal, vertical or both.
        scales: average the probabilities of the image at these scales, such as 0.75,1,1.25.

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
    def views(self) -> list[tuple[float, tuple[int, ...]]]:
        """The views that test-time augmentation averages: (scale, dimensions to flip) each."""
        return [(scale, flip) for scale in self.scales for flip in FLIPS[self.flips]]

    def refuse_unused(self, resize: float | Sequence[int] | None) -> None:
        """Refuse tile options if images are predicted whole.

        Args:
            resize: value of ``data.resize``.

        Raises:
            ConfigError: a tile option has no effect; the message names it and the reason.
        """
        why = "with tile = 0 an image is predicted whole" if self.tile == 0 else ""
        if isinstance(resize, Sequence):
            why = f"the network was trained on whole images resized to {list(resize)} (data.resize)"
        given = {"tile": self.tile or "auto", "overlap": self.overlap, "batch_size": self.batch_size}
        fields = PredictOptions.model_fields
        unused = [f"{name} = {value}" for name, value in given.items() if value != fields[name].default]
        if why and unused:
            raise ConfigError(f"{', '.join(unused)}: no tiles are used, because {why}; leave it out")
