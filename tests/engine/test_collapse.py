"""The watch for networks that learn nothing: it warns once, in plain words, and leaves healthy runs alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from training import train_and_evaluate

from segkit.engine import history as collapse
from segkit.engine.inputs import TrainerInputs
from segkit.metric.confusion import ConfusionMatrix
from segkit.metric.scores import PixelAccuracy, split_scores
from segkit.settings import TrainSettings

FLOOR = {"mean_iou": 0.15, "mean_accuracy": 1 / 6, "pixel_accuracy": 0.9, "class": "background"}


def history(*mean_ious: float) -> list[dict[str, Any]]:
    return [{"val": scores(value), "step": 100 * epoch} for epoch, value in enumerate(mean_ious, 1)]


def scores(mean_iou: float, mean_accuracy: float = 0.17) -> dict[str, Any]:
    return {
        "mean_iou": mean_iou,
        "mean_accuracy": mean_accuracy,
        "floor": FLOOR,
        "predicted": {"classes": 2, "class": "background", "share": 0.998},
        "class_iou": dict.fromkeys("abcdef", 0.0),
    }


def of(lines: list[dict[str, Any]], epochs: int) -> collapse.History:
    found = collapse.History(TrainSettings(), {})
    for line in lines:
        found.add(line["step"], {"loss": 1.0}, line["val"], epochs)
    return found


def warned(*mean_ious: float, epochs: int) -> list[int]:
    """The epochs, from 1, that say that the run has collapsed."""
    return [line["epoch"] for line in of(history(*mean_ious), epochs).lines if line.get("collapsed")]


def test_a_run_at_its_floor_is_told_once() -> None:
    assert warned(*[0.15] * 20, epochs=20) == [6]
    assert warned(*[0.02, 0.155, 0.15, 0.152, 0.151], epochs=5) == [4]
    assert warned(*[0.15] * 60, epochs=1000) == [20]  # after 2000 steps


def test_a_run_that_begins_at_its_floor_and_learns_is_left_alone() -> None:
    assert warned(0.02, 0.079, 0.158, 0.223, *[0.5] * 20, epochs=24) == []
    assert warned(*[0.15] * 14, *[0.3] * 36, epochs=50) == []
    # Dice and cross-entropy on 3 % of foreground, the slowest of three seeds (shapes, variety "many")
    assert warned(*(0.15 + 0.85 * lift for lift in (-0.029, 0.002, 0.0, 0.085, 0.073, 0.149)), epochs=10) == []


def test_a_run_that_falls_back_to_its_floor_is_told() -> None:
    assert warned(0.3, 0.4, 0.5, 0.15, 0.15, 0.15, 0.15, epochs=10) == [7]


def test_a_network_that_predicts_too_much_of_a_rare_class_is_not_stuck() -> None:
    assert not collapse.stuck(scores(0.10, mean_accuracy=0.5))
    assert collapse.stuck(scores(0.10, mean_accuracy=0.15))


def test_a_network_that_knows_its_training_images_alone_is_told_apart() -> None:
    known, unknown = scores(0.6, 0.7), scores(0.16, 0.2)
    assert collapse.learned_nothing(unknown, unknown)
    assert not collapse.learned_nothing(known, unknown)
    assert not collapse.learned_nothing(known, known)


def test_the_verdict_says_what_is_predicted_and_how_high_the_floor_is() -> None:
    text = collapse.verdict(scores(0.15), "val")
    assert "on val it predicts 2 of 6 classes, 'background' on 99.8% of the pixels" in text
    assert text.endswith("its mean_iou is 0.150 (floor 0.150)")


def test_where_the_floor_is_perfect_nothing_can_be_told() -> None:
    assert not collapse.stuck({**scores(1.0), "floor": {"mean_iou": 1.0, "mean_accuracy": 1.0}})
    only = ConfusionMatrix(1, 255)
    only.update_labels(torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))
    assert split_scores(only, ["only"])["lift"] is None


class Background(nn.Module):
    """A network that can only predict one class."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = images[:, :1] * 0 + 5 + self.bias
        return torch.cat([first, images[:, :1] * 0], dim=1)


@pytest.mark.parametrize("stop", [False, True])
def test_a_collapsed_run_warns_and_stops_if_asked(
    make_job: Callable[..., TrainerInputs], capsys: pytest.CaptureFixture[str], stop: bool
) -> None:
    job = make_job(fields={"model": Background()}, epochs=8, stop_on_collapse=stop)
    result = train_and_evaluate(job)
    out = capsys.readouterr()
    assert out.err.count("warning: the network has learned next to nothing") == 1
    lines = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == (4 if stop else 8)
    assert lines[0]["val"]["predicted"] == {"classes": 1, "class": "dark", "share": 1.0}
    assert lines[0]["val"]["lift"] == pytest.approx(0)
    assert ("stopped early: at the floor for 4 epochs" in out.out) is stop
    assert result.stopped_early == ("at the floor for 4 epochs" if stop else "")
    assert result.collapsed
    assert json.loads((job.folder / "result.json").read_text())["collapsed"] is True
    assert result.splits["test"]["predicted"]["classes"] == 1
    assert "the network has learned next to nothing: on test" in out.out


def test_a_healthy_run_is_not_warned_about(
    make_job: Callable[..., TrainerInputs], capsys: pytest.CaptureFixture[str]
) -> None:
    assert not train_and_evaluate(make_job(epochs=8)).collapsed
    out = capsys.readouterr()
    assert "learned next to nothing" not in out.out + out.err
    assert re.search(r"\n  8/8 .* 2/2 ", out.out)


def test_a_run_that_was_resumed_is_warned_about_once(
    make_job: Callable[..., TrainerInputs], capsys: pytest.CaptureFixture[str]
) -> None:
    train_and_evaluate(make_job(fields={"model": Background()}, epochs=4))
    train_and_evaluate(make_job(fields={"model": Background()}, epochs=8), resume=True)
    assert capsys.readouterr().err.count("learned next to nothing") == 1


def test_a_longer_plan_does_not_make_the_warning_come_twice_nor_a_shorter_one_never(
    make_job: Callable[..., TrainerInputs], capsys: pytest.CaptureFixture[str]
) -> None:
    for first, then in ((4, 40), (40, 8)):
        folder = f"{first}-{then}"
        train_and_evaluate(make_job(folder, fields={"model": Background()}, epochs=first, patience=5))
        train_and_evaluate(make_job(folder, fields={"model": Background()}, epochs=then, patience=12), resume=True)
        assert capsys.readouterr().err.count("learned next to nothing") == 1


class Half(PixelAccuracy):
    """A score of somebody else's, read off the shared matrix."""

    name = "half_accuracy"

    def compute(self) -> dict[str, float]:
        matrix = self.confusion.compute()
        return {self.name: float(matrix.diagonal().sum() / matrix.sum()) / 2}


def test_scores_of_others_that_read_the_matrix_have_a_floor_too(make_job: Callable[..., TrainerInputs]) -> None:
    result = train_and_evaluate(make_job(fields={"metrics": {"half_accuracy": Half(2, 255)}}))
    for split in result.splits.values():
        assert split["floor"]["half_accuracy"] == pytest.approx(split["floor"]["pixel_accuracy"] / 2)


def test_metrics_of_others_stand_beside_their_floor_too(make_job: Callable[..., TrainerInputs]) -> None:
    from torchmetrics.classification import MulticlassRecall

    result = train_and_evaluate(
        make_job(fields={"metrics": {"their_recall": MulticlassRecall(2, average="macro", ignore_index=255)}})
    )
    for split in result.splits.values():
        assert split["floor"]["their_recall"] == pytest.approx(0.5)
        assert split["their_recall"] > 0.5
