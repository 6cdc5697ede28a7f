"""Contact sheets: example images of each class, to spot wrong labels, and augmented crops as the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from segkit.compose import build_inputs
from segkit.config import Config
from segkit.data.normalise import displayable
from segkit.data.sample import Dataset
from segkit.data.visualize import overlay
from segkit.engine.inputs import open_trainer
from segkit_samples.sheets import GAP, caption, sheet, side_by_side

_TILE = 176  # pixels, maximum width and height: image viewers can still open a sheet of 255 classes
_SEAM = 2  # pixels between an image and its labels
IMAGES, EPOCHS = 6, 3  # rows and columns of augmented crops
_LARGEST = 240  # pixels, maximum width and height of a crop
_HEADING = (225, 225, 225)  # a band that separates the rows of classes


def contact_sheet(
    dataset: Dataset, pixels: NDArray[np.int64], per_class: int = 4, rgb: Sequence[int] | None = None
) -> Image.Image:
    """Draw one row per class, rarest class first: images that contain it, each beside its labels.

    The images of a class are ranked by its number of pixels and chosen at even intervals. Only the images shown are
    read.

    Args:
        dataset: one split.
        pixels: the pixels of each class in each image, int64 ``[N,C]``.
        per_class: the maximum number of images per class.
        rgb: the setting ``data.rgb``.

    Raises:
        DataError: an image to show cannot be read.
    """
    totals, images = pixels.sum(axis=0).tolist(), np.count_nonzero(pixels, axis=0).tolist()  # [C]
    width = per_class * (2 * _TILE + _SEAM + GAP) - GAP
    rows = []
    for label in sorted(range(len(totals)), key=lambda each: (totals[each] == 0, totals[each])):
        percent = 100 * totals[label] / max(1, sum(totals))
        share = f"{percent:.2f}" if percent >= 0.01 else "under 0.01"
        text = f"{share} % of the pixels, in {images[label]} of {len(pixels)} images"
        text = text if images[label] else f"absent from all {len(pixels)} images"
        rows.append(caption(f"{dataset.classes[label]}: {text}", width, dataset.palette[label], _HEADING))
        order = np.argsort(-pixels[:, label], kind="stable")[: images[label]].tolist()
        shown = min(per_class, len(order))
        examples = [_example(dataset, order[place * len(order) // shown], rgb) for place in range(shown)]
        rows += [side_by_side(examples)] if examples else []
    return sheet(rows, dataset.classes, dataset.palette)


def _example(dataset: Dataset, index: int, rgb: Sequence[int] | None) -> tuple[str, Image.Image]:
    """Return the name of an image, and a picture of the image beside its labels."""
    sample = dataset[index]
    image, mask = displayable(sample.image.permute(1, 2, 0).numpy(), rgb), sample.mask.numpy()  # [H,W,3], [H,W]
    height, width = (max(1, round(side * _TILE / max(mask.shape))) for side in mask.shape)
    pair = Image.new("RGB", (2 * _TILE + _SEAM, height), "white")
    for number, pixels in enumerate((image, overlay(image, mask, dataset.palette, dataset.ignore_index))):
        picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        pair.paste(picture, (number * (width + _SEAM), 0))
    return sample.name, pair


def augmented_sheet(config: Config) -> Image.Image:
    """Draw one row per image, evenly spaced over train: its crops in a run's first epochs, each beside its labels.

    Pretrained weights, which are not loaded here, may have another normalisation; then the padding beyond the image
    differs.

    Raises:
        SegkitError: a run of this config could not begin.
    """
    config = replace(config, data=config.data.model_copy(update={"cache": "none"}))
    with open_trainer(build_inputs(config, pretrained=False)) as trainer:
        batches, train, how = trainer.batches.dataset, trainer.inputs.splits["train"], trainer.inputs.normalisation
        mean, std = (torch.tensor(values)[:, None, None] for values in (how.mean, how.std))
        shown, rows = min(IMAGES, len(train)), []
        for index in (number * len(train) // shown for number in range(shown)):
            pictures = []
            for epoch in range(1, EPOCHS + 1):
                batch = batches[[(epoch, index)]]
                seen = how.normalise(batch.image, batch.colour)[0] * std + mean  # [C,H,W]
                seen = (seen * 255).round().clamp(0, 255).byte() if how.dtype == "uint8" else seen
                image, mask = displayable(seen.permute(1, 2, 0).numpy(), config.data.rgb), batch.mask[0].numpy()
                drawn = overlay(image, mask, train.palette, train.ignore_index)
                for text, pixels in ((f"{batch.names[0]}, epoch {epoch}", image), ("its labels", drawn)):
                    picture = Image.fromarray(pixels)
                    picture.thumbnail((_LARGEST, _LARGEST))
                    pictures.append((text, picture))
            rows.append(side_by_side(pictures))
    return sheet(rows, train.classes, train.palette)
