"""Losses and gradients that are no numbers: the step is skipped, all of it, and the run ends where that goes on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from segkit.data.sample import Batch
from segkit.data.scan import Scan
from segkit.engine.criterion import Criterion
from segkit.engine.inputs import TrainerInputs
from segkit.engine.step import TrainingLoop
from segkit.errors import TrainingError
from segkit.registry import optimizers
from segkit.settings import TrainSettings

Cost = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


def batch(number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    image = torch.randint(0, 256, (2, 3, 8, 8), generator=generator, dtype=torch.uint8)
    mask = torch.randint(0, 2, (2, 8, 8), generator=generator, dtype=torch.uint8)
    return Batch(image, mask, None, [f"image-{number}-{part}" for part in "ab"])


def loop(cost: Cost, model: nn.Module | None = None, **settings: Any) -> TrainingLoop:
    torch.manual_seed(0)
    chosen = TrainSettings(batch_size=2, precision="fp32", schedule="constant", warmup=0.0, **settings)
    optimizer = optimizers[chosen.optimizer]
    scan = Scan({"train": SimpleNamespace(classes=("a", "b"), ignore_index=255)}, {}, [])  # type: ignore[dict-item]
    criterion = Criterion([("cost", 1.0, cost)])
    inputs = TrainerInputs(model or Net(), criterion, scan, Path(), train=chosen, optimizer=optimizer)
    return TrainingLoop(inputs, 100)


def state(one: TrainingLoop) -> dict[str, Any]:
    return copy.deepcopy({"model": one.model.state_dict(), "optimizer": one.optimizer.state_dict()["state"]})


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)


def good(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, target.long())


def bad_from(step: int, how: Callable[[torch.Tensor], torch.Tensor], until: int = 1000) -> Cost:
    calls: list[int] = []

    def cost(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        value = good(logits, target)
        return how(value) if step <= len(calls) < until else value

    return cost


class _InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * float("inf")


BAD: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a loss that is nan": lambda value: value * float("nan"),
    "a loss that is inf": lambda value: value + float("inf"),
    "a gradient alone": _InfiniteGradient.apply,
}


@pytest.mark.fault("F29")
@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
@pytest.mark.parametrize("first", [1, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_no_number_changes_nothing(how: str, optimizer: str, first: int, accumulate: int) -> None:
    """Weights, moments and BatchNorm's statistics are as before it, the first step of a run included."""
    calls = (first - 1) * accumulate
    cost = bad_from(calls + 1, BAD[how], until=calls + 1 + accumulate)
    here = loop(cost, optimizer=optimizer, clip_norm=1.0, accumulate=accumulate, ema=0.0)
    for number in range(first - 1):
        here.train_step(batch(number))
    before = state(here)
    assert here.train_step(batch(50)).tolist() == [0.0, 0.0]  # and is left out of the mean loss
    assert equal(state(here)["model"], before["model"])
    if before["optimizer"] and first > 1:
        assert equal(state(here)["optimizer"], before["optimizer"])
    assert here.non_finite.check() == 1
    assert here.step == first
    # what follows is what would have followed
    twin = loop(good, optimizer=optimizer, clip_norm=1.0, accumulate=accumulate, ema=0.0)
    for number in [*range(first - 1), 60]:
        twin.train_step(batch(number))
    here.train_step(batch(60))
    assert equal(state(here)["model"], state(twin)["model"])


@pytest.mark.fault("F29")
def test_bad_images_do_not_reach_the_running_statistics() -> None:
    """The forward pass alone has changed them already when the loss is known."""

    class Poisoned(Net):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images * float("nan") if self.poison else images)

        poison = False

    model = Poisoned()
    here = loop(good, model)
    here.train_step(batch(0))
    before = copy.deepcopy(model.state_dict())
    model.poison = True
    here.train_step(batch(1))
    assert equal(dict(model.state_dict()), dict(before))
    assert torch.isfinite(model.layers[1].running_var).all()
    assert int(model.layers[1].num_batches_tracked) == 1


@pytest.mark.fault("F29")
def test_many_in_a_row_end_the_run_with_their_steps_and_images() -> None:
    """The limit is train.max_skipped."""
    here = loop(bad_from(3, BAD["a loss that is nan"]), max_skipped=4)
    for number in range(6):
        here.train_step(batch(number))
        if number < 5:
            assert here.non_finite.check() == max(0, number - 1)
    with pytest.raises(TrainingError) as caught:
        here.non_finite.check()
    message = str(caught.value)
    assert "in 4 steps in a row, 3 to 6" in message
    assert "whose images were image-2-a, image-2-b, image-3-a" in message
    assert "image-1-a" not in message
    assert "train.lr" in message


@pytest.mark.fault("F29")
def test_a_row_that_ended_between_two_looks_is_found() -> None:
    """On a card nobody looks at every step."""
    here = loop(bad_from(2, BAD["a loss that is nan"], until=6), max_skipped=3)
    for number in range(9):
        here.train_step(batch(number))
    with pytest.raises(TrainingError, match="in 3 steps in a row, 2 to 4"):
        here.non_finite.check()


@pytest.mark.fault("F29")
def test_a_run_with_skipped_steps_says_so_and_goes_on(place: Any) -> None:
    """Counted in the epoch's line too, and left out of its loss."""
    poison = """
from segkit.data.scan import Scan
from segkit.engine.criterion import Criterion
real = Criterion.forward
calls = []
def forward(self, logits, target):
    calls.append(torch.is_grad_enabled())
    total, terms = real(self, logits, target)
    return (total * float("nan") if calls[-1] and sum(calls) in (2, 3) else total), terms
Criterion.forward = forward
"""
    import json

    process = place.run(before=poison)
    assert "warning: 2 steps were skipped: the loss or its gradient was NaN or infinite" in process.err
    lines = [json.loads(line) for line in (place.path() / "metrics.jsonl").read_text().splitlines()]
    assert [line["train"]["skipped"] for line in lines] == [2, 0, 0]
    assert 1 < lines[0]["train"]["loss"] < 10
    endless = place.start("train.max_skipped=3", to="endless", before=poison.replace("sum(calls) in (2, 3)", "True"))
    assert endless.wait() == 1
    assert "in 3 steps in a row, 1 to 3, whose images were train_" in endless.err
    assert "Traceback" not in endless.err
