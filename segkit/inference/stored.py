"""Predictions in the labels, or colours, that the masks of the run store, which need not be the class indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.sample import Palette
from segkit.errors import ConfigError


class StoredLabels:
    """What stands in the masks of a run for each class.

    Args:
        classes: names.
        stored: of each class the labels, or the RGB triples, that mean it; the first is written.

    Raises:
        ConfigError: a class has none, or one that no PNG can hold.
    """

    def __init__(self, classes: Sequence[str], stored: Sequence[Sequence[Any]]) -> None:
        self.several = {name: list(those) for name, those in zip(classes, stored, strict=True) if len(those) > 1}
        for name, those in zip(classes, stored, strict=True):
            if not those or (isinstance(those[0], int) and those[0] < 0):
                held = (
                    f"is stored as {those[0]}, which a PNG cannot hold" if those else "has no label in the run's masks"
                )
                raise ConfigError(
                    f"stored labels: the class '{name}' {held}; predict class indices, without this option"
                )
        self.first = {name: those[0] for name, those in zip(classes, stored, strict=True)}
        values = np.array([*self.first.values()])
        self._table = values.astype(np.uint8 if values.max() < 256 else np.uint16)  # [C], or [C,3] of colours

    def __call__(self, labels: NDArray[np.uint8]) -> NDArray[Any]:
        """Class indices ``[H,W]`` -> stored labels, uint8 or uint16 ``[H,W]``, or colours, uint8 ``[H,W,3]``."""
        return np.take(self._table, labels, axis=0)

    def picture(self, labels: NDArray[np.uint8], palette: Palette) -> Image.Image:
        """Class indices ``[H,W]`` as the run's masks have them; labels below 256 are drawn in the classes' colours."""
        picture = Image.fromarray(self(labels))
        if picture.mode == "L":
            colours = np.zeros((256, 3), np.uint8)
            colours[self._table] = palette
            picture.putpalette(colours.tobytes())
        return picture
