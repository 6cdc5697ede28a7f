"""A run of inputs that a test has made, and the logits of a network."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from segkit.data.resize import resized_part, resized_size
from segkit.engine.inputs import TrainerInputs
from segkit.engine.run_folder import Result
from segkit.inference.predictor import Predictor
from segkit.runs import launch


def train_and_evaluate(inputs: TrainerInputs, **how: Any) -> Result:
    return launch(lambda _: inputs, inputs.train, inputs.folder, **how)


def logits_of(predictor: Predictor, image: NDArray[Any]) -> torch.Tensor:
    """The logits of an image ``[H,W,C]`` that the network sees whole, at its own size: float32 ``[C,H,W]``."""
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)
    inferer, size = predictor.inferer, image.shape[:2]
    with torch.inference_mode():
        seen = resized_part(pixels, resized_size(*size, inferer.resize))
        return inferer.logits(seen[None], size)[0].float()
