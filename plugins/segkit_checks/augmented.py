"""A sheet of training crops as the network will see them: after ``[augment]``, its colours, and plugins' transforms."""

from __future__ import annotations

import torch
from PIL import Image
from torch import nn

from segkit.config import Config
from segkit.data.augment import RandomTransform
from segkit.data.loader import SampleSource
from segkit.data.normalise import Normalisation, displayable
from segkit.data.scan import Scan
from segkit.data.visualize import overlay
from segkit_samples.sheets import sheet, side_by_side

IMAGES, EPOCHS = 6, 3
_LARGEST = 240  # pixels of a crop, wide and high


def augmented_sheet(scan: Scan, config: Config) -> Image.Image:
    """A row an image, evenly spaced over train: its crops in the first epochs, each beside its labels.

    Where a pretrained encoder asks for a normalisation of its own, only what is put beyond the image's borders differs.
    """
    train, no_data = scan.splits["train"], scan.splits["train"].no_data != "stop"
    how = Normalisation.of(nn.Identity(), scan.statistics["train"], no_data)
    chosen = [each.build(train) for each in config.transform]
    transform = RandomTransform.of(scan, config.augment, config.train.seed, how, chosen)
    source, rows = SampleSource(train, config.data.resize), []
    shown = min(IMAGES, len(train))
    for index in (number * len(train) // shown for number in range(shown)):
        pictures = []
        for epoch in range(1, EPOCHS + 1):
            batch = source.train_batch([(epoch, index)], transform)
            mean, std = (torch.tensor(values)[:, None, None] for values in (how.mean, how.std))
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
