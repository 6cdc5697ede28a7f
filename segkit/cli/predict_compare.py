"""Which dataset reads the true masks that predictions are compared with: the run's own, where it is at hand."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.errors import SegkitError
from segkit.options import create
from segkit.registry import datasets

if TYPE_CHECKING:
    from segkit.data.files import PairedFiles
    from segkit.inference.predictor import Predictor
    from segkit.inference.truth import Truth


def truth_of(images: Sequence[Path], folder: Path, suffix: str, run: Path, predictor: Predictor) -> tuple[Truth, str]:
    """The true masks of images, and in words how they are read.

    That is as the run read its own: by its dataset's map of labels or colours, every other label refused. Where that
    dataset cannot be built, as its folder is elsewhere, a mask holds the class indices and void.

    Args:
        images: that are predicted.
        folder: of the masks, each called as its image but for the ending.
        suffix: what a mask's name has more than its image's.
        run: the run folder, or a file in it.
        predictor: whose classes they are.

    Raises:
        DataError: an image has no mask, or more than one.
    """
    from segkit.inference.truth import Truth

    own = _dataset_of(run if run.is_dir() else run.parent, predictor)
    how = "read as the run's" if own else "read as class indices, as the run's own data is not at hand"
    return Truth(own or _plain(predictor), images, folder, suffix), how


def _dataset_of(run: Path, predictor: Predictor) -> PairedFiles | None:
    """A copy of the run's own dataset, where it is one of files and at hand."""
    from segkit.data.files import PairedFiles
    from segkit.engine.run_folder import read_json

    try:
        options = dict(read_json(run / "run.json")["config"]["dataset"])
        options |= {"download": False} if "download" in options else {}  # masks are read, nothing is fetched
        dataset = create(datasets.find(options.pop("name")), options, {"split": "train"})
    except (SegkitError, KeyError, TypeError, ValueError):  # no run of a config, a folder that has moved
        return None
    same = isinstance(dataset, PairedFiles) and dataset.classes == predictor.classes
    return copy.copy(dataset) if same and dataset.ignore_index == predictor.ignore_index else None


def _plain(predictor: Predictor) -> PairedFiles:
    from segkit.data.files import VOID, PairedFiles

    void = None if predictor.ignore_index == VOID else predictor.ignore_index
    dataset = PairedFiles([], classes=predictor.classes, palette=predictor.palette, ignore_index=void)
    dataset.palette_is_assumed = True  # as far as is known
    return dataset
