"""A run folder with a network that tells dark, red and blue pixels apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from segkit.model.unet import UNet

OPTIONS = {"width": 2, "depth": 1}


@pytest.fixture
def colour_model() -> UNet:
    """Channel 1 likes red, channel 2 blue, by hand: the first convolution passes red and blue on."""
    model = UNet(3, norm="none", **OPTIONS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.down[0][0].weight[0, 0, 1, 1] = model.down[0][0].weight[1, 2, 1, 1] = 1
        for block in (model.down[0][2], model.merge[0][0], model.merge[0][2]):
            block.weight[0, 0, 1, 1] = block.weight[1, 1, 1, 1] = 1
        model.classifier.weight[1, 0] = model.classifier.weight[2, 1] = 1
        model.classifier.bias[0] = 0.5
    return model


@pytest.fixture
def write_config() -> Callable[..., None]:
    """``config.json`` of a run of that network, with some facts changed."""

    def write(folder: Path, **changes: Any) -> None:
        facts = {
            "model": {"name": "unet", "options": {**OPTIONS, "norm": "none"}},
            "num_classes": 3,
            "ignore_index": 255,
            "classes": ["dark", "red", "blue"],
            "palette": [[0, 0, 0], [200, 0, 0], [0, 0, 200]],
            "resize": None,
            "precision": "fp32",
        }
        (folder / "config.json").write_text(json.dumps(facts | changes))

    return write


@pytest.fixture
def run_folder(tmp_path: Path, colour_model: UNet, write_config: Callable[..., None]) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    save_file(colour_model.state_dict(), folder / "model.safetensors")
    write_config(folder)
    return folder


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, (13, 18), np.uint8)


@pytest.fixture
def paint() -> Callable[[np.ndarray], np.ndarray]:
    """A picture whose right labels are those given."""
    colours = np.array([[20, 20, 20], [250, 20, 20], [20, 20, 250]], np.uint8)
    return lambda labels: colours[labels]


@pytest.fixture
def picture(tmp_path: Path, labels: np.ndarray, paint: Callable[[np.ndarray], np.ndarray]) -> Path:
    path = tmp_path / "pictures" / "street.png"
    path.parent.mkdir()
    Image.fromarray(paint(labels)).save(path)
    return path
