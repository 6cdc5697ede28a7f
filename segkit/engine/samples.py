"""Pictures of a run: images of a split, each with truth, prediction and errors side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from segkit.data.loader import read_sample, stack_equal_sizes
from segkit.data.normalise import Normalisation, for_the_eye
from segkit.data.resize import Resize, resized
from segkit.data.sample import Dataset
from segkit.data.visualize import panel
from segkit.engine.precision import Precision
from segkit.engine.run_folder import write_atomically
from segkit.errors import WriteError
from segkit.inference.sliding_window import Inferer


@torch.no_grad()
def panels(
    model: nn.Module,
    dataset: Dataset,
    indices: Sequence[int],
    precision: Precision,
    resize: Resize,
    crop: int | Sequence[int] | None,
    normalisation: Normalisation,
) -> list[Image.Image]:
    """What a model predicts for some samples of a dataset, a row of pictures each."""
    rows = []
    inferer = Inferer(model, precision, len(dataset.classes), resize=resize, crop=crop, normalisation=normalisation)
    training = model.training
    model.eval()
    for index in indices:
        sample = read_sample(dataset, index)
        (batch,) = stack_equal_sizes([resized(sample, resize)])
        batch = batch.to(precision.device)
        logits = inferer.evaluate(batch.image, (sample.mask.shape[0], sample.mask.shape[1]))
        prediction = logits[0].argmax(0).to("cpu", torch.uint8).numpy()
        image = for_the_eye(sample.image.permute(1, 2, 0).numpy())
        rows.append(panel(image, sample.mask.numpy(), prediction, dataset.palette, dataset.ignore_index, sample.name))
    model.train(training)
    return rows


def write_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture to ``path``.

    Raises:
        WriteError: it cannot be written; no half of it is left.
    """
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise WriteError(f"{path} could not be written: {error.strerror}") from error
    write_atomically(path, lambda file: picture.save(file, "png"), durable=False)


def spread(length: int, count: int) -> list[int]:
    """``count`` indices over ``range(length)``, evenly: neighbours are often frames of one film."""
    count = min(length, count)
    return [place * length // count for place in range(count)]
