"""The true masks of predicted images, and the scores of the predictions beside their floor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import segkit
from segkit.compose import build_splits
from segkit.config import read_config
from segkit.data.read import file_of, suffixes
from segkit.data.sample import Colour
from segkit.engine.console import final_table
from segkit.errors import DataError, LabelError, SegkitError, first_few
from segkit.inference.predictor import Predictor
from segkit.metric.confusion import ConfusionMatrix
from segkit.metric.scores import split_scores
from segkit_folder.files import VOID, PairedFiles
from segkit_folder.splits import composed

_BAND = 1 << 20  # pixels counted at once: counting takes 8 bytes per pixel


class GroundTruth:
    """The true masks of images, read like the run's own masks, and their confusion matrix with the predictions.

    If the run's dataset cannot be built, for example because its folder has moved, masks of class indices are read.

    Args:
        images: predicted image -> its name without suffix.
        folder: the folder of the masks.
        suffix: what a mask's name has after its image's name, or a pattern with ``{id}`` for the image's name.
        run: the run folder.
        predictor: the model, which gives the classes.
        most_pixels: the largest size of a mask.

    Attributes:
        how: a description of how the masks are read.

    Raises:
        DataError: an image has no mask, or more than one, or nothing says which class a stored label is.
    """

    def __init__(
        self, images: Mapping[Path, str], folder: Path, suffix: str, run: Path, predictor: Predictor, most_pixels: int
    ) -> None:
        own = _dataset_of(run, predictor)
        self.dataset = _class_indices(run, predictor) if own is None else own
        plain = "read as class indices, as the run's own data is not at hand"
        self.how = plain if own is None else "read as the run's"
        self.dataset.pairs, self.dataset.blank = pair(images, folder, suffix), ()
        self.dataset.names = [composed(name) for name in images.values()]
        self.dataset.most_pixels = most_pixels
        self.confusion = ConfusionMatrix(len(self.dataset.classes), self.dataset.ignore_index)
        self._numbers = {image: number for number, image in enumerate(images)}
        self._drawn: dict[str, Mapping[int, Colour]] = {}  # file -> its palette, one file per distinct palette

    def mask(self, image: Path) -> NDArray[np.uint8]:
        """Return the mask of an image, uint8 ``[H,W]``.

        Raises:
            LabelError: a label that is not allowed, another size than the image's, or a palette that contradicts
                earlier masks or the classes.
            DataError: a file that cannot be read.
        """
        number = self._numbers[image]
        self.dataset.verify(number)
        _, *masks = self.dataset.headers(number)
        drawn = self.dataset.drawn(number, masks)
        mask: NDArray[np.uint8] = self.dataset.mask(number).numpy()
        if drawn and drawn not in self._drawn.values():
            known = {**self._drawn, str(self.dataset.pairs[number][1]): drawn}
            for issue in self.dataset.palette_issues(known):
                if issue.severity == "error":
                    raise LabelError(issue)
            self._drawn = known
        return mask

    def count(self, mask: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Add an image's mask and predicted labels, both ``[H,W]``; labels may be void only where the mask is void."""
        rows = max(1, _BAND // mask.shape[1])
        for top in range(0, len(mask), rows):
            target, predicted = (torch.from_numpy(each[top : top + rows]) for each in (mask, labels))
            predicted = predicted.masked_fill(target == self.dataset.ignore_index, 0)  # void is not predicted
            self.confusion.update_labels(predicted, target)

    def scores(self) -> dict[str, Any]:
        """Return scores as for a split in ``result.json``, without a loss; the floor is that of these masks.

        Raises:
            DataError: no pixel is labelled, or 255 may be the foreground.
        """
        data, (background, *foreground, void, _) = self.dataset, self.confusion.counts.sum(1).tolist()
        if data.void_is_assumed and len(foreground) == 1 and void and background and not foreground[0]:
            advice = data.advice("black_and_white")
            raise DataError(f"the masks hold 0 and 255 alone, and 255 is void where nothing else is said; {advice}")
        return split_scores(self.confusion, data.classes)

    def table(self, scores: Mapping[str, Any]) -> str:
        """Format the scores: each class with its IoU and its share of the labelled pixels; the means and floors."""
        true = self.confusion.compute().sum(1)
        return final_table({"masks": scores}, self.dataset.classes, {"masks": (true / true.sum()).numpy()})


def pair(images: Mapping[Path, str], folder: Path, suffix: str = "") -> list[tuple[Path, Path]]:
    """Return each image with the only mask of its name, in the folder or, for images below the folder, beside them.

    Raises:
        DataError: the folder does not exist, or an image has no mask or several.
    """
    if not folder.is_dir():
        raise DataError(f"--compare-with {folder} is no folder; give the folder of the true masks")
    masks: dict[tuple[Path, str], list[Path]] = {}
    for place in {folder, *(image.parent for image in images if image.is_relative_to(folder))}:
        for file in sorted(place.iterdir()):
            if file.suffix.lower() in suffixes() and file.is_file():
                masks.setdefault((place, composed(file.stem)), []).append(file)
    found: dict[Path, list[Path]] = {}
    for image, name in images.items():
        stem = composed(mask_stem(name, suffix))
        those = masks.get((folder, stem)) or masks.get((image.parent, stem), [])
        found[image] = [mask for mask in those if mask != image]
    if missing := [image for image, those in found.items() if not those]:
        first = missing[0]
        hint = f"that of {first.name} would be {mask_stem(images[first], suffix)}.png, .tif or another picture alone"
        hint += "; masks in a file of several pictures are not read here" * bool(file_of(first)[1])
        names = first_few([*map(str, missing)])
        raise DataError(f"--compare-with {folder} has no mask for {names}; {hint} (see --mask-suffix)")
    if several := [str(file) for those in found.values() if len(those) > 1 for file in those]:
        raise DataError(f"--compare-with {folder} has several masks of one name: {first_few(several)}; keep one each")
    return [(image, those[0]) for image, those in found.items()]


def mask_stem(name: str, suffix: str) -> str:
    """Return the name of an image's mask, without suffix."""
    return suffix.replace("{id}", name) if "{id}" in suffix else name + suffix


def options_of(run: Path) -> dict[str, Any]:
    """Return the options of the run's dataset, with its name; empty for a run of plain Python objects."""
    try:
        return dict(segkit.read_run(run).config["dataset"])
    except (SegkitError, KeyError, TypeError, ValueError):
        return {}


def _dataset_of(run: Path, predictor: Predictor) -> PairedFiles | None:
    """Build the run's dataset; return None if it has no files or they are not found."""
    options = options_of(run)
    options |= {"download": False} if "download" in options else {}  # never download only to read masks
    try:
        config = read_config({**segkit.read_run(run).config, "dataset": options})
        dataset = build_splits(config)[0]["train"]
    except (SegkitError, KeyError, TypeError, ValueError):  # not the run of a config, or a folder that has moved
        return None
    wanted = predictor.classes, predictor.ignore_index
    return dataset if isinstance(dataset, PairedFiles) and (dataset.classes, dataset.ignore_index) == wanted else None


def _class_indices(run: Path, predictor: Predictor) -> PairedFiles:
    """Return a dataset that reads masks of class indices.

    Raises:
        DataError: the run's own masks store something else.
    """
    options, indices = options_of(run), [[index] for index in range(len(predictor.classes))]
    said = [name for name in ("value_map", "colour_map", "threshold", "void") if options.get(name) is not None]
    if said or (predictor.stored and [*map(list, predictor.stored)] != indices):
        raise DataError(
            "--compare-with: the run's masks do not store class indices, and the run's own data, which says how they "
            "are read, is not at hand; start where dataset.root of the run is found"
        )
    ignored = None if predictor.ignore_index == VOID else predictor.ignore_index
    found = PairedFiles([], classes=predictor.classes, palette=predictor.palette, ignore_index=ignored)
    found.palette_is_assumed, found.label_advice = True, "correct the mask, or start where the run's own data is found"
    return found
