"""Draws curves, confusion matrix and reliability diagram as SVG in the page's colours, for light and dark themes."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segkit.errors import one_line
from segkit_report.story import Story

INK, FIRST, SECOND, FLOOR = "#010101", "#010102", "#010103", "#010104"  # placeholders for CSS colours
SERIES = ["#010102", "#010103", "#010105", "#010106", "#010107", "#010108"]
_COLOURS = {INK: "currentColor", FLOOR: "var(--floor)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, 1)
}
NAME = 20  # maximum characters of a class in a confusion matrix
NUMBERED = 12  # maximum number of classes for a confusion matrix with numbers
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "text.parse_math": False,  # a class may be called $x$
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "path.simplify": True,
}


Chart = tuple[str, str]  # title, picture as SVG
Line = tuple[str, Sequence[float | None], str]  # name, values by epoch, colour


def curves(story: Story) -> list[Chart]:
    """Draw the loss, every score of val that has a floor, and the learning rate, by epoch."""
    lines, best = story.record.epochs, int(story.costs["best_epoch"])
    epochs = [int(line["epoch"]) for line in lines]
    train, val = ([line[name] for line in lines] for name in ("train", "val"))
    losses: list[Line] = [("train", [each["loss"] for each in train], FIRST)]
    losses.append(("val", [each.get("loss") for each in val], SECOND))
    charts = [chart("loss", epochs, losses, best)]
    floors = val[-1]["floor"]
    for name, value in val[-1].items():
        if isinstance(value, int | float) and isinstance(floors.get(name), int | float):
            score = ("val", [each.get(name) for each in val], SECOND)
            charts.append(chart(name, epochs, [score], best, floors[name]))
    charts.append(chart("learning rate", epochs, [("", [each["lr"] for each in train], FIRST)], best))
    return charts


def chart(
    title: str, epochs: Sequence[int], lines: Sequence[Line], best: int | None = None, floor: float | None = None
) -> Chart:
    """Draw lines over the epochs, and mark the best epoch and the floor (score of the best constant prediction)."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(4.6, 2.6))
        figure.subplots_adjust(0.15, 0.18, 0.97, 0.95)  # automatic layout would double the drawing time
        axes: Axes = figure.add_subplot()
        for number, (name, values, colour) in enumerate(lines):
            dashes = ("-", "--", "-.", ":")[number // len(SERIES) % 4]  # for repeated colours
            known = [float("nan") if value is None else value for value in values]
            marker = "o" if len(values) - values.count(None) == 1 else ""  # a line of one point is invisible
            axes.plot(epochs[: len(known)], known, color=colour, linestyle=dashes, marker=marker, label=one_line(name))
        if floor is not None:
            axes.axhline(floor, color=FLOOR, linestyle="--", label=f"floor {floor:.3f}")
        if best is not None:
            axes.axvline(best, color=INK, linestyle=":", linewidth=0.8, label=f"best epoch {best}")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(fontsize="small")
        return title, svg(figure, title)


def reliability(found: Mapping[str, Mapping[str, Any]], split: str) -> Chart:
    """Draw a reliability diagram: accuracy by confidence, before and after calibration.

    Args:
        found: ``before`` and ``after``, each with ``calibration_error`` and ``reliability``: the share of the pixels,
            mean confidence and accuracy of each bin.
        split: the name of the split.
    """
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "reliability"}):
        figure = Figure(figsize=(4.6, 3.4))
        figure.subplots_adjust(0.15, 0.15, 0.97, 0.97)
        axes: Axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=FLOOR, linestyle="--", label="as often right as it says")
        for (when, each), colour in zip(found.items(), (FIRST, SECOND), strict=False):
            share, sure, right = zip(*each["reliability"], strict=True)
            axes.plot(sure, right, color=colour, label=f"{when}: error {each['calibration_error']:.3f}")
            axes.scatter(sure, right, [4 + 150 * part for part in share], color=colour)
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        axes.legend(fontsize="small", loc="upper left")
        return f"reliability of {split}", svg(figure, "reliability")


def svg(figure: Figure, name: str) -> str:
    """Convert a figure to an ``<svg>`` element with the page's colours and with identifiers unique in the page."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in _COLOURS.items():
        text = text.replace(colour, variable)
    own = re.sub(r"\W+", "-", name)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{own}-", text)
    return re.sub(r'^<svg ([^>]*?)\bwidth="[^"]+"', r"<svg \1", re.sub(r'\bheight="[^"]+pt"', "", text, count=1))


def heat_map(counts: Sequence[Sequence[int]], classes: Sequence[str], split: str) -> Chart:
    """Draw the confusion matrix: rows are true classes, with the shares of their pixels by predicted class."""
    matrix = np.asarray(counts, np.float64)  # [C,C]
    shares = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    names = [name if len(name) <= NAME else f"{name[: NAME - 3]}..." for name in map(one_line, classes)]
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
        for row, column in np.ndindex(*shares.shape) if len(names) <= NUMBERED else ():
            colour = "black" if shares[row, column] > 50 else "white"
            text = f"{shares[row, column]:.0f}"
            axes.text(column + 0.5, row + 0.5, text, color=colour, ha="center", va="center", fontsize="small")
        figure.colorbar(image, ax=axes, label="% of the true class", shrink=0.7)
        return f"confusions of {split}", svg(figure, "confusion")
