"""Scores and floors: the definitions, beside scikit-learn and torchmetrics, and what absent classes do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics.classification
from torch import Tensor

from segkit.errors import DataError
from segkit.metric import scores

VOID = 255
CLASSES = 6
NAMES = [*scores.CLASS_SCORES, *scores.OVERALL_SCORES]
SCORES = [
    scores.MeanIoU,
    scores.MeanDice,
    scores.MeanAccuracy,
    scores.Precision,
    scores.Recall,
    scores.PixelAccuracy,
    scores.FrequencyWeightedIoU,
]
# rows are the truth. 0 and 1 are ordinary, 2 is there but never predicted, 3 is predicted but not there, 4 is neither
MATRIX = torch.tensor([[6, 1, 0, 1, 0], [2, 4, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
NAN = math.nan


def random_batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are often right, 20 % void, class 4 predicted only, class 5 neither there nor predicted."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 4, (2, 16, 20), generator=generator)
    logits = torch.randn(2, CLASSES, 16, 20, generator=generator)
    logits.scatter_add_(1, target[:, None], torch.full_like(logits[:, :1], 1.5))
    logits[:, 5] = -10
    target[torch.rand(2, 16, 20, generator=generator) < 0.2] = VOID
    return logits, target


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mean_iou", [6 / 11, 4 / 8, 0, NAN, NAN]),
        ("mean_dice", [12 / 17, 8 / 12, 0, NAN, NAN]),
        ("precision", [6 / 9, 4 / 6, 0, NAN, NAN]),
        ("recall", [6 / 8, 4 / 6, 0, NAN, NAN]),
        ("mean_accuracy", [6 / 8, 4 / 6, 0, NAN, NAN]),
    ],
)
def test_each_class_by_hand(name: str, values: list[float]) -> None:
    assert scores.class_score(name, MATRIX).tolist() == pytest.approx(values, nan_ok=True)
    assert scores.score(name, MATRIX) == pytest.approx(float(np.nanmean(values)))


def test_overall_scores_by_hand() -> None:
    assert scores.score("pixel_accuracy", MATRIX) == pytest.approx(10 / 16)
    assert scores.score("frequency_weighted_iou", MATRIX) == pytest.approx((8 * 6 / 11 + 6 * 4 / 8) / 16)


def test_they_are_scikit_learns() -> None:
    logits, target = random_batch()
    truth, predicted = target[target != VOID].numpy(), logits.argmax(1)[target != VOID].numpy()
    matrix = torch.from_numpy(sklearn.metrics.confusion_matrix(truth, predicted, labels=range(CLASSES)))
    macro = {"labels": np.unique(truth), "average": "macro", "zero_division": 0}  # over the classes in the target
    expected = {
        "mean_iou": sklearn.metrics.jaccard_score(truth, predicted, **macro),
        "mean_dice": sklearn.metrics.f1_score(truth, predicted, **macro),
        "precision": sklearn.metrics.precision_score(truth, predicted, **macro),
        "recall": sklearn.metrics.recall_score(truth, predicted, **macro),
        "mean_accuracy": sklearn.metrics.recall_score(truth, predicted, **macro),
        "pixel_accuracy": sklearn.metrics.accuracy_score(truth, predicted),
        "frequency_weighted_iou": sklearn.metrics.jaccard_score(truth, predicted, average="weighted"),
    }
    assert {name: scores.score(name, matrix) for name in NAMES} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("score", "theirs", "average"),
    [
        (scores.MeanIoU, torchmetrics.classification.MulticlassJaccardIndex, "macro"),
        (scores.MeanDice, torchmetrics.classification.MulticlassF1Score, "macro"),
        (scores.Precision, torchmetrics.classification.MulticlassPrecision, "macro"),
        (scores.Recall, torchmetrics.classification.MulticlassRecall, "macro"),
        (scores.PixelAccuracy, torchmetrics.classification.MulticlassAccuracy, "micro"),
        (scores.FrequencyWeightedIoU, torchmetrics.classification.MulticlassJaccardIndex, "weighted"),
    ],
)
def test_they_are_torchmetrics(score: type[scores.Score], theirs: type, average: str) -> None:
    ours, metric = score(CLASSES, VOID), theirs(CLASSES, average=average, ignore_index=VOID)
    for seed in range(3):
        logits, target = random_batch(seed)
        logits[:, 4] = -10  # a class that is only predicted they count as 0
        ours.update(logits, target)
        metric.update(logits, target)
    assert ours.compute()[score.name] == pytest.approx(float(metric.compute()), rel=1e-5)


@pytest.mark.fault("F24")
@pytest.mark.parametrize("score", SCORES)
def test_a_score_without_a_labelled_pixel_is_nan(score: type[scores.Score]) -> None:
    metric = score(num_classes=3, ignore_index=VOID)
    metric.update(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), VOID, dtype=torch.uint8))
    assert math.isnan(metric.compute()[metric.name])


@pytest.mark.fault("F24")
@pytest.mark.parametrize("score", SCORES)
def test_a_perfect_prediction_scores_1_whatever_is_absent(score: type[scores.Score]) -> None:
    metric = score(num_classes=4, ignore_index=VOID)
    target = torch.tensor([[[0, 0, 2, VOID]]])
    metric.update(torch.nn.functional.one_hot(target % 3, 4).movedim(-1, 1).float(), target)
    assert metric.compute() == {metric.name: 1.0}


@pytest.mark.fault("F24")
@pytest.mark.parametrize("score", SCORES)
def test_scores_and_floor_are_means_over_the_same_classes_and_a_class_predicted_in_vain_still_costs(
    score: type[scores.Score],
) -> None:
    target = torch.tensor([[[0, 0, 0, 1]]])  # class 2 is not there

    def of(*predicted: int) -> float:
        metric = score(3, VOID)
        metric.update(torch.nn.functional.one_hot(torch.tensor([[[*predicted]]]), 3).movedim(-1, 1).float(), target)
        return metric.compute()[metric.name]

    floor = scores.floor([3, 1, 0], "abc")[score.name]
    assert of(0, 0, 0, 0) == pytest.approx(floor)
    assert of(0, 0, 0, 2) <= of(0, 0, 0, 1) == 1.0
    assert of(0, 0, 2, 1) < 1 or score is scores.Precision  # what is predicted as 0 and 1 is right
    assert of(0, 0, 0, 2) >= floor  # a quarter taken for class 2 is no worse than the same quarter taken for class 0


# --- the floor


def test_the_floor_of_21_classes_with_75_percent_background() -> None:
    floor = scores.floor([60 * 25] + [25] * 20, [*map(str, range(21))])
    assert floor["class"] == "0"
    assert floor["pixel_accuracy"] == pytest.approx(0.750)
    assert floor["mean_iou"] == pytest.approx(0.0357, abs=1e-4)  # 0.75 / 21
    assert floor["mean_dice"] == pytest.approx(2 * 0.75 / 1.75 / 21)
    assert floor["mean_accuracy"] == floor["recall"] == pytest.approx(1 / 21)
    assert floor["precision"] == pytest.approx(0.75 / 21)
    assert floor["frequency_weighted_iou"] == pytest.approx(0.75 * 0.75)


@pytest.mark.parametrize("seed", range(5))
def test_no_constant_prediction_beats_the_floor(seed: int) -> None:
    pixels = torch.randint(0, 50, (6,), generator=torch.Generator().manual_seed(seed))
    pixels[seed] = 0
    floor = scores.floor(pixels.tolist(), [*map(str, range(len(pixels)))])
    for constant in range(6):
        matrix = torch.zeros(6, 6, dtype=torch.int64)
        matrix[:, constant] = pixels
        for name in NAMES:
            assert scores.score(name, matrix) <= floor[name] + 1e-12


def test_the_floor_is_what_a_constant_prediction_scores() -> None:
    _, target = random_batch()
    logits = torch.zeros(2, CLASSES, 16, 20)
    pixels = torch.bincount(target[target != VOID], minlength=CLASSES)
    floor = scores.floor(pixels.tolist(), [*map(str, range(len(pixels)))])
    logits[:, int(floor["class"])] = 1
    for score in SCORES:
        metric = score(CLASSES, VOID)
        metric.update(logits, target)
        assert metric.compute() == pytest.approx({metric.name: floor[metric.name]})
    assert floor.keys() - {"class"} == set(NAMES)


def test_a_split_of_void_has_no_floor() -> None:
    with pytest.raises(DataError, match="no pixel is labelled: all masks are void"):
        scores.floor([0, 0], "ab")
