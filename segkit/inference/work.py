"""Predicting many images: each is read, predicted and written, and one that cannot be is named."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from segkit.data.normalise import for_the_eye
from segkit.data.read import Pixels, image_size, quiet_pillow, read_image
from segkit.data.tiff import contents
from segkit.data.visualize import overlay_picture, panel, save_palette_png, sheet, signature
from segkit.engine.run_folder import write_atomically
from segkit.errors import ConfigError, DataError, NotFiniteError, one_line, printable, reason
from segkit.inference.counting import pixels_by_class
from segkit.inference.flow import Flow
from segkit.inference.options import PredictOptions
from segkit.inference.predictor import MOST_PIXELS, Predictor
from segkit.inference.targets import Target
from segkit.inference.truth import Truth

MOST_PROBABILITIES = 2 << 30  # bytes as float32: 5,000 x 5,000 pixels of 21 classes
ERROR_WIDTH = 640  # pixels of each of the four pictures in an error picture, or the image's own where that is less
"""Wide enough to see the borders of objects, and four of them fit a screen."""

Job = tuple[Path, Target]


class Loaded(NamedTuple):
    """What was read: image uint8 ``[H,W,3]``, and the true mask ``[H,W]`` where there is one."""

    image: Pixels
    truth: NDArray[np.uint8] | None


class Made(NamedTuple):
    """What was predicted: labels uint8 ``[H,W]``, and float32 ``[C,H,W]`` where that is asked for."""

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None


class Work:
    """Predicts images and keeps count.

    Args:
        predictor: the model.
        options: of the prediction.
        truth: the masks to compare with.
        most_pixels: of an image; left out: 20,000 x 20,000.
        stored: whether masks hold what the run's own store, not class indices.

    Attributes:
        pixels: int64 ``[C]``, how often each class was predicted.
        failed: the images that could not be done, with the reason.
        georeferenced: the images that say where on Earth they lie, which the masks do not.
        skipped: files beside the images, by the ends of their names.
        far: the images whose values are of another range than those of the training.
    """

    def __init__(
        self,
        predictor: Predictor,
        options: PredictOptions,
        truth: Truth | None = None,
        most_pixels: int | None = None,
        stored: bool = False,
    ) -> None:
        options.refuse_unused(predictor.resize)
        self.stored = predictor.stored_values() if stored else None
        self.predictor, self.truth = predictor, truth
        self.options, self.most_pixels = asdict(options), most_pixels or MOST_PIXELS
        if truth is not None:
            truth.allow(self.most_pixels)
        self.pixels = np.zeros(len(predictor.classes), np.int64)
        self.failed: dict[str, str] = {}
        self.georeferenced: set[Path] = set()
        self.skipped: Counter[str] = Counter()
        self.far: set[Path] = set()

    def run(self, out: Path, jobs: Sequence[Job]) -> None:
        """Predict all of the images, and write what their targets say.

        Raises:
            ConfigError: the folder cannot be made.
            WriteError: a file cannot be written, as the disk is full.
        """
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--out {out} cannot be written: {reason(error)}") from error
        flow: Flow[Job, Loaded, Made] = Flow(self._read, self._predict, self._write, self._size)
        with quiet_pillow(), closing(flow.run(jobs)) as outcomes:  # after Ctrl-C, what is being written is waited for
            shown = tqdm(outcomes, total=len(jobs), unit="image", leave=False, disable=None)
            for (image, _), made in shown:
                if isinstance(made, DataError):
                    self.failed[str(image)] = str(made)
                    tqdm.write(f"segkit: {printable(made)}", file=sys.stderr)

    def _size(self, job: Job) -> int:
        with suppress(DataError):  # it is told where the image is read
            height, width = image_size(job[0], self.most_pixels)
            return height * width
        return 0

    def _read(self, job: Job) -> Loaded:
        image, _ = job
        truth = None if self.truth is None else self.truth.of(image)
        pixels = read_image(image, self.most_pixels)
        self.predictor.pixels(pixels, str(image))
        if self.predictor.is_out_of_range(pixels):
            self.far.add(image)
        held = contents(image)
        if held and held.georeference:
            self.georeferenced.add(image)
        return Loaded(pixels, truth)

    def _predict(self, job: Job, loaded: Loaded) -> Made:
        try:
            return self._predicted(job, loaded)
        except NotFiniteError as error:  # the next image may be another matter
            raise DataError(str(error)) from error

    def _predicted(self, job: Job, loaded: Loaded) -> Made:
        progress = one_line(job[0].name)[:20]
        probabilities = None
        if job[1].wanted.probabilities:
            self._refuse_too_many(job[0], loaded.image.shape[:2])
            probabilities = self.predictor.probabilities(
                loaded.image, **self.options, name=str(job[0]), progress=progress
            )
            labels = probabilities.argmax(0).astype(np.uint8)
        else:
            labels = self.predictor.predict(loaded.image, **self.options, name=str(job[0]), progress=progress)
        self.pixels += pixels_by_class(labels, len(self.predictor.classes))
        if self.truth is not None and loaded.truth is not None:
            self.truth.count(loaded.truth, labels)
        return Made(labels, probabilities)

    def _refuse_too_many(self, image: Path, size: tuple[int, ...]) -> None:
        classes = len(self.predictor.classes)
        needed = 4 * classes * size[0] * size[1]
        if needed > MOST_PROBABILITIES:
            raise DataError(
                f"{image}: the probabilities of {classes} classes at {size[1]} x {size[0]} pixels take "
                f"{needed / 2**30:.1f} GiB, and at most {MOST_PROBABILITIES >> 30} GiB are held; cut out the part that "
                "matters, or leave out --probabilities"
            )

    def _write(self, job: Job, loaded: Loaded, made: Made) -> None:
        """Each file is there in full or not at all; the mask first, without which the others are not ours."""
        target, predictor = job[1], self.predictor
        palette, void = predictor.palette, predictor.ignore_index
        for path in target.files:
            if path == target.mask:
                write_atomically(path, partial(self._save_mask, made.labels), durable=False)
            elif path == target.overlay:
                picture = overlay_picture(for_the_eye(loaded.image), made.labels, palette, void)
                write_atomically(path, partial(picture.save, format="JPEG", quality=90), durable=False)
            elif path == target.probabilities and made.probabilities is not None:
                half, names = made.probabilities.astype(np.float16), np.array(predictor.classes)
                write_atomically(path, partial(np.savez_compressed, probabilities=half, classes=names), durable=False)
            elif path == target.errors and loaded.truth is not None:
                picture = self._errors(job[0].stem, for_the_eye(loaded.image), loaded.truth, made.labels)
                write_atomically(path, partial(picture.save, format="PNG", pnginfo=signature()), durable=False)

    def _save_mask(self, labels: NDArray[np.uint8], file: IO[bytes]) -> None:
        palette, void = self.predictor.palette, self.predictor.ignore_index
        if self.stored is None:
            save_palette_png(labels, palette, file, void)
        else:
            self._stored_picture(labels).save(file, format="PNG", pnginfo=signature())

    def _stored_picture(self, labels: NDArray[np.uint8]) -> Image.Image:
        picture = Image.fromarray(self.predictor.stored_labels(labels))
        if picture.mode == "L":  # labels below 256 are drawn in the classes' colours
            colours = np.zeros((256, 3), np.uint8)
            colours[[*(self.stored or {}).values()]] = self.predictor.palette
            picture.putpalette(colours.tobytes())
        return picture

    def _errors(
        self, name: str, image: NDArray[np.uint8], truth: NDArray[np.uint8], labels: NDArray[np.uint8]
    ) -> Image.Image:
        palette, void = self.predictor.palette, self.predictor.ignore_index
        row = panel(image, truth, labels, palette, void, name=name, width=min(ERROR_WIDTH, image.shape[1]))
        return sheet([row], self.predictor.classes, palette)
