"""Scores by image, beside one matrix for all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import torch
from training import train_and_evaluate

from segkit.engine.evaluate import _image_scores
from segkit.engine.inputs import TrainerInputs
from segkit.metric import scores


def logits(*rows: list[int]) -> torch.Tensor:
    """Of images one pixel high: [B,3,1,W]."""
    return torch.nn.functional.one_hot(torch.tensor(rows), 3).permute(0, 2, 1)[:, :, None].float()


def test_each_image_has_its_own_scores() -> None:
    target = torch.tensor([[[0, 0, 1, 255]], [[2, 2, 0, 0]], [[255] * 4]])
    predicted = logits([0, 0, 1, 2], [2, 0, 0, 0], [0, 0, 0, 0])
    right, half, void = _image_scores(predicted, target, ["right", "half", "void"], 255)
    assert right == {"name": "right", "mean_iou": 1.0, "pixel_accuracy": 1.0}
    assert half["mean_iou"] == pytest.approx((2 / 3 + 1 / 2) / 2)  # class 1 is neither there nor predicted
    assert half["pixel_accuracy"] == 0.75
    assert math.isnan(void["mean_iou"])


def test_a_run_keeps_the_scores_of_its_images(make_job: Callable[..., TrainerInputs]) -> None:
    job = make_job(epochs=2, fields={})
    result = train_and_evaluate(job)
    details = json.loads((job.folder / "details.json").read_text())["splits"]
    assert list(details) == list(result.splits)
    for split, found in details.items():
        matrix = torch.tensor(found["confusion"])
        assert scores.score("mean_iou", matrix) == pytest.approx(result.splits[split]["mean_iou"])
        dataset = job.splits[split]
        assert [each["name"] for each in found["images"]] == [dataset[index].name for index in range(len(dataset))]
    record = json.loads((job.folder / "run.json").read_text())["data"]
    last = list(details)[-1]
    truth = torch.tensor(details[last]["confusion"]).sum(1).tolist()
    assert list(record[last]["pixels"].values()) == truth
