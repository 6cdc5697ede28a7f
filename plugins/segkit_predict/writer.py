"""Predicts images and writes the results; an image that fails is reported, and the others are predicted."""

from __future__ import annotations

import os
import sys
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from segkit.data.normalise import displayable
from segkit.data.parallel import read_ahead
from segkit.data.read import read_header
from segkit.data.visualize import VOID_COLOUR
from segkit.errors import ConfigError, DataError, NotFiniteError, one_line, reason
from segkit.files import write_atomically
from segkit.inference.predictor import Predictor
from segkit_predict.geotiff import GeoRows, rows_of, save_geotiff
from segkit_predict.ground_truth import GroundTruth
from segkit_samples.marked import MARK, signature
from segkit_samples.sheets import panel, save_palette_png, sheet

THREADS = 2  # for reading and for writing: at most a core beside a model on the CPU, enough to keep a GPU busy
MOST_AHEAD = 75_000_000  # values of an image that is read while others are predicted: 25 million pixels as RGB
MOST_PROBABILITIES = 2 << 30  # bytes as float32: 5,000 x 5,000 pixels of 21 classes
ERROR_WIDTHS = (320, 640)  # smallest and largest width in pixels of each of the four pictures: titles, borders visible
MOST_ENLARGED = 2000  # largest height in pixels of an enlarged small picture, which may be narrow and high

Job = tuple[Path, Mapping[str, Path]]
"""An image, and the files to write for it by kind."""


class Prediction(NamedTuple):
    """An image's true mask and predicted labels ``[H,W]``, probabilities ``[C,H,W]``, and pixels ``[h,w,C]`` to show.

    For an image that is read by rows, the pixels are every ``step``-th pixel of every ``step``-th row; ``georeference``
    says whether the image has one.
    """

    image: NDArray[Any]
    step: int
    georeference: bool
    truth: NDArray[np.uint8] | None
    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None


class Writer:
    """Predicts images, writes their files and counts the results.

    Args:
        predictor: the model.
        options: options of :meth:`Predictor.predict`.
        truth: the masks to compare with.
        most: the largest number of pixels of an image.
        stored: whether to write the labels or colours that the run's masks store, instead of class indices.

    Attributes:
        stored: class name -> label or colour written to the masks; empty for class indices.
        pixels: int64 ``[C]``, number of pixels predicted as each class.
        failed: image -> reason, for images that failed.
        georeferenced: number of images with a georeference, which PNG masks lack.
    """

    def __init__(
        self, predictor: Predictor, options: Mapping[str, Any], truth: GroundTruth | None, most: int, stored: bool
    ) -> None:
        self.predictor, self.options, self.truth, self.most_pixels = predictor, options, truth, most
        self.stored = stored_values(predictor) if stored else {}
        self.values = [*self.stored.values()] or [*range(len(predictor.classes))]  # written to masks, by class
        has_colours = isinstance(self.values[0], tuple | list)
        self.void: Any = VOID_COLOUR if has_colours else predictor.ignore_index
        self.colours = {} if has_colours else dict(zip(self.values, predictor.palette, strict=True))
        table = np.array([*self.values, *[self.void] * (256 - len(self.values))])  # [256], or [256,3] with colours
        self.table = table.astype(np.uint8 if table.max() < 256 else np.uint16)
        self.pixels = np.zeros(len(predictor.classes), np.int64)
        self.failed: dict[str, str] = {}
        self.georeferenced = 0

    def run(self, out: Path, jobs: Sequence[Job]) -> None:
        """Predict all images and write their files.

        Raises:
            ConfigError: the folder cannot be created.
            WriteError: a file cannot be written, for example because the disk is full.
        """
        try:
            for folder in {out, *(path.parent for _, files in jobs for path in files.values())}:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--out {out} cannot be written: {reason(error)}") from error
        bar, writers = tqdm(total=len(jobs), unit="image", leave=False, disable=None), ThreadPoolExecutor(THREADS)
        with warnings.catch_warnings(), bar:
            warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd metadata
            warnings.filterwarnings("ignore", "Dataset has no geotransform")  # rasterio's
            try:
                waiting: deque[Future[None]] = deque()
                for job, image in zip(jobs, read_ahead(self._read, jobs, threads=THREADS), strict=True):
                    try:
                        waiting.append(writers.submit(self._write, job, self._predict(job, image)))
                    except DataError as problem:
                        self.failed[str(job[0])] = str(problem)
                        tqdm.write(f"segkit: {problem}", file=sys.stderr)
                    bar.update()
                    is_large = image is None or isinstance(image, GeoRows)
                    while len(waiting) > (0 if is_large else THREADS):
                        waiting.popleft().result()
                for each in waiting:
                    each.result()
            finally:  # also after Ctrl-C: cancel what has not started, wait for the rest
                writers.shutdown(cancel_futures=True)

    def _read(self, job: Job) -> Any:
        """Return an image, or the error, which concerns this image only; None for a large one, to be read in turn."""
        path, outputs = job
        try:
            header, how = read_header(path, self.most_pixels), self.predictor.images
            (height, width), classes = header.size, len(self.predictor.classes)
            if "probabilities" in outputs and 4 * classes * height * width > MOST_PROBABILITIES:
                raise DataError(
                    f"{path}: the probabilities of {classes} classes at {width} x {height} pixels take "
                    f"{4 * classes * height * width / 2**30:.1f} GiB, and at most {MOST_PROBABILITIES >> 30} GiB "
                    "are held; cut out the part that matters, or leave out --probabilities"
                )
            rows = None if "probabilities" in outputs else rows_of(path, self.most_pixels, how.bands, how.no_data)
            if rows and rows.shape[0] == len(how.channels):
                return rows
            is_large = len(header.channels) * height * width > MOST_AHEAD
            return None if is_large else self.predictor.read(path, self.most_pixels)
        except DataError as error:
            return error

    def _predict(self, job: Job, read: Any) -> Prediction:
        if isinstance(read, DataError):
            raise read
        (path, outputs), void = job, self.predictor.ignore_index
        image = read or self.predictor.read(path, self.most_pixels)
        truth = None if self.truth is None else self.truth.mask(path)
        georeference = read_header(path, self.most_pixels).georeference
        self.georeferenced += georeference
        how: Any = {"name": str(path), "progress": one_line(path.name)[:20], **self.options}
        probabilities = None
        try:
            if isinstance(image, GeoRows):
                self.predictor.refuse_other_depth(str(image.dtype), str(path))
                labels = self.predictor.labels(image, **how)
            elif "probabilities" in outputs:
                probabilities = self.predictor.probabilities(image, **how)
                labels = probabilities.argmax(0).astype(np.uint8)
            else:
                labels = self.predictor.predict(image, **how)
        except NotFiniteError as error:  # other images may still succeed
            raise DataError(str(error)) from error
        if image.holes is not None:
            labels[image.holes] = void
            truth = truth if truth is None else np.where(image.holes, np.uint8(void), truth)  # as in evaluation
            if self.void in self.values and image.holes.any():
                what = f"it has pixels without data, and {self.void}, which marks them, is the label of a class"
                raise DataError(f"{path}: {what}; predict class indices, without --stored-labels")
        if self.truth is not None and truth is not None:
            self.truth.count(truth, labels)
        self.pixels += Image.fromarray(labels).histogram()[: len(self.pixels)]
        shown, step = image.reduced() if isinstance(image, GeoRows) else (image.pixels, 1)
        if self.predictor.is_out_of_range(shown):
            text = "its values have another range than the training images, perhaps another unit"
            tqdm.write(f"segkit: {path}: {text}", file=sys.stderr)
        return Prediction(shown, step, georeference, truth, labels, probabilities)

    def _write(self, job: Job, prediction: Prediction) -> None:
        """Write each file atomically."""
        for kind, path in job[1].items():
            if kind != "geotiff" or prediction.georeference:
                write_atomically(path, partial(getattr(self, f"_save_{kind}"), job[0], prediction), durable=False)

    def _save_mask(self, _: Path, prediction: Prediction, file: IO[bytes]) -> None:
        if not self.stored:
            save_palette_png(prediction.labels, self.predictor.palette, file, self.predictor.ignore_index)
            return
        picture = Image.fromarray(self.table[prediction.labels])
        if picture.mode == "L":  # labels below 256 get a palette of the classes' colours
            picture.putpalette([part for value in range(256) for part in self.colours.get(value, (0, 0, 0))])
        picture.save(file, format="PNG", pnginfo=signature())

    def _save_geotiff(self, path: Path, prediction: Prediction, file: IO[bytes]) -> None:
        save_geotiff(path, self.table[prediction.labels], self.colours, self.predictor.ignore_index, file)

    def _save_overlay(self, _: Path, prediction: Prediction, file: IO[bytes]) -> None:
        labels = prediction.labels[:: prediction.step, :: prediction.step]
        self.predictor.drawn(prediction.image, labels).save(file, format="JPEG", quality=90, comment=MARK)

    def _save_probabilities(self, _: Path, prediction: Prediction, file: IO[bytes]) -> None:
        half, names = np.asarray(prediction.probabilities, np.float16), np.array(self.predictor.classes)
        np.savez_compressed(file, probabilities=half, classes=names)
        file.seek(-2, os.SEEK_END)  # an archive ends in the length of its comment, and the comment
        file.write(len(MARK).to_bytes(2, "little") + MARK.encode())

    def _save_errors(self, path: Path, prediction: Prediction, file: IO[bytes]) -> None:
        image = displayable(prediction.image, self.predictor.images.rgb)
        palette, void = self.predictor.palette, self.predictor.ignore_index
        rows, columns = image.shape[:2]
        factor = max(1, min(-(-ERROR_WIDTHS[0] // columns), MOST_ENLARGED // rows))
        apart = slice(None, None, prediction.step)
        truth, labels = (each[apart, apart] for each in (np.asarray(prediction.truth), prediction.labels))
        width = min(factor * columns, ERROR_WIDTHS[1])
        row = panel(image, truth, labels, palette, void, name=path.stem, width=width)
        sheet([row], self.predictor.classes, palette).save(file, format="PNG", pnginfo=signature())


def stored_values(predictor: Predictor) -> dict[str, Any]:
    """Return class name -> the (first) label or RGB triple that masks of the run store for it.

    Raises:
        ConfigError: that is not known, or no PNG can hold it.
    """
    if not predictor.stored:
        raise ConfigError(
            "stored labels: config.json does not say which labels the run's masks store, because the run is of an "
            "earlier version or its dataset has no mask files; predict class indices, without this option"
        )
    for name, values in zip(predictor.classes, predictor.stored, strict=True):
        if not values or (isinstance(values[0], int) and values[0] < 0):
            what = f"is stored as {values[0]}, which a PNG cannot hold" if values else "has no label in the masks"
            raise ConfigError(f"stored labels: the class '{name}' {what}; predict class indices instead")
    return {name: values[0] for name, values in zip(predictor.classes, predictor.stored, strict=True)}
