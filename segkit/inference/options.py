"""The options of a prediction, of :meth:`Predictor.predict` and the command line alike; imported without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from segkit.errors import ConfigError
from segkit.settings import Settings

FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {  # name -> the dimensions of [B,C,H,W] that each view mirrors
    "none": ((),),
    "horizontal": ((), (-1,)),
    "vertical": ((), (-2,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}


class PredictOptions(Settings):
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
        fields = PredictOptions.model_fields
        unused = [f"{name} = {value}" for name, value in given.items() if value != fields[name].default]
        if why and unused:
            raise ConfigError(f"{', '.join(unused)}: there are no tiles, as {why}; leave it out")
