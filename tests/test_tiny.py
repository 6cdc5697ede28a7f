"""The test to read first: what segkit is for, in three runs of a few seconds on generated pictures.

1. A network that predicts only background has a high pixel accuracy, and stands at its floor.
2. A network that learns rises above the floor in every class.
3. What was trained can be loaded again and gives the same masks.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import segkit

DATASET = {"name": "shapes", "size": 32, "images": [32, 8, 8]}


def test_predicting_only_background_looks_good_and_scores_the_floor(tmp_path: Path) -> None:
    class OnlyBackground(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1, 6, 1, 1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = self.weight.expand(len(images), -1, *images.shape[2:])
            return logits + torch.tensor([9.0, 0, 0, 0, 0, 0]).view(1, 6, 1, 1)

    options = {key: value for key, value in DATASET.items() if key != "name"}
    shapes = segkit.datasets["shapes"]
    splits = {split: shapes(split=split, **options) for split in ("train", "val")}
    loss = segkit.losses["cross_entropy"](num_classes=6, ignore_index=255)
    result = segkit.fit(
        model=OnlyBackground(), loss=loss, **splits, output=tmp_path, samples=0, max_steps=1, lr=1e-6, batch_size=4
    )
    val = result.splits["val"]
    assert val["pixel_accuracy"] > 0.8  # which looks like success
    assert val["pixel_accuracy"] == val["floor"]["pixel_accuracy"]
    assert val["mean_iou"] == val["floor"]["mean_iou"] < 0.2  # and is none


def test_a_network_that_learns_rises_above_its_floor_and_is_loaded_again(tmp_path: Path) -> None:
    config = {
        "dataset": DATASET,
        "model": {"name": "unet", "width": 8, "depth": 2},
        "loss": [{"name": "cross_entropy", "class_weights": "median_frequency"}, {"name": "dice", "scale": 0.5}],
        "train": {"epochs": 12, "batch_size": 8, "lr": 0.01, "device": "cpu"},
        "output": {"dir": str(tmp_path / "run"), "samples": 1},
    }
    result = segkit.run(config)
    train = result.splits["train"]
    assert train["mean_iou"] > train["floor"]["mean_iou"] + 0.03
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written["splits"]["train"]["mean_iou"] == train["mean_iou"]

    assert f"{train['mean_iou']:.3f}" in result._repr_html_()  # what a notebook shows

    sample = segkit.datasets["shapes"](split="test", size=32)[0]
    image = sample.image.permute(1, 2, 0).numpy()
    predictor = segkit.load(tmp_path / "run")
    mask = predictor.predict(image)
    assert mask.shape == (32, 32)
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, segkit.load(tmp_path / "run" / "best.pt").predict(image))
    assert np.array_equal(mask, predictor.probabilities(image).argmax(0))


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(segkit.SegkitError, match=r"there is no loss 'dcie'; did you mean 'dice'\? There are: "):
        segkit.losses["dcie"]
