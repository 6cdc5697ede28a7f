"""Advice against a collapse: by cause, only what the run has not tried and what has an effect on it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import segkit
from segkit.config import read_config
from segkit.files import to_jsonable
from segkit_advice.remedies import for_collapse, for_memorised, remedies

FLOOR = {"mean_iou": 0.15, "mean_accuracy": 1 / 6, "pixel_accuracy": 0.9, "class": "background"}


def history(*mean_ious: float) -> list[dict[str, Any]]:
    return [
        {"val": scores(value), "step": 100 * epoch, "train": {"loss": 2.0 - 0.1 * epoch}}
        for epoch, value in enumerate(mean_ious, 1)
    ]


def scores(mean_iou: float, mean_accuracy: float = 0.17) -> dict[str, Any]:
    return {
        "mean_iou": mean_iou,
        "mean_accuracy": mean_accuracy,
        "floor": FLOOR,
        "predicted": {"classes": 2, "class": "background", "share": 0.998},
        "class_iou": dict.fromkeys("abcdef", 0.0),
    }


TRIED = {
    "loss": [{"name": "losses/cross_entropy", "class_weights": "inverse"}, {"name": "dice"}],
    "augment": {"crop": 64, "class_balanced": 0.5},
    "model": {"name": "smp", "weights": "imagenet"},
    "train": {"lr": 0.003, "epochs": 20},
}


def test_what_was_tried_already_is_not_advised() -> None:
    (left,) = remedies(TRIED, history(0.15), 128)
    assert left == ("train.epochs=40", "100 steps so far")
    assert len(remedies({**TRIED, "model": {"name": "unet"}}, history(0.15), 128)) == 2


def test_where_the_training_loss_does_not_move_the_learning_rate_comes_first() -> None:
    lines = [{**line, "train": {"loss": 3.3 - 0.001 * line["step"] / 100}} for line in history(0.15, 0.15)]
    assert remedies(TRIED, lines, 128)[0][0] == "train.lr=0.03"
    muon = {**TRIED, "train": {**TRIED["train"], "optimizer": "muon", "lr": 6e-3}}
    assert remedies(muon, lines, 128)[0][0] == "train.lr=0.012"


BEFORE = {"loss": [{"name": "cross_entropy", "scale": 1.0}], "model": {"name": "unet"}, "augment": {}}


def lines(losses: Sequence[float], steps: int = 100, **train: Any) -> list[dict[str, Any]]:
    """Epochs at the floor, with these training losses, of so many steps each."""
    found = [{"val": scores(0.15), "step": steps * n, "train": {"loss": loss}} for n, loss in enumerate(losses, 1)]
    return [{**line, "train": line["train"] | train} for line in found]


@pytest.mark.parametrize(
    ("train", "losses", "advice"),
    [
        ({"optimizer": "sgd", "lr": 100.0}, [40.0, 35.0], "train.lr=0.01"),  # log(6) is 1.8
        ({"optimizer": "sgd", "lr": 0.05}, [2.0, math.nan], "train.lr=0.005"),
        ({"optimizer": "adamw", "lr": 1e-3}, [2.0, 6.1], "train.lr=0.0001"),
        ({"lr": 1e-3}, [5.0, math.inf], "train.lr=0.0001"),
    ],
)
def test_of_a_run_that_diverged_the_learning_rate_is_all_that_is_advised(
    train: dict[str, Any], losses: list[float], advice: str
) -> None:
    kept = json.loads(json.dumps(to_jsonable(lines(losses))))  # as metrics.jsonl has them: NaN is null
    (only,) = remedies({**BEFORE, "train": train}, kept, 128)
    assert only[0] == advice


def test_a_run_of_few_steps_and_one_that_still_learns_need_more_of_them_first() -> None:
    one = lines([1.9], steps=1)
    assert remedies({**BEFORE, "train": {"epochs": 1}}, one, 128)[0] == ("train.epochs=200", "1 step so far")
    capped = remedies({**BEFORE, "train": {"epochs": 50, "max_steps": 1}}, one, 128)
    assert capped[0][0] == "train.max_steps=200 train.epochs=200"
    assert "train.epochs=100" not in [what for what, _ in capped]  # max_steps ends the run
    for limits in ({}, {"minutes": 5.0}):  # the time did not end it
        train = {"epochs": None, "max_steps": 1, **limits}
        assert remedies({**BEFORE, "train": train}, one, 128)[0][0] == "train.max_steps=200"
    learning = lines([1.5, 1.4, 1.3])
    for place, line in enumerate(learning):
        line["val"]["mean_iou"] = 0.15 + 0.002 * place
    assert remedies({**BEFORE, "train": {"epochs": 3}}, learning, 128)[0][0] == "train.epochs=6"
    assert "balanced" in remedies({**BEFORE, "train": {"epochs": 3}}, lines([1.5, 1.2, 1.2]), 128)[0][0]


def test_what_has_no_effect_here_is_not_advised() -> None:
    def found(side: int = 128, past: Any = None, train: Any = (), **tables: Any) -> str:
        told = remedies({**BEFORE, "train": {"epochs": 9, **dict(train)}, **tables}, past or lines([1.5, 1.2]), side)
        return " ".join(what for what, _ in told)

    assert "class_balanced=0.5 augment.crop=64" in found()
    assert "class_balanced" not in found(side=32)  # a crop of 32 is the whole image
    assert "class_balanced" not in found(augment={"crop": [128, 200]})
    assert "model.name" not in found(model={"name": "smp"})
    assert "dice" not in found(loss=[{"name": "dice_cross_entropy"}])
    even = lines([1.5, 1.2])
    for line in even:
        line["val"]["floor"] = {**FLOOR, "pixel_accuracy": 0.2}
    assert not {"balanced", "dice", "class_weights"} & set(found(past=even).replace("=", "_").split("_"))
    waited = [{**line, "best": n == 0} for n, line in enumerate(lines([1.5, 1.2, 1.2]))]
    assert "train.patience=4" in found(past=waited, train={"patience": 2})
    assert "epochs" not in found(past=waited, train={"patience": 2})


def test_images_without_content_come_before_balance() -> None:
    told = remedies({**BEFORE, "train": {"epochs": 9}}, lines([1.5, 1.2]), 128, {"constant_image", "absent_class"})
    assert told[0] == ("look at the data: images without content", "the scan warned of them")


def test_the_advice_is_overrides_that_a_config_takes() -> None:
    tables = {"dataset": {"name": "shapes"}, "model": {"name": "unet", "width": 8}, "loss": [{"name": "cross_entropy"}]}
    before = read_config(tables)
    advised = remedies(before.record(), history(0.15), 200)
    assert len(advised) == 5
    for override, _ in advised:
        assert read_config(tables, override.split()).record() != before.record()
    assert read_config(tables, advised[0][0].split()).augment.crop == 96


def folder_with(tmp_path: Path, config: dict[str, Any], epochs: Any = (), **result: Any) -> Path:
    """A run folder of images of 128 x 200 pixels."""
    record = {"config": config, "data": {"train": {"size": [128, 200]}}, "warnings": []}
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in epochs))
    (tmp_path / "result.json").write_text(json.dumps(result))
    return tmp_path


def test_advice_for_fit_says_how_its_arguments_are_written(tmp_path: Path) -> None:
    config = {"train": {"lr": 1e-3, "epochs": 9}, "augment": {}}
    assert for_collapse(folder_with(tmp_path, config, lines([1.5, 1.5]))).splitlines()[:3] == [
        'What helps, in this order, for segkit.fit as lr=1, augment={"crop": 64}:',
        "  1. train.lr=0.01  # the training loss hardly moves",
        "  2. augment.class_balanced=0.5 augment.crop=64",
    ]


def test_a_network_that_knows_its_training_images_alone_is_told_what_carries_over(tmp_path: Path) -> None:
    splits = {"train": scores(0.6, 0.7), "val": scores(0.16)}
    text = for_memorised(folder_with(tmp_path, {"model": {"name": "unet"}}, splits=splits))
    assert "the model does not generalise: mean_iou is 0.600 on train" in text
    assert "model.weights=imagenet" in text
    assert "model.weights" not in for_memorised(folder_with(tmp_path, TRIED, splits=splits))
    assert for_memorised(folder_with(tmp_path, TRIED, splits={"train": splits["train"], "val": splits["train"]})) == ""


class Background(nn.Module):
    """A network that can only predict one class."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images[:, :1] * 0 + 5 + self.bias, images.repeat(1, 2, 1, 1)[:, :5] * 0], dim=1)


@pytest.mark.parametrize("epochs", [3, 8])  # too few for a warning, and enough
def test_a_collapsed_run_is_advised_once_and_keeps_the_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], epochs: int
) -> None:
    from segkit_shapes.dataset import ShapesDataset

    splits = {name: ShapesDataset(split=name, size=32, images=[4, 2, 2]) for name in ("train", "val")}
    settings = {"epochs": epochs, "batch_size": 2, "device": "cpu", "workers": 0, "samples": 0}
    segkit.fit(model=Background(), loss=nn.CrossEntropyLoss(ignore_index=255), output=tmp_path, **splits, **settings)
    out = capsys.readouterr()
    assert (out.out + out.err).count("What helps") == 1
    assert ("warning: What helps" in out.err) is (epochs == 8)
    assert (tmp_path / "advice.txt").read_text().startswith("What helps")
