"""The watch for networks that learn nothing: it warns once, in plain words, and leaves healthy runs alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from segkit.config import read_config
from segkit.engine import history as collapse
from segkit.engine.evaluate import beside
from segkit.engine.inputs import Job
from segkit.engine.remedies import remedies
from segkit.engine.trainer import train_and_evaluate
from segkit.metric.scores import PixelAccuracy

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


def warned(*mean_ious: float, epochs: int) -> list[int]:
    """The epochs, from 1, after which there was a warning."""
    lines = history(*mean_ious)
    found = []
    for end in range(1, len(lines) + 1):
        if collapse.warning(lines[:end], epochs, {}, 64):
            lines[end - 1]["collapsed"] = True
            found.append(end)
    return found


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
    assert collapse.at_the_end(unknown, unknown) == (True, False)
    assert collapse.at_the_end(known, unknown) == (False, True)
    assert collapse.at_the_end(known, known) == (False, False)
    assert "what was learned of train (mean_iou 0.600) does not carry over" in collapse.memorised(
        known, unknown, "val", {}
    )


def test_where_the_floor_is_perfect_nothing_can_be_told() -> None:
    assert not collapse.stuck({**scores(1.0), "floor": {"mean_iou": 1.0, "mean_accuracy": 1.0}})
    assert beside({"mean_iou": 1.0}, {"mean_iou": 1.0, "class": "only"})["lift"] is None


def test_the_history_of_an_older_version_has_no_mean_accuracy() -> None:
    line = {"val": {"mean_iou": 0.15, "floor": {"mean_iou": 0.15}}, "step": 100}
    assert collapse.stuck_epochs([line, line]) == 2


def test_the_warning_says_what_is_predicted_how_high_the_floor_is_and_what_to_try() -> None:
    config = {"loss": [{"name": "cross_entropy"}], "augment": {"crop": 64}, "dataset": {}}
    text = collapse.warning(history(*[0.15] * 6), 20, config, 128)
    assert "on val it predicts 2 of 6 classes, 'background' on 99.8% of the pixels" in text
    assert "its mean_iou is 0.150 (floor 0.150), for 6 epochs\nWhat helps" in text
    assert "  1. augment.class_balanced=0.5 " in text


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
    assert "model.weights" not in collapse.memorised(scores(0.6), scores(0.16), "val", TRIED)


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
        ({"optimizer": "sgd", "lr": 100.0}, [2.0, 1.8], "train.lr=0.01"),
        ({"optimizer": "sgd", "lr": 0.05}, [40.0, 35.0], "train.lr=0.01"),  # log(6) is 1.8
        ({"optimizer": "adamw", "lr": 1e-3}, [2.0, 6.1], "train.lr=0.0001"),
        ({"optimizer": "muon", "lr": 6e-2}, [2.0, 1.9], "train.lr=0.006"),
        ({"lr": 1e-3}, [math.inf], "train.lr=0.0001"),
    ],
)
def test_of_a_run_that_diverged_the_learning_rate_is_all_that_is_advised(
    train: dict[str, Any], losses: list[float], advice: str
) -> None:
    (only,) = remedies({**BEFORE, "train": train}, lines(losses), 128)
    assert only[0] == advice


def test_a_run_of_few_steps_and_one_that_still_learns_need_more_of_them_first() -> None:
    one = lines([1.9], steps=1)
    assert remedies({**BEFORE, "train": {"epochs": 1}}, one, 128)[0] == ("train.epochs=200", "1 step so far")
    capped = remedies({**BEFORE, "train": {"epochs": 50, "max_steps": 1}}, one, 128)
    assert capped[0][0] == "train.max_steps=200 train.epochs=200"
    assert "train.epochs=100" not in [what for what, _ in capped]  # max_steps ends the run
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
    assert told[0] == ("look at the data: images without content", "warned of at the start")


def test_advice_for_fit_is_in_pythons_words() -> None:
    text = collapse.advice({"train": {"lr": 1e-3, "epochs": 9}, "augment": {}}, lines([1.5, 1.5]), 128)
    assert text.splitlines()[:3] == [
        "What helps, in this order, as arguments of segkit.fit:",
        "  1. lr=0.01  # the training loss hardly moves",
        '  2. augment={"class_balanced": 0.5, "crop": 64}',
    ]


def test_the_advice_is_overrides_that_a_config_takes() -> None:
    tables = {"dataset": {"name": "shapes"}, "model": {"name": "unet", "width": 8}, "loss": [{"name": "cross_entropy"}]}
    before = read_config(tables)
    advised = remedies(before.record(), history(0.15), 200)
    assert len(advised) == 5
    for override, _ in advised:
        assert read_config(tables, override.split()).record() != before.record()
    assert read_config(tables, advised[0][0].split()).augment.crop == 96


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
    assert result.stopped_early == ("at the floor for 4 epochs" if stop else "")
    assert result.collapsed
    assert json.loads((job.folder / "result.json").read_text())["collapsed"] is True
    assert (out.out + out.err).count("What helps") == 1
    assert result.splits["test"]["predicted"]["classes"] == 1
    assert "the network has learned next to nothing: on test" in out.out


def test_a_healthy_run_is_not_warned_about(make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]) -> None:
    assert not train_and_evaluate(make_job(epochs=8)).collapsed
    out = capsys.readouterr()
    assert "learned next to nothing" not in out.out + out.err
    assert re.search(r"\n  8/8 .* 2/2 ", out.out)


def test_a_run_that_was_resumed_is_warned_about_once(
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    train_and_evaluate(make_job(fields={"model": Background()}, epochs=4))
    train_and_evaluate(make_job(fields={"model": Background()}, epochs=8), resume=True)
    assert capsys.readouterr().err.count("learned next to nothing") == 1


def test_a_longer_plan_does_not_make_the_warning_come_twice_nor_a_shorter_one_never(
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
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


def test_scores_of_others_that_read_the_matrix_have_a_floor_too(make_job: Callable[..., Job]) -> None:
    result = train_and_evaluate(make_job(fields={"metrics": {"half_accuracy": Half(2, 255)}}))
    for split in result.splits.values():
        assert split["floor"]["half_accuracy"] == pytest.approx(split["floor"]["pixel_accuracy"] / 2)


def test_metrics_of_others_stand_beside_their_floor_too(make_job: Callable[..., Job]) -> None:
    from torchmetrics.classification import MulticlassRecall

    result = train_and_evaluate(
        make_job(fields={"metrics": {"their_recall": MulticlassRecall(2, average="macro", ignore_index=255)}})
    )
    for split in result.splits.values():
        assert split["floor"]["their_recall"] == pytest.approx(0.5)
        assert split["their_recall"] > 0.5
