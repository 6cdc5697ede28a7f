"""Compare an exported file with PyTorch: predict the same images with both and count the equal pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from segkit.compose import build_splits
from segkit.config import read_config
from segkit.errors import ModelError, NotFiniteError
from segkit.inference.predictor import Predictor
from segkit_export.formats import Runner

Pixels = NDArray[Any]  # [H,W,I]
COUNT = 3
LEAST_AGREEMENT = 0.999  # float32 sums in another order: a near tie between two classes may be decided differently
MOST_PIXELS = 512  # per side, where the size is free: each image is predicted twice, on a CPU


@dataclass(frozen=True)
class Agreement:
    """The share of pixels with equal classes, the number of compared pixels, and the sizes and source of the images."""

    share: float
    pixels: int
    sizes: tuple[tuple[int, int], ...]
    source: str

    def __str__(self) -> str:
        sizes = ", ".join(f"{height} x {width}" for height, width in dict.fromkeys(self.sizes))
        return f"{100 * self.share:.3f} % of {self.pixels:,} pixels; {len(self.sizes)} {self.source} of {sizes}"


def compare(runner: Runner, predictor: Predictor, images: Sequence[Pixels], source: str, *, several: bool) -> Agreement:
    """Predict images with the exported file and with PyTorch, and compare the labels.

    Args:
        runner: runs the exported file.
        predictor: the PyTorch model, in float32 on the CPU.
        images: ``[H,W,I]``.
        source: a description of the images, for messages.
        several: whether the last image is run together with its mirror image, as a batch of two.

    Raises:
        ModelError: fewer than 99.9 % of the pixels are equal, or the output of the file has the wrong shape.
        NotFiniteError: the output is NaN or infinite.
    """
    same = pixels = 0
    for number, image in enumerate(images, 1):
        batch = image.transpose(2, 0, 1)[None]  # [1,I,H,W]
        if several and number == len(images):
            batch = np.concatenate([batch, batch[..., ::-1]])
        labels = runner(np.ascontiguousarray(batch))
        if labels.ndim == 4:
            if not np.isfinite(labels.max(1)).all():
                raise NotFiniteError(f"the exported file, image {number} of the {source}")
            labels = labels.argmax(1)  # [B,H,W]
        name = f"in PyTorch, image {number} of the {source}"
        own = [predictor.predict(each.transpose(1, 2, 0), name=name, tile=0) for each in batch]  # untiled, as the file
        expected = np.stack(own)
        if labels.shape != expected.shape:
            raise ModelError(f"the exported file returned {list(labels.shape)} for labels {list(expected.shape)}")
        known = expected != predictor.ignore_index  # the file predicts a class even where there is no data
        same += int((labels == expected)[known].sum())
        pixels += int(known.sum())
    share = same / pixels if pixels else 1.0  # all pixels may be without data
    found = Agreement(share, pixels, tuple((len(each), len(each[0])) for each in images), source)
    if share < LEAST_AGREEMENT:
        raise ModelError(
            f"the exported file agrees with PyTorch on {found}; at least {LEAST_AGREEMENT:.1%} is needed. Nothing was "
            "kept; a forward that depends on the values or the size of an image cannot be exported: try --size H W, or "
            "--to safetensors"
        )
    return found


def fitting(images: Sequence[Pixels], least: int, size: tuple[int, int] | None) -> list[Pixels]:
    """Resize the images to ``size``, or else crop each to a different size of at least ``least`` pixels per side."""
    if size is not None:
        return [_resized(image, *size) for image in images]
    found = []
    for number, image in enumerate(images):
        height, width = (max(least, side) for side in image.shape[:2])
        rows, columns = (max(least, min(side, MOST_PIXELS) - step * number) for side, step in ((height, 5), (width, 9)))
        found.append(_resized(image, height, width)[:rows, :columns])
    return found


def images_of_run(settings: dict[str, Any]) -> list[Pixels]:
    """Return images of the val split of a run's config, or none if its data is unavailable."""
    try:
        options = dict(settings["dataset"])
        options |= {"download": False} if "download" in options else {}
        dataset = build_splits(read_config({**settings, "dataset": options}))[0]["val"]
        return [dataset[number].image.permute(1, 2, 0).numpy() for number in range(min(COUNT, len(dataset)))]
    except Exception:  # data was moved, a plugin is not installed: generated images serve too
        return []


def generated_images(least: int, predictor: Predictor) -> list[Pixels]:
    """Generate soft coloured blobs with noise, in several sizes, with a fixed seed.

    For float32 images the values span two standard deviations around the mean of the training data.
    """
    how = predictor.normalisation
    random, images, count = np.random.default_rng(0), [], len(how.mean)
    for number in range(COUNT):
        height, width = least + 40 + 24 * number, least + 71 - 9 * number
        blobs = _resized(random.integers(0, 256, (height // 16 + 2, width // 16 + 2, count)), height, width)
        image = np.clip(blobs + random.normal(0, 8, blobs.shape), 0, 255)
        if how.dtype == "float32":
            image = (image / 64 - 2) * how.std + how.mean
        images.append(image.astype(how.dtype))
    return images


def _resized(image: Pixels, height: int, width: int) -> Pixels:
    if image.shape[:2] == (height, width):
        return image
    values = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]  # [1,I,H,W]
    values = F.interpolate(values, (height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    return (values.numpy() if image.dtype == np.float32 else values.round().numpy()).astype(image.dtype)
