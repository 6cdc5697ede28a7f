"""Scores by image, beside one matrix for all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from segkit.engine.distributed import DistributedContext
from segkit.engine.evaluate import ImageScores
from segkit.engine.inputs import Job
from segkit.engine.trainer import train_and_evaluate
from segkit.metric import scores


def logits(*rows: list[int]) -> torch.Tensor:
    """Of images one pixel high: [B,3,1,W]."""
    return torch.nn.functional.one_hot(torch.tensor(rows), 3).permute(0, 2, 1)[:, :, None].float()


def test_each_image_has_its_own_scores_and_all_have_one_matrix() -> None:
    images = ImageScores(["right", "half", "void"], 3)
    target = torch.tensor([[[0, 0, 1, 255]], [[2, 2, 0, 0]]])
    images.update(logits([0, 0, 1, 2], [2, 0, 0, 0]), target, ["right", "half"])
    images.update(logits([0, 0, 0, 0]), torch.full((1, 1, 4), 255), ["void"])
    images.merge(DistributedContext())
    right, half, void = images.scored
    assert (right.name, right.mean_iou, right.pixel_accuracy) == ("right", 1.0, 1.0)
    assert half.mean_iou == pytest.approx((2 / 3 + 1 / 2) / 2)  # class 1 is neither there nor predicted
    assert half.pixel_accuracy == 0.75
    assert math.isnan(void.mean_iou)
    assert images.confusion.tolist() == [[4, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert images.ranked() == [1, 0]


def test_images_of_one_name_are_still_two() -> None:
    images = ImageScores(["a", "a", "a"], 3)
    images.update(logits([0, 0], [1, 1], [0, 1]), torch.zeros(3, 1, 2, dtype=torch.int64), ["a", "a", "a"])
    images.merge(DistributedContext())
    assert [score.pixel_accuracy for score in images.scored] == [1, 0, 0.5]
    assert images.ranked() == [1, 2, 0]


def test_a_name_that_nobody_knows_ends_no_run() -> None:
    images = ImageScores(["a", "b"], 3)
    images.update(logits([0], [0], [1]), torch.zeros(3, 1, 1, dtype=torch.int64), ["new", "b", "a"])
    images.merge(DistributedContext())
    assert [score.name for score in images.scored] == ["a", "b", "new"]
    assert images.ranked() == [0, 1]


def test_what_several_processes_saw_comes_in_the_order_of_the_split() -> None:
    ours, theirs = ImageScores(["a", "b", "c"], 3), ImageScores(["a", "b", "c"], 3)
    ours.update(logits([0]), torch.tensor([[[0]]]), ["b"])
    theirs.update(logits([1], [1]), torch.tensor([[[0]], [[1]]]), ["a", "c"])

    class Two(DistributedContext):
        def gather(self, value: Any) -> list[Any]:
            return [value, theirs.scored]

        def sum(self, values: torch.Tensor) -> torch.Tensor:
            return values + theirs.confusion

    ours.merge(Two())
    assert [(score.name, score.pixel_accuracy) for score in ours.scored] == [("a", 0), ("b", 1), ("c", 1)]
    assert ours.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_a_run_keeps_the_scores_of_its_images(make_job: Callable[..., Job]) -> None:
    job = make_job(epochs=2, fields={})
    result = train_and_evaluate(job)
    details = json.loads((job.folder / "details.json").read_text())["splits"]
    assert list(details) == list(result.splits)
    for split, found in details.items():
        matrix = torch.tensor(found["confusion"])
        assert scores.score("mean_iou", matrix) == pytest.approx(result.splits[split]["mean_iou"])
        assert len(found["images"]) == len(job.splits[split])
    record = json.loads((job.folder / "run.json").read_text())["data"]
    last = list(details)[-1]
    truth = torch.tensor(details[last]["confusion"]).sum(1).tolist()
    assert list(record[last]["pixels"].values()) == truth
