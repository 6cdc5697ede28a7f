"""The watch for networks that learn nothing: it warns once, in plain words, and leaves healthy runs alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from segkit.engine import collapse
from segkit.engine.fit import train_and_evaluate
from segkit.engine.job import Job
from segkit.engine.remedies import remedies

FLOOR = {"mean_iou": 0.15, "class": "background"}


def history(*mean_ious: float) -> list[dict[str, Any]]:
    return [{"val": scores(value), "step": 100 * epoch} for epoch, value in enumerate(mean_ious, 1)]


def scores(mean_iou: float) -> dict[str, Any]:
    return {
        "mean_iou": mean_iou,
        "lift": (mean_iou - 0.15) / 0.85,
        "floor": FLOOR,
        "predicted": {"classes": 2, "class": "background", "share": 0.998},
        "class_iou": dict.fromkeys("abcdef", 0.0),
    }


def warned(*mean_ious: float, epochs: int) -> list[int]:
    """The epochs, from 1, after which there was a warning."""
    lines = history(*mean_ious)
    return [end for end in range(1, len(lines) + 1) if collapse.warning(lines[:end], epochs, {})]


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


def test_the_warning_says_what_is_predicted_how_high_the_floor_is_and_what_to_try() -> None:
    text = collapse.warning(history(*[0.15] * 6), 20, {"loss": [{"name": "cross_entropy"}], "augment": {"crop": 64}})
    assert "on val it predicts 2 of 6 classes, 'background' on 99.8% of the pixels" in text
    assert "its mean_iou is 0.150 (floor 0.150); it has stood at its floor for 6 epochs. What helps" in text
    assert '1. a second loss: [[loss]] name = "dice", include_background = false' in text


def test_what_was_tried_already_is_not_advised() -> None:
    config = {
        "loss": [{"name": "losses/cross_entropy", "class_weights": "inverse"}, {"name": "dice"}],
        "augment": {"crop": 64, "class_balanced": 0.5},
        "model": {"name": "smp", "weights": "imagenet"},
        "train": {"lr": 0.003},
    }
    (left,) = remedies(config)
    assert "train.lr = 0.001" in left
    assert len(remedies({**config, "model": {"name": "unet"}})) == 2


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
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str], stop: bool
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
    assert result.splits["test"]["predicted"]["classes"] == 1
    assert "the network has learned next to nothing: on test" in out.out


def test_a_healthy_run_is_not_warned_about(make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]) -> None:
    train_and_evaluate(make_job(epochs=8))
    out = capsys.readouterr()
    assert "learned next to nothing" not in out.out + out.err
    assert "2/2 classes" in out.out


def test_a_run_that_was_resumed_is_warned_about_once(
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    train_and_evaluate(make_job(fields={"model": Background()}, epochs=4))
    train_and_evaluate(make_job(fields={"model": Background()}, epochs=8), resume=True)
    assert capsys.readouterr().err.count("learned next to nothing") == 1


def test_metrics_of_others_stand_beside_their_floor_too(make_job: Callable[..., Job]) -> None:
    from torchmetrics.classification import MulticlassRecall

    result = train_and_evaluate(
        make_job(fields={"metrics": {"their_recall": MulticlassRecall(2, average="macro", ignore_index=255)}})
    )
    for split in result.splits.values():
        assert split["floor"]["their_recall"] == pytest.approx(0.5)
        assert split["their_recall"] > 0.5


def test_a_run_where_one_class_is_all_there_is_has_no_lift() -> None:
    from segkit.engine.floors import beside

    assert beside({"mean_iou": 1.0}, {"mean_iou": 1.0, "class": "only"})["lift"] == 0
