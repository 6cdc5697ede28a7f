"""What was taken for what: the confusion matrix as a picture, and its largest entries as a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from segkit.engine.console import cut
from segkit.errors import one_line
from segkit_report.charts import STYLE, Chart, svg

NAME = 20  # characters of a class
FIGURES = 12  # classes up to which each field holds its number
MOST = 10  # confusions that are listed


@dataclass(frozen=True)
class Confusion:
    """Pixels of one class that were taken for another.

    Attributes:
        true: the class.
        predicted: the other.
        pixels: how many.
        of_class: their share of the class.
        of_errors: their share of all wrong pixels.
    """

    true: str
    predicted: str
    pixels: int
    of_class: float
    of_errors: float


def heat_map(counts: Sequence[Sequence[int]], classes: Sequence[str], split: str) -> Chart:
    """Each row a class, and the shares of its pixels by predicted class."""
    matrix = np.asarray(counts, np.float64)  # [C,C]
    shares = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    names = [cut(one_line(name), NAME) for name in classes]
    side = min(3.0 + 0.28 * len(names), 16.0)  # inches
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "confusion", "axes.spines.left": False}):
        figure = Figure(figsize=(side, side - 0.5), layout="constrained")
        axes = figure.add_subplot()
        image = axes.pcolormesh(shares, cmap="viridis", vmin=0, vmax=100, rasterized=len(names) > 64)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        places = np.arange(len(names)) + 0.5
        size = "small" if len(names) <= 40 else "xx-small"
        axes.set_xticks(places, names, rotation=90, fontsize=size)
        axes.set_yticks(places, names, fontsize=size)
        axes.tick_params(length=0)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        if len(names) <= FIGURES:
            for row, column in np.ndindex(*shares.shape):
                colour = "black" if shares[row, column] > 50 else "white"
                text = f"{shares[row, column]:.0f}"
                axes.text(column + 0.5, row + 0.5, text, color=colour, ha="center", va="center", fontsize="small")
        figure.colorbar(image, ax=axes, label="% of the true class", shrink=0.7)
        told = f"confusion matrix of {split}: of each class the shares of its pixels by predicted class"
        return Chart("confusion", told, svg(figure, "confusion"))


def largest(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> list[Confusion]:
    """The confusions of most pixels."""
    matrix: Any = np.asarray(counts, np.int64)
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST]
    found = []
    for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True):
        pixels = int(wrong[row, column])
        if pixels:
            of_class, of_errors = pixels / int(matrix[row].sum()), pixels / int(wrong.sum())
            found.append(Confusion(classes[row], classes[column], pixels, of_class, of_errors))
    return found
